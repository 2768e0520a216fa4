"""Close the outline of a lung within a slice, so that vessels and nodules at its rim are inside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Bools = npt.NDArray[np.bool_]


def close_pieces(mask: Bools, spacing_mm: tuple[float, float], radius_mm: float) -> Bools:
    """Return a mask (y, x), each piece closed by a disc and its holes filled.

    Each alone: closed together, the two lungs would be joined where they lie close.

    Parameters
    ----------
    mask : (y, x) array of bool
        A slice.
    spacing_mm : tuple of float
        Along (y, x).
    radius_mm : float
        Of the disc.
    """
    result = mask.copy()
    room = [int(radius_mm / mm) + 2 for mm in spacing_mm]  # a closing must not feel the rim of the picture
    padded = np.pad(mask, [(room[0],) * 2, (room[1],) * 2])
    labels, count = ndimage.label(padded)
    for piece in range(1, count + 1):
        away = ndimage.distance_transform_edt(labels != piece, sampling=spacing_mm)
        depth = ndimage.distance_transform_edt(away <= radius_mm, sampling=spacing_mm)
        closed = ndimage.binary_fill_holes(depth > radius_mm)
        result |= closed[room[0] : -room[0], room[1] : -room[1]]
    return result
