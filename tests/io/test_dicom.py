from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless

from napari_resunet.errors import (
    CancelledError,
    GeometryError,
    InputError,
    OutputError,
    SpacingUnknownError,
)
from napari_resunet.geometry import Geometry
from napari_resunet.io import dicom_pixels
from napari_resunet.io.dicom import read_dicom, write_ct_series
from napari_resunet.volume import Volume


@pytest.fixture
def series(volume: Volume, tmp_path: Path) -> Path:
    """A folder with five slices 2.5 mm apart, from z = 30."""
    write_ct_series(volume, tmp_path / "ct")
    return tmp_path / "ct"


def edit(path: Path, change: Callable[[Any], None]) -> None:
    tags = pydicom.dcmread(path)
    change(tags)
    tags.save_as(path)


def edit_all(folder: Path, change: Callable[[Any], None]) -> None:
    for path in sorted(folder.iterdir()):
        edit(path, change)


def having(**values: Any) -> Callable[[Any], None]:
    """Return a change that sets tags, or deletes those whose value is None."""

    def change(tags: Any) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(tags, keyword)
            else:
                setattr(tags, keyword, value)

    return change


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


def test_descending_slices_come_back_ascending(volume: Volume, tmp_path: Path) -> None:
    matrix = volume.geometry.index_to_lps.copy()
    matrix[2, 0] = -2.5
    write_ct_series(Volume(volume.array, Geometry(volume.array.shape, matrix)), tmp_path / "ct")
    read = read_dicom(tmp_path / "ct")
    np.testing.assert_array_equal(read.array, volume.array[::-1])
    assert read.geometry.axis_codes == "SPL"


def test_b39_gantry_tilt_is_kept_and_noted(volume: Volume, tmp_path: Path) -> None:
    matrix = volume.geometry.index_to_lps.copy()
    matrix[1, 0] = 2.5 * np.tan(np.radians(12))
    tilted = Volume(volume.array, Geometry(volume.array.shape, matrix))
    write_ct_series(tilted, tmp_path / "ct")
    read = read_dicom(tmp_path / "ct")
    assert read.geometry.distance_mm(tilted.geometry) < 1e-6
    assert "tilted by 12.0 degrees" in read.notes[0]


def test_b40_each_slice_has_its_own_rescale(series: Path, volume: Volume) -> None:
    edit(series / "slice_0002.dcm", having(RescaleSlope=2, RescaleIntercept=-2000))
    array = read_dicom(series).array
    np.testing.assert_array_equal(array[1], (volume.array[1].astype(int) + 1024) * 2 - 2000)
    np.testing.assert_array_equal(array[[0, 2, 3, 4]], volume.array[[0, 2, 3, 4]])


def test_values_with_fractions_become_float32(series: Path, volume: Volume) -> None:
    edit(series / "slice_0003.dcm", having(RescaleSlope="1.0002"))
    array = read_dicom(series).array
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[2], (volume.array[2] + 1024.0) * 1.0002 - 1024, rtol=1e-6)
    np.testing.assert_array_equal(array[0], volume.array[0])


def test_no_rescale_is_noted(series: Path) -> None:
    edit_all(series, having(RescaleSlope=None, RescaleIntercept=None))
    assert "no rescale" in read_dicom(series).notes[0]


def test_b35_two_series_are_listed_and_one_can_be_chosen(series: Path, volume: Volume) -> None:
    other = Volume(volume.array + 1, volume.geometry)
    for path in write_ct_series(other, series / "more"):
        path.rename(series / f"other_{path.name}")
    first, second = (
        pydicom.dcmread(series / name).SeriesInstanceUID
        for name in ("slice_0001.dcm", "other_slice_0001.dcm")
    )
    with pytest.raises(
        InputError, match=r"holds 2 CT series; pass series=.*Phantom, 5 slices.*Phantom, 5 slices"
    ):
        read_dicom(series)
    np.testing.assert_array_equal(read_dicom(series, series=second).array, other.array)
    np.testing.assert_array_equal(read_dicom(series, series=first[-12:]).array, volume.array)
    with pytest.raises(InputError, match="no series 'nonsense'; it has"):
        read_dicom(series, series="nonsense")
    with pytest.raises(InputError, match="2 CT series ending in ''"):
        read_dicom(series, series="")


def test_b36_missing_slices_are_counted_and_located(volume: Volume, tmp_path: Path) -> None:
    tall = Volume(np.zeros((40, 6, 7), np.int16), Geometry((40, 6, 7), volume.geometry.index_to_lps))
    files = write_ct_series(tall, tmp_path / "ct")
    for index in (10, 11, 12):
        files[index].unlink()
    with pytest.raises(
        GeometryError, match=r"3 of 40 slices are missing between z = 52.5 mm and z = 62.5 mm; exp"
    ):
        read_dicom(tmp_path / "ct")
    files[20].unlink()
    with pytest.raises(GeometryError, match=r"4 of 40 slices .* and in 1 more places"):
        read_dicom(tmp_path / "ct")


