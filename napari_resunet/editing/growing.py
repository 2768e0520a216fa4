"""Grow a region from a clicked voxel: the classical method, for what the network missed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.places import Bools, Box, Voxel, named, voxel_in
from napari_resunet.errors import InputError
from napari_resunet.imaging.components import label_pieces

# So that 3 steps of 1.1 mm lie within 3.3 mm, whatever the last bit says.
_ROUNDING = 1 + 1e-9


def grow_from(
    hu: npt.NDArray[Any],
    seed: Sequence[int],
    *,
    low_hu: float,
    high_hu: float,
    within_mm: float,
    spacing_mm: tuple[float, float, float],
    in_slice: bool,
) -> Bools:
    """Return what hangs together with a voxel, face to face, through voxels of a HU range nearby.

    Parameters
    ----------
    hu : (z, y, x) array
        Axial slices. A voxel that is not a number belongs to no range.
    seed : sequence of int
        The clicked voxel (z, y, x).
    low_hu, high_hu : float
        The range; both ends belong to it.
    within_mm : float
        How far from the seed the region may reach, as the crow flies. A way that leaves this ball and comes back
        does not count.
    spacing_mm : tuple of float
        Along (z, y, x).
    in_slice : bool
        Whether to stay in the clicked slice.

    Returns
    -------
    (z, y, x) array of bool
        The region alone; lay it over a mask with ``|``.

    Raises
    ------
    InputError
        If the voxel is outside of the CT or of the range.
    """
    if not within_mm >= 0:
        raise ValueError(f"within_mm must be 0 or more, got {within_mm}")
    voxel = voxel_in(hu.shape, seed)
    _check_seed(hu, voxel, low_hu, high_hu)
    box, ball = _ball(hu.shape, voxel, within_mm, spacing_mm, in_slice=in_slice)
    nearby = hu[box]
    labels, _ = label_pieces(ball & (nearby >= low_hu) & (nearby <= high_hu))
    start = tuple(i - part.start for i, part in zip(voxel, box, strict=True))
    region = np.zeros(hu.shape, dtype=bool)
    region[box] = labels == labels[start]
    return region


def _check_seed(hu: npt.NDArray[Any], voxel: Voxel, low_hu: float, high_hu: float) -> None:
    value = float(hu[voxel])
    if not low_hu <= value <= high_hu:
        found = "no HU" if np.isnan(value) else f"{value:g} HU"
        raise InputError(
            f"{named(voxel)} has {found}, outside of the range from {low_hu:g} to {high_hu:g} HU; "
            "click on another voxel, or widen the range"
        )


def _ball(
    shape: Sequence[int],
    voxel: Voxel,
    within_mm: float,
    spacing_mm: tuple[float, float, float],
    *,
    in_slice: bool,
) -> tuple[Box, Bools]:
    """Return the part of a volume that holds a ball around a voxel, and the ball in it."""
    limit = within_mm * _ROUNDING
    reaches = [0.0 if in_slice else limit, limit, limit]
    away_mm = [np.abs(np.arange(n) - i) * mm for n, i, mm in zip(shape, voxel, spacing_mm, strict=True)]
    within = [np.flatnonzero(away <= reach) for away, reach in zip(away_mm, reaches, strict=True)]
    box = tuple(slice(int(where[0]), int(where[-1]) + 1) for where in within)
    z, y, x = np.ix_(*(away[part] ** 2 for away, part in zip(away_mm, box, strict=True)))
    return box, z + y + x <= limit**2
