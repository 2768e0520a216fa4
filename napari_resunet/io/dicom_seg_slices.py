"""The slices of a DICOM CT that a segmentation lies on, as headers with only what it has to repeat of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from napari_resunet.errors import InputError, OutputError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_headers import SliceHeader
from napari_resunet.io.dicom_kinds import frames_of
from napari_resunet.io.dicom_place import sort_slices
from napari_resunet.io.regular_file import sha256_of
from napari_resunet.volume import Source

REMEDY = "write the mask as .nii.gz instead"
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_PLACE = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}
# Required, but may be empty: a segmentation is filed under the patient and the study of its CT.
_PATIENT_AND_STUDY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
# Required where the CT has them.
_MORE = (
    *("Modality", "SeriesNumber", "PositionReferenceIndicator"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
_FRAMES = ("NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_READ = (*_UIDS, *_PLACE, *_PATIENT_AND_STUDY, *_MORE, *_FRAMES, "Rows", "Columns", "SliceThickness")
_NAMES = ("PatientName", "ReferringPhysicianName")
_SAME_PLANE_MM = 0.05


@dataclass(frozen=True, eq=False)
class SourceSlices:
    """The slices of a CT, in the order of the mask.

    Parameters
    ----------
    slices : tuple of SliceHeader
        One a slice of the mask.
    images : tuple of pydicom.Dataset
        One a file: what a segmentation repeats of it.
    """

    slices: tuple[SliceHeader, ...]
    images: tuple[Any, ...]

    @property
    def first(self) -> SliceHeader:
        return self.slices[0]

    @property
    def keys(self) -> list[tuple[str, int]]:
        """SOPInstanceUID and number of the frame, from 1, by which a segmentation names each slice."""
        return [(header.text("SOPInstanceUID"), header.frame + 1) for header in self.slices]

    def as_frames(self, array_zyx: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return a mask in the order of `images`: for a multi-frame file, of all its frames."""
        if not self.first.groups:
            return array_zyx
        frames = np.zeros((self.images[0].NumberOfFrames, *array_zyx.shape[1:]), np.uint8)
        frames[[header.frame for header in self.slices]] = array_zyx
        return frames


def source_slices(source: Source | None, geometry: Geometry) -> SourceSlices:
    """Return the slices that a mask lies on, after the files have proved to be those that were read.

    Parameters
    ----------
    source : Source
        A DICOM series; its files in the order of the slices.
    geometry : Geometry
        Of the mask.

    Raises
    ------
    OutputError
        If the CT is not a DICOM series, its files are gone or not what was read, or their headers lack what a
        segmentation needs.
    """
    if source is None or source.format != "DICOM":
        kind = "of unknown origin" if source is None else source.format
        raise OutputError(f"a DICOM segmentation needs a CT that is DICOM, and this one is {kind}; {REMEDY}")
    if not source.files:
        raise OutputError(
            f"a DICOM segmentation needs the files of the CT {source.path}; open the CT with the case, then export"
        )
    headers = _read_headers(source)
    for header in headers:
        _require_attachable(header)
    if len({header.text("SOPInstanceUID") for header in headers}) != len(headers):
        raise OutputError(f"slices of {source.path} share one SOPInstanceUID, so none can be named; {REMEDY}")
    slices, images = _slices_and_images(headers)
    for header in slices:
        _require_placed(header, geometry)
    if len(slices) != geometry.shape[0]:
        raise OutputError(
            f"{source.path} has {len(slices)} slices, and the mask {geometry.shape[0]}, so which lies on which is "
            f"unknown; {REMEDY}"
        )
    _require_same_plane(slices[0], geometry)
    return SourceSlices(tuple(slices), tuple(images))


def _read_headers(source: Source) -> list[SliceHeader]:
    try:
        digest = sha256_of(*source.files)
    except OSError as error:
        raise OutputError(
            f"{error.filename} of the CT cannot be read ({error.strerror}); put it back, or {REMEDY}"
        ) from error
    if digest != source.sha256:
        raise OutputError(f"{source.path} is not the CT it was when it was read; open it again")
    return [
        SliceHeader(file, pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=[*_READ]))
        for file in source.files
    ]


