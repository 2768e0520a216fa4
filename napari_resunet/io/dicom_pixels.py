"""The pixels of DICOM slices, in Hounsfield units."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from napari_resunet.errors import InputError
from napari_resunet.io.dicom_headers import THREADS
from napari_resunet.io.hounsfield import as_hu, require_real
from napari_resunet.io.regular_file import one_line
from napari_resunet.track import Track


@dataclass(frozen=True, eq=False)
class SlicePixels:
    """One decoded slice."""

    hu: npt.NDArray[Any]  # (y, x)
    file_bytes: bytes
    padded: int
    notes: tuple[str, ...]


def read_pixels(
    paths: Sequence[Path], shape: tuple[int, int, int], track: Track
) -> tuple[npt.NDArray[Any], str, list[str]]:
    """Read the slices of a series into one array.

    Parameters
    ----------
    paths : sequence of Path
        The slices in their order.
    shape : tuple of int
        (z, y, x), the number of slices first.
    track : Track
        Is given the slice numbers.

    Returns
    -------
    (z, y, x) array of int16 or float32
        HU; float32 if a slice has values that are not whole, or too large.
    str
        SHA-256 of the files, one after the other.
    list of str
        Notes.

    Raises
    ------
    InputError
        If pixels are damaged, or no decoder for them is installed.
    """
    hu = np.empty(shape, np.int16)
    digest = hashlib.sha256()
    padded, notes = 0, dict[str, int]()
    pool = ThreadPoolExecutor(THREADS)
    try:
        slices = pool.map(read_slice, paths)
        for index in track(range(len(paths))):
            one = next(slices)
            if one.hu.shape != shape[1:]:
                raise InputError(f"{paths[index]} holds {one.hu.shape} pixels, its header says {shape[1:]}")
            if hu.dtype != one.hu.dtype == np.float32:
                hu = hu.astype(np.float32)
            hu[index] = one.hu
            digest.update(one.file_bytes)
            padded += one.padded
            for note in one.notes:
                notes[note] = notes.get(note, 0) + 1
    finally:
        pool.shutdown(cancel_futures=True)
    total = len(paths)
    said = [note if n == total else f"{note} (in {n} of {total} slices)" for note, n in notes.items()]
    if padded:
        said.append(f"{padded:,} voxels are padding outside the field of view")
    return hu, digest.hexdigest(), said


def read_slice(path: Path) -> SlicePixels:
    """Read one slice in HU by its own rescale.

    Raises
    ------
    InputError
        If its pixels are damaged, or no decoder for them is installed.
    """
    file_bytes = path.read_bytes()
    try:
        tags = pydicom.dcmread(BytesIO(file_bytes), force=True)
    except Exception as error:  # pydicom lets through whatever the damage leads to
        raise InputError(f"{path} is damaged ({one_line(error)}); copy or export it again") from error
    _require_decoder(tags, path)
    try:
        stored = np.asarray(tags.pixel_array)  # without bits above BitsStored, which may hold overlays
        slope, intercept, notes = _rescale(tags)
    except Exception as error:  # the same
        raise InputError(
            f"{path} has truncated or damaged pixels ({one_line(error)}); copy it again"
        ) from error
    require_real(stored.dtype, path)
    hu = as_hu(stored[np.newaxis], slope, intercept)[0]
    if tags.get("PhotometricInterpretation") == "MONOCHROME1":
        notes.append("the file asks to be shown inverted (MONOCHROME1); its values are not")
    return SlicePixels(hu, file_bytes, _count_padding(stored, tags), tuple(notes))


def _require_decoder(tags: Any, path: Path) -> None:
    """Refuse a transfer syntax that nothing installed can decode; complete a header that names none."""
    if "TransferSyntaxUID" not in tags.file_meta:
        implicit, _ = tags.original_encoding
        tags.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    syntax = tags.file_meta.TransferSyntaxUID
    try:
        decodable = not syntax.is_compressed or get_decoder(syntax).is_available
    except (NotImplementedError, ValueError):
        decodable = False
    if not decodable:
        raise InputError(
            f"{path} is compressed as {syntax.name}, and no decoder for it is installed; "
            'pip install "napari-resunet[codecs]"'
        )


def _rescale(tags: Any) -> tuple[float, float, list[str]]:
    slope, intercept = tags.get("RescaleSlope"), tags.get("RescaleIntercept")
    if slope is None and intercept is None:
        return 1.0, 0.0, ["no rescale slope and intercept: the stored values are taken as Hounsfield units"]
    return float(1 if slope is None else slope), float(intercept or 0), []


def _count_padding(stored: npt.NDArray[Any], tags: Any) -> int:
    value = tags.get("PixelPaddingValue")
    if not isinstance(value, int) or stored.dtype.kind not in "iu":
        return 0
    # the value is often written with the other sign convention: compare the bits
    mask = (1 << 8 * stored.dtype.itemsize) - 1
    return int(np.count_nonzero((stored.astype(np.int64) & mask) == (value & mask)))
