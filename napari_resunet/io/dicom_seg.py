"""A mask as a DICOM Segmentation: frames that lie on the slices of its CT series, with highdicom."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.utils import iter_pixels
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from napari_resunet.errors import InputError, OutputError
from napari_resunet.io.dicom_headers import SliceHeader
from napari_resunet.io.dicom_seg_slices import REMEDY, SourceSlices
from napari_resunet.io.regular_file import one_line
from napari_resunet.io.segments import Segment
from napari_resunet.io.sidecar import PROGRAM, program_version

_SAME = 1e-3  # in mm, or as part of a unit vector: less is rounding


def write_dicom_seg(
    array_zyx: npt.NDArray[np.uint8],
    slices: SourceSlices,
    path: Path,
    *,
    segments: Sequence[Segment],
    history: Mapping[str, Any],
) -> None:
    """Write a mask as a binary DICOM Segmentation (not atomically: see `replacing`).

    Each frame names the slice it lies on, and repeats its position: tilt, gaps and uneven spacing stay what they
    are. Slices without lung have no frame, unless none has lung.

    Parameters
    ----------
    array_zyx : (z, y, x) array of uint8
        0, and the labels of `segments`.
    slices : SourceSlices
        What it lies on.
    path : Path
        To write to.
    segments : sequence of Segment
        What each label means, from 1 upwards.
    history : mapping
        How the mask was made, as in `Mask`.

    Raises
    ------
    OutputError
        If the headers of the CT break the rules of DICOM, so that nothing can be filed beside it.
    """
    version = program_version()
    try:
        with warnings.catch_warnings():  # the name of a patient is repeated as it is, in whatever form
            warnings.filterwarnings("ignore", ".*is unlikely to represent the intended person name")
            segmentation = hd.seg.Segmentation(
                source_images=slices.images,
                pixel_array=slices.as_frames(array_zyx),
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[_describe(segment, history, version) for segment in segments],
                omit_empty_frames=bool(array_zyx.any()),
                series_instance_uid=generate_uid(prefix=None),
                series_number=1000 + int(slices.images[0].get("SeriesNumber") or 0),
                series_description="Lung segmentation, for research use only",
                sop_instance_uid=generate_uid(prefix=None),
                instance_number=1,
                manufacturer=PROGRAM,
                manufacturer_model_name=PROGRAM,
                software_versions=version,
                device_serial_number="none",
                content_label="LUNGS",
                content_description="Lungs in CT, for research use only, not a medical device",
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # what odd headers lead to
        raise OutputError(
            f"the headers of the CT do not allow a DICOM segmentation ({one_line(error)}); {REMEDY}"
        ) from error
    segmentation.SpecificCharacterSet = "ISO_IR 192"  # UTF-8 holds every name, whatever the CT is written in
    segmentation.ContentCreatorName = None  # required, but may be empty
    segmentation.save_as(path, enforce_file_format=True)


def _describe(segment: Segment, history: Mapping[str, Any], version: str) -> Any:
    run, edited = history.get("run"), history.get("voxels_edited_by_hand", 0)
    began_elsewhere = history.get("began_from") is not None
    if run and not edited and not began_elsewhere:
        made = hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC
    elif edited and not run and not began_elsewhere:
        made = hd.seg.SegmentAlgorithmTypeValues.MANUAL
    else:
        made = hd.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC
    description = hd.seg.SegmentDescription(
        segment_number=segment.label,
        segment_label=segment.name,
        segmented_property_category=codes.cid7150.AnatomicalStructure,
        segmented_property_type=codes.cid7151.Lung,
        algorithm_type=made,
        algorithm_identification=None if made.value == "MANUAL" else _algorithm(history, version),
        display_color=hd.color.CIELabColor.from_rgb(*segment.rgb),
    )
    # the standard has no code for one lung, but one for lung and one for the side
    if segment.side is not None:
        side = hd.sr.CodedConcept.from_code(getattr(codes.cid244, segment.side))
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return description


def _algorithm(history: Mapping[str, Any], version: str) -> Any:
    run, mask = history.get("run") or {}, history.get("mask") or {}
    parameters = {
        "weights_sha256": run.get("model_sha256"),
        "grid": run.get("grid"),
        "threshold": mask.get("threshold"),
        "clean": mask.get("clean"),
    }
    return hd.AlgorithmIdentificationSequence(
        name=f"{PROGRAM} {run.get('model', '')}".strip(),
        family=codes.cid7162.ArtificialIntelligence,
        version=version,
        source=PROGRAM,
        parameters={name: str(value) for name, value in parameters.items() if value is not None} or None,
    )


def read_back_dicom_seg(path: Path, slices: SourceSlices) -> npt.NDArray[np.uint8]:
    """Return a written mask on the slices of its CT, put there by what its frames say, with pydicom alone.

    Raises
    ------
    InputError
        If the file is damaged, or a frame does not lie where its slice does.
    """
    try:
        return _on_slices(pydicom.dcmread(path), slices)
    except InputError:
        raise
    except Exception as error:  # pydicom lets through whatever the damage leads to
        raise InputError(f"{path} is damaged ({one_line(error)}); write it again") from error


def _on_slices(tags: Any, slices: SourceSlices) -> npt.NDArray[np.uint8]:
    shared = tags.SharedFunctionalGroupsSequence[0]
    _require_equal(shared.PlaneOrientationSequence[0], slices.first, "ImageOrientationPatient")
    _require_equal(shared.PixelMeasuresSequence[0], slices.first, "PixelSpacing")
    index_of = {key: index for index, key in enumerate(slices.keys)}
    array = np.zeros((len(slices.slices), tags.Rows, tags.Columns), np.uint8)
    for own, pixels in zip(tags.PerFrameFunctionalGroupsSequence, iter_pixels(tags), strict=True):
        image = own.DerivationImageSequence[0].SourceImageSequence[0]
        index = index_of.get((image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)))
        if index is None:
            raise InputError(f"a frame lies on {image.ReferencedSOPInstanceUID}, which is no slice of the CT")
        _require_equal(own.PlanePositionSequence[0], slices.slices[index], "ImagePositionPatient")
        if array[index][pixels > 0].any():
            raise InputError("two segments share a voxel")
        named = own if "SegmentIdentificationSequence" in own else shared
        array[index][pixels > 0] = named.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    return array


def _require_equal(found: Any, meant: SliceHeader, keyword: str) -> None:
    is_same = np.allclose(found.get(keyword), meant.value(keyword), rtol=0, atol=_SAME)
    if not is_same:
        raise InputError(f"a frame has the {keyword} {found.get(keyword)}, its slice {meant.value(keyword)}")
