"""The pixels of DICOM slices, in Hounsfield units."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError
from napari_resunet.io.dicom_ahead import read_ahead
from napari_resunet.io.dicom_decode import decode, needs_decoding, refuse_other_size
from napari_resunet.io.dicom_frames import stored_frames, without_high_bits
from napari_resunet.io.dicom_headers import SliceHeader
from napari_resunet.io.hounsfield import as_hu, require_real
from napari_resunet.io.regular_file import one_line
from napari_resunet.track import Track

_BEYOND_HU = 32_000  # no scanner gives more, even for metal on the extended scale


@dataclass(frozen=True, eq=False)
class SlicePixels:
    """One decoded slice."""

    hu: npt.NDArray[Any]  # (y, x)
    padded: int
    notes: tuple[str, ...]


def read_pixels(headers: Sequence[SliceHeader], track: Track) -> tuple[npt.NDArray[Any], str, list[str]]:
    """Read the slices of a series into one array.

    Parameters
    ----------
    headers : sequence of SliceHeader
        The slices in their order, all of one size.
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
    hu = np.empty((len(headers), *headers[0].size), np.int16)
    digest, hashed = hashlib.sha256(), set[Path]()
    padded, notes = 0, dict[str, int]()
    with closing(read_slices(headers)) as slices:
        for index in track(range(len(headers))):
            one, path = next(slices), headers[index].path
            if hu.dtype != one.hu.dtype == np.float32:
                hu = hu.astype(np.float32)
            hu[index] = one.hu
            if path not in hashed:
                hashed.add(path)
                _hash(path, digest)
            padded += one.padded
            for note in one.notes:
                notes[note] = notes.get(note, 0) + 1
    total = len(headers)
    said = [note if n == total else f"{note} (in {n} of {total} slices)" for note, n in notes.items()]
    if padded:
        said.append(f"{padded:,} voxels are padding outside the field of view")
    return hu, digest.hexdigest(), said


def read_slices(headers: Sequence[SliceHeader]) -> Generator[SlicePixels]:
    """Give slices in HU, each by its own rescale, in their order; closing it drops what has not been read.

    Raises
    ------
    InputError
        If pixels are damaged, or no decoder for them is installed.
    """
    compressed = [header for header in headers if needs_decoding(header)]
    files = [list(group) for _, group in itertools.groupby(headers, key=lambda header: header.path)]
    if compressed:
        with closing(decode(compressed)) as decoded:
            for header in headers:
                yield _to_hu(next(decoded), header) if needs_decoding(header) else _read_slice(header)
    elif len(files) == len(headers):
        with closing(read_ahead(_read_slice, headers)) as slices:
            yield from slices
    else:  # frames of one file are read on the go: it can be large
        for frames in files:
            yield from _read_frames(frames)


def _read_slice(header: SliceHeader) -> SlicePixels:
    (one,) = _read_frames([header])
    return one


def _read_frames(headers: Sequence[SliceHeader]) -> Iterator[SlicePixels]:
    """Give some uncompressed frames of one file."""
    path, frames = headers[0].path, [header.frame for header in headers]
    try:
        for header, stored in zip(headers, stored_frames(path, frames), strict=True):
            yield _to_hu(stored, header)
    except InputError:
        raise
    except Exception as error:  # pydicom lets through whatever the damage leads to
        raise InputError(
            f"{path} has truncated or damaged pixels ({one_line(error)}); copy or export it again"
        ) from error


def _to_hu(stored: npt.NDArray[Any], header: SliceHeader) -> SlicePixels:
    refuse_other_size(header, stored.shape)
    require_real(stored.dtype, header.path)
    padding = _padding(stored, header)
    values, notes = _used_bits(stored, padding, header)
    slope, intercept, said = _rescale(header)
    hu = as_hu(values[np.newaxis], slope, intercept)[0]
    if stored.dtype.kind == "u" and hu.max() > _BEYOND_HU:
        said.append(f"values above {_BEYOND_HU:,} HU: signed numbers that the header calls unsigned?")
    return SlicePixels(hu, int(np.count_nonzero(padding)), (*notes, *said))


def _padding(stored: npt.NDArray[Any], header: SliceHeader) -> npt.NDArray[np.bool_]:
    """Return which pixels are none by the header, whatever the sign convention that it says so in."""
    first, last = header.number("PixelPaddingValue"), header.number("PixelPaddingRangeLimit")
    if first is None or stored.dtype.kind not in "iu":
        return np.zeros(stored.shape, np.bool_)
    dtype = stored.dtype.newbyteorder("=")
    bits = (1 << 8 * dtype.itemsize) - 1
    said = (first, first if last is None else last)
    ends = [np.array(int(end) & bits, f"u{dtype.itemsize}").view(dtype) for end in said]
    return np.asarray((stored >= min(ends)) & (stored <= max(ends)))


def _used_bits(
    stored: npt.NDArray[Any], padding: npt.NDArray[np.bool_], header: SliceHeader
) -> tuple[npt.NDArray[Any], list[str]]:
    """Return numbers without the bits above BitsStored, where overlays were kept once, and notes.

    Padding stays what it is: it is often written with all the bits there are.
    """
    bits = int(header.number("BitsStored") or 0) or 8 * stored.dtype.itemsize
    used = without_high_bits(stored, bits)
    beyond = used != stored
    if not beyond.any():
        return stored, []
    notes = (
        [f"bits above the {bits} stored ones, such as overlays, are left out"]
        if beyond[~padding].any()
        else []
    )
    return np.where(
        beyond & padding, stored.view(f"{stored.dtype.byteorder}i{stored.dtype.itemsize}"), used
    ), notes


def _rescale(header: SliceHeader) -> tuple[float, float, list[str]]:
    slope, intercept = (_stated(header, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    is_inverted = header.text("PhotometricInterpretation") == "MONOCHROME1"
    if slope is None and intercept is None:
        notes = ["no rescale slope and intercept: the stored values are taken as Hounsfield units"]
        if is_inverted:
            notes.append("the file is to be shown inverted (MONOCHROME1): air may be bright, and these no HU")
        return 1.0, 0.0, notes
    notes = ["the file asks to be shown inverted (MONOCHROME1); its values are not"] if is_inverted else []
    return 1.0 if slope is None else slope, intercept or 0.0, notes


def _stated(header: SliceHeader, keyword: str) -> float | None:
    value = header.number(keyword)
    if value is None and header.states(keyword):  # taking it as missing would shift every value
        raise InputError(f"{header.path} has a {keyword} that is no number; copy or export it again")
    return value


def _hash(path: Path, digest: hashlib._Hash) -> None:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
