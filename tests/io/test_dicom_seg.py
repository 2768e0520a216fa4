from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage

from napari_resunet.errors import OutputError
from napari_resunet.geometry import Geometry
from napari_resunet.imaging.sides import split_right_left
from napari_resunet.io import dicom_seg
from napari_resunet.io.dicom import read_dicom, write_ct_series
from napari_resunet.io.export import require_writable
from napari_resunet.io.files import read_volume, write_mask
from napari_resunet.volume import Mask, Source, Volume

RUN = {"model": "lung-ct", "model_sha256": "ab12", "grid": 128}
HISTORY = {"run": RUN, "mask": {"threshold": 0.5, "clean": True, "split": True}, "voxels_edited_by_hand": 0}

# Columns are the steps in mm along z, y and x of the array, in LPS.
PLACES = {
    "plain": [[0, 0, 0.7], [0, 0.8, 0], [2.5, 0, 0]],
    "gantry tilt": [[0, 0, 0.7], [0.53, 0.8, 0], [2.5, 0, 0]],
    "left to right": [[0, 0, -0.7], [0, 0.8, 0], [2.5, 0, 0]],
    "prone": [[0, 0, -0.7], [0, -0.8, 0], [2.5, 0, 0]],
    "feet first": [[0, 0, 0.7], [0, 0.8, 0], [-2.5, 0, 0]],
    "sagittal": [[2.5, 0, 0], [0, 0, 0.7], [0, -0.8, 0]],
    "coronal": [[0, 0, 0.7], [2.5, 0, 0], [0, -0.8, 0]],
    "turned": [[0.42, -0.1792, 0.672], [-1.44, 0.6144, 0.196], [2, 0.48, 0]],
}


def edit(path: Path, **values: Any) -> None:
    """Set tags of a DICOM file, or delete those whose value is None."""
    tags = pydicom.dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(tags, keyword)
        else:
            setattr(tags, keyword, value)
    tags.save_as(path)


def edit_all(folder: Path, **values: Any) -> None:
    for path in folder.iterdir():
        edit(path, **values)


def some_lungs(shape: Sequence[int]) -> Any:
    """Labels 0, 1 and 2 anywhere but in the first slice; no two slices are alike."""
    labels = np.random.default_rng(0).integers(0, 3, tuple(shape)).astype(np.uint8)
    labels[0] = 0
    return labels


def mask_of(ct: Volume, **history: Any) -> Mask:
    return Mask(some_lungs(ct.array.shape), ct.geometry, ct.source, {**HISTORY, **history})


@pytest.fixture
def mask(volume: Volume, tmp_path: Path) -> Mask:
    """Both lungs in a CT that is a DICOM series of 5 slices."""
    write_ct_series(volume, tmp_path / "ct")
    return mask_of(read_dicom(tmp_path / "ct"))


def sorted_points(points: Any) -> Any:
    rounded = np.round(np.asarray(points).reshape(-1, 3), 6) + 0.0
    return rounded[np.lexsort(rounded.T)]


def points_by_frames(path: Path) -> dict[int, Any]:
    """Where the lungs are in LPS by nothing but the segmentation: each frame's own position, pixel by pixel."""
    segmentation = hd.seg.segread(path)
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    along_x, along_y = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3))
    dy, dx = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    points: dict[int, list[Any]] = {number: [] for number in segmentation.segment_numbers}
    for index, own in enumerate(segmentation.PerFrameFunctionalGroupsSequence):
        at = own if "SegmentIdentificationSequence" in own else shared
        number = at.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        corner = np.array(own.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(segmentation.get_stored_frame(index + 1)):
            points[number].append(corner + row * dy * along_y + column * dx * along_x)
    return {number: sorted_points(found) for number, found in points.items()}


def points_by_slices(mask: Mask, label: int) -> Any:
    """Where one lung is in LPS by the headers of the CT's slices."""
    points = []
    for file, labels in zip(mask.source.files, mask.array, strict=True):  # type: ignore[union-attr]
        tags = pydicom.dcmread(file)
        along_x, along_y = np.reshape(tags.ImageOrientationPatient, (2, 3)).astype(float)
        dy, dx = map(float, tags.PixelSpacing)
        for row, column in np.argwhere(labels == label):
            corner = np.array(tags.ImagePositionPatient, float)
            points.append(corner + row * dy * along_y + column * dx * along_x)
    return sorted_points(points)


def points_by_geometry(mask: Mask, label: int) -> Any:
    index = np.argwhere(mask.array == label)
    return sorted_points(
        (mask.geometry.index_to_lps @ np.column_stack([index, np.ones(len(index))]).T).T[:, :3]
    )


def on_slices(path: Path, mask: Mask) -> Any:
    """The labels as highdicom puts them on the slices that the frames name."""
    segmentation = hd.seg.segread(path)
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in mask.source.files]  # type: ignore[union-attr]
    return segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )


