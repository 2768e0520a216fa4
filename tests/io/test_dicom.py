from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_making import compressed, edit, edit_all, having, in_stack, tall_series, write_enhanced
from pydicom.uid import JPEG2000Lossless, RLELossless

from napari_resunet.errors import (
    CancelledError,
    GeometryError,
    InputError,
    OutputError,
)
from napari_resunet.geometry import Geometry
from napari_resunet.io import dicom_decode
from napari_resunet.io.dicom import list_series, read_dicom, write_ct_series
from napari_resunet.io.dicom_choice import SeriesChoiceError
from napari_resunet.volume import Volume


@pytest.fixture
def series(volume: Volume, tmp_path: Path) -> Path:
    """A folder with five slices 2.5 mm apart, from z = 30."""
    write_ct_series(volume, tmp_path / "ct")
    return tmp_path / "ct"


def test_what_was_written_is_read(series: Path, volume: Volume) -> None:
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.array.dtype == np.int16
    assert read.geometry.distance_mm(volume.geometry) < 1e-9
    assert read.notes == ()
    assert read.source is not None
    assert [path.name for path in read.source.files] == [f"slice_{i:04d}.dcm" for i in range(1, 6)]


def test_itk_reads_the_same_from_what_was_written(series: Path) -> None:
    read = read_dicom(series)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), read.array)
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint((6, 5, 4)), read.geometry.corners_lps()[-1], atol=1e-6
    )


def test_the_same_volume_gives_the_same_bytes(volume: Volume, tmp_path: Path) -> None:
    first = write_ct_series(volume, tmp_path / "a")
    second = write_ct_series(volume, tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_slices_are_sorted_by_position_and_not_by_name(series: Path, volume: Volume) -> None:
    for number, path in enumerate(sorted(series.iterdir(), reverse=True)):
        path.rename(series / f"x{number}")
    np.testing.assert_array_equal(read_dicom(series).array, volume.array)


def test_a_turned_series_lies_where_it_was(volume: Volume, tmp_path: Path) -> None:
    turn, _ = np.linalg.qr([[0.98, -0.17, 0.1], [0.17, 0.98, 0.05], [-0.11, -0.03, 0.99]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ volume.geometry.index_to_lps[:3, :3]
    if np.linalg.det(matrix[:3, :3]) * np.linalg.det(volume.geometry.index_to_lps[:3, :3]) < 0:
        matrix[:3, :3] *= -1
    turned = Volume(volume.array, Geometry(volume.array.shape, matrix))
    write_ct_series(turned, tmp_path / "ct")
    read = read_dicom(tmp_path / "ct")
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.geometry.distance_mm(turned.geometry) < 1e-6


@pytest.mark.parametrize(
    ("orientation", "step", "codes"),
    [
        ([1, 0, 0, 0, 1, 0], [0, 0, 1], "SPL"),
        ([-1, 0, 0, 0, -1, 0], [0, 0, 1], "SAR"),  # prone
        ([0, 1, 0, -1, 0, 0], [0, 0, 1], "SRP"),  # lying on a side
        ([1, 0, 0, 0, 0, -1], [0, 1, 0], "PIL"),  # coronal
        ([0, 1, 0, 0, 0, -1], [-1, 0, 0], "RIP"),  # sagittal
        ([0.8, 0.6, 0, -0.6, 0.8, 0], [0, 0, 1], "SPL"),  # turned by 37 degrees
    ],
)
@pytest.mark.parametrize("way", [1, -1])  # headwards or feetwards
def test_however_the_patient_lies_itk_sees_every_voxel_in_the_same_place(
    way: int, orientation: list[float], step: list[float], codes: str, series: Path
) -> None:
    for index, path in enumerate(sorted(series.iterdir())):
        at = [float(way * 2.5 * index * part) for part in step]
        edit(path, having(ImageOrientationPatient=orientation, ImagePositionPatient=at))
    read = read_dicom(series)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    assert read.geometry.axis_codes == codes
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), read.array)
    corners = [image.TransformIndexToPhysicalPoint((x, y, z)) for z in (0, 4) for y in (0, 5) for x in (0, 6)]
    np.testing.assert_allclose(corners, read.geometry.corners_lps(), atol=1e-6)


def test_descending_slices_come_back_ascending(volume: Volume, tmp_path: Path) -> None:
    matrix = volume.geometry.index_to_lps.copy()
    matrix[2, 0] = -2.5
    write_ct_series(Volume(volume.array, Geometry(volume.array.shape, matrix)), tmp_path / "ct")
    read = read_dicom(tmp_path / "ct")
    np.testing.assert_array_equal(read.array, volume.array[::-1])
    assert read.geometry.axis_codes == "SPL"


def test_values_with_fractions_become_float32(series: Path, volume: Volume) -> None:
    edit(series / "slice_0003.dcm", having(RescaleSlope="1.0002"))
    array = read_dicom(series).array
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[2], (volume.array[2] + 1024.0) * 1.0002 - 1024, rtol=1e-6)
    np.testing.assert_array_equal(array[0], volume.array[0])