def test_b36_one_missing_slice_of_five_is_seen(series: Path) -> None:
    (series / "slice_0004.dcm").unlink()
    with pytest.raises(GeometryError, match=r"1 of 5 slices are missing between z = 35.0 mm and z = 40.0 mm"):
        read_dicom(series)


def test_b37_a_slice_that_is_there_twice_is_dropped(series: Path, volume: Volume) -> None:
    shutil.copy(series / "slice_0002.dcm", series / "copy.dcm")
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.notes == ("left out: 1 slices that are there twice",)


def test_b37_different_slices_at_one_position_are_refused(series: Path) -> None:
    shutil.copy(series / "slice_0002.dcm", series / "copy.dcm")
    edit(series / "copy.dcm", having(RescaleIntercept=-1000))
    with pytest.raises(InputError, match="two different slices at one position"):
        read_dicom(series)


def test_a_slice_and_its_copy_are_one_slice(series: Path) -> None:
    for path in sorted(series.iterdir())[1:]:
        path.unlink()
    shutil.copy(series / "slice_0001.dcm", series / "copy.dcm")
    assert read_dicom(series).geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))


@pytest.mark.parametrize("thin", [3, 7])
def test_b38_uneven_spacing_is_refused(thin: int, volume: Volume, tmp_path: Path) -> None:
    tall = Volume(np.zeros((12, 6, 7), np.int16), Geometry((12, 6, 7), volume.geometry.index_to_lps))
    for index, path in enumerate(write_ct_series(tall, tmp_path / "ct")):
        height = min(index, thin) + 5 * max(0, index - thin)
        edit(path, having(ImagePositionPatient=[0, 0, height]))
    with pytest.raises(GeometryError, match=r"not evenly spaced \(1.00 to 5.00 mm apart\)"):
        read_dicom(tmp_path / "ct")


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "different orientation"),
        ({"PixelSpacing": [0.9, 0.9]}, "different pixel spacing"),
        ({"Rows": 7, "Columns": 6}, r"different sizes \(6 x 7, 7 x 6\)"),
        ({"ImagePositionPatient": None}, "1 of 5 slices have no valid position"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no valid orientation"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "no valid orientation"),
        ({"PixelSpacing": [0, 0.9]}, "no valid pixel spacing"),
    ],
)
def test_b45_one_slice_unlike_the_others_is_refused(
    values: dict[str, Any], message: str, series: Path
) -> None:
    edit(series / "slice_0004.dcm", having(**values))
    with pytest.raises(InputError, match=message):
        read_dicom(series)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "1 localizer"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "1 secondary capture"),
        ({"Modality": "PT"}, "1 PT image"),
        ({"Modality": "SR", "Rows": None}, "1 SR file without an image"),
        ({"SamplesPerPixel": 3}, r"1 colour \(RGB\) image"),
    ],
)
def test_b41_what_is_no_ct_slice_is_left_out_and_counted(
    values: dict[str, Any], named: str, series: Path, volume: Volume
) -> None:
    shutil.copy(series / "slice_0001.dcm", series / "other.dcm")
    edit(series / "other.dcm", having(**values))
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.notes == (f"left out: {named}".replace("\\", ""),)
    with pytest.raises(InputError, match=f"holds no CT slices .found: {named}"):
        read_dicom(series / "other.dcm")


def test_b43_enhanced_ct_is_refused(series: Path) -> None:
    edit(series / "slice_0001.dcm", having(NumberOfFrames=7))
    with pytest.raises(InputError, match=r"enhanced \(multi-frame\) CT"):
        read_dicom(series)


def test_a_file_without_modality_is_taken_as_ct_and_noted(series: Path) -> None:
    edit_all(series, having(Modality=None))
    assert read_dicom(series).notes == ("5 files without a modality: taken as CT",)


def test_a_single_slice_has_the_thickness_it_states(series: Path, volume: Volume) -> None:
    read = read_dicom(series / "slice_0002.dcm")
    np.testing.assert_array_equal(read.array, volume.array[1:2])
    assert read.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    np.testing.assert_allclose(read.geometry.index_to_lps[:3, 3], [-100.5, -20.25, 32.5])