@pytest.mark.parametrize("place", PLACES)
def test_every_voxel_lies_where_it_lies_in_the_ct(place: str, volume: Volume, tmp_path: Path) -> None:
    matrix = volume.geometry.index_to_lps.copy()
    matrix[:3, :3] = PLACES[place]
    for number, file in enumerate(
        write_ct_series(Volume(volume.array, Geometry((5, 6, 7), matrix)), tmp_path / "ct")
    ):
        file.rename(file.with_name("acbed"[number]))  # names tell nothing of the order
    mask = mask_of(read_dicom(tmp_path / "ct"))
    write_mask(mask, tmp_path / "lungs.dcm")
    np.testing.assert_array_equal(on_slices(tmp_path / "lungs.dcm", mask), mask.array)
    found = points_by_frames(tmp_path / "lungs.dcm")
    for label in (1, 2):
        np.testing.assert_allclose(found[label], points_by_geometry(mask, label), atol=1e-5)
        np.testing.assert_allclose(found[label], points_by_slices(mask, label), atol=1e-5)


def test_b36_slices_around_a_missing_one_keep_their_places(volume: Volume, tmp_path: Path) -> None:
    files = write_ct_series(volume, tmp_path / "ct")
    files[2].unlink()
    mask = mask_of(read_dicom(tmp_path / "ct", accept_gaps=True))
    write_mask(mask, tmp_path / "lungs.dcm")
    np.testing.assert_array_equal(on_slices(tmp_path / "lungs.dcm", mask), mask.array)
    for label, points in points_by_frames(tmp_path / "lungs.dcm").items():
        np.testing.assert_allclose(points, points_by_slices(mask, label), atol=1e-5)
        assert set(points[:, 2]) == {32.5, 37.5, 40.0}  # and not the even steps from 30 to 40


def test_b38_unevenly_spaced_slices_keep_their_places(volume: Volume, tmp_path: Path) -> None:
    files = write_ct_series(volume, tmp_path / "ct")
    for file, height in zip(files, (30, 31, 32, 37, 42), strict=True):
        edit(file, ImagePositionPatient=[-100.5, -20.25, height])
    mask = mask_of(read_dicom(tmp_path / "ct", accept_gaps=True))
    write_mask(mask, tmp_path / "lungs.dcm")
    tags = pydicom.dcmread(tmp_path / "lungs.dcm")
    assert "SpacingBetweenSlices" not in tags.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    for label, points in points_by_frames(tmp_path / "lungs.dcm").items():
        np.testing.assert_allclose(points, points_by_slices(mask, label), atol=1e-5)
        assert set(points[:, 2]) == {31, 32, 37, 42}


def as_multi_frame(files: Sequence[Path], path: Path, *, shared: bool) -> None:
    """Put slices into one enhanced CT; what is alike in all is said once (`shared`) or for each."""
    slices = [pydicom.dcmread(file) for file in files]
    tags = pydicom.dcmread(files[0])
    tags.SOPClassUID = tags.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    tags.NumberOfFrames = len(slices)
    tags.PixelData = b"".join(one.PixelData for one in slices)
    alike, each = Dataset(), [Dataset() for _ in slices]
    for group, one in zip(each, slices, strict=True):
        group.PlanePositionSequence = [picked(one, "ImagePositionPatient")]
    for group in [alike] if shared else each:
        group.PlaneOrientationSequence = [picked(tags, "ImageOrientationPatient")]
        group.PixelMeasuresSequence = [picked(tags, "PixelSpacing", "SliceThickness")]
        group.PixelValueTransformationSequence = [picked(tags, "RescaleSlope", "RescaleIntercept")]
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(tags, keyword)
    tags.SharedFunctionalGroupsSequence, tags.PerFrameFunctionalGroupsSequence = [alike], each
    tags.save_as(path)