def test_no_rescale_is_noted(series: Path) -> None:
    edit_all(series, having(RescaleSlope=None, RescaleIntercept=None))
    assert "no rescale" in read_dicom(series).notes[0]


def test_a_slice_and_its_copy_are_one_slice(series: Path) -> None:
    for path in sorted(series.iterdir())[1:]:
        path.unlink()
    shutil.copy(series / "slice_0001.dcm", series / "copy.dcm")
    assert read_dicom(series).geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))


def test_positions_rounded_to_a_tenth_are_even_enough(volume: Volume, tmp_path: Path) -> None:
    tall = Volume(np.zeros((12, 6, 7), np.int16), Geometry((12, 6, 7), volume.geometry.index_to_lps))
    for index, path in enumerate(write_ct_series(tall, tmp_path / "ct")):
        edit(path, having(ImagePositionPatient=[0, 0, round(0.625 * index + 0.01, 1)]))
    read = read_dicom(tmp_path / "ct")
    assert read.geometry.spacing_mm[0] == pytest.approx(0.625, abs=0.01)


def test_a_small_unevenness_is_noted(series: Path) -> None:
    edit(series / "slice_0003.dcm", having(ImagePositionPatient=[-100.5, -20.25, 35.2]))
    assert read_dicom(series).notes == ("slice positions differ from an even grid by up to 0.20 mm",)


def test_slices_shifted_sideways_are_refused(series: Path) -> None:
    edit(series / "slice_0003.dcm", having(ImagePositionPatient=[-97, -20.25, 35]))
    with pytest.raises(GeometryError, match=r"shifted against each other by up to 3.50 mm \(slice_0003"):
        read_dicom(series)


def test_a_file_without_modality_is_taken_as_ct_and_noted(series: Path) -> None:
    edit_all(series, having(Modality=None))
    assert read_dicom(series).notes == ("5 files without a modality: taken as CT",)


def test_a_single_slice_has_the_thickness_it_states(series: Path, volume: Volume) -> None:
    read = read_dicom(series / "slice_0002.dcm")
    np.testing.assert_array_equal(read.array, volume.array[1:2])
    assert read.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    np.testing.assert_allclose(read.geometry.index_to_lps[:3, 3], [-100.5, -20.25, 32.5])


def test_a_single_slice_without_thickness_is_1_mm_or_what_is_given(series: Path, tmp_path: Path) -> None:
    path = (series / "slice_0002.dcm").rename(tmp_path / "alone.dcm")
    edit(path, having(SliceThickness=None))
    read = read_dicom(path)
    assert read.geometry.spacing_mm[0] == pytest.approx(1)
    assert "without a thickness" in read.notes[0]
    assert read_dicom(path, spacing_mm=(4, 0.8, 0.7)).geometry.spacing_mm[0] == pytest.approx(4)
    edit(path, having(SpacingBetweenSlices=3))
    assert read_dicom(path).geometry.spacing_mm[0] == pytest.approx(3)


