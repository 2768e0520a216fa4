"""One open CT with all that is known of it: the only object that changes.

It lives on the main thread, keeps all arrays as axial slices, lowest first, and tells its listeners what changed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from psygnal import Signal, SignalGroup

from napari_resunet.editing.correction import absorb_edits, compose
from napari_resunet.errors import InputError
from napari_resunet.inference.postprocess import finish_mask, lung_voxels, threshold_level
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import Mask, ProbabilityMap, Run, Volume

if TYPE_CHECKING:
    from napari_resunet.inference.predict import Batch  # brings torch


class CaseEvents(SignalGroup):
    """What a case tells its listeners: which box changed."""

    probability = Signal(int, int)  # first axial slice, one after the last
    mask = Signal()


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
    run : Run, optional
        What made the probabilities.
    version : int
        Grows whenever probabilities or settings change.
    """

    def __init__(self, volume: Volume) -> None:
        shape = volume.axial.shape
        self.volume = volume
        self.events = CaseEvents()
        self.settings = MaskSettings()
        self.probability = np.zeros(shape, dtype=np.uint8)
        self.done = np.zeros(shape[0], dtype=bool)
        self.edit = np.zeros(shape, dtype=np.int8)
        self.mask = np.zeros(shape, dtype=np.uint8)
        self.run: Run | None = None
        self.version = 0
        self.automatic = np.zeros(shape, dtype=bool)
        self._last_shown = np.zeros(shape, dtype=np.uint8)
        self._adopted: npt.NDArray[np.bool_] | None = None
        self._adopted_name: str | None = None
        self._is_settled = True

    def begin(self, run: Run) -> None:
        """Make ready for a run: what another model or grid has found is forgotten, edits are kept."""
        if self.run is not None and run != self.run:
            self._forget_probabilities()
        self.run = run

    def _forget_probabilities(self) -> None:
        self.probability[...] = 0
        self.done[...] = False
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
        part = slice(batch.start, batch.stop)
        self.absorb_edits()
        self.probability[part] = batch.probabilities
        self.done[part] = True
        self.automatic[part] = self._lungs(part, clean=False)
        self._moved_on()
        self._show(part)
        self.events.probability.emit(batch.start, batch.stop)

    def absorb_edits(self, *, undone: bool = False) -> None:
        """Note what a hand has changed in `mask` since last time, by an undo or redo if `undone`."""
        if absorb_edits(self.mask, self._last_shown, self.automatic, self.edit, undone=undone):
            if undone:
                self._show(slice(None))
            self._last_shown[...] = self.mask

    def set_threshold(self, threshold: float) -> None:
        """Show the mask at another threshold, not cleaned up: fast enough to follow a slider."""
        self.absorb_edits()
        self.change_settings(threshold=threshold)
        np.greater_equal(self.probability, threshold_level(threshold), out=self.automatic)
        self._keep_adopted()
        self._show(slice(None))

    def change_settings(self, **changes: Any) -> None:
        """Change how the mask is made; what is shown follows with `settle`."""
        self.settings = replace(self.settings, **changes)
        self._moved_on()

    def settle(self) -> None:
        """Show the mask as the settings want it, cleaned up if they say so."""
        self.accept_automatic(self.version, self._lungs(slice(None), clean=self.settings.clean))

    def accept_automatic(self, version: int, automatic: npt.NDArray[np.bool_]) -> None:
        """Take in a mask that was cleaned up elsewhere, unless the case has moved on since it was of `version`."""
        if version != self.version:
            return
        self.absorb_edits()
        self.automatic[...] = automatic
        self._keep_adopted()
        self._is_settled = True
        self._show(slice(None))

    def adopt(self, mask: Mask, *, name: str = "a mask made elsewhere") -> None:
        """Begin from a mask made elsewhere; slices that the network has not seen keep it.

        Raises
        ------
        GeometryError
            If it does not lie on the grid of the CT.
        """
        refuse_other_grid(mask.geometry, self.volume.geometry, what=name)
        self._adopted, self._adopted_name = mask.axial > 0, name
        self._moved_on()
        self.settle()

    def restate(self, volume: Volume) -> None:
        """Take in the same CT with other HU: what the network found in the old ones is forgotten, edits are kept."""
        self.volume, self.run = volume, None
        self._forget_probabilities()

    def take_shown(self, shown: npt.NDArray[np.integer], *, undone: bool = False) -> None:
        """Take in a mask layer whose data may be another array than `mask`, of the same shape."""
        if shown is not self.mask:
            np.copyto(self.mask, shown > 0, casting="unsafe")
        self.absorb_edits(undone=undone)

    @property
    def voxels_edited(self) -> int:
        self.absorb_edits()
        return int(np.count_nonzero(self.edit))

    @property
    def volume_ml(self) -> float:
        """Volume of the mask as it is shown."""
        return float(np.count_nonzero(self.mask) * self.volume.geometry.voxel_volume_mm3 / 1000)

    def probability_map(self) -> ProbabilityMap:
        """Return the probabilities so far in the order of the source."""
        volume = self.volume
        array = np.ascontiguousarray(volume.geometry.to_axial.undo(self.probability))
        return ProbabilityMap(array, volume.geometry, self.done.copy(), self.run, volume.source, volume.notes)

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
        if not self.mask.any() and not self.done.any() and not self.edit.any():
            raise InputError("there is no mask yet: run the network, or paint one")
        return self.as_mask(self.mask, split=split)

    def as_mask(self, shown: npt.NDArray[np.integer], *, split: bool | None = None) -> Mask:
        """Return an axial array, lung where it is above 0, as a mask of this CT with the history of the case."""
        settings = self.settings if split is None else replace(self.settings, split=split)
        lungs, edited = (shown > 0).view(np.uint8), self.voxels_edited
        return finish_mask(
            lungs, self.probability_map(), settings, edited=edited, began_from=self._adopted_name
        )

    def _keep_adopted(self) -> None:
        if self._adopted is not None:
            self.automatic[~self.done] = self._adopted[~self.done]

    def _lungs(self, part: slice, *, clean: bool) -> npt.NDArray[np.bool_]:
        return lung_voxels(self.probability[part], threshold=self.settings.threshold, clean=clean)

    def _show(self, part: slice) -> None:
        for z in range(*part.indices(len(self.mask))):
            is_edited = self.edit[z].any()
            shown = (
                compose(self.automatic[z], self.edit[z]) if is_edited else self.automatic[z].view(np.uint8)
            )
            self.mask[z] = self._last_shown[z] = shown
        self.events.mask.emit()
