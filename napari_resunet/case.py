"""One open CT with all that is known of it: the only object that changes.

It lives on the main thread, keeps all arrays as axial slices, lowest first, and tells its listeners what changed.

What an undo means. The layer's history holds values, and a threshold or a run may have moved the mask since; so an
undo or redo says only which voxels are meant. Their *edits* go back to what they were before the last stroke on them:
a voxel painted once is untouched again and shows what threshold and clean-up say now; one painted over twice has the
first stroke back; a redo gives back what the undo took. Nothing else moves, and the threshold itself is no step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal, SignalGroup

from napari_resunet.editing.adding_up import put_adopted, refuse_no_mask
from napari_resunet.editing.correction import changed_by_hand, compose, stated_by
from napari_resunet.editing.history import Changes, EditHistory, Step
from napari_resunet.editing.review import Review
from napari_resunet.errors import InputError
from napari_resunet.inference.postprocess import finish_mask, lung_voxels
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.record import BankedEdits, CaseRecord, CtReference, SliceEdits
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import Mask, ProbabilityMap, Run, Volume, threshold_level

if TYPE_CHECKING:
    from napari_resunet.inference.predict import Batch  # brings torch

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

_AT_ONCE = np.dtype(np.uint64).itemsize  # voxels compared together


class CaseEvents(SignalGroup):
    """What a case tells its listeners."""

    probability = Signal(int, int)  # first axial slice, one after the last
    mask = Signal()
    review = Signal()  # a slice was ticked, flagged or cleared


class Case:
    """An open CT, the probabilities so far, the edits by hand, and the mask they add up to.

    Parameters
    ----------
    volume : Volume
        The CT.

    Attributes
    ----------
    probability : (z, y, x) array of uint8
        0-255 for 0-1, axial; filled as batches come.
    done : (z,) array of bool
        Which axial slices the network has seen.
    edit : (z, y, x) array of int8
        What a hand changed: 0 untouched, +1 put in, -1 taken out.
    mask : (z, y, x) array of uint8
        What is shown, and painted in; the same array for as long as the case is open.
    automatic : (z, y, x) array of bool
        What threshold and clean-up made of the probabilities, before any edit.
    edited : (z,) array of bool
        Axial slices on which a hand has set voxels.
    review : Review
        Which slices a person has looked at.
    banked : list of BankedEdits
        Edits that the user said to forget, the oldest first.
    run : Run, optional
        What made the probabilities.
    version : int
        Grows whenever probabilities or settings change.
    hand_version : int
        Grows whenever edits, ticks or flags change: what a journal has to keep.
    base_version : int
        Grows whenever probabilities or the mask it began from change.
    """

    def __init__(self, volume: Volume, settings: MaskSettings | None = None) -> None:
        shape = volume.axial.shape
        self.volume = volume
        self.events = CaseEvents()
        self.settings = settings or MaskSettings()
        self.probability = np.zeros(shape, dtype=np.uint8)
        self.done = np.zeros(shape[0], dtype=bool)
        self.edit = np.zeros(shape, dtype=np.int8)
        self.mask = np.zeros(shape, dtype=np.uint8)
        self.automatic = np.zeros(shape, dtype=bool)
        self.edited = np.zeros(shape[0], dtype=bool)
        self.review = Review(shape[0])
        self.banked: list[BankedEdits] = []
        self.run: Run | None = None
        self.run_notes: tuple[str, ...] = ()  # of the newest run: another device than wanted, smaller batches
        self.version = self.hand_version = self.base_version = self._kept_version = 0
        self._history = EditHistory()
        self._labels_used = np.zeros(256, dtype=bool)
        self._adopted: Bools | None = None
        self._adopted_name: str | None = None
        self._is_settled = True
        self._known_reference: CtReference | None = None

    @property
    def slices_missing(self) -> int:
        """How many axial slices the network has not seen, where it has seen some."""
        return int(np.count_nonzero(~self.done)) if self.done.any() else 0

    # ---- what the network says

    def begin(self, run: Run) -> None:
        """Make ready for a run: what another model or grid has found is forgotten, edits are kept."""
        if self.run is not None and run != self.run:
            self._forget_probabilities()
        self.run = run

    def _forget_probabilities(self) -> None:
        self.probability[...] = 0
        self.done[...] = False
        self.run_notes = ()
        self.base_version += 1
        self._moved_on()
        self.events.probability.emit(0, len(self.done))
        self.settle()

    def _moved_on(self) -> None:
        self.version += 1
        self._is_settled = False

    def accept(self, run: Run, batch: Batch) -> None:
        """Take in slices that the network has seen; the answer of any run but the newest is thrown away."""
        if run is not self.run:
            return
        self.absorb_edits()
        part = slice(batch.start, batch.stop)
        self.probability[part] = batch.probabilities
        self.done[part] = True
        self.run_notes = batch.notes
        self.base_version += 1
        self.automatic[part] = self._lungs(part, clean=False)
        self._moved_on()
        self._show(range(batch.start, batch.stop))
        self.events.probability.emit(batch.start, batch.stop)

    def restate(self, volume: Volume) -> None:
        """Take in the same CT with other HU: what the network found in the old ones is forgotten, edits are kept."""
        self.volume, self.run = volume, None
        self._forget_probabilities()

    def adopt(self, mask: Mask, *, name: str = "a mask made elsewhere") -> None:
        """Begin from a mask made elsewhere; slices that the network has not seen keep it.

        Raises
        ------
        GeometryError
            If it does not lie on the grid of the CT.
        """
        refuse_other_grid(mask.geometry, self.volume.geometry, what=name)
        self._adopted, self._adopted_name = mask.axial > 0, name
        self.base_version += 1
        self._moved_on()
        self.settle()

    # ---- threshold and clean-up

    def set_threshold(self, threshold: float) -> None:
        """Show the mask at another threshold, not cleaned up: fast enough to follow a slider."""
        self.change_settings(threshold=threshold)
        level = threshold_level(threshold)
        # slice by slice: what is compared, computed and shown is then still in the processor's cache
        for z in range(len(self.mask)):
            self._absorb(z)
            np.greater_equal(self.probability[z], level, out=self.automatic[z])
            self._keep_adopted(z)
            self._compose(z)
        self.events.mask.emit()

    def change_settings(self, **changes: Any) -> None:
        """Change how the mask is made; what is shown follows with `settle`."""
        self.settings = replace(self.settings, **changes)
        self._moved_on()

    def settle(self) -> None:
        """Show the mask as the settings want it, cleaned up if they say so."""
        self.accept_automatic(self.version, self._lungs(slice(None), clean=self.settings.clean))

    def accept_automatic(self, version: int, automatic: Bools) -> None:
        """Take in a mask that was cleaned up elsewhere, unless the case has moved on since it was of `version`."""
        if version != self.version:
            return
        self.absorb_edits()
        self.automatic[...] = automatic
        for z in range(len(self.mask)):
            self._keep_adopted(z)
        self._is_settled = True
        self._show(range(len(self.mask)))

    # ---- what a hand does

    def take_shown(self, shown: npt.NDArray[np.integer]) -> None:
        """Take in a mask layer whose data may be another array than `mask`, of the same shape."""
        if shown is not self.mask:
            np.copyto(self.mask, shown > 0, casting="unsafe")
        self.absorb_edits()

    def absorb_edits(self) -> None:
        """Note what a hand has changed in `mask` since last time, by strokes of any kind."""
        for z in range(len(self.mask)):
            self._absorb(z)

    def _absorb(self, z: int) -> None:
        """Note what a hand has changed in one slice."""
        shown, composed = self.mask[z], self._composed(z)
        if _are_same(shown, composed):
            return
        self._labels_used[shown.ravel()] = True
        where = changed_by_hand(shown, composed)
        if len(where):
            lung, edit = shown.ravel()[where] > 0, self.edit[z].ravel()
            self._history.note(z, Changes(where, ~lung, edit[where]))
            self._set_edits(z, where, stated_by(lung, self.automatic[z].ravel()[where]))

    def begin_step(self) -> None:
        """Note that the layer's own history has one more step, and nothing to redo."""
        self._history.begin_step()

    def step(self, how: Step, write: Callable[[], None]) -> None:
        """Let the layer undo or redo, and give the voxels that it writes the edits that they had.

        Such a voxel may show already what is written, where the threshold has come to agree with the hand. So that it
        is seen all the same, the slices that may be meant are blank meanwhile: nobody must look at `mask` then.

        Parameters
        ----------
        how : str
            ``"undo"`` or ``"redo"``.
        write : callable
            Writes into `mask`.
        """
        self.absorb_edits()
        unwritten = 255 - int(np.argmin(self._labels_used[::-1]))  # a label that no stroke has brought
        blank = self._history.slices(how)
        self.mask[blank] = unwritten
        try:
            write()
        finally:
            written = {z: np.flatnonzero(self.mask[z] != unwritten) for z in blank}
            changed = [z for z in range(len(self.mask)) if self._absorb_step(z, how, written.get(z))]
            self._show({*blank, *changed})

    def _absorb_step(self, z: int, how: Step, where: npt.NDArray[np.intp] | None) -> bool:
        """Give the voxels that the layer wrote into one slice the edits that they had; return whether it wrote."""
        composed = self._composed(z)
        if where is None:
            where = changed_by_hand(self.mask[z], composed)
        if not len(where):
            return False
        lung, now = self.mask[z].ravel()[where] > 0, self.edit[z].ravel()[where]
        stated = stated_by(lung, self.automatic[z].ravel()[where])
        shown = composed.ravel()[where] > 0
        edits = self._history.step(how, z, Changes(where, lung, stated), shown=shown, now=now)
        if not np.array_equal(edits, now):
            self._set_edits(z, where, edits)
        return True

    def _set_edits(self, z: int, where: npt.NDArray[np.intp], edits: npt.NDArray[np.int8]) -> None:
        """Write edits into one slice."""
        flat = self.edit[z].ravel()
        flat[where] = edits
        self.edited[z] = flat.any()
        self.hand_version += 1

    def forget_edits(self, keep: Bools | None = None) -> int:
        """Set aside the edits, but those of the slices to `keep`; return how many voxels that were.

        They go to the bank, and `bring_back` gives them back.

        Parameters
        ----------
        keep : (z,) array of bool, optional
            Slices whose edits stay; none by default.
        """
        self.absorb_edits()
        leaving = self.edited if keep is None else self.edited & ~keep
        if not leaving.any():
            return 0
        edits = SliceEdits.of(self.edit, leaving)
        self.banked.append(BankedEdits(edits, datetime.now().astimezone().isoformat(timespec="seconds")))
        self.edit[edits.slices] = 0
        self._edits_became_others(edits)
        return edits.voxels()

    def bring_back(self) -> int:
        """Lay the edits that were set aside last under those made since; return how many voxels they set."""
        if not self.banked:
            return 0
        self.absorb_edits()
        edits = self.banked.pop().edits
        present = self.edit[edits.slices]
        self.edit[edits.slices] = np.where(present != 0, present, edits.values)
        self._edits_became_others(edits)
        return edits.voxels()

    def set_split(self, split: bool) -> None:
        """Say whether the mask that comes out tells right from left; no voxel changes."""
        self.settings = replace(self.settings, split=split)

    def swap_sides(self) -> None:
        """Label right and left the other way round from now on, by the user's word."""
        self.settings = replace(self.settings, swap_sides=not self.settings.swap_sides)
        self.hand_version += 1

    def _edits_became_others(self, edits: SliceEdits) -> None:
        for z in edits.slices:
            self.edited[z] = self.edit[z].any()
        self._history.clear()
        self.hand_version += 1
        self._show(edits.slices)

    # ---- the review

    def tick(self, z: int) -> None:
        """Note that a person has looked at slice `z` as it is shown, and found it right."""
        self.absorb_edits()
        self.review.tick(z, self.mask[z])
        self._reviewed()

    def flag(self, z: int) -> None:
        """Note that slice `z` has to be looked at again."""
        self.review.flag(z)
        self._reviewed()

    def clear_mark(self, z: int) -> None:
        """Take tick or flag away from slice `z`."""
        self.review.clear(z)
        self._reviewed()

    def _reviewed(self) -> None:
        self.hand_version += 1
        self.events.review.emit()

    def slice_states(self) -> Bytes:
        """Return what each slice is, as a (z,) array of `SliceState`."""
        self.absorb_edits()
        return self.review.states(self.mask, self.edited)

    # ---- what comes out

    @property
    def voxels_added(self) -> int:
        """How many voxels a hand has put in."""
        self.absorb_edits()
        return int(np.count_nonzero(self.edit[self.edited] > 0))

    @property
    def voxels_removed(self) -> int:
        """How many voxels a hand has taken out."""
        self.absorb_edits()
        return int(np.count_nonzero(self.edit[self.edited] < 0))

    @property
    def voxels_edited(self) -> int:
        return self.voxels_added + self.voxels_removed

    @property
    def volume_ml(self) -> float:
        """Volume of the mask as it is shown."""
        return float(np.count_nonzero(self.mask) * self.volume.geometry.voxel_volume_mm3 / 1000)

    def probability_map(self) -> ProbabilityMap:
        """Return the probabilities so far in the order of the source."""
        volume = self.volume
        array = np.ascontiguousarray(volume.geometry.to_axial.undo(self.probability))
        notes = (*volume.notes, *self.run_notes)
        return ProbabilityMap(array, volume.geometry, self.done.copy(), self.run, volume.source, notes)

    def finished_mask(self, *, split: bool | None = None) -> Mask:
        """Return the mask as the settings want it, edits included, in the order of the source.

        A mask that still waits for its clean-up is cleaned up first.

        Raises
        ------
        InputError
            If nothing was segmented or painted yet.
        """
        self.absorb_edits()
        if not self._is_settled:
            self.settle()
        refuse_no_mask(self.mask, done=self.done, edited=bool(self.edited.any()))
        return self.as_mask(self.mask, split=split)

    def as_mask(self, shown: npt.NDArray[np.integer], *, split: bool | None = None) -> Mask:
        """Return an axial array, lung where it is above 0, as a mask of this CT with the history of the case."""
        settings = self.settings if split is None else replace(self.settings, split=split)
        lungs, edited = (shown > 0).view(np.uint8), self.voxels_edited
        return finish_mask(
            lungs, self.probability_map(), settings, edited=edited, began_from=self._adopted_name
        )

    # ---- put away, and taken up again

    def record(self, *, whole: bool = True) -> CaseRecord:
        """Return all that is known but the CT; arrays are copies.

        Parameters
        ----------
        whole : bool
            With the probabilities and the mask it began from; without them it is small, and made in no time.
        """
        self.absorb_edits()
        return CaseRecord(
            ct=self.reference,
            settings=self.settings,
            edits=SliceEdits.of(self.edit, self.edited),
            banked=tuple(self.banked),
            marks=self.review.marks.copy(),
            seen=self.review.seen.copy(),
            run=self.run,
            done=self.done.copy(),
            probability=self.probability.copy() if whole else None,
            adopted=self._adopted if whole else None,
            adopted_name=self._adopted_name,
        )

    def take_in(self, record: CaseRecord) -> None:
        """Go on where a record was made.

        Edits, ticks and flags that were made here since are laid over those of the record. A record without
        probabilities leaves those that are there.

        Raises
        ------
        InputError
            If the record is of another CT; nothing is changed then.
        """
        if not self.is_of(record):
            ct, here = record.ct, self.reference
            raise InputError(
                f"this work was done on {ct.name} (SHA-256 {ct.sha256[:12]}…), but {here.name} "
                f"({here.sha256[:12]}…) is another CT; open {ct.name} first"
            )
        self.absorb_edits()
        if record.probability is not None:
            self.run, self._adopted, self._adopted_name = record.run, record.adopted, record.adopted_name
            self.probability[...] = record.probability
            self.done[...] = record.done
            self.base_version += 1
        self.settings = record.settings
        slices = record.edits.slices
        present = self.edit[slices]
        self.edit[slices] = np.where(present != 0, present, record.edits.values)
        unmarked = self.review.marks == 0
        self.review.marks[unmarked] = record.marks[unmarked]
        self.review.seen[unmarked] = record.seen[unmarked]
        self.banked = [*record.banked, *self.banked]
        self._moved_on()
        self._edits_became_others(record.edits)
        self.settle()
        self.events.probability.emit(0, len(self.done))
        self.events.review.emit()

    def is_of(self, record: CaseRecord) -> bool:
        """Whether a record was made on this CT: the same bytes, on the same grid."""
        return record.ct.is_same_as(self.reference)

    def kept(self) -> None:
        """Note that all that a hand did is in a file now."""
        self._kept_version = self.hand_version

    @property
    def began_from(self) -> str | None:
        """The name of the mask made elsewhere that the case began from."""
        return self._adopted_name

    @property
    def has_unsaved_work(self) -> bool:
        """Whether a hand did anything that is in no file yet."""
        self.absorb_edits()
        is_blank = not (
            self.edited.any() or self.review.marks.any() or self.banked or self.settings.swap_sides
        )
        if is_blank and not self._kept_version:  # painted and undone, say
            return False
        return self.hand_version != self._kept_version

    @property
    def reference(self) -> CtReference:
        """Which CT this is."""
        if self._known_reference is None or self._known_reference.answers != self.volume.answers:
            self._known_reference = CtReference.of(self.volume)
        return self._known_reference

    # ---- how it adds up

    def _keep_adopted(self, z: int) -> None:
        if self._adopted is not None:
            part = slice(z, z + 1)
            put_adopted(self._adopted[part], self.automatic[part], done=self.done[part])

    def _lungs(self, part: slice, *, clean: bool) -> Bools:
        return lung_voxels(self.probability[part], threshold=self.settings.threshold, clean=clean)

    def _composed(self, z: int) -> Bytes:
        """Return what slice `z` showed when it was last composed."""
        if self.edited[z]:
            return compose(self.automatic[z], self.edit[z])
        unedited: Bytes = self.automatic[z].view(np.uint8)
        return unedited

    def _compose(self, z: int) -> None:
        self.mask[z] = self._composed(z)

    def _show(self, slices: Iterable[int]) -> None:
        for z in slices:
            self._compose(z)
        self.events.mask.emit()


def _are_same(one: Bytes, other: Bytes) -> bool:
    """Whether two slices hold the same bytes; most do, and all are looked at whenever the threshold moves."""
    if one.size % _AT_ONCE:
        return np.array_equal(one, other)
    return np.array_equal(one.reshape(-1).view(np.uint64), other.reshape(-1).view(np.uint64))