def test_a_slice_read_alone_says_how_many_more_its_folder_has(series: Path, volume: Volume) -> None:
    other = Volume(volume.array + 1, volume.geometry)
    for path in write_ct_series(other, series / "more"):
        path.rename(series / f"other_{path.name}")
    (series / "notes.txt").write_text("hello")
    (series / "empty.dcm").touch()
    read = read_dicom(series / "slice_0002.dcm")
    assert read.notes == (
        "read alone: its folder holds 4 more slices of the same series; open the folder for all",
    )


def test_truncated_pixels_are_refused_by_name(series: Path) -> None:
    path = series / "slice_0003.dcm"
    edit(path, lambda tags: setattr(tags, "PixelData", tags.PixelData[:40]))
    with pytest.raises(InputError, match=r"slice_0003\.dcm has truncated or damaged pixels"):
        read_dicom(series)


def test_a_file_cut_in_its_pixels_is_refused(series: Path) -> None:
    path = series / "slice_0003.dcm"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"slice_0003\.dcm"):
        read_dicom(series)


def test_a_file_cut_in_its_header_is_refused(series: Path) -> None:
    path = series / "slice_0003.dcm"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError):
        read_dicom(series)


def test_a_file_without_preamble_is_read(series: Path, volume: Volume, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in series.iterdir():
        tags = pydicom.dcmread(path)
        buffer = BytesIO()
        pydicom.dcmwrite(buffer, pydicom.Dataset(tags), implicit_vr=True, little_endian=True)
        (bare / path.stem).write_bytes(buffer.getvalue())
    np.testing.assert_array_equal(read_dicom(bare).array, volume.array)


def test_subfolders_are_searched_only_if_the_folder_has_no_dicom(series: Path, volume: Volume) -> None:
    np.testing.assert_array_equal(read_dicom(series.parent).array, volume.array)
    (series / "deeper").mkdir()
    shutil.copy(series / "slice_0001.dcm", series / "deeper" / "again.dcm")
    assert read_dicom(series).notes == ()


def test_a_folder_without_dicom_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="holds no DICOM files"):
        read_dicom(tmp_path)


def test_empty_and_other_files_are_left_out(series: Path) -> None:
    (series / "empty.dcm").touch()
    (series / "notes.txt").write_text("hello")
    assert read_dicom(series).notes == ("left out: 1 empty file",)


def test_the_tracker_is_given_the_files_and_then_the_slices(series: Path) -> None:
    seen: list[Any] = []

    def note(steps: Sequence[Any], /) -> Iterator[Any]:
        for step in steps:
            seen.append(step)
            yield step

    read_dicom(series, track=note)
    assert seen == [*sorted(series.iterdir()), *range(5)]


@pytest.mark.parametrize("syntax", [None, RLELossless])
@pytest.mark.parametrize("last", [3, 7])
def test_the_tracker_can_stop_the_reading_at_any_step(last: int, syntax: Any, series: Path) -> None:
    if syntax:
        edit_all(series, compressed(syntax))
    seen = []

    def stop(steps: Sequence[Any], /) -> Iterator[Any]:
        for step in steps:
            if len(seen) == last:
                raise CancelledError
            seen.append(step)
            yield step

    with pytest.raises(CancelledError):
        read_dicom(series, track=stop)
    assert len(seen) == last


