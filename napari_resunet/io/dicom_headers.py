"""What the header of a DICOM slice says, whether the slice is a file of its own or a frame of a larger one."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError
from napari_resunet.io.kind import kind_of_bytes
from napari_resunet.io.regular_file import MOST_DEFLATE_PACKS, one_line

_TEXTS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "ImageType", "Modality", "SeriesDescription"),
    *("ConvolutionKernel", "PhotometricInterpretation", "RescaleType", "BurnedInAnnotation"),
    *("AcquisitionDate", "SeriesDate", "StudyDate"),
)
_NUMBERS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope"),
    *("RescaleIntercept", "SliceThickness", "SpacingBetweenSlices", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SeriesNumber", "InstanceNumber"),
)
# What may tell slices at one place apart.
_TELLING = (
    *("AcquisitionNumber", "TemporalPositionIdentifier", "NominalPercentageOfCardiacPhase", "KVP"),
    *("AcquisitionTime", "ContrastBolusAgent"),
)
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DirectoryRecordSequence")
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_CT_IMAGES = (_CT_IMAGE, f"{_CT_IMAGE}.1", f"{_CT_IMAGE}.2")  # plain, enhanced, converted to enhanced
_MOST_INFLATED, _STEP = 1 << 30, 1 << 20
_META_START = 128 + 4 + 12  # preamble, "DICM", and the element that holds the length of what follows
# Where an enhanced (multi-frame) image keeps, for all frames or for each, what others have at the top.
_GROUP_OF = {
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
    "SpacingBetweenSlices": "PixelMeasuresSequence",
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "KVP": "CTXRayDetailsSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "StackID": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionNumber": "FrameContentSequence",
}


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """What is said of one slice.

    Parameters
    ----------
    path : Path
        Its file.
    tags : pydicom.Dataset
        The header of the file.
    frame : int
        Which frame of the file it is, from 0.
    groups : tuple of pydicom.Dataset
        Of an enhanced image, the functional groups of this frame and those shared by all.
    by_user : mapping
        Values by keyword that the file lacks, by the user's word.
    """

    path: Path
    tags: Any
    frame: int = 0
    groups: tuple[Any, ...] = ()
    by_user: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the file, and of the frame where there are many."""
        return f"{self.path.name}, frame {self.frame + 1}" if self.groups else self.path.name

    def value(self, keyword: str) -> Any:
        """Return what is said of this frame, else of all frames, else of the file; None if nothing, or nonsense."""
        try:
            return self._find(keyword)
        except Exception:  # values are decoded when first looked at, and damage leads to whatever it leads to
            return None

    def states(self, keyword: str) -> bool:
        """Whether something is said, be it nonsense."""
        try:
            return self._find(keyword) not in (None, "")
        except Exception:  # the same
            return True

    def _find(self, keyword: str) -> Any:
        if keyword in self.by_user:
            return self.by_user[keyword]
        for group in self.groups:
            for item in group.get(_GROUP_OF.get(keyword, ""), ()):
                if item.get(keyword) is not None:
                    return item.get(keyword)
        return self.tags.get(keyword)

    def text(self, keyword: str) -> str:
        """Return a text value, "" if it is missing; several values are joined by a backslash."""
        value = self.value(keyword)
        if isinstance(value, MutableSequence):
            return "\\".join(map(str, value))
        return "" if value is None else str(value).strip()

    def numbers(self, keyword: str, count: int) -> npt.NDArray[np.float64] | None:
        """Return `count` finite numbers, or None if they are missing or make no sense."""
        try:
            values = np.atleast_1d(np.asarray(self.value(keyword), dtype=np.float64))
        except (TypeError, ValueError, OverflowError):
            return None
        return values if values.shape == (count,) and np.isfinite(values).all() else None

    def number(self, keyword: str) -> float | None:
        """Return a finite number, or None."""
        values = self.numbers(keyword, 1)
        return None if values is None else float(values[0])

    def length_mm(self, keyword: str) -> float | None:
        """Return a length above 0, or None."""
        value = self.number(keyword)
        return value if value is not None and value > 0 else None

    @cached_property
    def is_image(self) -> bool:
        return bool(self.length_mm("Rows") and self.length_mm("Columns"))

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of an image."""
        return int(self.tags.Rows), int(self.tags.Columns)

    @cached_property
    def position(self) -> npt.NDArray[np.float64] | None:
        """LPS in mm of the centre of the first voxel."""
        return self.numbers("ImagePositionPatient", 3)

    @cached_property
    def orientation(self) -> npt.NDArray[np.float64] | None:
        """Unit vectors (2, 3): the way columns (x) and the way rows (y) are counted."""
        values = self.numbers("ImageOrientationPatient", 6)
        if values is None:
            return None
        pair = values.reshape(2, 3)
        lengths = np.linalg.norm(pair, axis=1, keepdims=True)
        if lengths.min() < 0.5 or abs(float(np.dot(*(pair / lengths)))) > 1e-3:
            return None
        return np.asarray(pair / lengths)

    @cached_property
    def pixel_spacing_mm(self) -> npt.NDArray[np.float64] | None:
        """Distance between rows and between columns: (y, x)."""
        values = self.numbers("PixelSpacing", 2)
        return values if values is not None and values.min() > 0 else None


def read_header(path: Path) -> SliceHeader | None:
    """Return the header of a DICOM file without its pixels; None if it is another kind of file.

    Raises
    ------
    InputError
        If it cannot be opened, or is damaged.
    """
    try:
        with path.open("rb") as file:
            if kind_of_bytes(file.read(512)) != "DICOM":
                return None
            refuse_inflating(path)
            file.seek(0)
            return _read_header(path, file)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the permissions") from error


def _read_header(path: Path, file: BinaryIO) -> SliceHeader:
    from pydicom import dcmread

    keywords = [*_TEXTS, *_NUMBERS, *_TELLING, *_GROUPS]
    try:
        tags = dcmread(file, stop_before_pixels=True, force=True, specific_tags=keywords)
        for keyword in (*_TEXTS, *_GROUPS):  # values are decoded when first looked at: now, to be caught
            tags.get(keyword)
    except Exception as error:  # pydicom lets through whatever the damage leads to
        raise InputError(
            f"{path} is damaged or not DICOM ({one_line(error)}); copy or export it again"
        ) from error
    header = SliceHeader(path, tags)
    if header.text("SOPClassUID") in _CT_IMAGES and not header.is_image:
        raise InputError(
            f"{path} is a CT image whose header ends early or is damaged; copy or export it again"
        )
    return header


def refuse_inflating(path: Path) -> None:
    """Refuse a deflated file that becomes larger than 1 GiB, before a library inflates it as a whole.

    Raises
    ------
    InputError
        If it does, or is damaged.
    """
    if path.stat().st_size * MOST_DEFLATE_PACKS <= _MOST_INFLATED:
        return
    from pydicom.filereader import read_file_meta_info
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    try:
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        inflated = _inflated_size(path, start=_META_START + int(meta.FileMetaInformationGroupLength))
    except Exception as error:  # the same
        raise InputError(f"{path} is damaged ({one_line(error)}); copy or export it again") from error
    if inflated > _MOST_INFLATED:
        raise InputError(f"{path} is deflated, and inflates to more than 1 GiB; export it uncompressed")


def _inflated_size(path: Path, *, start: int) -> int:
    """Return how many bytes a deflated file inflates to; stops counting beyond 1 GiB."""
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(start)
        packed = file.read(_STEP)
        while packed and size <= _MOST_INFLATED:
            size += len(inflater.decompress(packed, _STEP))
            packed = inflater.unconsumed_tail or file.read(_STEP)
    return size
