"""Takes a person through the cases of a cohort, the most doubtful first: shows one, notes what is said, shows the next.

While one is looked at, the next is read beside the window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from napari.layers import Layer
from psygnal import Signal, SignalGroup

from napari_resunet.case import Case
from napari_resunet.cohort.manifest import CaseEntry, read_entry
from napari_resunet.cohort.reviewing import (
    Opened,
    accept,
    in_order_of_doubt,
    is_open,
    next_open,
    open_for_review,
    reject,
)
from napari_resunet.errors import ResUNetError
from napari_resunet.plugin.jobs import Generator, Job
from napari_resunet.plugin.layers import shows
from napari_resunet.plugin.session import Session
from napari_resunet.track import Track
from napari_resunet.volume import Mask, Volume


class ReviewQueueEvents(SignalGroup):
    """What the queue tells its bar."""

    changed = Signal()


class ReviewQueue:
    """The cases of a cohort in one session.

    Parameters
    ----------
    session : Session
        Shows the cases.
    out : Path
        The folder of the cohort.

    Attributes
    ----------
    entry : CaseEntry, optional
        The case that is looked at; None before the first, and after the last.
    doubtful_slice : int, optional
        The axial slice of it to look at first.
    problem : str
        Why it cannot be shown; "" if it can.
    reading : str
        How far the reading of the case that is waited for is, in words; "" if none is.
    """

    def __init__(self, session: Session, out: Path) -> None:
        self.session = session
        self.events = ReviewQueueEvents()
        self.entry: CaseEntry | None = None
        self.doubtful_slice: int | None = None
        self.problem = self.reading = ""
        self._out = out
        self._entries = in_order_of_doubt(out)
        self._case: Case | None = None
        self._layer: Layer | None = None  # of its CT
        self._reader: Job | None = None
        self._being_read: str | None = None
        self._ahead: Opened | None = None
        self._wanted: str | None = None  # to be shown as soon as it is read
        self._noter: Job | None = None
        self._error: Exception | None = None
        session.events.case.connect(self._tell)
        session.events.running.connect(self._tell)
        session.on_close.append(self._close)

    def _close(self) -> None:
        for signal in self.events.signals.values():  # the bar may be gone already
            signal.disconnect()
        for job in (self._reader, self._noter):
            if job is not None:
                job.abandon()
        self._reader = self._noter = self._ahead = None

    def _tell(self, _said: object = None) -> None:
        self.events.changed.emit()

    # ---- where it stands

    @property
    def reviewed(self) -> int:
        """How many cases a person has accepted or rejected."""
        return len(self._entries) - self.still_open

    @property
    def still_open(self) -> int:
        return sum(is_open(entry) for entry in self._entries)

    @property
    def total(self) -> int:
        """How many cases have a mask."""
        return len(self._entries)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is read or written."""
        return self._reader is None and self._noter is None

    @property
    def is_noting(self) -> bool:
        return self._noter is not None

    @property
    def is_in_view(self) -> bool:
        """Whether the open CT is that of the case, and not one that was opened besides."""
        return self._case is not None and self._case is self.session.case

    @property
    def can_go_on(self) -> bool:
        """Whether the case may be left: nothing is being read for it or written of it."""
        return self.entry is not None and self._noter is None and self._wanted is None

    @property
    def can_accept(self) -> bool:
        return self.can_go_on and self.is_in_view and not self.session.is_running

    @property
    def can_skip(self) -> bool:
        """Whether there is another case to look at first."""
        return self.can_go_on and self._following() is not None

    # ---- what a person says

    def accept(self) -> None:
        """Note that the mask as it is now is right, write it if it was changed, and show the next case."""
        if not self.can_accept:
            return
        try:
            self.session.sync()
            mask = self._case.finished_mask(split=bool(self.entry.settings.get("split", False)))
        except ResUNetError as error:
            self.session.events.failed.emit(error)
            return
        let_go = partial(self._let_work_go, self._case.hand_version)
        self._note(_accepting, self._case.volume, mask, then=let_go)

    def reject(self, reason: str) -> None:
        """Note why the case cannot be used, and show the next; what was painted is kept in the journal."""
        if self.can_go_on and reason.strip():
            self._note(_rejecting, reason)

    def skip(self) -> None:
        """Leave the case as it is and show the next that is open; it comes again at the end."""
        if self.can_skip:
            self._go_on()

    def _note(self, noting: Generator, *what: Any, then: Callable[[], None] | None = None) -> None:
        ears = {"on_value": self._take_entries, "on_error": self._keep_error}
        ears["on_end"] = partial(self._after_noting, then)
        self._noter = Job(noting, self._out, self.entry, *what, **ears, label=f"noting {self.entry.id}")
        self._noter.start()
        self._tell()

    def _take_entries(self, entries: list[CaseEntry]) -> None:
        self._entries = entries

    def _keep_error(self, error: Exception) -> None:
        self._error = error

    def _after_noting(self, then: Callable[[], None] | None) -> None:
        self._noter = None
        error, self._error = self._error, None
        if error is not None:
            self.session.events.failed.emit(error)
            self._tell()
            return
        if then is not None:
            then()
        self._go_on()

    def _let_work_go(self, hand_version: int) -> None:
        """Note that the work is in a file of the cohort, unless a hand went on meanwhile: the journal keeps that."""
        self.session.sync()
        if self._case.hand_version == hand_version:
            self._case.kept()
            self.session.events.kept.emit()

    # ---- from case to case

    def show(self, opened: Opened) -> None:
        """Show a case with its mask at its most doubtful slice, instead of the one before; read the next meanwhile."""
        self._leave()
        self.entry, self.problem, self.reading, self._wanted = opened.entry, "", "", None
        session = self.session
        session.show_ct(opened.volume, opened.record, name=opened.entry.id)
        self._case, self._layer = session.case, session.ct_layer
        has_work = self._case.edited.any() or self._case.done.any() or self._case.began_from
        if opened.record is None and not has_work:
            session.adopting.adopt_mask(opened.mask, name=Path(opened.entry.mask).name)
        session.show_layers()
        self.doubtful_slice = opened.doubtful_slice
        if self.doubtful_slice is not None:
            session.show_slice(self.doubtful_slice)
        self._read_ahead()
        self._tell()

    def _leave(self) -> None:
        """Take the layers of the case away; unsaved work on it stays in the journal."""
        layers = self.session.viewer.layers
        for layer in list(layers):
            if layer is self._layer or (self._case is not None and shows(layer, self._case)):
                layers.remove(layer)
        self._case = self._layer = None

    def _following(self) -> CaseEntry | None:
        """Return the next open case but the one that is looked at."""
        here = None if self.entry is None else self.entry.id
        following = next_open(self._entries, after=here)
        return None if following is None or following.id == here else following

    def _go_on(self) -> None:
        following = self._following()
        if following is None:
            self._leave()
            self.entry = None
        else:
            self._open(following.id)
        self._tell()

    def _open(self, case_id: str) -> None:
        if self._ahead is not None and self._ahead.entry.id == case_id:
            opened, self._ahead = self._ahead, None
            self.show(opened)
            return
        self._wanted, self.reading = case_id, f"Reading {case_id} …"
        if self._being_read != case_id:
            self._read(case_id)

    def _read_ahead(self) -> None:
        following = self._following()
        if following is not None:
            self._read(following.id)

    def _read(self, case_id: str) -> None:
        if self._reader is not None:
            self._reader.abandon()
        self._ahead, self._being_read = None, case_id
        ears = {
            "on_value": self._take_opened,
            "on_error": self._take_reading_error,
            "on_end": self._end_reading,
        }
        ears["on_progress"] = self._take_progress
        self._reader = Job(_reading, self._out, case_id, **ears, label=f"reading {case_id}")
        self._reader.start()

    def _take_progress(self, of_files: bool, done: int, total: int) -> None:
        if self._wanted == self._being_read:
            what = "files looked at" if of_files else "slices read"
            self.reading = f"Reading {self._wanted}: {done} of {total} {what}"
            self._tell()

    def _take_opened(self, opened: Opened) -> None:
        self._ahead = opened

    def _take_reading_error(self, error: Exception) -> None:
        self.problem = str(error) if self._wanted == self._being_read else ""

    def _end_reading(self) -> None:
        case_id, self._being_read, self._reader = self._being_read, None, None
        if self._wanted != case_id:
            return  # it was read ahead; what was wrong with it is told when it is wanted
        if self._ahead is not None:
            self._open(case_id)
            return
        self._leave()
        self.entry, self.reading, self._wanted = read_entry(self._out, case_id), "", None
        self._tell()


def _reading(out: Path, case_id: str, *, track: Track) -> Iterator[Opened]:
    yield open_for_review(out, read_entry(out, case_id), track)


def _accepting(out: Path, entry: CaseEntry, volume: Volume, mask: Mask) -> Iterator[list[CaseEntry]]:
    accept(out, entry, volume, mask)
    yield in_order_of_doubt(out)


def _rejecting(out: Path, entry: CaseEntry, reason: str) -> Iterator[list[CaseEntry]]:
    reject(out, entry, reason)
    yield in_order_of_doubt(out)
