"""How sure the network is, slice by slice, so that a reader can look at the doubtful slices first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

# Probabilities as uint8: 0-255 for 0-1.
_SEEN = 26  # the first above 0.1
_BAND = 51, 204  # 0.2 and 0.8
_STEP = 0.1

# What is usual on a slice whose contour is right, measured on one CT of the chest; a part that is as large as this
# counts one half.
_BAND_MM = 1.5
_CHANGE, _ODD, _PIECES = 0.06, 0.2, 0.1  # of the area
# 1 cm² and its outline: added to each slice, or a speck of a few voxels would be as doubtful as a lung.
_SPECK_MM2, _SPECK_MM = 100.0, 35.0
# How much each part counts: band, change, neighbours, pieces.
_EXPONENTS = np.array([0.5, 0.5, 1.0, 0.1])


@dataclass(frozen=True, eq=False)
class SliceDoubt:
    """Doubt on each axial slice, and the parts it is made of.

    Each is a (z,) array of float from 0 (sure) to 1; nan where the network has not run.

    Parameters
    ----------
    total : array
        ``1 - (1 - band)**0.5 * (1 - change)**0.5 * (1 - neighbours) * (1 - pieces)**0.1``.
    band : array
        How wide the uncertain band (probability between 0.2 and 0.8) is along the contour.
    change : array
        How much of the area depends on moving the threshold by 0.1 up or down.
    neighbours : array
        How much of the slice is unlike both its neighbours where these agree.
    pieces : array
        How much of the slice is islands (all but the two largest pieces) and holes.
    """

    total: Floats
    band: Floats
    change: Floats
    neighbours: Floats
    pieces: Floats


def slice_doubt(
    probabilities: Bytes, *, threshold: float, spacing_mm: tuple[float, float, float], done: Bools
) -> SliceDoubt:
    """Measure on each slice how sure the network is of the mask at a threshold.

    Each part is an area in mm² against what is usual, as ``found / (found + usual)``: 0 for nothing, one half for
    the usual, never 1, so that one part cannot drown the others. A slice is as sure as the product of its parts: any
    of them can raise a doubt alone. The band and the change, which follow the Dice of a slice best, share one voice;
    a slice that was lost between two others has neither, and is found by its neighbours; pieces count little,
    because cleaning up removes most of them. No slice is ranked against the others: its doubt stays what it is
    while slices further off come in.

    A border that moves on from slice to slice is like one of its neighbours everywhere, however thick the slices
    are, and raises no doubt. At the ends of what has been run, where a neighbour is missing, that part is 0.

    Parameters
    ----------
    probabilities : (z, y, x) array of uint8
        Axial slices, 0-255 for 0-1.
    threshold : float
        A voxel is lung where its probability is at least this.
    spacing_mm : tuple of float
        Along (z, y, x).
    done : (z,) array of bool
        Which slices the network has seen.

    Returns
    -------
    SliceDoubt
        0 on slices without any probability above 0.1, unless both neighbours have lung in the same place.

    Raises
    ------
    ValueError
        If the array is not (z, y, x) of uint8, or `done` has another length.
    """
    if probabilities.ndim != 3 or probabilities.dtype != np.uint8 or done.shape != probabilities.shape[:1]:
        raise ValueError(
            f"slice_doubt takes a (z, y, x) array of uint8 and a (z,) array of bool; "
            f"got {probabilities.shape} of {probabilities.dtype} and {done.shape}"
        )
    parts = np.full((len(_EXPONENTS), len(done)), np.nan)
    parts[:, done] = 0
    cropped = _cropped(probabilities, min(_SEEN, _level(threshold - _STEP)))
    seen: Bools = np.any(cropped >= _SEEN, axis=(1, 2))
    seen[1:-1] |= seen[:-2] & seen[2:]  # a slice that was lost
    for index in np.flatnonzero(done & seen):
        alone = not 0 < index < len(done) - 1 or not done[index - 1 : index + 2].all()
        trio = cropped[[index] * 3] if alone else cropped[index - 1 : index + 2]
        parts[:, index] = _parts(trio, threshold, spacing_mm)
    return SliceDoubt(1 - np.prod((1 - parts).T ** _EXPONENTS, axis=1), *parts)


def _parts(trio: Bytes, threshold: float, spacing_mm: tuple[float, float, float]) -> Floats:
    """Return the parts of the middle one of three slices: band, change, neighbours, pieces."""
    _, dy, dx = spacing_mm
    below, mask, above = trio >= _level(threshold)
    here = trio[1]
    area = np.count_nonzero(mask) * dy * dx + _SPECK_MM2
    contour = _contour_mm(mask, dy, dx) + _SPECK_MM
    changing = (here >= _level(threshold - _STEP)) & (here < _level(threshold + _STEP))
    areas = [
        ((here > _BAND[0]) & (here < _BAND[1]), _BAND_MM * contour),
        (changing, _CHANGE * area),
        ((below == above) & (mask != below), _ODD * area),
        (_islands_and_holes(mask), _PIECES * area),
    ]
    found = np.array([np.count_nonzero(voxels) for voxels, _ in areas]) * dy * dx
    return found / (found + [usual for _, usual in areas])


def _contour_mm(mask: Bools, dy: float, dx: float) -> float:
    """Return the length of the outline along the edges of the voxels."""
    return float(
        np.count_nonzero(mask[1:] != mask[:-1]) * dx + np.count_nonzero(mask[:, 1:] != mask[:, :-1]) * dy
    )


def _islands_and_holes(mask: Bools) -> Bools:
    """Return the voxels of a (y, x) mask with an empty rim that are in its third or a smaller piece, or enclosed."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    is_island = np.ones(len(sizes), dtype=bool)
    is_island[[0, *np.argsort(sizes)[-2:]]] = False
    outside, _ = ndimage.label(~mask, structure=np.ones((3, 3)))
    hole: Bools = ~mask & (outside != outside[0, 0])
    return hole | is_island[pieces]


def _level(threshold: float) -> int:
    """Return the least uint8 probability that is at least `threshold`, and is not 0."""
    return min(max(math.ceil(round(threshold * 255, 6)), 1), 255)


def _cropped(probabilities: Bytes, least: int) -> Bytes:
    """Return the rows and columns that hold anything of at least `least`, with a rim of 0."""
    seen = probabilities.max(axis=0) >= least
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return np.zeros((len(probabilities), 1, 1), np.uint8)
    inside = probabilities[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(inside, ((0, 0), (1, 1), (1, 1)))
