"""Going through the slices of a case, the most doubtful first, and ticking them off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from psygnal import Signal, SignalGroup

from napari_resunet.editing.review import SliceState
from napari_resunet.measure.doubt import slice_doubt
from napari_resunet.plugin.jobs import Job

if TYPE_CHECKING:
    from napari_resunet.plugin.session import Session

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


class ReviewingEvents(SignalGroup):
    """What the review tells its panel."""

    changed = Signal()  # doubts or states became others


class Reviewing:
    """The doubt of the open case, slice by slice, and the way through its slices.

    Parameters
    ----------
    session : Session
        Whose case is reviewed.

    Attributes
    ----------
    doubt : (z,) array of float
        From 0 to 1; nan where the network has not run.
    states : (z,) array of uint8
        What each slice is, as `SliceState`.
    matters : (z,) array of bool
        Slices that hold lung, or lie between two that do: those that have to be reviewed.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events = ReviewingEvents()
        self._job: Job | None = None
        self._asked_for: tuple[int, int] | None = None
        self._forget()
        session.events.case.connect(self._start_anew)
        session.on_close.append(self._close)

    def _forget(self) -> None:
        case = self.session.case
        slices = 0 if case is None else len(case.done)
        self.doubt: Floats = np.full(slices, np.nan)
        self.states: Bytes = np.zeros(slices, dtype=np.uint8)
        self.matters: Bools = np.zeros(slices, dtype=bool)
        self._near_lung = self.matters
        self._left_at: int | None = None

    def _start_anew(self) -> None:
        self._abandon()
        self._forget()
        self.refresh()

    def _abandon(self) -> None:
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._asked_for = None

    def _close(self) -> None:
        self._abandon()
        for signal in self.events.signals.values():
            signal.disconnect()

    @property
    def is_idle(self) -> bool:
        return self._job is None

    def refresh(self) -> None:
        """Look at the case again: the states at once, the doubt beside the window if it may have changed."""
        case = self.session.case
        if case is None:
            self.events.changed.emit()
            return
        self.session.sync()
        self.states = case.slice_states()
        holds_lung = case.mask.any(axis=(1, 2))
        below, above = (np.roll(holds_lung, step) for step in (1, -1))
        below[0] = above[-1] = False
        self.matters = holds_lung | (below & above)
        self._near_lung = holds_lung | below | above  # where the end of a lung may have been lost
        if self._job is None and self._asked_for != (id(case), case.version) and case.done.any():
            self._asked_for = id(case), case.version
            work = (case.probability, case.settings.threshold, case.volume.axial_geometry.spacing_mm)
            ears = {"on_value": self._take, "on_error": self._fail, "on_end": self._end}
            self._job = Job(_doubting, *work, case.done.copy(), **ears)
            self._job.start()
        self.events.changed.emit()

    def _take(self, doubt: Floats) -> None:
        self.doubt = doubt

    def _fail(self, error: Exception) -> None:
        self.session.events.failed.emit(error)

    def _end(self) -> None:
        self._job = None
        self.refresh()  # the case may have moved on meanwhile

    def order(self, *, only_open: bool) -> list[int]:
        """Return the slices worth a look, the most doubtful first; those that are reviewed only if so wanted.

        They hold lung, or lie next to a slice that does.
        """
        doubt = np.nan_to_num(self.doubt)
        wanted = self._near_lung & (doubt > 0)
        if only_open:
            wanted &= self.states != SliceState.REVIEWED
        return [int(z) for z in np.argsort(-doubt, kind="stable") if wanted[z]]

    def place_in(self, order: list[int]) -> int | None:
        """Return how many slices of an order stand before the one in view; None if it is not one of them."""
        z = self.session.slice_in_view
        return order.index(z) if z in order else None

    def go(self, steps: int, *, only_open: bool) -> None:
        """Go so many slices on in the order of doubt, from where it was left, and show that slice."""
        order = self.order(only_open=only_open)
        if not order:
            return
        at = 0 if self._left_at is None else self._place(self._left_at, order, steps)
        self._left_at = order[min(max(at, 0), len(order) - 1)]
        self.session.show_slice(self._left_at)

    def _place(self, left_at: int, order: list[int], steps: int) -> int:
        if left_at in order:
            return order.index(left_at) + steps
        # it was ticked meanwhile: its place is where it would stand
        doubt = np.nan_to_num(self.doubt)
        before = sum((-doubt[z], z) < (-doubt[left_at], left_at) for z in order)
        return before + (steps - 1 if steps > 0 else steps)

    def tick(self, *, only_open: bool = True) -> None:
        """Note that the slice in view was looked at and is right, and go on to the next."""
        case = self.session.case
        if case is None:
            return
        self.session.sync()
        case.tick(self.session.slice_in_view)
        self._marked()
        self.go(1, only_open=only_open)

    def flag(self) -> None:
        """Flag the slice in view to be looked at again, or take its flag away."""
        case, z = self.session.case, self.session.slice_in_view
        if case is None:
            return
        if case.review.marks[z] == SliceState.FLAGGED:
            case.clear_mark(z)
        else:
            case.flag(z)
        self._marked()

    def clear(self) -> None:
        """Take tick or flag away from the slice in view."""
        if self.session.case is not None:
            self.session.case.clear_mark(self.session.slice_in_view)
            self._marked()

    def _marked(self) -> None:
        self.session.sync()
        self.refresh()

    @property
    def progress(self) -> str:
        """How much is done, in words."""
        case = self.session.case
        if case is None:
            return ""
        reviewed = int(np.count_nonzero(self.matters & (self.states == SliceState.REVIEWED)))
        words = [f"{reviewed} of {int(self.matters.sum())} slices with lung reviewed"]
        for state, name in ((SliceState.EDITED, "edited"), (SliceState.FLAGGED, "flagged")):
            count = int(np.count_nonzero(self.states == state))
            words += [f"{count} {name}"] if count else []
        changed = int(np.count_nonzero(case.review.changed_since(case.mask)))
        words += [f"{changed} changed since you ticked them"] if changed else []
        return ", ".join(words)


def _doubting(
    probability: Bytes, threshold: float, spacing_mm: tuple[float, float, float], done: Bools
) -> Iterator[Floats]:
    yield slice_doubt(probability, threshold=threshold, spacing_mm=spacing_mm, done=done).total
