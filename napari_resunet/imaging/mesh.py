"""The surface of a mask, as triangles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy
from skimage.measure import marching_cubes
from skimage.transform import downscale_local_mean

from napari_resunet.errors import InputError
from napari_resunet.imaging.components import box_around

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

_MARGIN = 2.5  # cells of nothing around the mask at least: the surface closes within them


def lung_surface(
    mask: Bools, spacing_mm: tuple[float, float, float], *, cell_mm: float = 2.0
) -> tuple[Floats, npt.NDArray[np.int32]]:
    """Return a smooth, closed surface around a mask.

    The mask is brought to cells of about `cell_mm`, smoothed by as much, and cut where half of a cell is inside.
    A lung that the scan cuts off is closed at the outer face of its last voxels. Pieces and gaps thinner than
    two cells may vanish.

    Parameters
    ----------
    mask : (z, y, x) array of bool
        What lies inside.
    spacing_mm : tuple of float
        Along (z, y, x).
    cell_mm : float
        How fine the surface is.

    Returns
    -------
    vertices : (n, 3) array of float32
        Corners of the triangles as voxel indices (z, y, x): a whole number is the centre of a voxel.
    faces : (m, 3) array of int32
        The three vertices of each triangle.

    Raises
    ------
    InputError
        If the mask is empty.
    """
    if not mask.any():
        raise InputError("the mask is empty, so it has no surface: run the network first, or paint")
    box = box_around(mask)
    share, voxels_per_cell, first_voxel = _in_cells(mask[box], spacing_mm, cell_mm)
    cells_mm = voxels_per_cell * spacing_mm
    # half the distance between slices at least: else thick ones stand out as steps
    sigma_mm = np.maximum(cells_mm, 0.5 * np.asarray(spacing_mm))
    smooth = scipy.ndimage.gaussian_filter(share, sigma_mm / cells_mm, mode="constant")
    # a mask of a few voxels is nowhere half a cell
    level = min(0.5, 0.5 * float(smooth.max()))
    corners, faces, _, _ = marching_cubes(smooth, level)  # type: ignore[no-untyped-call]
    start = np.array([part.start for part in box]) + first_voxel
    vertices = (corners + 0.5) * voxels_per_cell - 0.5 + start
    return vertices.astype(np.float32), faces.astype(np.int32)


def _in_cells(
    mask: Bools, spacing_mm: tuple[float, float, float], cell_mm: float
) -> tuple[Floats, npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the share of each cell that is inside, with a margin of empty ones around.

    Small voxels are averaged, large ones divided with shares interpolated between their centres. Second and third
    come how many voxels a cell has along each axis, and the voxel at which the first cell begins.
    """
    merged = np.array([max(1, round(cell_mm / mm)) for mm in spacing_mm])
    divided = np.array([max(1, round(mm / cell_mm)) for mm in spacing_mm])
    averaged = downscale_local_mean(mask, tuple(merged))  # type: ignore[no-untyped-call]
    margin = np.ceil(_MARGIN * cell_mm / (merged * spacing_mm)).astype(int)
    share = np.pad(averaged.astype(np.float32), [(n, n) for n in margin])
    if divided.max() > 1:
        # grid_mode: the outer faces of the voxels stay where they are
        share = scipy.ndimage.zoom(share, divided, order=1, mode="grid-constant", grid_mode=True)
    return share, merged / divided, -margin * merged
