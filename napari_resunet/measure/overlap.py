"""How far two masks agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import GeometryError
from napari_resunet.geometry import Geometry
from napari_resunet.volume import Mask


@dataclass(frozen=True)
class Overlap:
    """Agreement of a mask with a reference.

    Parameters
    ----------
    dice, iou : float
        From 0 to 1; not a number where both masks are empty.
    volume_ml, reference_ml : float
        Sizes.
    """

    dice: float
    iou: float
    volume_ml: float
    reference_ml: float


def evaluate(mask: Mask, reference: Mask) -> dict[str, Overlap]:
    """Compare a mask with a reference on the same grid.

    Parameters
    ----------
    mask, reference : Mask
        Both with labels 0 and 1, or both with 0, 1 (right) and 2 (left). If only one tells right from left, only
        the lungs as a whole are compared.

    Returns
    -------
    dict of str to Overlap
        Under ``"lungs"``, and under ``"right"`` and ``"left"`` where both masks tell them apart.

    Raises
    ------
    GeometryError
        If they do not lie on the same grid; nothing is resampled silently.
    """
    refuse_other_grid(mask.geometry, reference.geometry)
    voxel_ml = mask.geometry.voxel_volume_mm3 / 1000
    result = {"lungs": _overlap(mask.array > 0, reference.array > 0, voxel_ml)}
    if mask.array.max() == 2 and reference.array.max() == 2:
        for label, side in ((1, "right"), (2, "left")):
            result[side] = _overlap(mask.array == label, reference.array == label, voxel_ml)
    return result


def _overlap(mask: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_], voxel_ml: float) -> Overlap:
    both, first, second = (int(np.count_nonzero(a)) for a in (mask & reference, mask, reference))
    either = first + second - both
    if not either:
        return Overlap(float("nan"), float("nan"), 0.0, 0.0)
    return Overlap(2 * both / (first + second), both / either, first * voxel_ml, second * voxel_ml)


def refuse_other_grid(first: Geometry, second: Geometry, *, what: str = "the mask") -> None:
    """Raise if two geometries are not of the same voxels in the same places.

    Raises
    ------
    GeometryError
        With the difference in voxels or mm, and what to do.
    """
    remedy = "export it on the grid of that CT"
    if first.shape != second.shape:
        raise GeometryError(f"{what} has {first.shape} voxels (z, y, x), the other {second.shape}; {remedy}")
    if not first.matches(second):
        distance = first.distance_mm(second)
        raise GeometryError(f"{what} lies {distance:.2f} mm beside the other at a corner; {remedy}")
