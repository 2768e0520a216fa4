"""Fill the slices between those that a hand has drawn."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy

from napari_resunet.editing.places import Bools, Labels, box_around, slice_in
from napari_resunet.errors import InputError

Floats = npt.NDArray[np.float64]

# Of the last step to the other side. The outline of pixels runs half-way through it where it follows the grid, and
# close to the far end where it is oblique; a quarter is right to within a quarter of a pixel for both.
_BEYOND_OUTLINE = 0.25


# How far from what a hand has set the slices in between may change: far enough for an outline to move over.
_REACH_MM = 10.0


def fill_between(
    mask: Labels,
    edited_slices: Sequence[int],
    *,
    spacing_mm: tuple[float, float, float],
    edited: Bools | None = None,
) -> Bools:
    """Draw the slices between edited ones by letting one outline turn into the next.

    Between two neighbouring edited slices the depth below the outline, in mm within the slice, goes over linearly
    from one to the other; what is below the outline is lung (shape-based interpolation). What was there between the two
    is replaced: all of it, or only within 10 mm of what a hand has `edited` on either slice, so that a correction is
    carried on and the rest stays as the network found it.

    - Edited slices, and all below the first and above the last of them, stay as they are.
    - Next to an empty slice the shape shrinks, and is gone half-way. Between two empty slices all is empty.
    - Parts that do not overlap from one edited slice to the next do not wander over; each shrinks by itself.

    Parameters
    ----------
    mask : (z, y, x) array of bool or int
        Axial slices; whatever is above 0 is lung.
    edited_slices : sequence of int
        In any order, at least two different ones.
    spacing_mm : tuple of float
        Along (z, y, x).
    edited : (z, y, x) array of bool, optional
        Voxels that a hand has set.

    Returns
    -------
    (z, y, x) array of bool

    Raises
    ------
    InputError
        If fewer than two slices are given, or one that is not there.
    """
    slices = sorted({slice_in(mask.shape, z) for z in edited_slices})
    if len(slices) < 2:
        raise InputError(
            f"filling needs at least 2 edited slices, there {'is 1' if slices else 'are 0'}; "
            "correct the lung on another slice, with some slices in between"
        )
    filled = mask > 0
    for first, last in pairwise(slices):
        if last - first > 1:
            between = _between(filled[first], filled[last], last - first, spacing_mm[1:])
            where = True if edited is None else _near(edited[first] | edited[last], spacing_mm[1:])
            np.copyto(filled[first + 1 : last], between, where=where)
    return filled


def depth_mm(shape: Bools, *, spacing_mm: tuple[float, float]) -> Floats:
    """Return how deep each pixel lies below the outline of a shape: above 0 inside of it, below 0 outside.

    Beyond the edge of the picture the shape is taken to go on. Where there is no outline, because all pixels are
    inside or all outside, they are as deep, or as far out, as the picture's diagonal is long.

    Parameters
    ----------
    shape : (y, x) array of bool
    spacing_mm : tuple of float
        Along (y, x).

    Returns
    -------
    (y, x) array of float
        In mm.
    """
    if shape.all() or not shape.any():
        diagonal = float(np.hypot(*np.multiply(shape.shape, spacing_mm)))
        return np.full(shape.shape, diagonal if shape.all() else -diagonal)
    return _to_outline(shape, spacing_mm) - _to_outline(~shape, spacing_mm)


def _near(edited: Bools, spacing_mm: tuple[float, float]) -> Bools:
    """Return the pixels of a slice that lie within reach of those that a hand has set."""
    if not edited.any():
        return edited
    near: Bools = scipy.ndimage.distance_transform_edt(~edited, sampling=spacing_mm) <= _REACH_MM
    return near


def _between(first: Bools, last: Bools, steps: int, spacing_mm: tuple[float, float]) -> Bools:
    """Return the ``steps - 1`` slices between two (y, x) shapes."""
    filled = np.zeros((steps - 1, *first.shape), dtype=bool)
    # A pixel that is in neither shape can be in none between them, and the pixels just around are all the
    # background that depths depend on.
    box = box_around(first | last, margin=(1, 1))
    if (first | last).any():
        low, high = _depths(first[box], last[box], spacing_mm)
        for i in range(1, steps):
            part = i / steps
            filled[i - 1][box] = (1 - part) * low + part * high > 0
    return filled


def _depths(first: Bools, last: Bools, spacing_mm: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return the depths of two shapes, one of which may be empty.

    An empty one counts as outside everywhere by as much as the other is deep, so that the sum of both falls to 0
    half-way.
    """
    low, high = depth_mm(first, spacing_mm=spacing_mm), depth_mm(last, spacing_mm=spacing_mm)
    if not first.any():
        low = np.full_like(low, -high.max())
    if not last.any():
        high = np.full_like(high, -low.max())
    return low, high


def _to_outline(shape: Bools, spacing_mm: tuple[float, float]) -> Floats:
    """Return for each pixel of a shape how far it is to the outline, in mm; 0 outside of the shape."""
    distance, nearest = scipy.ndimage.distance_transform_edt(shape, sampling=spacing_mm, return_indices=True)
    steps = np.abs(nearest - np.indices(shape.shape)).max(axis=0)
    result: Floats = distance * (1 - _BEYOND_OUTLINE / np.maximum(steps, 1))
    return result
