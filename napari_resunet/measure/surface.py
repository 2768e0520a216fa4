"""How far the surfaces of two masks lie from each other, in mm."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from napari_resunet.geometry import Geometry

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

TOLERANCE_MM = 2.0
# A distance of 2 mm that came out as 2.0000000000000004 is within 2 mm.
_ROUNDING_MM = 1e-6


@dataclass(frozen=True)
class SurfaceFigures:
    """How far two surfaces lie from each other.

    Parameters
    ----------
    hd95_mm : float
        The larger of the two directed 95th percentiles: 95 % of either surface lie within this of the other one.
    assd_mm : float
        Average symmetric surface distance: the mean over the voxels of both surfaces together.
    nsd_2mm : float
        Normalised surface Dice: the share of both surfaces together that lies within 2 mm of the other one.
    """

    hd95_mm: float
    assd_mm: float
    nsd_2mm: float


def compare_surfaces(mask: Bools, reference: Bools, geometry: Geometry) -> SurfaceFigures:
    """Compare the surfaces of two masks.

    Each surface voxel counts once, however large its face. Where both masks are empty there is nothing to compare
    and every figure is nan. Where one is empty the other is missed: both distances are the diagonal of the volume,
    and nothing lies within 2 mm.

    Parameters
    ----------
    mask, reference : (z, y, x) array of bool
        On one grid.
    geometry : Geometry
        Of that grid; it may be rotated or sheared.
    """
    present = bool(mask.any()), bool(reference.any())
    if present == (False, False):
        return SurfaceFigures(np.nan, np.nan, np.nan)
    if not all(present):
        diagonal = diagonal_mm(geometry)
        return SurfaceFigures(diagonal, diagonal, 0.0)
    there, back = surface_distances_mm(mask, reference, geometry)
    both = np.concatenate([there, back])
    return SurfaceFigures(
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
        assd_mm=float(both.mean()),
        nsd_2mm=float(np.mean(both <= TOLERANCE_MM + _ROUNDING_MM)),
    )


def surface_distances_mm(mask: Bools, reference: Bools, geometry: Geometry) -> tuple[Floats, Floats]:
    """Return how far each surface voxel of one mask is from the nearest surface voxel of the other.

    From voxel centre to voxel centre, straight through the patient, whatever the spacing and the angles between
    the array axes. A search tree over the surfaces is used on every grid: two lungs of a 512 x 512 x 133 CT that
    nearly agree take it about a tenth of the time of a distance map.

    Parameters
    ----------
    mask, reference : (z, y, x) array of bool
        Neither may be empty.
    geometry : Geometry
        Of both.

    Returns
    -------
    tuple of array
        For each surface voxel of `mask` the distance in mm to the surface of `reference`, and the other way round.

    Raises
    ------
    ValueError
        If a mask is empty.
    """
    if not (mask.any() and reference.any()):
        raise ValueError("an empty mask has no surface to measure from")
    box = _box_around(mask | reference)
    flat = tuple(n == 1 for n in geometry.shape)
    step_mm = geometry.index_to_lps[:3, :3]
    first, second = (
        np.argwhere(surface_voxels(part[box], flat)) @ step_mm.T for part in (mask, reference)
    )  # (n, 3) points in mm; the place of the box does not matter
    return _nearest_mm(first, second), _nearest_mm(second, first)


def surface_voxels(mask: Bools, flat: tuple[bool, ...] | None = None) -> Bools:
    """Return which voxels of a (z, y, x) mask have a face neighbour outside of it.

    What lies beyond the border of the array is outside, so that a lung that the scan cuts off ends there. Along an
    axis that is `flat` nothing is beyond: the surface of a single slice is the contour within it.

    Parameters
    ----------
    mask : (z, y, x) array of bool
        May be cut out of a larger volume.
    flat : tuple of bool, optional
        Along which axes that volume has a single voxel; by default those along which the mask has one.
    """
    if flat is None:
        flat = tuple(n == 1 for n in mask.shape)
    inner = mask.copy()
    # a volume of one voxel is all surface
    axes = [axis for axis in range(3) if not flat[axis]] or [0]
    for axis in axes:
        kept, around = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        kept[1:] &= around[:-1]
        kept[:-1] &= around[1:]
        kept[0] = kept[-1] = False
    return mask & ~inner


def diagonal_mm(geometry: Geometry) -> float:
    """Return the longest diagonal of a volume, from outer edge to outer edge: no two voxels are further apart."""
    signs = np.array(list(itertools.product((-1, 1), repeat=3)))
    diagonals = (signs * geometry.shape) @ geometry.index_to_lps[:3, :3].T
    return float(np.linalg.norm(diagonals, axis=1).max())


def _box_around(mask: Bools) -> tuple[slice, slice, slice]:
    z, y, x = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    return slice(z[0], z[-1] + 1), slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)


def _nearest_mm(points: Floats, others: Floats) -> Floats:
    distances, _ = scipy.spatial.cKDTree(others).query(points, workers=-1)
    return np.asarray(distances, dtype=np.float64)
