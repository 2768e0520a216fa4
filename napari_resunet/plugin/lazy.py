"""A layer whose slices are computed when they are looked at (dask, zarr), read once into memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError
from napari_resunet.io.regular_file import one_line, require_memory
from napari_resunet.track import Track

_LOST_HU = -2000  # below any air: padding, which the network takes as air and no statistics count
_SMALL = (np.int16, np.int8, np.uint8)


@dataclass(frozen=True, eq=False)
class Loaded:
    """What could be read of such a layer.

    Parameters
    ----------
    array : (z, y, x) array of int16 or float32
        A slice that could not be read is -2000 throughout.
    lost : tuple of int
        Slices that could not be read.
    why : str
        What was wrong with the first of them.
    """

    array: npt.NDArray[Any]
    lost: tuple[int, ...] = ()
    why: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be noted with the CT."""
        if not self.lost:
            return ()
        named = ", ".join(map(str, self.lost[:10])) + (" …" if len(self.lost) > 10 else "")
        count = len(self.lost)
        which = f"slice {named} of the layer" if count == 1 else f"{count} slices of the layer ({named})"
        return (f"{_FAILED}: {which} could not be read ({self.why}), and no lung is found there",)


_FAILED = "SLICES FAILED"


def said_of_failed(notes: Iterable[str]) -> str:
    """Return what notes say of slices that could not be read; "" if all could."""
    return next((note.partition(": ")[2] for note in notes if note.startswith(_FAILED)), "")


def is_lazy(data: Any) -> bool:
    """Whether an array has to be computed or fetched before it can be used."""
    return not isinstance(data, np.ndarray)


def as_ct_values(array: Any) -> npt.NDArray[Any]:
    """Return an array as int16 if that loses nothing by its type, else as float32."""
    values = np.asarray(array)
    return values.astype(np.int16 if values.dtype in _SMALL else np.float32, copy=False)


def loading(data: Any, name: str, *, track: Track) -> Iterator[Loaded]:
    """Yield a lazy (z, y, x) array in memory, read chunk by chunk.

    Raises
    ------
    InputError
        If it does not fit into the memory, or not one slice can be read.
    """
    dtype = np.dtype(np.int16 if np.dtype(data.dtype) in _SMALL else np.float32)
    require_memory(math.prod(data.shape) * dtype.itemsize, Path(name))
    array = np.full(data.shape, _LOST_HU, dtype)
    starts = _chunk_starts(data)
    lost: list[int] = []
    why = ""
    for z in track(range(len(array))):
        if z not in starts:
            continue
        part = slice(z, starts[z])
        try:
            array[part] = as_ct_values(data[part])
        except Exception as error:  # whatever the maker of the array has to say
            array[part] = _LOST_HU
            lost += range(*part.indices(len(array)))
            why = why or one_line(error)
    if len(lost) == len(array):
        raise InputError(f"no slice of the layer {name} can be read ({why}); open its file anew")
    yield Loaded(array, tuple(lost), why)


def _chunk_starts(data: Any) -> dict[int, int]:
    """Return where chunks of slices start, and where each ends: a chunk is computed as a whole."""
    count, chunks = len(data), getattr(data, "chunks", None)
    sizes = chunks[0] if chunks else 1
    if isinstance(sizes, int):
        sizes = [sizes] * -(-count // max(sizes, 1))
    stops = np.minimum(np.cumsum(sizes), count).tolist()
    return dict(zip([0, *stops], stops, strict=False))
