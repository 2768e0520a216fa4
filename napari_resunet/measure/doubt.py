"""How doubtful the mask is, slice by slice, so that a reader can look at the doubtful slices first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from napari_resunet.volume import threshold_level

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

# Probabilities as uint8: 0-255 for 0-1.
_FAINT = 3  # what is less, about a hundredth, is nothing
_STEP = 0.1

# How likely a voxel is wrong, at the least, however sure the network is of it.
_WRONG_IF_CHANGING = 0.5
_WRONG_IF_ODD = 0.5
_WRONG_IF_PIECE = 0.1
# Added to each slice, or a speck of a few voxels would be as doubtful as a lung.
_SPECK_MM2, _SPECK_MM = 100.0, 10.0
# A band as wide as this counts one half.
_BAND_MM = 1.0


@dataclass(frozen=True, eq=False)
class SliceDoubt:
    """Doubt on each axial slice, and the parts it is made of.

    Each is a (z,) array of float from 0 (sure) to 1; nan where the network has not run.

    Parameters
    ----------
    total : array
        The geometric mean of `overlap` and `band`: what to rank by.
    overlap : array
        One minus the Dice to be expected against the truth.
    band : array
        How wide a band along the contour is expected to be wrong: ``width / (width + 1 mm)``.
    change : array
        The share of the lung that moving the threshold by 0.1 up or down would change.
    neighbours : array
        The share of the lung that is unlike both neighbours where these agree.
    pieces : array
        The share of the lung that is islands (all but the two largest pieces) and holes.
    """

    total: Floats
    overlap: Floats
    band: Floats
    change: Floats
    neighbours: Floats
    pieces: Floats


def slice_doubt(
    probabilities: Bytes, *, threshold: float, spacing_mm: tuple[float, float, float], done: Bools
) -> SliceDoubt:
    """Measure on each slice how doubtful the mask at a threshold is.

    Each voxel is given a probability of being wrong: that of the network, ``1 - p`` in the mask and ``p`` outside of
    it; at least one half where the threshold decides (`change`) and where both neighbours say otherwise
    (`neighbours`); at least a tenth in islands and holes (`pieces`). Their sum is the area that is expected to be
    wrong. It is looked at in two ways. Over the size of both masks it is one minus the expected Dice, the "soft Dice
    confidence" of Borges et al., arXiv:2402.10665, and follows how much is wrong; over the length of the contour it
    is the width of the uncertain band, and follows how far off the contour is, in large slices and small. On the
    whole neither alone ranks as well as both together. `change`, `neighbours` and `pieces` tell why a slice is
    doubtful; they reach the total through the voxels.

    The chances were measured on CTs that trained the weights or chose them, as they are and with noise, blur, a shift
    of HU or in another posture. The network's own probability needs no mending: voxels of 0.1 to 0.2 doubt were wrong
    in about a tenth of the cases, those of 0.35 to 0.5 in a third. A voxel unlike both neighbours was wrong about
    half of the time where the CT was new to the weights or spoilt. Islands and holes were as right as the network
    says in a good CT and mostly wrong in a spoilt one, where cleaning up removes most of them: they count little. The
    order hardly changes with any of these constants.

    No slice is ranked against the others: its doubt stays what it is while slices further off come in. A border that
    moves on from slice to slice is like one of its neighbours everywhere, however thick the slices are, and raises
    no doubt. At the ends of what has been run, where a neighbour is missing, `neighbours` is 0.

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
        0 on slices without any probability above a hundredth, unless both neighbours have lung in the same place.

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
    parts = np.full((5, len(done)), np.nan)
    parts[:, done] = 0
    cropped = _cropped(probabilities)
    seen: Bools = np.any(cropped >= _FAINT, axis=(1, 2))
    seen[1:-1] |= seen[:-2] & seen[2:]  # a slice that was lost
    for index in np.flatnonzero(done & seen):
        alone = not 0 < index < len(done) - 1 or not done[index - 1 : index + 2].all()
        trio = cropped[[index] * 3] if alone else cropped[index - 1 : index + 2]
        parts[:, index] = _parts(trio, threshold, spacing_mm)
    overlap, band, *_ = parts
    return SliceDoubt(np.sqrt(overlap * band), *parts)


