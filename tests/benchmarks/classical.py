"""Lungs without a network: threshold, region growing, morphology. What a network must be better than.

The steps are those of Hu S, Hoffman EA, Reinhardt JM, IEEE Trans Med Imaging 2001;20:490-498: an optimal threshold,
the airways grown from the top and taken away, the outline closed. What is airless is lost by the first of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_resunet.imaging.body import body_box
from napari_resunet.imaging.closing import close_pieces
from napari_resunet.imaging.components import clean, label_pieces

Bools = npt.NDArray[np.bool_]

_AIR_HU, _BONE_HU = -1024, 300
_CLOSING_MM = 8.0
_TRACHEA_MM2 = (40.0, 700.0)  # of the windpipe on an axial slice
_TRACHEA_HU = -850
_AIRWAYS_ML = 120.0  # what grows larger has leaked into the lung
_AIRWAY_STEP_HU = 20
_AIRWAY_WALL_MM = 2.0


def classical_lungs(slices: npt.NDArray[Any], spacing_mm: tuple[float, float, float]) -> Bools:
    """Return the lungs in axial slices.

    Parameters
    ----------
    slices : (z, y, x) array
        HU, lowest slice first, front up.
    spacing_mm : tuple of float
        Along (z, y, x).

    Returns
    -------
    (z, y, x) array of bool
        Empty where no air is enclosed.
    """
    result = np.zeros(slices.shape, dtype=bool)
    y0, y1, x0, x1 = body_box(slices)
    hu = np.clip(np.nan_to_num(slices[:, y0:y1, x0:x1], nan=_AIR_HU), _AIR_HU, _BONE_HU).astype(np.int16)
    if hu.min() == hu.max():
        return result
    threshold: float = threshold_otsu(hu)  # type: ignore[no-untyped-call]
    enclosed = _without_outside(hu < threshold)
    lungs = clean(enclosed & ~_airways(hu, enclosed, spacing_mm))
    closed = [close_pieces(slice_, spacing_mm[1:], _CLOSING_MM) for slice_ in lungs]
    result[:, y0:y1, x0:x1] = clean(np.stack(closed))
    return result


def _without_outside(air: Bools) -> Bools:
    """Return the air that does not reach the sides of the body's box."""
    labels, sizes = label_pieces(air)
    sides = (labels[:, [0, -1], :], labels[:, :, [0, -1]])
    inside = sizes > 0
    inside[np.unique(np.concatenate([side.ravel() for side in sides]))] = False
    return np.asarray(inside[labels], dtype=bool)


def _airways(hu: npt.NDArray[np.int16], enclosed: Bools, spacing_mm: tuple[float, float, float]) -> Bools:
    """Return windpipe and main bronchi: grown from the top at a rising threshold until they leak into the lung."""
    windpipe = _windpipe(hu, enclosed, spacing_mm)
    grown = np.zeros(hu.shape, dtype=bool)
    if not windpipe.any():
        return grown
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    for limit in range(_AIR_HU + _AIRWAY_STEP_HU, _TRACHEA_HU, _AIRWAY_STEP_HU):
        labels, _ = label_pieces(enclosed & (hu < limit))
        start = np.unique(labels[windpipe])
        wider = np.isin(labels, start[start > 0])
        if np.count_nonzero(wider) * voxel_ml > _AIRWAYS_ML:
            break
        grown = wider
    away = ndimage.distance_transform_edt(~grown, sampling=spacing_mm)
    return np.asarray(away <= _AIRWAY_WALL_MM, dtype=bool) if grown.any() else grown


def _windpipe(hu: npt.NDArray[np.int16], enclosed: Bools, spacing_mm: tuple[float, float, float]) -> Bools:
    """Return the windpipe on the highest slice where a round hole of its size lies near the middle."""
    found = np.zeros(hu.shape, dtype=bool)
    pixel_mm2, middle = spacing_mm[1] * spacing_mm[2], hu.shape[2] / 2
    for z in range(len(hu) - 1, len(hu) // 2, -1):
        labels, sizes = label_pieces((enclosed[z] & (hu[z] < _TRACHEA_HU))[None])
        for piece in np.flatnonzero(
            (_TRACHEA_MM2[0] <= sizes * pixel_mm2) & (sizes * pixel_mm2 <= _TRACHEA_MM2[1])
        ):
            rows, columns = np.nonzero(labels[0] == piece)
            tall, wide = np.ptp(rows) * spacing_mm[1], np.ptp(columns) * spacing_mm[2]
            if abs(columns.mean() - middle) < hu.shape[2] / 8 and max(tall, wide) < 2 * min(tall, wide):
                found[z] = labels[0] == piece
                return found
    return found