def picked(tags: Any, *keywords: str) -> Dataset:
    item = Dataset()
    for keyword in keywords:
        setattr(item, keyword, tags[keyword].value)
    return item


@pytest.mark.parametrize("shared", [True, False])
def test_b43_frames_of_one_file_are_named_by_their_numbers(
    shared: bool, volume: Volume, tmp_path: Path
) -> None:
    files = write_ct_series(volume, tmp_path / "ct")
    as_multi_frame([files[i] for i in (3, 0, 4, 1, 2)], tmp_path / "ct.dcm", shared=shared)
    mask = mask_of(read_dicom(tmp_path / "ct.dcm"))
    assert mask.geometry.distance_mm(volume.geometry) < 1e-6
    write_mask(mask, tmp_path / "lungs.dcm")
    points = points_by_frames(tmp_path / "lungs.dcm")
    for label in (1, 2):
        np.testing.assert_allclose(points[label], points_by_geometry(mask, label), atol=1e-5)
    pixels = hd.seg.segread(tmp_path / "lungs.dcm").get_pixels_by_source_frame(
        pydicom.dcmread(tmp_path / "ct.dcm").SOPInstanceUID,
        [2, 4, 5, 1, 3],  # where the slices are among the frames, from the lowest
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(pixels, mask.array)
    assert write_mask(replace(mask, array=np.zeros_like(mask.array)), tmp_path / "none.dcm").voxels == 0


def test_b43_frames_that_are_more_than_the_slices_are_refused(volume: Volume, tmp_path: Path) -> None:
    files = write_ct_series(volume, tmp_path / "ct")
    as_multi_frame([*files, files[2]], tmp_path / "ct.dcm", shared=True)
    mask = mask_of(read_dicom(tmp_path / "ct.dcm"))
    with pytest.raises(
        OutputError, match=r"ct\.dcm has 6 slices, and the mask 5, so which lies on which is unk"
    ):
        write_mask(mask, tmp_path / "lungs.dcm")


@pytest.mark.parametrize("place", ["plain", "left to right", "prone", "feet first", "coronal"])
def test_the_right_lung_is_on_the_right_of_the_patient(place: str, volume: Volume, tmp_path: Path) -> None:
    matrix = volume.geometry.index_to_lps.copy()
    matrix[:3, :3] = PLACES[place]
    write_ct_series(Volume(volume.array, Geometry((5, 6, 7), matrix)), tmp_path / "ct")
    ct = read_dicom(tmp_path / "ct")
    lungs = np.zeros(ct.axial.shape, bool)
    lungs[1:-1, 1:-1, [1, 5]] = True
    geometry = ct.axial_geometry
    sides = split_right_left(lungs, spacing_mm=geometry.spacing_mm, midline=3.5)
    write_mask(
        Mask(np.ascontiguousarray(ct.geometry.to_axial.undo(sides)), ct.geometry, ct.source, HISTORY),
        tmp_path / "lungs.dcm",
    )
    points = points_by_frames(tmp_path / "lungs.dcm")
    names = {s.SegmentNumber: s.SegmentLabel for s in pydicom.dcmread(tmp_path / "lungs.dcm").SegmentSequence}
    assert names == {1: "Right lung", 2: "Left lung"}
    assert points[1][:, 0].max() < points[2][:, 0].min()  # x grows to the left


def test_a_volume_read_by_another_program_lies_on_the_ct(mask: Mask, tmp_path: Path) -> None:
    labels = np.full_like(mask.array, 1)
    write_mask(replace(mask, array=labels, history={}), tmp_path / "lungs.dcm")
    volume = hd.seg.segread(tmp_path / "lungs.dcm").get_volume(combine_segments=True)
    corners = volume.affine @ np.array([[0, 0, 0, 1], [4, 5, 6, 1]]).T  # it counts slices from the top
    ours = mask.geometry.index_to_lps @ np.array([[4, 0, 0, 1], [0, 5, 6, 1]]).T
    np.testing.assert_allclose(corners, ours, atol=1e-9)
    assert volume.spatial_shape == (5, 6, 7)


def code(sequence: Any) -> tuple[str, str, str]:
    return sequence[0].CodeValue, sequence[0].CodingSchemeDesignator, sequence[0].CodeMeaning


def test_split_lungs_are_two_segments_with_codes_of_the_standard(mask: Mask, tmp_path: Path) -> None:
    write_mask(mask, tmp_path / "lungs.dcm")
    right, left = pydicom.dcmread(tmp_path / "lungs.dcm").SegmentSequence
    for segment, name in ((right, "Right lung"), (left, "Left lung")):
        assert segment.SegmentLabel == name
        assert code(segment.SegmentedPropertyCategoryCodeSequence) == (
            *("91723000", "SCT"),
            "Anatomical Structure",
        )
        assert code(segment.SegmentedPropertyTypeCodeSequence) == ("39607008", "SCT", "Lung")
    sides = [
        code(segment.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence)
        for segment in (right, left)
    ]
    assert sides == [("24028007", "SCT", "Right"), ("7771000", "SCT", "Left")]


def test_lungs_in_one_are_one_segment_without_a_side(mask: Mask, tmp_path: Path) -> None:
    labels = (mask.array > 0).astype(np.uint8)
    write_mask(replace(mask, array=labels, history={"run": RUN}), tmp_path / "lungs.dcm")
    (segment,) = pydicom.dcmread(tmp_path / "lungs.dcm").SegmentSequence
    assert segment.SegmentLabel == "Lungs"
    assert code(segment.SegmentedPropertyTypeCodeSequence) == ("39607008", "SCT", "Lung")
    assert "SegmentedPropertyTypeModifierCodeSequence" not in segment.SegmentedPropertyTypeCodeSequence[0]
    np.testing.assert_array_equal(on_slices(tmp_path / "lungs.dcm", mask), labels)


@pytest.mark.parametrize(("label", "name"), [(1, "Right lung"), (2, "Left lung")])
def test_a_lung_that_is_alone_keeps_its_side(label: int, name: str, mask: Mask, tmp_path: Path) -> None:
    labels = np.where(mask.array == label, np.uint8(label), np.uint8(0))
    write_mask(replace(mask, array=labels), tmp_path / "lungs.dcm")
    tags = pydicom.dcmread(tmp_path / "lungs.dcm")
    used = {
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for frame in tags.PerFrameFunctionalGroupsSequence
    }
    assert used == {label}
    assert tags.SegmentSequence[label - 1].SegmentLabel == name


@pytest.mark.parametrize(
    ("history", "made"),
    [
        ({}, "AUTOMATIC"),
        ({"voxels_edited_by_hand": 7}, "SEMIAUTOMATIC"),
        ({"began_from": "mask.nii.gz"}, "SEMIAUTOMATIC"),
        ({"run": None, "voxels_edited_by_hand": 7}, "MANUAL"),
        ({"run": None, "began_from": "mask.nii.gz", "voxels_edited_by_hand": 7}, "SEMIAUTOMATIC"),
        ({"run": None}, "SEMIAUTOMATIC"),  # nobody has said
    ],
)
def test_it_tells_who_made_it(history: dict[str, Any], made: str, mask: Mask, tmp_path: Path) -> None:
    write_mask(replace(mask, history={**HISTORY, **history}), tmp_path / "lungs.dcm")
    for segment in pydicom.dcmread(tmp_path / "lungs.dcm").SegmentSequence:
        assert segment.SegmentAlgorithmType == made
        assert ("SegmentAlgorithmName" in segment) == (made != "MANUAL")


def test_it_names_the_algorithm_its_kind_and_its_settings(mask: Mask, tmp_path: Path) -> None:
    write_mask(mask, tmp_path / "lungs.dcm")
    tags = pydicom.dcmread(tmp_path / "lungs.dcm")
    algorithm = tags.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "napari-resunet lung-ct"
    assert algorithm.AlgorithmVersion == tags.SoftwareVersions
    assert code(algorithm.AlgorithmFamilyCodeSequence) == ("123110", "DCM", "Artificial Intelligence")
    assert "".join(algorithm.AlgorithmParameters) == "weights_sha256=ab12,grid=128,threshold=0.5,clean=True"
    assert tags.SegmentationType == "BINARY"
    assert tags.ContentCreatorName == ""  # required, but nobody is named
    assert "research use only" in tags.SeriesDescription
    assert "research use only" in tags.ContentDescription


def test_it_is_filed_under_the_patient_and_the_study_of_the_ct(mask: Mask, tmp_path: Path) -> None:
    theirs = {
        "PatientName": "Müller^Änne",
        "PatientID": "P-17",
        "PatientBirthDate": "19500102",
        "PatientSex": "F",
        "StudyDate": "20240102",
        "StudyTime": "101112",
        "StudyID": "S1",
        "AccessionNumber": "A-1",
        "ReferringPhysicianName": "Doe^Jane",
        "SpecificCharacterSet": "ISO_IR 100",
    }
    edit_all(tmp_path / "ct", **theirs)
    ct = read_dicom(tmp_path / "ct")
    write_mask(mask_of(ct), tmp_path / "lungs.dcm")
    ours, first = (pydicom.dcmread(path) for path in (tmp_path / "lungs.dcm", ct.source.files[0]))  # type: ignore[union-attr]
    del theirs["SpecificCharacterSet"]
    for keyword in (*theirs, "StudyInstanceUID", "FrameOfReferenceUID"):
        assert ours[keyword].value == first[keyword].value
    assert ours.SeriesInstanceUID != first.SeriesInstanceUID
    assert ours.SeriesNumber == 1001
    assert ours.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID


@pytest.mark.parametrize(
    ("written_in", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 126", "Ωμέγα^Α"),
        (None, "Doe"),
    ],
)
def test_a_name_is_the_same_in_whatever_letters(
    written_in: Any, name: str, mask: Mask, tmp_path: Path
) -> None:
    edit_all(tmp_path / "ct", SpecificCharacterSet=written_in, PatientName=name)
    write_mask(mask_of(read_dicom(tmp_path / "ct")), tmp_path / "lungs.dcm")
    assert pydicom.dcmread(tmp_path / "lungs.dcm").PatientName == name
    assert name.encode() in (tmp_path / "lungs.dcm").read_bytes()


def test_nothing_else_of_the_patient_is_repeated(mask: Mask, tmp_path: Path) -> None:
    secret = {
        keyword: f"secret {keyword}"[:16]
        for keyword in (
            *("PatientAddress", "OtherPatientIDs", "PatientComments", "EthnicGroup", "InstitutionName"),
            *("OperatorsName", "StudyDescription", "PerformingPhysicianName", "StationName", "Manufacturer"),
            *(
                "ImageComments",
                "DeviceSerialNumber",
                "NameOfPhysiciansReadingStudy",
                "PatientTelephoneNumbers",
            ),
        )
    }
    edit_all(tmp_path / "ct", PatientAge="074Y", **secret)
    for path in (tmp_path / "ct").iterdir():
        tags = pydicom.dcmread(path)
        tags.private_block(0x11, "ours", create=True).add_new(1, "LO", "secret private")
        tags.save_as(path)
    write_mask(mask_of(read_dicom(tmp_path / "ct")), tmp_path / "lungs.dcm")
    content = (tmp_path / "lungs.dcm").read_bytes()
    assert b"secret" not in content
    assert b"074Y" not in content


def test_what_the_ct_does_not_say_of_its_patient_stays_empty(mask: Mask, tmp_path: Path) -> None:
    edit_all(tmp_path / "ct", PatientID=None, PatientBirthDate=None, StudyID=None, SliceThickness=None)
    write_mask(mask_of(read_dicom(tmp_path / "ct")), tmp_path / "lungs.dcm")
    tags = pydicom.dcmread(tmp_path / "lungs.dcm")
    assert [tags[keyword].value for keyword in ("PatientID", "PatientBirthDate", "StudyID")] == ["", "", ""]


def test_a_mask_without_lung_is_written_with_all_its_slices(mask: Mask, tmp_path: Path) -> None:
    empty = replace(mask, array=np.zeros_like(mask.array))
    assert write_mask(empty, tmp_path / "lungs.dcm").voxels == 0
    assert pydicom.dcmread(tmp_path / "lungs.dcm").NumberOfFrames == 10  # 5 of each lung: none cannot be said
    assert not on_slices(tmp_path / "lungs.dcm", mask).any()


def test_slices_without_lung_have_no_frame(mask: Mask, tmp_path: Path) -> None:
    write_mask(mask, tmp_path / "lungs.dcm")
    assert pydicom.dcmread(tmp_path / "lungs.dcm").NumberOfFrames == 8


def test_a_single_slice_can_be_segmented(mask: Mask, tmp_path: Path) -> None:
    ct = read_volume(tmp_path / "ct" / "slice_0002.dcm")
    labels = np.ones(ct.array.shape, np.uint8)
    one = Mask(labels, ct.geometry, ct.source)
    write_mask(one, tmp_path / "lungs.dcm")
    np.testing.assert_array_equal(on_slices(tmp_path / "lungs.dcm", one), labels)


def test_orientations_that_differ_by_rounding_are_one(mask: Mask, tmp_path: Path) -> None:
    edit(tmp_path / "ct" / "slice_0003.dcm", ImageOrientationPatient=[1, 1e-6, 0, 0, 1, 0])
    mask = mask_of(read_dicom(tmp_path / "ct"))
    write_mask(mask, tmp_path / "lungs.dcm")
    np.testing.assert_array_equal(on_slices(tmp_path / "lungs.dcm", mask), mask.array)


def test_the_series_beside_which_it_is_put_can_still_be_read(mask: Mask, tmp_path: Path) -> None:
    receipt = write_mask(mask, tmp_path / "ct" / "lungs.dcm")
    assert {path.name for path in (tmp_path / "ct").iterdir()} >= {"lungs.dcm", "lungs.json"}
    assert str(receipt).endswith("same grid as ct")
    again = read_dicom(tmp_path / "ct")
    assert again.source.files == mask.source.files  # type: ignore[union-attr]
    assert again.notes == ("left out: 1 SEG image",)


def test_f09_no_slice_of_the_ct_is_written_over_by_its_segmentation(
    mask: Mask, tmp_path: Path, outcome
) -> None:
    before = (tmp_path / "ct" / "slice_0001.dcm").read_bytes()
    with pytest.raises(OutputError, match="is the CT itself"):
        write_mask(mask, tmp_path / "ct" / "slice_0001.dcm")
    assert (tmp_path / "ct" / "slice_0001.dcm").read_bytes() == before
    outcome("REFUSE", "… is the CT itself, which is never written over; choose another name")


# ---- what it refuses


def test_a_ct_that_is_not_dicom_is_refused_before_a_long_run_and_after(tmp_path: Path) -> None:
    nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_filename(tmp_path / "CT.nii.gz")
    volume = read_volume(tmp_path / "CT.nii.gz")
    one = Mask(np.ones((6, 5, 4), np.uint8), volume.geometry, volume.source)
    with pytest.raises(OutputError, match=r"needs a CT that is DICOM, and CT\.nii\.gz is not; use \.nii\.gz"):
        require_writable(tmp_path / "lungs.dcm", source=tmp_path / "CT.nii.gz")
    with pytest.raises(OutputError, match=r"needs a CT that is DICOM, and this one is NIfTI; write .* \.nii"):
        write_mask(one, tmp_path / "lungs.dcm")
    with pytest.raises(OutputError, match="and this one is of unknown origin"):
        write_mask(replace(one, source=None), tmp_path / "lungs.dcm")
    assert [path.name for path in tmp_path.iterdir()] == ["CT.nii.gz"]


def test_a_ct_that_is_dicom_is_welcome_before_a_long_run(mask: Mask, tmp_path: Path) -> None:
    for source in (tmp_path / "ct", tmp_path / "ct" / "slice_0001.dcm", tmp_path / "moved"):
        require_writable(tmp_path / "lungs.dcm", source=source)


def without_files(source: Source, _: Path) -> Source:
    return replace(source, files=())


def gone(source: Source, folder: Path) -> Source:
    (folder / "slice_0004.dcm").unlink()
    return source


def other_pixels(source: Source, folder: Path) -> Source:
    path = folder / "slice_0004.dcm"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    return source


def other_order(source: Source, _: Path) -> Source:
    return replace(source, files=source.files[::-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_files, "needs the files of the CT .*ct; open the CT with the case"),
        (gone, r"slice_0004\.dcm of the CT cannot be read \(No such file or directory\); put it back"),
        (other_pixels, "ct is not the CT it was when it was read; open it again"),
        (other_order, "is not the CT it was"),
    ],
)
def test_a_ct_that_is_not_what_was_read_is_refused(
    change: Callable[[Source, Path], Source], message: str, mask: Mask, tmp_path: Path
) -> None:
    (tmp_path / "lungs.dcm").write_text("old")
    changed = replace(mask, source=change(mask.source, tmp_path / "ct"))  # type: ignore[arg-type]
    with pytest.raises(OutputError, match=message):
        write_mask(changed, tmp_path / "lungs.dcm")
    assert (tmp_path / "lungs.dcm").read_text() == "old"
    assert not (tmp_path / "lungs.json").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"FrameOfReferenceUID": None}, "has no FrameOfReferenceUID, which a DICOM segmentation needs"),
        ({"StudyInstanceUID": None, "SOPClassUID": None}, "has no SOPClassUID and no StudyInstanceUID"),
        ({"SOPInstanceUID": "2.25.7"}, "share one SOPInstanceUID"),
        ({"PatientSex": "X"}, r"headers of the CT do not allow a DICOM segmentation \('X' is not"),
    ],
)
def test_headers_that_nothing_can_be_attached_to_are_refused(
    values: dict[str, Any], message: str, mask: Mask, tmp_path: Path
) -> None:
    edit_all(tmp_path / "ct", **values)
    with pytest.raises(OutputError, match=f"{message}.*nii.gz instead"):
        write_mask(mask_of(read_dicom(tmp_path / "ct")), tmp_path / "lungs.dcm")