def _require_attachable(header: SliceHeader) -> None:
    lacking = [keyword for keyword in _UIDS if not header.text(keyword)]
    if lacking:
        raise OutputError(
            f"{header.path} has no {' and no '.join(lacking)}, which a DICOM segmentation needs; {REMEDY}"
        )


def _require_placed(header: SliceHeader, geometry: Geometry) -> None:
    lacking = [keyword for keyword, count in _PLACE.items() if header.numbers(keyword, count) is None]
    if lacking:
        raise OutputError(
            f"{header.path} has no {' and no '.join(lacking)}, which a DICOM segmentation needs; {REMEDY}"
        )
    if (header.tags.Rows, header.tags.Columns) != geometry.shape[1:]:
        raise OutputError(f"{header.path} has another size than the mask; open the CT again")


def _require_same_plane(header: SliceHeader, geometry: Geometry) -> None:
    """Refuse a mask that was flipped or turned since: its first slice has to be the CT's, pixel on pixel."""
    along_x, along_y = np.reshape(header.value("ImageOrientationPatient"), (2, 3)).astype(float)
    dy, dx = map(float, header.value("PixelSpacing"))
    plane = np.column_stack(
        [along_y * dy, along_x * dx, np.array(header.value("ImagePositionPatient"), float)]
    )
    corners = np.array([[0, 0, 1], [geometry.shape[1], 0, 1], [0, geometry.shape[2], 1]])
    apart = float(np.abs((plane - geometry.index_to_lps[:3, 1:]) @ corners.T).max())
    if apart > _SAME_PLANE_MM:
        raise OutputError(f"the mask does not lie on {header.path} ({apart:.2f} mm apart); open the CT again")


def _slices_and_images(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[Any]]:
    """Return the slices in their order, and an image a file; a multi-frame file is ordered as its reader does."""
    frames = frames_of(headers[0])
    if not frames[0].groups:
        return list(headers), [_image(header, headers[0]) for header in headers]
    if len(headers) > 1:
        raise OutputError(f"the CT lies in {len(headers)} multi-frame files, and one is needed; {REMEDY}")
    try:
        slices = sort_slices(frames, headers[0].path)
    except InputError as error:
        raise OutputError(str(error)) from error
    return slices, [_multi_frame_image(frames)]


def _image(header: SliceHeader, first: SliceHeader) -> Any:
    """Return an image with the orientation and spacing of the first, which all slices share but for rounding."""
    image = _attached(header)
    image.ImagePositionPatient = header.value("ImagePositionPatient")
    for keyword in ("ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        setattr(image, keyword, first.value(keyword))
    return image


def _multi_frame_image(frames: Sequence[SliceHeader]) -> Any:
    image = _attached(frames[0])
    image.NumberOfFrames = len(frames)
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = frames[0].value("ImageOrientationPatient")
    for keyword in ("PixelSpacing", "SliceThickness"):
        setattr(measures, keyword, frames[0].value(keyword))
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    image.SharedFunctionalGroupsSequence = [shared]
    image.PerFrameFunctionalGroupsSequence = [_placed_frame(frame) for frame in frames]
    return image


def _placed_frame(frame: SliceHeader) -> Any:
    position, own = Dataset(), Dataset()
    position.ImagePositionPatient = frame.value("ImagePositionPatient")
    own.PlanePositionSequence = [position]
    return own


def _attached(header: SliceHeader) -> Any:
    """Return an image that says whose it is, and nothing more of the patient than a segmentation has to."""
    image = Dataset()
    for keyword in (*_UIDS, *_PATIENT_AND_STUDY, *_MORE, "Rows", "Columns"):
        if keyword in _NAMES:
            setattr(image, keyword, header.text(keyword))  # decoded: the segmentation is in UTF-8
        elif keyword in header.tags:
            image.add(header.tags[keyword])
        elif keyword in _PATIENT_AND_STUDY:
            setattr(image, keyword, None)
    return image
