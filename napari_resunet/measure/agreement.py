"""How far two masks agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_resunet.geometry import Geometry
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.measure.surface import compare_surfaces
from napari_resunet.volume import Mask, refuse_other_kind

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """Agreement of a mask with a reference.

    Where both are empty there is nothing to agree on: overlap and distances are nan, the volumes 0. Where one of
    them is empty, the lung counts as missed: Dice, IoU and NSD are 0, and the distances the diagonal of the volume.

    Parameters
    ----------
    dice, iou : float
        Overlap, from 0 to 1.
    hd95_mm : float
        The larger of the two directed 95th percentiles of the surface distance.
    assd_mm : float
        Average symmetric surface distance.
    nsd_2mm : float
        Share of both surfaces that lies within 2 mm of the other one, from 0 to 1.
    volume_ml, reference_ml : float
        Sizes.
    volume_difference_ml : float
        That of the mask less that of the reference.
    missed : bool
        Whether one of both is empty and the other is not.
    """

    dice: float
    iou: float
    hd95_mm: float
    assd_mm: float
    nsd_2mm: float
    volume_ml: float
    reference_ml: float
    volume_difference_ml: float
    missed: bool


def evaluate(mask: Mask, reference: Mask, *, sides: bool | None = None) -> dict[str, Agreement]:
    """Compare a mask with a reference on the same grid.

    Parameters
    ----------
    mask, reference : Mask
        Both with labels 0 and 1, or both with 0, 1 (right) and 2 (left). If only one tells right from left, only
        the lungs as a whole are compared.
    sides : bool, optional
        Whether 1 and 2 mean right and left in both. By default they do where both have a 2: a mask that has only
        1s may hold both lungs, or have missed the left one, and only who made it knows.

    Returns
    -------
    dict of str to Agreement
        Under ``"lungs"``, and under ``"right"`` and ``"left"`` where both masks tell them apart.

    Raises
    ------
    GeometryError
        If they do not lie on the same grid; nothing is resampled silently.
    TypeError
        If one is no mask.
    """
    for each in (mask, reference):
        refuse_other_kind(each, Mask, needed_by="evaluate")
    refuse_other_grid(mask.geometry, reference.geometry, other="the reference")
    result = {"lungs": _agreement(mask.array > 0, reference.array > 0, mask.geometry)}
    if sides is None:
        sides = mask.array.max() == 2 and reference.array.max() == 2
    if sides:
        for label, side in ((1, "right"), (2, "left")):
            result[side] = _agreement(mask.array == label, reference.array == label, mask.geometry)
    return result


def _agreement(first: Bools, second: Bools, geometry: Geometry) -> Agreement:
    shared, size, reference_size = (int(np.count_nonzero(part)) for part in (first & second, first, second))
    total = size + reference_size
    distances = compare_surfaces(first, second, geometry)
    voxel_ml = geometry.voxel_volume_mm3 / 1000
    return Agreement(
        dice=2 * shared / total if total else np.nan,
        iou=shared / (total - shared) if total else np.nan,
        hd95_mm=distances.hd95_mm,
        assd_mm=distances.assd_mm,
        nsd_2mm=distances.nsd_2mm,
        volume_ml=size * voxel_ml,
        reference_ml=reference_size * voxel_ml,
        volume_difference_ml=(size - reference_size) * voxel_ml,
        missed=(size == 0) != (reference_size == 0),
    )
