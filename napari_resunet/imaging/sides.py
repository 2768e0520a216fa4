"""Which lung is the right one and which the left."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from napari_resunet.imaging.components import Bools, box_around, label_pieces

RIGHT, LEFT = 1, 2

_COARSE_MM = 2.5
_EROSION_STEP_MM = 2.0
_EROSION_MOST_MM = 20.0
# Two cores are taken for the two lungs when they lie so far apart from side to side, and neither is tiny.
_APART_MM = 50.0
_LEAST_PART_OF_CORE = 0.1
# A piece that lies so much on one side belongs to it as a whole.
_MAJORITY = 0.95


def swapped_sides(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return labels with right and left exchanged; 0 stays 0."""
    return np.array([0, LEFT, RIGHT], dtype=np.uint8)[labels]


def split_right_left(
    mask: Bools, *, spacing_mm: tuple[float, float, float], midline: float
) -> npt.NDArray[np.uint8]:
    """Tell the right lung from the left.

    The mask is worn down until its core falls into two parts side by side; every voxel then goes with the nearer
    part. Where it never does, as with one lung alone, each piece goes with the side of the body its centre is on.

    Parameters
    ----------
    mask : (z, y, x) array of bool
        Lungs in axial slices, the patient's right at low x.
    spacing_mm : tuple of float
        Along (z, y, x).
    midline : float
        Column of the body's middle.

    Returns
    -------
    (z, y, x) array of uint8
        0, 1 for right, 2 for left.
    """
    result = np.zeros(mask.shape, dtype=np.uint8)
    if not mask.any():
        return result
    box = box_around(mask)
    inside = mask[box]
    steps = (1, *(max(1, round(_COARSE_MM / mm)) for mm in spacing_mm[1:]))
    coarse = inside[:, :: steps[1], :: steps[2]]
    coarse_mm = tuple(mm * step for mm, step in zip(spacing_mm, steps, strict=True))
    nearer = _nearer_left(coarse, coarse_mm)
    if nearer is None:
        is_left = _beyond_midline(inside, midline - box[2].start)
    else:
        fine = nearer.repeat(steps[1], axis=1).repeat(steps[2], axis=2)
        is_left = _whole_pieces(inside, fine[:, : inside.shape[1], : inside.shape[2]])
    result[box] = np.where(inside, np.where(is_left, LEFT, RIGHT), 0)
    return result


def _nearer_left(mask: Bools, spacing_mm: tuple[float, ...]) -> Bools | None:
    """Say of every voxel in the box, lung or not, whether it goes with the left lung; None if there are not two."""
    depth = scipy.ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1]
    for erosion in np.arange(0, _EROSION_MOST_MM, _EROSION_STEP_MM):
        cores = _two_cores(depth > erosion, spacing_mm)
        if cores is not None:
            nearest = scipy.ndimage.distance_transform_edt(
                cores == 0, sampling=spacing_mm, return_distances=False, return_indices=True
            )
            return np.asarray(cores[tuple(nearest)] == LEFT)
    return None


def _beyond_midline(mask: Bools, midline: float) -> Bools:
    """Say of every voxel whether the centre of its piece lies beyond the midline, on the patient's left."""
    labels, sizes = label_pieces(mask)
    columns = np.broadcast_to(np.arange(mask.shape[2], dtype=float), mask.shape)
    centres = np.bincount(labels.ravel(), weights=columns.ravel()) / np.maximum(sizes, 1)
    return np.asarray((centres > midline)[labels])


def _two_cores(core: Bools, spacing_mm: tuple[float, ...]) -> npt.NDArray[np.uint8] | None:
    """Return the core labelled right and left, or None while it hangs together."""
    labels, sizes = label_pieces(core)
    large = np.flatnonzero((sizes > 0) & (sizes >= _LEAST_PART_OF_CORE * sizes.sum()))
    if len(large) < 2:
        return None
    centres = {int(i): float(np.nonzero(labels == i)[2].mean()) for i in large}
    first, last = min(centres.values()), max(centres.values())
    if (last - first) * spacing_mm[2] < _APART_MM:
        return None
    sides = np.zeros(len(sizes), dtype=np.uint8)
    for i, centre in centres.items():
        sides[i] = LEFT if centre > (first + last) / 2 else RIGHT
    return np.asarray(sides[labels])


def _whole_pieces(mask: Bools, is_left: Bools) -> Bools:
    """Let pieces that lie nearly all on one side be there as a whole, so that no rim changes sides."""
    labels, sizes = label_pieces(mask)
    share = np.bincount(labels.ravel(), weights=(is_left & mask).ravel()) / np.maximum(sizes, 1)
    decided = np.where(share > _MAJORITY, 1, np.where(share < 1 - _MAJORITY, 0, -1))[labels]
    return np.where(decided < 0, is_left, decided > 0)