def test_slices_of_two_frames_of_reference_are_refused(mask: Mask, tmp_path: Path) -> None:
    edit(tmp_path / "ct" / "slice_0002.dcm", FrameOfReferenceUID="2.25.7")
    with pytest.raises(OutputError, match="Source images must all be part of the same series"):
        write_mask(mask_of(read_dicom(tmp_path / "ct")), tmp_path / "lungs.dcm")


def test_b45_a_slice_without_a_place_is_refused(mask: Mask, tmp_path: Path) -> None:
    path = tmp_path / "ct" / "slice_0002.dcm"
    edit(path, ImagePositionPatient=None)
    ct = read_volume(path, spacing_mm=(2.5, 0.8, 0.7))
    with pytest.raises(OutputError, match=r"slice_0002\.dcm has no ImagePositionPatient"):
        write_mask(mask_of(ct), tmp_path / "lungs.dcm")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mask_in_another_order_than_its_ct_is_refused(axis: int, mask: Mask, tmp_path: Path) -> None:
    matrix = mask.geometry.index_to_lps.copy()
    matrix[:, 3] += matrix[:, axis] * (mask.array.shape[axis] - 1)
    matrix[:, axis] *= -1
    flipped = replace(mask, array=np.flip(mask.array, axis).copy(), geometry=Geometry((5, 6, 7), matrix))
    with pytest.raises(OutputError, match=r"does not lie on .*slice_0001\.dcm \([\d.]+ mm apart\)"):
        write_mask(flipped, tmp_path / "lungs.dcm")


