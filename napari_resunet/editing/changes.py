"""What is different between two masks, so that a tool's whole answer can be one step to undo."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.places import Labels

Indices = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]


def changed_voxels(before: Labels, after: Labels) -> tuple[Indices, npt.NDArray[Any]]:
    """Return where two masks differ, and what is there afterwards.

    Slices are compared one by one, so that little memory is needed where little has changed.

    Parameters
    ----------
    before, after : (z, y, x) array of bool or int
        Compared by value: where one has 2 and the other True, they differ.

    Returns
    -------
    indices : tuple of three (n,) arrays of int32
        Along z, y and x; from the first voxel to the last as they lie in memory.
    values : (n,) array
        Those of `after`, in the kind of number that `before` has.
    """
    if before.shape != after.shape:
        raise ValueError(f"the masks have different shapes: {before.shape} and {after.shape}")
    places, values = [np.empty((3, 0), dtype=np.int32)], [np.empty(0, dtype=before.dtype)]
    for z in range(len(before)):
        y, x = np.nonzero(before[z] != after[z])
        if len(y):
            places.append(np.stack((np.full_like(y, z), y, x), dtype=np.int32, casting="same_kind"))
            values.append(after[z][y, x].astype(before.dtype))
    zs, ys, xs = np.concatenate(places, axis=1)
    return (zs, ys, xs), np.concatenate(values)
