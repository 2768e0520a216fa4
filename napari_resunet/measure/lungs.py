"""How large each lung is, and how dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError
from napari_resunet.hu import PADDING_HU, judge_hu
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.volume import Mask, Volume, refuse_other_kind

EMPHYSEMA_HU = -950
_SIDES = {"right": 1, "left": 2}


@dataclass(frozen=True)
class LungFigures:
    """Size and density of a lung.

    Parameters
    ----------
    name : str
        ``"right"``, ``"left"`` or ``"both"``.
    voxels : int
        In the mask.
    volume_ml : float
        Of all of them.
    mean_hu, sd_hu : float
        Mean and standard deviation (of these voxels, not an estimate for others). This and the figures below leave
        out voxels without a measured value; they are nan where none is left.
    p15_hu : float
        15th percentile (Perc15), interpolated between values.
    laa950_percent : float
        Low attenuation area: share of voxels below -950 HU, from 0 to 100.
    """

    name: str
    voxels: int
    volume_ml: float
    mean_hu: float
    sd_hu: float
    p15_hu: float
    laa950_percent: float

    def __str__(self) -> str:
        density = f"mean {self.mean_hu:.0f} ± {self.sd_hu:.0f} HU, 15th percentile {self.p15_hu:.0f} HU"
        return f"{self.volume_ml:,.0f} ml, {density}, {self.laa950_percent:.1f} % below -950 HU"


def lung_figures(volume: Volume, mask: Mask, *, sides: bool | None = None) -> list[LungFigures]:
    """Measure the lungs of a CT.

    Parameters
    ----------
    volume : Volume
        In HU. What is -1500 or less is padding, not tissue; it and values that are not finite have no part in the
        figures in HU, but their voxels count for the volume.
    mask : Mask
        On the same grid, with labels 0 and 1, or 0, 1 (right) and 2 (left).
    sides : bool, optional
        Whether 1 and 2 mean right and left. By default they do where there is a 2.

    Returns
    -------
    list of LungFigures
        Right, left and both; only both where the mask does not tell right from left.

    Raises
    ------
    InputError
        If the values of the CT look like HU + 1024, and the user has not said that they are HU.
    GeometryError
        If the mask does not lie on the grid of the CT.
    TypeError
        If it is given anything but a CT and a mask.
    """
    refuse_other_kind(volume, Volume, needed_by="lung_figures")
    refuse_other_kind(mask, Mask, needed_by="lung_figures")
    _refuse_shifted_hu(volume)
    refuse_other_grid(mask.geometry, volume.geometry, other="the CT")
    inside = mask.array > 0
    labels, hu = mask.array[inside], volume.array[inside]
    voxel_ml = volume.geometry.voxel_volume_mm3 / 1000
    if sides is None:
        sides = bool((labels == 2).any())
    known = _SIDES if sides else {}
    figures = [_figures(name, hu[labels == label], voxel_ml) for name, label in known.items()]
    return [*figures, _figures("both", hu, voxel_ml)]


def _refuse_shifted_hu(volume: Volume) -> None:
    """Refuse values of which every figure would be off by as much as they are."""
    for finding in () if volume.hu_confirmed else judge_hu(volume.array):
        if finding.hu_offset is not None:
            raise InputError(finding.text)


def _figures(name: str, hu: npt.NDArray[np.int16 | np.float32], voxel_ml: float) -> LungFigures:
    tissue = hu[np.isfinite(hu) & (hu > PADDING_HU)]
    if not tissue.size:
        return LungFigures(name, hu.size, hu.size * voxel_ml, np.nan, np.nan, np.nan, np.nan)
    return LungFigures(
        name,
        voxels=hu.size,
        volume_ml=hu.size * voxel_ml,
        mean_hu=float(tissue.mean(dtype=np.float64)),
        sd_hu=float(tissue.std(dtype=np.float64)),
        p15_hu=float(np.percentile(tissue, 15)),
        laa950_percent=100 * float(np.mean(tissue < EMPHYSEMA_HU)),
    )