# ---- what was written is read again


def swap_segments(tags: Any) -> None:
    for frame in tags.PerFrameFunctionalGroupsSequence:
        named = frame.SegmentIdentificationSequence[0]
        named.ReferencedSegmentNumber = 3 - named.ReferencedSegmentNumber


def swap_slices(tags: Any) -> None:
    first, second = tags.PerFrameFunctionalGroupsSequence[:2]
    for keyword in ("DerivationImageSequence", "PlanePositionSequence"):
        first[keyword], second[keyword] = second[keyword], first[keyword]


def move_a_frame(tags: Any) -> None:
    tags.PerFrameFunctionalGroupsSequence[3].PlanePositionSequence[0].ImagePositionPatient[2] += 0.01


def stretch(tags: Any) -> None:
    tags.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.7, 0.8]


def turn(tags: Any) -> None:
    tags.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [
        *(-1, 0, 0),
        *(0, -1, 0),
    ]


def drop_a_frame(tags: Any) -> None:
    tags.PerFrameFunctionalGroupsSequence = tags.PerFrameFunctionalGroupsSequence[:-1]


def name_another_slice(tags: Any) -> None:
    image = tags.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    image.ReferencedSOPInstanceUID = "2.25.7"


def clear_a_bit(tags: Any) -> None:
    tags.PixelData = bytes([0]) + tags.PixelData[1:]


