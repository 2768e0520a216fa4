"""Where in a volume a tool works: the voxel that was clicked, a slice, the box around a shape."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError

Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]  # whatever is above 0 is lung
Voxel = tuple[int, int, int]
Box = tuple[slice, ...]


def voxel_in(shape: Sequence[int], seed: Sequence[int]) -> Voxel:
    """Return the clicked voxel (z, y, x) as whole numbers.

    Raises
    ------
    InputError
        If it lies outside of the volume; an index below 0 does not count from the end.
    """
    z, y, x = (index(i) for i in seed)
    if not all(0 <= i < n for i, n in zip((z, y, x), shape, strict=True)):
        raise InputError(f"{named((z, y, x))} is outside of the CT; click inside of the picture")
    return z, y, x


def slice_in(shape: Sequence[int], z: int) -> int:
    """Return the axial slice as a whole number, or refuse one that is not there.

    Raises
    ------
    InputError
        If there is no such slice; an index below 0 does not count from the end.
    """
    if not 0 <= index(z) < shape[0]:
        raise InputError(f"there is no slice {z}; choose one from 0 to {shape[0] - 1}")
    return index(z)


def named(voxel: Voxel) -> str:
    """Return a voxel in words, as the status bar of the viewer counts: from 0."""
    z, y, x = voxel
    return f"the voxel at slice {z}, row {y}, column {x}"


def box_around(shape: Bools, margin: Sequence[int]) -> Box:
    """Return the smallest box that holds a shape, wider by `margin` voxels at both ends of each axis.

    The box ends at the array's edges; around nothing it is empty.
    """
    every = range(shape.ndim)
    others = [tuple(other for other in every if other != axis) for axis in every]
    return tuple(
        _extent(np.asarray(shape.any(axis=across)), more) for across, more in zip(others, margin, strict=True)
    )


def _extent(seen: Bools, margin: int) -> slice:
    where = np.flatnonzero(seen)
    if not len(where):
        return slice(0, 0)
    return slice(max(0, int(where[0]) - margin), min(len(seen), int(where[-1]) + 1 + margin))
