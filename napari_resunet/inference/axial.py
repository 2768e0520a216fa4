"""Axial slices of a CT that may be larger than the memory: a few are read at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.volume import Volume


class AxialSlices:
    """The axial slices of a CT, lowest first, front up, patient's right on the left.

    The array of the CT has to know no more than ``shape`` and slicing: it may be a `numpy.memmap`, or one of dask,
    zarr or h5py. Slices of one that lies in memory are views.

    Parameters
    ----------
    volume : Volume
        The CT.
    """

    def __init__(self, volume: Volume) -> None:
        self._array, self._order = volume.array, volume.geometry.to_axial
        self.shape = tuple(int(volume.array.shape[axis]) for axis in self._order.axes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> npt.NDArray[Any]:
        """Return slices, (n, y, x); `part` has no step."""
        start, stop, _ = part.indices(len(self))
        if self._order.flips[0]:
            start, stop = len(self) - stop, len(self) - start
        wanted = [slice(None)] * 3
        wanted[self._order.axes[0]] = slice(start, stop)
        return self._order.apply(np.asarray(self._array[tuple(wanted)]))