def test_processes_that_decode_end_with_the_reading(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Watched(dicom_decode.subprocess.Popen):  # type: ignore[name-defined,misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    def stop(steps: Sequence[Any], /) -> Iterator[Any]:
        for step in steps:
            if step == 2:
                raise CancelledError
            yield step

    edit_all(series, compressed(JPEG2000Lossless))
    monkeypatch.setattr(dicom_decode.subprocess, "Popen", Watched)
    with pytest.raises(CancelledError):
        read_dicom(series, track=stop)
    read_dicom(series)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_several_processes_give_the_slices_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in tall_series(tmp_path, range(7)):
        edit(path, compressed(RLELossless))
    monkeypatch.setattr(dicom_decode, "_SLICES_A_PROCESS", 2)
    monkeypatch.setattr(dicom_decode.os, "cpu_count", lambda: 3)
    assert read_dicom(tmp_path).array[:, 0, 0].tolist() == [0, 10, 20, 30, 40, 50, 60]


def test_compressed_and_uncompressed_slices_of_one_series_keep_their_order(
    series: Path, volume: Volume
) -> None:
    for name in ("slice_0002.dcm", "slice_0004.dcm"):
        edit(series / name, compressed(RLELossless))
    np.testing.assert_array_equal(read_dicom(series).array, volume.array)


def test_many_slices_are_read_in_their_order(tmp_path: Path) -> None:
    tall_series(tmp_path, range(45))
    assert read_dicom(tmp_path).array[:, 0, 0].tolist() == list(range(0, 450, 10))


def test_a_folder_of_many_things_is_listed_with_what_is_odd(tmp_path: Path, volume: Volume) -> None:
    lungs = tall_series(tmp_path / "lungs", [2.5 * i for i in range(9)])
    tags = {"SeriesDescription": "Lung 2.5", "ConvolutionKernel": ["Br38f", "3"], "SeriesNumber": 7}
    edit_all(tmp_path / "lungs", having(**tags, SliceThickness=3, StudyDate="20240131"))
    lungs[4].unlink()
    shutil.copy(lungs[0], tmp_path / "lungs" / "copy.dcm")
    shutil.copy(lungs[1], tmp_path / "lungs" / "scout.dcm")
    scout = having(SeriesInstanceUID="1.2.3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    edit(tmp_path / "lungs" / "scout.dcm", scout)
    for path in write_ct_series(volume, tmp_path / "coronal"):
        edit(path, having(ImageOrientationPatient=[1, 0, 0, 0, 0, -1], SeriesNumber=3))
    (tmp_path / "lungs" / "readme.txt").write_text("hello")
    coronal, chest, other = list_series(tmp_path)
    assert (chest.description, chest.kernel, chest.date) == ("Lung 2.5", "Br38f\\3", "2024-01-31")
    assert (chest.slices, chest.size, chest.thickness_mm, chest.plane) == (9, (6, 7), 3, "axial")
    assert chest.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert chest.odd == (
        "1 slice where another one lies",
        "1 of 9 slices are missing between z = 7.5 mm and z = 12.5 mm",
    )
    assert coronal.plane == "coronal"
    assert (other.left_out, other.slices, other.key) == ("localizer", 1, "1.2.3")
    assert str(chest).startswith("Lung 2.5, 9 slices of 6 x 7, 2.5 mm apart, kernel Br38f\\3, 1 slice where")
    assert str(other) == "Lung 2.5, 1 localizer"


def test_what_else_a_series_holds_is_told_of_it(series: Path) -> None:
    edit(series / "slice_0001.dcm", having(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    ct, scout = list_series(series)
    assert ct.odd == ("1 localizer in the same series",)
    assert ct.key == scout.key


def test_every_listed_series_can_be_read_by_its_key(tmp_path: Path) -> None:
    tall_series(tmp_path / "a", range(4))
    tall_series(tmp_path / "b", range(3))
    stacks = [in_stack(name) for name in "1122"]
    write_enhanced(tmp_path / "b" / "c.dcm", np.zeros((4, 6, 7), np.int16), [0, 1, 2, 3], stacks)
    infos = list_series(tmp_path)
    assert sorted(info.slices for info in infos) == [2, 2, 3, 4]
    for info in infos:
        assert len(read_dicom(tmp_path, series=info.key).array) == info.slices


def test_listing_reads_no_pixels_and_tracks_the_files(series: Path) -> None:
    for path in series.iterdir():
        path.write_bytes(path.read_bytes()[:-84])
    seen: list[Any] = []

    def note(steps: Sequence[Any], /) -> Iterator[Any]:
        for step in steps:
            seen.append(step)
            yield step

    (info,) = list_series(series, track=note)
    assert info.slices == 5
    assert seen == sorted(series.iterdir())


def test_the_choice_of_many_series_stays_one_line(tmp_path: Path) -> None:
    for index in range(15):
        (path,) = tall_series(tmp_path / str(index), [index])
        edit(path, having(SeriesInstanceUID=f"1.2.{index}"))
    with pytest.raises(SeriesChoiceError, match=r"holds 15 CT series.*; and 3 more$") as asked:
        read_dicom(tmp_path)
    assert "\n" not in str(asked.value)
    assert len(asked.value.series) == 15


def test_stacks_are_listed_by_their_number(tmp_path: Path) -> None:
    names = [in_stack(str(number)) for number in range(1, 13)]
    write_enhanced(tmp_path / "c.dcm", np.zeros((12, 6, 7), np.int16), list(range(12)), names)
    stacks = [info.stack for info in list_series(tmp_path)]
    assert stacks == [f"stack {number}" for number in range(1, 13)]


@pytest.mark.parametrize("name", ["cip_mini_dicom", "poor_header_dicom", "jpeg2000_dicom"])
def test_real_series_have_the_voxels_and_places_that_itk_reads(name: str, real_ct: Path) -> None:
    folder = real_ct / "formats" / name
    read = read_dicom(folder)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), read.array)
    last = tuple(n - 1 for n in image.GetSize())
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint(last), read.geometry.corners_lps()[-1], atol=1e-3
    )


def test_a_real_series_lies_where_its_mask_does(real_ct: Path) -> None:
    from napari_resunet.io.nifti import read_nifti_mask

    read = read_dicom(real_ct / "test" / "lidc" / "LIDC-IDRI-0001_dicom")
    mask = read_nifti_mask(real_ct / "test" / "lidc" / "LIDC-IDRI-0001_lungs.nii.gz")
    assert read.geometry.matches(mask.geometry, within_mm=1e-3)


def test_real_dicom_and_nrrd_of_one_scan_lie_in_one_place(real_ct: Path) -> None:
    from napari_resunet.io.itk import read_itk

    dicom = read_dicom(real_ct / "formats" / "cip_mini_dicom")
    nrrd = read_itk(real_ct / "formats" / "cip_mini.nrrd")
    np.testing.assert_array_equal(dicom.array, nrrd.array)
    assert dicom.geometry.matches(nrrd.geometry, within_mm=1e-2)


def test_real_rescale_with_fractions_is_what_itk_reads(real_ct: Path) -> None:
    slices = sorted((real_ct / "train" / "tcga-luad").glob("*.dcm"))
    path = next(p for p in slices if float(pydicom.dcmread(p, stop_before_pixels=True).RescaleSlope) % 1)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_allclose(read_dicom(path).array, expected, atol=1e-3)


def test_a_header_of_nonsense_is_refused(series: Path) -> None:
    path = series / "slice_0003.dcm"
    path.write_bytes(bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + b"\xff" * 300)
    with pytest.raises(InputError, match=r"slice_0003\.dcm"):
        read_dicom(path)


def test_numbers_that_are_none_count_as_missing(series: Path) -> None:
    path = series / "slice_0003.dcm"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"-100.5\\-20.25\\", b"-1x0.5\\-20.25\\"))
    assert path.read_bytes() != content
    with pytest.raises(GeometryError, match="1 of 5 slices have no valid position"):
        read_dicom(series)


def test_a_folder_that_cannot_be_made_is_an_output_error(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_ct_series(volume, tmp_path / "file")


def test_fractions_and_missing_values_are_written_as_whole_numbers(volume: Volume, tmp_path: Path) -> None:
    hu = volume.array.astype(np.float32)
    hu[0, 0, :3] = [0.4, np.nan, 1e9]
    write_ct_series(Volume(hu, volume.geometry), tmp_path / "ct")
    assert read_dicom(tmp_path / "ct").array[0, 0, :3].tolist() == [0, -1024, 31743]
