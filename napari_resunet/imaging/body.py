"""Where in the picture the patient is."""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
import numpy.typing as npt
from scipy import ndimage

# Fat is about -100 HU, tables and clothes are mostly below this once the thin ones are opened away.
_BODY_HU = -300
_COARSE_SIDE = 128
_MARGIN = 0.02
LEAST_SIDE = 32  # voxels of an axial slice in which a chest can still be seen


def body_box(slices: npt.NDArray[Any]) -> tuple[int, int, int, int]:
    """Return the rows and columns that hold the patient in any of the slices.

    One box serves the whole volume: a box for each slice would make the picture jump.

    Parameters
    ----------
    slices : (z, y, x) array
        HU of axial slices.

    Returns
    -------
    tuple of int
        (y0, y1, x0, x1), with a margin of 2 %; the whole picture where no body is found.
    """
    rows, columns = slices.shape[1:]
    step_y, step_x = max(1, rows // _COARSE_SIDE), max(1, columns // _COARSE_SIDE)
    seen = np.logical_or.reduce(_largest_piece(slices[:, ::step_y, ::step_x] > _BODY_HU), axis=0)
    if not seen.any():
        return 0, rows, 0, columns
    y0, y1 = _extent(seen, 1, step_y, rows)
    x0, x1 = _extent(seen, 0, step_x, columns)
    return y0, y1, x0, x1


def _largest_piece(dense: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    # filled first: around full lungs the chest wall alone may be as thin as the table
    solid = np.stack([ndimage.binary_fill_holes(slice_) for slice_ in dense])
    # opened within the slice: the table is a thin sheet, and touches the back
    opened = ndimage.binary_opening(solid, structure=np.ones((1, 3, 3), dtype=bool), iterations=2)
    labels, count = cc3d.connected_components(opened, connectivity=6, return_N=True)
    if not count:
        return solid
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest: npt.NDArray[np.bool_] = labels == sizes.argmax()
    return largest


def _extent(seen: npt.NDArray[np.bool_], across: int, step: int, length: int) -> tuple[int, int]:
    where = np.flatnonzero(seen.any(axis=across))
    first, last = int(where[0]) * step, (int(where[-1]) + 1) * step
    margin = max(step, round(_MARGIN * (last - first)))
    return max(0, first - margin), min(length, last + margin)
