"""DICOM files for tests, made with pydicom: good ones, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    MediaStorageDirectoryStorage,
    generate_uid,
)

from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.volume import Volume

Change = Callable[[Any], None]


def edit(path: Path, change: Change) -> None:
    tags = pydicom.dcmread(path)
    change(tags)
    tags.save_as(path)


def edit_all(folder: Path, change: Change) -> None:
    for path in sorted(folder.iterdir()):
        edit(path, change)


def having(**values: Any) -> Change:
    """Return a change that sets tags, or deletes those whose value is None."""

    def change(tags: Any) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(tags, keyword)
            else:
                setattr(tags, keyword, value)

    return change


def tall_series(folder: Path, heights_mm: Iterable[float], rows: int = 6, columns: int = 7) -> list[Path]:
    """Write a series with a slice at each height, whose values are 10 times the slice's number."""
    at = list(heights_mm)
    hu = np.zeros((len(at), rows, columns), np.int16) + 10 * np.arange(len(at), dtype=np.int16)[:, None, None]
    files = write_ct_series(Volume(hu, Geometry.from_spacing(hu.shape, (1, 0.8, 0.7))), folder)
    for path, height in zip(files, at, strict=True):
        edit(path, having(ImagePositionPatient=[0, 0, height]))
    return files


def encapsulated(frame: bytes, syntax: UID) -> Change:
    """Return a change that gives a slice compressed pixels."""

    def change(tags: Any) -> None:
        tags.file_meta.TransferSyntaxUID = syntax
        tags.PixelData = encapsulate([frame])
        tags["PixelData"].VR = "OB"
        tags["PixelData"].is_undefined_length = True

    return change


def compressed(syntax: UID) -> Change:
    """Return a change that compresses the pixels of a slice without loss."""

    def change(tags: Any) -> None:
        if syntax == JPEGLosslessSV1:
            encapsulated(_jpeg_lossless(tags.pixel_array), syntax)(tags)
        elif syntax == JPEG2000Lossless:
            encapsulated(_jpeg_2000(tags.pixel_array), syntax)(tags)
        elif syntax == DeflatedExplicitVRLittleEndian:
            tags.file_meta.TransferSyntaxUID = syntax
        else:
            tags.compress(syntax, generate_instance_uid=False)

    return change


def _jpeg_lossless(pixels: npt.NDArray[Any]) -> bytes:
    return _by_itk(pixels, "JPEG")


def _jpeg_2000(pixels: npt.NDArray[Any]) -> bytes:
    return _by_itk(pixels, "JPEG2000")


def _by_itk(pixels: npt.NDArray[Any], compressor: str) -> bytes:
    """Return pixels as ITK compresses them: not one of the libraries that decode them here."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.dcm"
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(path))
        writer.SetUseCompression(True)
        writer.SetCompressor(compressor)
        writer.Execute(sitk.GetImageFromArray(pixels[np.newaxis]))
        return get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)


def write_enhanced(
    path: Path, stored: npt.NDArray[np.int16], heights_mm: Sequence[float], each: Sequence[Any] = ()
) -> None:
    """Write an enhanced (multi-frame) CT: frames of `stored` at `heights_mm`, each with its own rescale.

    `each` are changes to the group of each frame.
    """
    tags = Dataset()
    tags.file_meta = FileMetaDataset()
    tags.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    tags.SOPClassUID, tags.SOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    tags.SeriesInstanceUID, tags.Modality = generate_uid(), "CT"
    tags.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    tags.NumberOfFrames, tags.Rows, tags.Columns = stored.shape
    tags.SamplesPerPixel, tags.PhotometricInterpretation = 1, "MONOCHROME2"
    tags.BitsAllocated = tags.BitsStored = 16
    tags.HighBit, tags.PixelRepresentation = 15, 1
    shared = Dataset()
    shared.PixelMeasuresSequence = Items([_having(PixelSpacing=[0.8, 0.7], SliceThickness=3)])
    shared.PlaneOrientationSequence = Items([_having(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])])
    tags.SharedFunctionalGroupsSequence = Items([shared])
    frames = [_frame_group(height) for height in heights_mm]
    for group, change in zip(frames, each, strict=bool(each)):
        change(group)
    tags.PerFrameFunctionalGroupsSequence = Items(frames)
    tags.PixelData = stored.tobytes()
    tags["PixelData"].VR = "OW"
    tags.save_as(path, enforce_file_format=True)


def _frame_group(height: float) -> Dataset:
    group = Dataset()
    group.PlanePositionSequence = Items([_having(ImagePositionPatient=[-100.5, -20.25, height])])
    rescale = _having(RescaleSlope=1, RescaleIntercept=-1000 - height, RescaleType="HU")
    group.PixelValueTransformationSequence = Items([rescale])
    group.CTImageFrameTypeSequence = Items([_having(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])])
    return group


def in_stack(name: str) -> Change:
    """Return a change that puts a frame into a stack."""

    def change(group: Any) -> None:
        group.FrameContentSequence = Items([_having(StackID=name)])

    return change


def _having(**values: Any) -> Dataset:
    tags = Dataset()
    having(**values)(tags)
    return tags


def write_dicomdir(path: Path, names: Iterable[Sequence[str]]) -> None:
    """Write a DICOMDIR that names files, each by the parts of its path."""
    tags = Dataset()
    tags.file_meta = FileMetaDataset()
    tags.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    tags.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    tags.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    tags.DirectoryRecordSequence = Items(
        [_having(DirectoryRecordType="PATIENT")]
        + [_having(DirectoryRecordType="IMAGE", ReferencedFileID=list(parts)) for parts in names]
    )
    tags.save_as(path, enforce_file_format=True)