def test_a_single_slice_without_thickness_is_1_mm_or_what_is_given(series: Path) -> None:
    path = series / "slice_0002.dcm"
    edit(path, having(SliceThickness=None))
    read = read_dicom(path)
    assert read.geometry.spacing_mm[0] == pytest.approx(1)
    assert "without a thickness" in read.notes[0]
    assert read_dicom(path, spacing_mm=(4, 0.8, 0.7)).geometry.spacing_mm[0] == pytest.approx(4)
    edit(path, having(SpacingBetweenSlices=3))
    assert read_dicom(path).geometry.spacing_mm[0] == pytest.approx(3)


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_b45_a_single_slice_that_does_not_say_where_it_lies_needs_a_spacing(
    keyword: str, series: Path
) -> None:
    path = series / "slice_0002.dcm"
    edit(path, having(**{keyword: None}))
    with pytest.raises(SpacingUnknownError, match=r"slice_0002\.dcm has no valid .*spacing_mm="):
        read_dicom(path)
    read = read_dicom(path, spacing_mm=(4, 2, 1))
    assert read.geometry.spacing_mm == (4, 2, 1)
    assert "taken as axial" in read.notes[0]


@pytest.mark.parametrize(("value", "signed"), [(-976, 1), (64560, 0)])
def test_b48_padding_is_counted_whatever_its_sign_convention(value: int, signed: int, series: Path) -> None:
    def pad(tags: Any) -> None:
        pixels = tags.pixel_array.copy()
        pixels[0, :3] = np.array(64560, np.uint16).view(np.int16)
        tags.PixelData = pixels.tobytes()
        tags.PixelRepresentation = 1
        tags.add_new("PixelPaddingValue", "SS" if signed else "US", value)

    edit(series / "slice_0002.dcm", pad)
    read = read_dicom(series)
    assert "3 voxels are padding" in read.notes[-1]
    assert read.array[1, 0, 0] == -976 - 1024  # not changed


@pytest.mark.parametrize(("signed", "value"), [(0, 0x0FFF - 1024), (1, -1 - 1024)])
def test_b48_bits_above_the_stored_ones_are_left_out(signed: int, value: int, series: Path) -> None:
    def overlay(tags: Any) -> None:
        pixels = np.zeros((6, 7), np.uint16)
        pixels[0, 0] = 0x0FFF | 0x3000 if signed else 0x2FFF
        tags.PixelData = pixels.tobytes()
        tags.BitsStored, tags.HighBit, tags.PixelRepresentation = 12, 11, signed

    edit(series / "slice_0001.dcm", overlay)
    read = read_dicom(series / "slice_0001.dcm")
    assert read.array[0, 0, 0] == value


def test_b42_monochrome1_is_noted(series: Path, volume: Volume) -> None:
    edit(series / "slice_0001.dcm", having(PhotometricInterpretation="MONOCHROME1"))
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    assert "MONOCHROME1); its values are not (in 1 of 5 slices)" in read.notes[0]


def test_b44_a_missing_decoder_is_named(series: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compress(tags: Any) -> None:
        tags.file_meta.TransferSyntaxUID = JPEGLSLossless
        tags.PixelData = encapsulate([b"\0" * 20])
        tags["PixelData"].is_undefined_length = True

    class Missing:
        is_available = False

    edit(series / "slice_0002.dcm", compress)
    monkeypatch.setattr(dicom_pixels, "get_decoder", lambda _: Missing)
    with pytest.raises(
        InputError, match=r'slice_0002.* JPEG-LS Lossless .*pip install "napari-resunet\[codecs\]"'
    ):
        read_dicom(series)


def test_b44_an_unknown_compression_is_refused(series: Path) -> None:
    def compress(tags: Any) -> None:
        tags.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
        tags.PixelData = encapsulate([b"\0" * 20])
        tags["PixelData"].is_undefined_length = True

    edit(series / "slice_0001.dcm", compress)
    with pytest.raises(InputError, match="compressed as MPEG2"):
        read_dicom(series / "slice_0001.dcm")


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


def test_the_tracker_is_given_the_slices_and_can_stop(series: Path) -> None:
    seen = []

    def stop_at_2(steps: Sequence[Any], /) -> Iterator[Any]:
        for step in steps:
            if len(seen) == 2:
                raise CancelledError
            seen.append(step)
            yield step

    with pytest.raises(CancelledError):
        read_dicom(series, track=stop_at_2)
    assert seen == [0, 1]


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
    (series / "slice_0003.dcm").write_bytes(
        bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + b"\xff" * 300
    )
    with pytest.raises(InputError, match=r"slice_0003\.dcm"):
        read_dicom(series)


def test_numbers_that_are_none_count_as_missing(series: Path) -> None:
    path = series / "slice_0003.dcm"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"-100.5\\-20.25\\", b"-1x0.5\\-20.25\\"))
    assert path.read_bytes() != content
    with pytest.raises(GeometryError, match="1 of 5 slices have no valid position"):
        read_dicom(series)


def test_pixels_that_are_not_what_the_header_says_are_refused(
    series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = dicom_pixels.read_slice
    monkeypatch.setattr(
        dicom_pixels,
        "read_slice",
        lambda path: dataclasses.replace(read(path), hu=np.zeros((3, 3), np.int16)),
    )
    with pytest.raises(InputError, match=r"holds \(3, 3\) pixels, its header says \(6, 7\)"):
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
