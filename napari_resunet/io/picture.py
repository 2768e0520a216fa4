"""One CT slice kept as a picture, PNG or JPEG, with Pillow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.hounsfield import as_hu, as_labels
from napari_resunet.io.kind import PICTURES
from napari_resunet.io.orientation import orientation_note
from napari_resunet.io.regular_file import one_line, require_memory, require_regular, sha256_of
from napari_resunet.volume import Mask, Source, Volume

_GREY = ("L", "I;16", "I;16B", "I", "F", "1")
_WIDEST = 65_535  # pixels on a side: more than any scanner's, and what JPEG can hold
_MOST_BYTES = 4  # of a pixel, once unpacked


@dataclass(frozen=True)
class _Stored:
    """The pixels of a picture as they are stored."""

    array: npt.NDArray[Any]  # (1, y, x)
    format: str
    notes: tuple[str, ...]


def read_picture(
    path: Path, *, spacing_mm: Sequence[float] | None = None, orientation: str | None = None
) -> Volume:
    """Read one slice from a grey PNG or JPEG.

    Parameters
    ----------
    path : Path
        The file; 8 or 16 bits a pixel. In colour it is read only if its three channels are the same.
    spacing_mm : (z, y, x) floats, optional
        A picture never states it.
    orientation : str, optional
        Where slices, rows and columns run towards; taken as axial, front up, unless given.

    Returns
    -------
    Volume
        The stored values, as one slice (1, y, x).

    Raises
    ------
    InputError
        If the file is damaged or in colour.
    SpacingUnknownError
        If `spacing_mm` is None.
    """
    stored = _read_stored(path)
    geometry = _geometry(stored, path, spacing_mm, orientation)
    said = [f"one slice from a {stored.format}, which knows no Hounsfield units: the stored values are taken"]
    if stored.format == "JPEG":
        said.append("JPEG changes values to save space, and shows no damage: prefer another format")
    notes = (*stored.notes, *said, orientation_note(geometry.axis_codes, orientation))
    source = Source(path, stored.format, sha256_of(path), (path,))
    return Volume(as_hu(stored.array), geometry, notes, source)


def read_picture_mask(
    path: Path, *, spacing_mm: Sequence[float] | None = None, orientation: str | None = None
) -> Mask:
    """Read a lung mask of one slice; raises as `read_picture` does, and for labels other than 0, 1, 2."""
    stored = _read_stored(path)
    return Mask(as_labels(stored.array, path), _geometry(stored, path, spacing_mm, orientation))


def _geometry(
    stored: _Stored, path: Path, spacing_mm: Sequence[float] | None, orientation: str | None
) -> Geometry:
    if spacing_mm is None:
        raise SpacingUnknownError(
            f"{path} is a picture, which does not say how large its pixels are; give the voxel size in mm "
            "(--spacing Z,Y,X or spacing_mm=)"
        )
    return Geometry.from_spacing(stored.array.shape, spacing_mm, orientation)


def _read_stored(path: Path) -> _Stored:
    with opened_picture(path) as picture:
        _require_one(picture, path)
        array, notes = _grey(picture, path)
        return _Stored(array[np.newaxis], str(picture.format), tuple(notes))


@contextmanager
def opened_picture(path: Path) -> Iterator[Image.Image]:
    """Open a PNG or JPEG; what goes wrong while it is read is told as what is wrong with the file.

    Raises
    ------
    InputError
        If it is damaged, or no picture.
    """
    require_regular(path)
    try:
        with Image.open(path, formats=PICTURES) as picture:
            yield picture
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path} is damaged or cut short inside its header; copy or export it again"
        ) from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} is damaged or no readable picture ({one_line(error)}); copy or export it again"
        ) from error


def _require_one(picture: Image.Image, path: Path) -> None:
    if getattr(picture, "n_frames", 1) > 1:
        raise InputError(f"{path} is animated; give one picture, or the slices as one stack")
    if max(picture.size) > _WIDEST:
        raise InputError(f"{path} declares {picture.size[0]} x {picture.size[1]} pixels; that is no CT slice")
    require_memory(picture.size[0] * picture.size[1] * _MOST_BYTES, path)


def _grey(picture: Image.Image, path: Path) -> tuple[npt.NDArray[Any], list[str]]:
    """Return the grey values, and a note if they were stored as colours."""
    if picture.mode in _GREY:
        return np.array(picture.convert("L") if picture.mode == "1" else picture), []
    channels = np.array(picture.convert("RGBA"))
    red, green, blue, opacity = (channels[..., index] for index in range(4))
    if picture.mode == "CMYK" or not (np.array_equal(red, green) and np.array_equal(green, blue)):
        raise InputError(f"{path} is in colour; export the CT slice in grey values")
    if (opacity < 255).any():
        raise InputError(f"{path} is transparent in places; export the CT slice in grey values")
    return red.copy(), ["a picture in colour whose three channels are the same: read as grey"]
