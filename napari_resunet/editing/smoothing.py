"""Smooth the surface of a mask."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy

from napari_resunet.editing.places import Bools, Labels, box_around

# Beyond this many radii the Gaussian is cut off: 0.3 % of it.
_CUT_OFF = 3.0
# On a round edge a Gaussian lowers the half-way level in proportion to its width and to the curvature. Two passes are
# the square root of 2 wider than one; with these weights, 1 in all, what both lower cancels out.
_ONCE, _TWICE = np.float32(2 + math.sqrt(2)), np.float32(1 + math.sqrt(2))


def smooth(mask: Labels, *, radius_mm: float, spacing_mm: tuple[float, float, float]) -> Bools:
    """Return the mask with a smoother surface, as large as before.

    A Gaussian alone shrinks whatever is round. Here what it takes away is found by a second pass and put back: a
    disc or a ball whose radius is three times `radius_mm` or more keeps its area or volume to within 1 %. What is
    much smaller goes: a sheet thinner than about 0.8 of `radius_mm`, a slit narrower than that.

    Parameters
    ----------
    mask : (z, y, x) array of bool or int
        Axial slices; whatever is above 0 is lung. Where it is cut off by the edge of the volume it is taken to go
        on beyond.
    radius_mm : float
        Standard deviation of the Gaussian, the same along all three axes; 0 returns the mask as it is.
    spacing_mm : tuple of float
        Along (z, y, x).

    Returns
    -------
    (z, y, x) array of bool
    """
    if not 0 <= radius_mm < math.inf:
        raise ValueError(f"radius_mm must be 0 or more, got {radius_mm}")
    lung = mask > 0
    if radius_mm == 0:
        return lung
    sigmas = [radius_mm / mm for mm in spacing_mm]
    # as wide as the Gaussian, so that the second pass finds all that the first one spread
    box = box_around(lung, margin=[math.ceil(_CUT_OFF * sigma) + 1 for sigma in sigmas])
    smoothed = np.zeros_like(lung)
    smoothed[box] = _smoothed(lung[box], sigmas)
    return smoothed


def _smoothed(lung: Bools, sigmas: list[float]) -> Bools:
    once = _blurred(lung.astype(np.float32), sigmas)
    twice = _blurred(once, sigmas)
    once *= _ONCE
    twice *= _TWICE
    once -= twice
    return once > 0.5


def _blurred(values: npt.NDArray[np.float32], sigmas: list[float]) -> npt.NDArray[np.float32]:
    return scipy.ndimage.gaussian_filter(values, sigmas, mode="nearest", truncate=_CUT_OFF)
