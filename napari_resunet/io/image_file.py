"""Images that are no CT, and masks of them: grey or colour, one picture or a stack, in any format that is read here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from napari_resunet.errors import InputError, OutputError
from napari_resunet.io.atomic import replacing
from napari_resunet.io.files import read_volume
from napari_resunet.io.kind import PICTURES, kind_of
from napari_resunet.io.picture import opened_picture
from napari_resunet.io.regular_file import one_line, require_memory

LABEL_ENDINGS = (".tif", ".tiff", ".png")
_GREY = ("1", "L", "I", "F")  # and the modes of 16 bits, which all begin with I
_MOST_BYTES = 4  # of a pixel, once unpacked


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as it is stored.

    Parameters
    ----------
    array : (y, x) or (z, y, x) array, with a last axis of 3 or 4 if in colour
        The stored values; of DICOM, NIfTI, NRRD and MetaImage the axial slices, lowest first.
    is_rgb : bool
        Whether it is in colour.
    """

    array: npt.NDArray[Any]
    is_rgb: bool = False


def read_image(path: Path) -> StoredImage:
    """Read an image: PNG, JPEG, TIFF, or whatever `napari_resunet.io.files.read_volume` reads.

    Raises
    ------
    InputError
        If it is damaged, no image, or has other axes than slices, rows, columns and colour.
    """
    kind = kind_of(path)
    if kind in PICTURES:
        return _read_picture(path)
    if kind == "TIFF":
        return _read_tiff(path)
    return StoredImage(read_volume(path).axial)


def read_labels(path: Path) -> npt.NDArray[Any]:
    """Read a mask: the numbers of its pixels, (y, x) or (z, y, x); of a PNG with a palette, its indices.

    Raises
    ------
    InputError
        If it is damaged, or in colour.
    """
    stored = read_image(path) if kind_of(path) not in PICTURES else _read_picture(path, indices=True)
    if stored.is_rgb:
        raise InputError(f"{path} is in colour; a mask holds one number a pixel: export it in grey values")
    return stored.array


def write_labels(labels: npt.NDArray[np.uint8], path: Path) -> None:
    """Write a mask, (y, x) or (z, y, x), as TIFF, or one slice as PNG.

    Raises
    ------
    OutputError
        If it cannot be written, or a stack is to become a PNG.
    """
    require_fits(path, 1 if labels.ndim == 2 else len(labels))
    with replacing(path) as temporary:
        if _is_png(path):
            Image.fromarray(labels).save(temporary, format="PNG")
        else:
            tifffile.imwrite(temporary, labels, compression="zlib", metadata={"axes": "ZYX"[-labels.ndim :]})


def require_fits(path: Path, slices: int) -> None:
    """Raise `OutputError` if a file of that name cannot hold so many slices."""
    if _is_png(path) and slices != 1:
        raise OutputError(f"{path.name}: a PNG holds one slice, there are {slices}; choose .tif")


def _is_png(path: Path) -> bool:
    return path.suffix.lower() == ".png"


def _read_picture(path: Path, *, indices: bool = False) -> StoredImage:
    with opened_picture(path) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise InputError(f"{path} is animated; give one picture, or the slices as a TIFF stack")
        require_memory(picture.size[0] * picture.size[1] * _MOST_BYTES, path)
        if picture.mode in _GREY or picture.mode.startswith("I;") or (indices and picture.mode == "P"):
            return StoredImage(np.array(picture))
        if picture.mode == "LA":
            return StoredImage(np.array(picture)[..., 0])
        return StoredImage(np.array(picture.convert("RGB")), is_rgb=True)


def _read_tiff(path: Path) -> StoredImage:
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            axes, shape = series.axes, series.shape
            require_memory(series.nbytes, path)
            is_rgb = axes.endswith("YXS") and shape[-1] in (3, 4)
            if not (is_rgb or axes.endswith("YX")) or "C" in axes or len(axes) - is_rgb not in (2, 3):
                raise InputError(
                    f"{path} has the axes {axes} {shape}; save it as one picture or one stack (ZYX), grey or RGB"
                )
            return StoredImage(series.asarray(), is_rgb)
    except InputError:
        raise
    except Exception as error:  # whatever the decoders of tifffile have to say
        raise InputError(
            f"{path} is a damaged TIFF or one of an unknown kind ({one_line(error)}); copy or export it again"
        ) from error
