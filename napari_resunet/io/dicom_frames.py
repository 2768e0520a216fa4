"""The numbers stored in the frames of a DICOM file, and what can decode them where they are compressed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

_TAGS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PhotometricInterpretation", "NumberOfFrames", "PlanarConfiguration"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
)
_ITK = "SimpleITK"
_ITK_DECODES = (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, JPEG2000Lossless, JPEG2000, RLELossless)


def syntax_of(tags: Any) -> UID:
    """Return the transfer syntax of a file that may not say it: then it is uncompressed."""
    if "TransferSyntaxUID" in tags.file_meta:
        return UID(tags.file_meta.TransferSyntaxUID)
    implicit, _ = tags.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def is_compressed(syntax: UID) -> bool:
    """Whether pixels need a decoder; so do those of a transfer syntax that nobody knows."""
    try:
        return bool(syntax.is_compressed)
    except ValueError:
        return True


def decoder_for(syntax: UID) -> str | None:
    """Return the name of the library that decodes a compressed transfer syntax here; None if there is none."""
    try:
        plugins = get_decoder(syntax).available_plugins
    except (NotImplementedError, ValueError):
        return None
    # not pillow: it knows but 8 bits of most of these
    better = [plugin for plugin in plugins if plugin != "pillow"]
    return better[0] if better else _ITK if syntax in _ITK_DECODES else None


def stored_frames(path: Path, frames: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
    """Give the stored numbers (y, x) of some frames of a file, in the order asked for.

    Uncompressed ones are as they are in the file, bits above BitsStored included.
    """
    tags = pydicom.dcmread(path, force=True, specific_tags=list(_TAGS))
    syntax = tags.file_meta.TransferSyntaxUID = syntax_of(tags)
    if not is_compressed(syntax):
        yield from iter_pixels(tags, indices=frames, raw=True, correct_unused_bits=False)
        return
    decoder = decoder_for(syntax)
    if decoder == _ITK:
        for frame in frames:
            yield _decoded_by_itk(tags, frame)
    else:
        yield from iter_pixels(tags, indices=frames, raw=True, decoding_plugin=decoder or "")


def _decoded_by_itk(tags: Any, frame: int) -> npt.NDArray[Any]:
    """Return one frame as ITK decodes it; it reads files only, and would apply a rescale."""
    import SimpleITK as sitk  # noqa: N813

    alone = pydicom.Dataset()
    alone.file_meta = pydicom.dataset.FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = tags.file_meta.TransferSyntaxUID
    alone.SOPClassUID, alone.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    for keyword in _TAGS[:8]:
        if keyword in tags:
            alone[keyword] = tags[keyword]
    frames = int(tags.get("NumberOfFrames") or 1)
    alone.PixelData = encapsulate([get_frame(tags.PixelData, frame, number_of_frames=frames)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.dcm"
        alone.save_as(path, enforce_file_format=True)
        stored: npt.NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    if stored.size != tags.Rows * tags.Columns:
        raise ValueError(f"{stored.shape} pixels instead of {tags.Rows} x {tags.Columns}")
    return without_high_bits(stored.reshape(tags.Rows, tags.Columns), int(tags.BitsStored))


def without_high_bits(stored: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    """Return integers without the bits above the lowest `bits`, of which the highest is the sign if they have one."""
    unused = 8 * stored.dtype.itemsize - bits
    if stored.dtype.kind not in "iu" or unused <= 0:
        return stored
    return np.asarray(np.right_shift(np.left_shift(stored, unused), unused))
