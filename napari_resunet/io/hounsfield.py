"""From the numbers stored in a file to Hounsfield units, or to the labels of a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError

_LOWEST, _HIGHEST = np.iinfo(np.int16).min, np.iinfo(np.int16).max
_SMALL = (np.int8, np.uint8, np.int16, np.uint16)


def as_hu(stored: npt.NDArray[Any], slope: float = 1.0, intercept: float = 0.0) -> npt.NDArray[Any]:
    """Return ``stored * slope + intercept`` as int16 if that loses nothing, else as float32.

    Parameters
    ----------
    stored : array
        Integers or floats, in any byte order.
    slope, intercept : float
        The rescale of the file, applied here and nowhere else.
    """
    if stored.dtype == np.int16 and (slope, intercept) == (1, 0):
        return np.ascontiguousarray(stored, dtype=np.int16)
    whole = _as_int16(stored, slope, intercept)
    return _as_float32(stored, slope, intercept) if whole is None else whole


def _as_int16(stored: npt.NDArray[Any], slope: float, intercept: float) -> npt.NDArray[np.int16] | None:
    whole = stored.dtype in _SMALL and abs(slope) <= 1000 and abs(intercept) <= 1e6
    whole = whole and float(slope).is_integer() and float(intercept).is_integer()
    number = np.int32 if whole else np.float64
    hu = np.empty(stored.shape, np.int16)
    for index in range(len(stored)):  # a slice at a time: the wide copy of a whole CT can be gigabytes
        plane = stored[index].astype(number) * number(slope) + number(intercept)
        inside = plane.min() >= _LOWEST and plane.max() <= _HIGHEST  # False if there is a NaN
        if not inside or (not whole and (plane != np.rint(plane)).any()):
            return None
        hu[index] = plane
    return hu


def _as_float32(stored: npt.NDArray[Any], slope: float, intercept: float) -> npt.NDArray[np.float32]:
    hu = np.empty(stored.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite, and is noted
        for index in range(len(stored)):
            hu[index] = stored[index].astype(np.float64) * slope + intercept
    return hu


def require_real(dtype: np.dtype[Any], path: Path) -> None:
    """Refuse complex numbers, colours and other records.

    Raises
    ------
    InputError
        Naming the file and what it holds.
    """
    if dtype.kind not in "iufb":
        kind = "complex numbers" if dtype.kind == "c" else "colours or other records"
        raise InputError(f"{path} holds {kind} ({dtype}), not CT values; export the CT in grey values")


def as_labels(
    stored: npt.NDArray[Any], path: Path, slope: float = 1.0, intercept: float = 0.0
) -> npt.NDArray[np.uint8]:
    """Return the labels of a mask as uint8: 0, 1 and 2; a mask of 0 and 255 becomes 0 and 1.

    Raises
    ------
    InputError
        If there are other values, naming them.
    """
    plain = stored if (slope, intercept) == (1, 0) else _as_float32(stored, slope, intercept)
    if _holds_only((0, 1, 2), plain):
        return np.ascontiguousarray(plain, dtype=np.uint8)
    if _holds_only((0, 255), plain):
        return np.asarray(plain != 0, dtype=np.uint8)
    strange = [value.item() for value in np.unique(plain) if value not in (0, 1, 2)]
    named = ", ".join(f"{value:g}" for value in strange[:5]) + (", ..." if len(strange) > 5 else "")
    raise InputError(
        f"{path} is not a lung mask: it holds {named}; a mask has 0 (outside), "
        "1 (lung, or right lung) and 2 (left lung)"
    )


def _holds_only(values: tuple[int, ...], array: npt.NDArray[Any]) -> bool:
    """Whether an array holds no other values; slice by slice, and without sorting them."""
    return all(np.isin(part, values).all() for part in array)