def set_a_bit(tags: Any) -> None:
    tags.PixelData = bytes([0xFF]) + tags.PixelData[1:]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (swap_segments, "other voxels"),
        (swap_slices, "two segments share a voxel"),
        (clear_a_bit, "other voxels"),
        (set_a_bit, "two segments share a voxel"),
        (move_a_frame, "a frame has the ImagePositionPatient"),
        (stretch, "a frame has the PixelSpacing"),
        (turn, "a frame has the ImageOrientationPatient"),
        (drop_a_frame, "not written whole"),
        (name_another_slice, "not written whole"),
    ],
)
def test_f01_a_faulty_segmentation_is_refused_and_leaves_the_old_file(
    fault: Callable[[Any], None],
    message: str,
    mask: Mask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome,
) -> None:
    write = dicom_seg.write_dicom_seg

    def faulty(array: Any, slices: Any, path: Path, **options: Any) -> None:
        write(array, slices, path, **options)
        tags = pydicom.dcmread(path)
        fault(tags)
        tags.save_as(path)

    monkeypatch.setattr(dicom_seg, "write_dicom_seg", faulty)
    (tmp_path / "lungs.dcm").write_text("old")
    with pytest.raises(OutputError, match=message):
        write_mask(mask, tmp_path / "lungs.dcm")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "lungs.dcm"]
    assert (tmp_path / "lungs.dcm").read_text() == "old"
    outcome("old file", message)


