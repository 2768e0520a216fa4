"""Whether lungs go on beyond the ends of a stack of slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

_BODY_HU, _LUNG_HU = -300, -500
_COARSE_SIDE = 128
# Of the body's area in a slice; a windpipe and gas in a bowel take less.
_LUNG_SHARE = 0.08


def shows_lung(axial_slice: npt.NDArray[Any]) -> bool:
    """Whether a good part of the body in one axial slice (y, x) of HU is air."""
    rows, columns = axial_slice.shape
    coarse = axial_slice[:: max(1, rows // _COARSE_SIDE), :: max(1, columns // _COARSE_SIDE)]
    solid = scipy.ndimage.binary_fill_holes(coarse > _BODY_HU)
    # the table is thin, and gone after two steps
    body = scipy.ndimage.binary_opening(solid, np.ones((3, 3), dtype=bool), iterations=2)
    air = int(np.count_nonzero(body & (coarse < _LUNG_HU)))
    return air > _LUNG_SHARE * int(np.count_nonzero(body))
