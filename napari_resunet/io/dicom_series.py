"""A volume as a plain, anonymous DICOM CT series, for samples and tests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from napari_resunet.errors import OutputError
from napari_resunet.volume import Volume

_INTERCEPT = -1024
# UIDs under 2.25 need no registration; made from the content, they are the same each time
_ROOT = "2.25."


def write_ct_series(volume: Volume, folder: Path) -> list[Path]:
    """Write a volume as one CT Image Storage file a slice (int16, uncompressed, rescale 1 and -1024).

    The bytes depend on nothing but the volume. A reader orders the slices along their normal: it gives this
    array back if the volume's slices ascend along theirs, else the slices in the opposite order.

    Parameters
    ----------
    volume : Volume
        HU are rounded to whole numbers and held to -32768..31743, so that they fit with the intercept.
    folder : Path
        Made if it is not there.

    Returns
    -------
    list of Path
        The files, in the order of the slices.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    hu = np.nan_to_num(volume.array.astype(np.float32), nan=_INTERCEPT)
    stored = (np.clip(np.rint(hu), -32768, 32767 + _INTERCEPT) - _INTERCEPT).astype("<i2")
    content = hashlib.sha256(stored.tobytes() + volume.geometry.index_to_lps.tobytes()).hexdigest()
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for index, pixels in enumerate(stored):
            path = folder / f"slice_{index + 1:04d}.dcm"
            _slice(volume, index, pixels, content).save_as(path, enforce_file_format=True)
            files.append(path)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror or error}); choose another folder"
        ) from error
    return files


def _slice(volume: Volume, index: int, pixels: npt.NDArray[np.int16], content: str) -> Dataset:
    tags = Dataset()
    tags.file_meta = FileMetaDataset()
    tags.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    tags.file_meta.MediaStorageSOPClassUID = CTImageStorage
    tags.file_meta.ImplementationClassUID = _uid("implementation")
    tags.file_meta.ImplementationVersionName = "RESUNET_1"
    tags.SpecificCharacterSet = "ISO_IR 192"
    tags.SOPClassUID = CTImageStorage
    tags.SOPInstanceUID = tags.file_meta.MediaStorageSOPInstanceUID = _uid(content, "slice", str(index))
    _add_study(tags, content)
    _add_place(tags, volume, index)
    _add_pixels(tags, pixels)
    return tags


def _add_study(tags: Dataset, content: str) -> None:
    tags.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    tags.Modality = "CT"
    tags.PatientName = "Phantom"
    tags.PatientID = "PHANTOM"
    for keyword in (
        *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientBirthDate"),
        *("PatientSex", "StudyID", "Manufacturer", "PositionReferenceIndicator", "KVP", "AcquisitionNumber"),
    ):
        setattr(tags, keyword, None)  # required, but may be empty
    tags.PatientIdentityRemoved = "YES"
    tags.DeidentificationMethod = "made by a computer"
    tags.SeriesDescription = "Phantom"
    tags.StudyInstanceUID = _uid(content, "study")
    tags.SeriesInstanceUID = _uid(content, "series")
    tags.FrameOfReferenceUID = _uid(content, "frame")
    tags.SeriesNumber = 1


def _add_place(tags: Dataset, volume: Volume, index: int) -> None:
    geometry = volume.geometry
    _, along_y, along_x = geometry.directions.T
    step, dy, dx = geometry.spacing_mm
    tags.InstanceNumber = index + 1
    tags.ImagePositionPatient = _decimals(geometry.index_to_lps @ [index, 0, 0, 1])[:3]
    tags.ImageOrientationPatient = _decimals([*along_x, *along_y])
    tags.PixelSpacing = _decimals([dy, dx])
    tags.SliceThickness = _decimals([step])[0]


def _add_pixels(tags: Dataset, pixels: npt.NDArray[np.int16]) -> None:
    tags.SamplesPerPixel = 1
    tags.PhotometricInterpretation = "MONOCHROME2"
    tags.Rows, tags.Columns = pixels.shape
    tags.BitsAllocated = tags.BitsStored = 16
    tags.HighBit = 15
    tags.PixelRepresentation = 1
    tags.RescaleIntercept = _INTERCEPT
    tags.RescaleSlope = 1
    tags.RescaleType = "HU"
    tags.PixelData = pixels.tobytes()
    tags["PixelData"].VR = "OW"


def _decimals(numbers: npt.ArrayLike) -> list[DSfloat]:
    """Return DICOM decimal strings, which have at most 16 characters."""
    return [DSfloat(float(number) + 0.0, auto_format=True) for number in np.ravel(numbers)]


def _uid(*parts: str) -> UID:
    return generate_uid(prefix=_ROOT, entropy_srcs=list(parts))
