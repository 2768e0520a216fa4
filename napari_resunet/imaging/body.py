"""Where in the picture the patient is."""

from __future__ import annotations

from typing import Any, Protocol

import cc3d
import fill_voids
import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]

# Fat is about -100 HU, tables and clothes are mostly below this once the thin ones are opened away.
_BODY_HU = -300
_COARSE_SIDE = 128
_MARGIN = 0.02
_AT_ONCE = 8  # slices
_REACH = 2  # coarse pixels to either side
LEAST_SIDE = 32  # voxels of an axial slice in which a chest can still be seen


class Slices(Protocol):
    """An array of slices, or what reads them when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> npt.NDArray[Any]: ...


def body_box(slices: Slices) -> tuple[int, int, int, int]:
    """Return the rows and columns that hold the patient in any of the slices.

    One box serves the whole volume: a box for each slice would make the picture jump.

    Parameters
    ----------
    slices : (z, y, x) array
        HU of axial slices; a few are looked at a time.

    Returns
    -------
    tuple of int
        (y0, y1, x0, x1), with a margin of 2 %; the whole picture where no body is found.
    """
    rows, columns = slices.shape[1:]
    step_y, step_x = max(1, rows // _COARSE_SIDE), max(1, columns // _COARSE_SIDE)
    # some at a time: a CT that is larger than the memory is never there as a whole
    parts = (slices[z : z + _AT_ONCE] for z in range(0, len(slices), _AT_ONCE))
    dense = np.concatenate([np.asarray(part)[:, ::step_y, ::step_x] > _BODY_HU for part in parts])
    seen = np.logical_or.reduce(_largest_piece(dense), axis=0)
    if not seen.any():
        return 0, rows, 0, columns
    y0, y1 = _extent(seen, 1, step_y, rows)
    x0, x1 = _extent(seen, 0, step_x, columns)
    return y0, y1, x0, x1


def _largest_piece(dense: Bools) -> Bools:
    # filled first: around full lungs the chest wall alone may be as thin as the table
    solid = np.stack([fill_voids.fill(slice_).astype(bool, copy=False) for slice_ in dense])
    # opened within the slice: the table is a thin sheet, and touches the back
    labels, count = cc3d.connected_components(_opened(solid), connectivity=6, return_N=True)
    if not count:
        return solid
    sizes = np.sum([np.bincount(plane.ravel(), minlength=count + 1) for plane in labels], axis=0)
    sizes[0] = 0
    largest: Bools = labels == sizes.argmax()
    return largest


def _opened(solid: Bools) -> Bools:
    """Return (z, y, x) slices without what is thinner than 5 pixels; beyond the rim of a slice all is empty."""
    for combine in (np.logical_and, np.logical_or):
        for axis in (1, 2):
            solid = _combined(combine, solid, axis)
    return solid


def _combined(combine: np.ufunc, solid: Bools, axis: int) -> Bools:
    """Return what `combine` makes of each pixel and the two on either side of it along an axis."""
    shape = list(solid.shape)
    shape[axis] += 2 * _REACH
    padded = np.zeros(shape, dtype=bool)
    # views on which the axis comes first
    count, rows = solid.shape[axis], np.moveaxis(padded, axis, 0)
    rows[_REACH:-_REACH] = np.moveaxis(solid, axis, 0)
    result = solid.copy()
    for shift in range(2 * _REACH + 1):
        if shift != _REACH:
            along = np.moveaxis(result, axis, 0)
            combine(along, rows[shift : shift + count], out=along)
    return result


def _extent(seen: npt.NDArray[np.bool_], across: int, step: int, length: int) -> tuple[int, int]:
    where = np.flatnonzero(seen.any(axis=across))
    first, last = int(where[0]) * step, (int(where[-1]) + 1) * step
    margin = max(step, round(_MARGIN * (last - first)))
    return max(0, first - margin), min(length, last + margin)