def _parts(trio: Bytes, threshold: float, spacing_mm: tuple[float, float, float]) -> list[float]:
    """Return the parts of the middle one of three slices: overlap, band, change, neighbours, pieces."""
    _, dy, dx = spacing_mm
    below, mask, above = trio >= _level(threshold)
    low, high = (max(_level(threshold + step), _FAINT) for step in (-_STEP, _STEP))
    changing = (trio[1] >= low) & (trio[1] < high)
    odd = (below == above) & (mask != below)
    pieces = _islands_and_holes(mask)

    wrong = _wrong_by_network(threshold)[trio[1]]
    for voxels, least in (
        (changing, _WRONG_IF_CHANGING),
        (odd, _WRONG_IF_ODD),
        (pieces, _WRONG_IF_PIECE),
    ):
        np.maximum(wrong, least, out=wrong, where=voxels)
    wrong_mm2, too_much_mm2 = float(wrong.sum()) * dy * dx, float(wrong[mask].sum()) * dy * dx
    mask_mm2 = np.count_nonzero(mask) * dy * dx
    truth_mm2 = mask_mm2 - too_much_mm2 + (wrong_mm2 - too_much_mm2)
    band_mm = wrong_mm2 / (_contour_mm(mask, dy, dx) + _SPECK_MM)
    return [
        wrong_mm2 / (mask_mm2 + truth_mm2 + _SPECK_MM2),
        band_mm / (band_mm + _BAND_MM),
        *(_share(voxels, mask, dy * dx) for voxels in (changing, odd, pieces)),
    ]


def _wrong_by_network(threshold: float) -> Floats:
    """Return how likely a voxel is wrong at each uint8 probability, if the network is right about itself."""
    values = np.arange(256)
    probability = np.where(values < _FAINT, 0, values / 255)
    wrong: Floats = np.abs((values >= _level(threshold)) - probability)
    return wrong


def _share(voxels: Bools, mask: Bools, voxel_mm2: float) -> float:
    """Return how much of the lung, `voxels` included, is `voxels`."""
    return np.count_nonzero(voxels) * voxel_mm2 / (np.count_nonzero(mask | voxels) * voxel_mm2 + _SPECK_MM2)


def _contour_mm(mask: Bools, dy: float, dx: float) -> float:
    """Return the length of the outline along the edges of the voxels."""
    return float(
        np.count_nonzero(mask[1:] != mask[:-1]) * dx + np.count_nonzero(mask[:, 1:] != mask[:, :-1]) * dy
    )


def _islands_and_holes(mask: Bools) -> Bools:
    """Return the voxels of a (y, x) mask with an empty rim that are in its third or a smaller piece, or enclosed."""
    pieces, _ = scipy.ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    is_island = np.ones(len(sizes), dtype=bool)
    is_island[[0, *np.argsort(sizes)[-2:]]] = False
    outside, _ = scipy.ndimage.label(~mask, structure=np.ones((3, 3)))
    hole: Bools = ~mask & (outside != outside[0, 0])
    return hole | is_island[pieces]


def _level(threshold: float) -> int:
    """Return the least uint8 probability that is at least `threshold`, and is not 0."""
    return min(max(threshold_level(threshold), 1), 255)


def _cropped(probabilities: Bytes) -> Bytes:
    """Return the rows and columns that hold anything that is not faint, with a rim of 0."""
    seen = probabilities.max(axis=0) >= _FAINT
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return np.zeros((len(probabilities), 1, 1), np.uint8)
    inside = probabilities[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.pad(inside, ((0, 0), (1, 1), (1, 1)))