@pytest.mark.parametrize(("fault", "message"), [("half", "not written whole"), ("full", "disk is full")])
def test_f04_half_a_segmentation_is_refused(
    fault: str, message: str, mask: Mask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    write = dicom_seg.write_dicom_seg

    def half(array: Any, slices: Any, path: Path, **options: Any) -> None:
        write(array, slices, path, **options)
        path.write_bytes(path.read_bytes()[:-20])
        if fault == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(dicom_seg, "write_dicom_seg", half)
    with pytest.raises(OutputError, match=message):
        write_mask(mask, tmp_path / "lungs.dcm")
    assert [path.name for path in tmp_path.iterdir()] == ["ct"]
    outcome("old file", message)


def test_a_real_series_takes_a_segmentation(real_ct: Path, tmp_path: Path) -> None:
    mask = mask_of(read_dicom(real_ct / "formats" / "cip_mini_dicom"))
    write_mask(mask, tmp_path / "lungs.dcm")
    np.testing.assert_array_equal(on_slices(tmp_path / "lungs.dcm", mask), mask.array)
    found = points_by_frames(tmp_path / "lungs.dcm")
    np.testing.assert_allclose(found[2], points_by_slices(mask, 2), atol=1e-4)


def test_a_real_series_that_lost_its_names_is_refused(real_ct: Path, tmp_path: Path) -> None:
    mask = mask_of(read_dicom(real_ct / "formats" / "jpeg2000_dicom"))
    with pytest.raises(OutputError, match="has no SOPClassUID and no SOPInstanceUID and"):
        write_mask(mask, tmp_path / "lungs.dcm")
