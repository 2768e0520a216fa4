"""What a saved case adds up to: its mask and its probabilities, without its CT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.adding_up import put_adopted, refuse_no_mask
from napari_resunet.editing.correction import compose
from napari_resunet.errors import InputError
from napari_resunet.inference.postprocess import finish_mask, lung_voxels
from napari_resunet.record import CaseRecord
from napari_resunet.volume import Mask, ProbabilityMap


def require_whole(record: CaseRecord, path: Path) -> None:
    """Refuse a case file that was saved without what the hand's edits lie on.

    Raises
    ------
    InputError
        Naming the file.
    """
    lacks_probability = record.probability is None and record.done.any()
    lacks_adopted = record.adopted is None and record.adopted_name is not None
    if lacks_probability or lacks_adopted:
        raise InputError(f"{path} holds only what a hand did; open its CT in the window, save the case there")


def probability_map_of(record: CaseRecord) -> ProbabilityMap:
    """Return the probabilities of a case on the grid of its CT."""
    ct = record.ct
    array = np.ascontiguousarray(ct.geometry.to_axial.undo(_probabilities(record)))
    return ProbabilityMap(array, ct.geometry, record.done, record.run, ct.source, ct.notes)


def _probabilities(record: CaseRecord) -> npt.NDArray[np.uint8]:
    return np.zeros(record.shape, np.uint8) if record.probability is None else record.probability


def mask_of(record: CaseRecord, prob: ProbabilityMap, split: bool | None) -> Mask:
    """Return the mask that a case adds up to, on the grid of its CT; its own settings say `split` where it is None.

    Raises
    ------
    InputError
        If the case has no mask yet.
    """
    settings = record.settings if split is None else replace(record.settings, split=split)
    edited = record.edits.voxels()
    return finish_mask(lungs_of(record), prob, settings, edited=edited, began_from=record.adopted_name)


def lungs_of(record: CaseRecord) -> npt.NDArray[np.uint8]:
    """Add up the parts of a case in axial slices, as `napari_resunet.case.Case` does.

    Returns
    -------
    (z, y, x) array of uint8
        1 in the lungs.

    Raises
    ------
    InputError
        If the case has no mask yet.
    """
    settings, edits = record.settings, record.edits
    automatic = lung_voxels(_probabilities(record), threshold=settings.threshold, clean=settings.clean)
    put_adopted(record.adopted, automatic, done=record.done)
    lungs = automatic.view(np.uint8)
    lungs[edits.slices] = compose(automatic[edits.slices], edits.values)
    refuse_no_mask(lungs, done=record.done, edited=edits.voxels() > 0)
    return lungs
