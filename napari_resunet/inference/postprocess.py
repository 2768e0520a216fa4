"""From probabilities to a mask: threshold, clean-up, right and left."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.imaging.components import clean as cleaned
from napari_resunet.imaging.sides import split_right_left, swapped_sides
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import Mask, ProbabilityMap, Run, refuse_other_kind, threshold_level


def lung_voxels(
    probabilities: npt.NDArray[np.uint8], *, threshold: float, clean: bool
) -> npt.NDArray[np.bool_]:
    """Return which voxels of an axial (z, y, x) uint8 map are lung."""
    mask = probabilities >= threshold_level(threshold)
    return cleaned(mask) if clean else mask


def to_mask(
    prob: ProbabilityMap,
    threshold: float = MaskSettings.threshold,
    clean: bool = MaskSettings.clean,
    split: bool = MaskSettings.split,
    swap_sides: bool = MaskSettings.swap_sides,
) -> Mask:
    """Turn a probability map into a mask.

    Parameters
    ----------
    prob : ProbabilityMap
        What `predict` gave.
    threshold : float
        A voxel is lung where its probability is at least this, from 0.01 to 0.99.
    clean : bool
        Keep the large connected pieces and fill the holes inside them, in 3-D.
    split : bool
        Label the right lung 1 and the left lung 2.
    swap_sides : bool
        Label them the other way round, where the CT's header is wrong or the organs lie mirrored.

    Returns
    -------
    Mask
        On the same grid.

    Raises
    ------
    TypeError, ValueError
        If it is given anything but a probability map, or a threshold out of its limits.
    """
    refuse_other_kind(prob, ProbabilityMap, needed_by="to_mask")
    settings = MaskSettings(threshold=threshold, clean=clean, split=split, swap_sides=swap_sides)
    lungs = lung_voxels(prob.axial, threshold=settings.threshold, clean=settings.clean)
    return finish_mask(lungs.view(np.uint8), prob, settings)


def finish_mask(
    lungs: npt.NDArray[np.uint8],
    prob: ProbabilityMap,
    settings: MaskSettings,
    *,
    edited: int = 0,
    began_from: str | None = None,
) -> Mask:
    """Return an axial (z, y, x) mask of 0 and 1 as a `Mask` in the order of the source, with its history.

    Parameters
    ----------
    lungs : (z, y, x) array of uint8
        In axial order.
    prob : ProbabilityMap
        What it was made from.
    settings : MaskSettings
        With which it was made; ``split`` and ``swap_sides`` are done here.
    edited : int
        Voxels set by hand.
    began_from : str, optional
        The mask made elsewhere that slices without a run were taken from.
    """
    geometry = prob.geometry
    if settings.split:
        spacing = geometry.axial.spacing_mm
        lungs = label_sides(lungs > 0, spacing_mm=spacing, run=prob.run, swap=settings.swap_sides)
    history: dict[str, Any] = {
        "run": None if prob.run is None else dataclasses.asdict(prob.run),
        "mask": dataclasses.asdict(settings),
        "slices_run": _ranges(prob.done),
        "slices": len(prob.done),
        "voxels_edited_by_hand": edited,
        "notes_on_the_ct": list(prob.notes),
    }
    if began_from is not None:
        history["began_from"] = began_from
    return Mask(np.ascontiguousarray(geometry.to_axial.undo(lungs)), geometry, prob.source, history)


def _ranges(done: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Return the runs of True as [first, one after the last].

    >>> _ranges(np.array([True, True, False, True]))
    [[0, 2], [3, 4]]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], done.astype(np.int8), [0]])))
    return [[int(first), int(last)] for first, last in edges.reshape(-1, 2)]


def label_sides(
    lungs: npt.NDArray[np.bool_], *, spacing_mm: tuple[float, float, float], run: Run | None, swap: bool
) -> npt.NDArray[np.uint8]:
    """Return an axial (z, y, x) mask with the right lung as 1 and the left as 2, or the other way round to `swap`.

    Parameters
    ----------
    lungs : (z, y, x) array of bool
        In axial order.
    spacing_mm : tuple of float
        Along (z, y, x).
    run : Run, optional
        What made the mask; knows where the middle of the body is.
    swap : bool
        Whether to label the sides the other way round.
    """
    first, last = (0, lungs.shape[2]) if run is None else run.crop[2:]
    labels = split_right_left(lungs, spacing_mm=spacing_mm, midline=(first + last) / 2)
    return swapped_sides(labels) if swap else labels
