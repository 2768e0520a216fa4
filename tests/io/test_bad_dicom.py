"""What bad, odd and hostile DICOM gets: rows B35 to B48 of the table of bad input."""

from __future__ import annotations

import shutil
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_making import (
    compressed,
    edit,
    edit_all,
    encapsulated,
    having,
    in_stack,
    tall_series,
    write_dicomdir,
    write_enhanced,
)
from outcomes import Outcome
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from napari_resunet.errors import GeometryError, InputError, SpacingUnknownError, UnevenSlicesError
from napari_resunet.geometry import Geometry
from napari_resunet.hu import refuse_implausible_hu
from napari_resunet.io import dicom_decode, dicom_frames, dicom_headers
from napari_resunet.io.dicom import list_series, read_dicom, write_ct_series
from napari_resunet.io.dicom_choice import SeriesChoiceError
from napari_resunet.volume import Volume


@pytest.fixture
def series(volume: Volume, tmp_path: Path) -> Path:
    """A folder with five slices 2.5 mm apart, from z = 30."""
    write_ct_series(volume, tmp_path / "ct")
    return tmp_path / "ct"


def test_b35_two_series_are_listed_and_one_can_be_chosen(
    series: Path, volume: Volume, outcome: Outcome
) -> None:
    other = Volume(volume.array + 1, volume.geometry)
    for path in write_ct_series(other, series / "more"):
        path.rename(series / f"other_{path.name}")
    first, second = (
        pydicom.dcmread(series / name).SeriesInstanceUID
        for name in ("slice_0001.dcm", "other_slice_0001.dcm")
    )
    with pytest.raises(
        SeriesChoiceError, match=r"holds 2 CT series; pass series=.*Phantom, 5 slices.*Phantom, 5 slices"
    ) as asked:
        read_dicom(series)
    assert {info.key for info in asked.value.series} == {first, second}
    np.testing.assert_array_equal(read_dicom(series, series=second).array, other.array)
    np.testing.assert_array_equal(read_dicom(series, series=first[-12:]).array, volume.array)
    with pytest.raises(SeriesChoiceError, match="no series 'nonsense'; it has"):
        read_dicom(series, series="nonsense")
    with pytest.raises(SeriesChoiceError, match="2 CT series ending in ''"):
        read_dicom(series, series="")
    outcome("ASK", asked.value)


def test_b35_the_larger_series_is_not_taken_for_the_one_meant(tmp_path: Path, outcome: Outcome) -> None:
    tall_series(tmp_path / "a", range(20))
    tall_series(tmp_path / "b", range(3))
    with pytest.raises(SeriesChoiceError) as asked:
        read_dicom(tmp_path)
    assert sorted(info.slices for info in asked.value.series) == [3, 20]
    outcome("ASK", asked.value)


def test_b36_missing_slices_are_counted_and_located(tmp_path: Path, outcome: Outcome) -> None:
    files = tall_series(tmp_path, [30 + 2.5 * i for i in range(40)])
    for index in (10, 11, 12):
        files[index].unlink()
    with pytest.raises(
        UnevenSlicesError,
        match=r"3 of 40 slices are missing between z = 52.5 mm and z = 62.5 mm; exp.*--accept-gaps",
    ) as asked:
        read_dicom(tmp_path)
    outcome("ASK", asked.value)
    files[20].unlink()
    with pytest.raises(UnevenSlicesError, match=r"4 of 40 .* 62.5 mm, between z = 77.5 mm and z = 82.5 mm"):
        read_dicom(tmp_path)


def test_b36_one_missing_slice_of_five_is_seen(series: Path, outcome: Outcome) -> None:
    (series / "slice_0004.dcm").unlink()
    with pytest.raises(
        UnevenSlicesError, match=r"1 of 5 slices are missing between z = 35.0 mm and z = 40.0 mm"
    ) as asked:
        read_dicom(series)
    outcome("ASK", asked.value)


def test_b36_accepted_gaps_keep_the_size_of_a_voxel_and_are_recorded(
    tmp_path: Path, outcome: Outcome
) -> None:
    files = tall_series(tmp_path, [2.5 * i for i in range(12)])
    for index in (4, 5):
        files[index].unlink()
    read = read_dicom(tmp_path, accept_gaps=True)
    assert read.array[:, 0, 0].tolist() == [0, 10, 20, 30, 60, 70, 80, 90, 100, 110]
    assert read.geometry.spacing_mm[0] == pytest.approx(2.5)  # not the average, 3.06
    np.testing.assert_allclose(read.geometry.index_to_lps[:3, 3], [0, 0, 0])
    (note,) = read.notes
    assert (
        "2 of 12 slices are missing between z = 7.5 mm and z = 15.0 mm: accepted by the user's word" in note
    )
    assert "taken as 2.5 mm apart; slices lie up to 5.0 mm off" in note
    outcome("NOTE", note)


def test_b36_a_slice_that_is_missing_because_it_is_damaged_is_named(series: Path, outcome: Outcome) -> None:
    (series / "slice_0003.dcm").write_bytes(
        bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + b"\xff" * 300
    )
    with pytest.raises(
        UnevenSlicesError, match=r"1 of 5 slices .*1 unreadable file, such as slice_0003\.dcm"
    ) as asked:
        read_dicom(series)
    outcome("ASK", asked.value)


def test_b37_a_slice_that_is_there_twice_is_dropped(series: Path, volume: Volume, outcome: Outcome) -> None:
    shutil.copy(series / "slice_0002.dcm", series / "copy.dcm")
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.notes == ("left out: 1 slice that another one repeats",)
    outcome("NOTE", read.notes[0])


def test_b37_compressed_slices_that_are_there_twice_are_dropped(
    series: Path, volume: Volume, outcome: Outcome
) -> None:
    edit_all(series, compressed(RLELossless))
    for name in ("slice_0002.dcm", "slice_0005.dcm"):
        shutil.copy(series / name, series / f"copy_{name}")
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    outcome("NOTE", read.notes[0])


def test_b37_different_slices_at_one_position_that_nothing_tells_apart_are_refused(
    series: Path, outcome: Outcome
) -> None:
    shutil.copy(series / "slice_0002.dcm", series / "copy.dcm")
    edit(series / "copy.dcm", having(RescaleIntercept=-1000))
    with pytest.raises(
        InputError, match=r"two different slices at one position \(copy.dcm and slice_0002"
    ) as no:
        read_dicom(series)
    outcome("REFUSE", no.value)


@pytest.mark.parametrize(
    ("keyword", "values", "words"),
    [
        ("AcquisitionNumber", (1, 2), "acquisition 2"),
        ("ConvolutionKernel", ("B30f", "B70f"), "kernel B70f"),
        ("TemporalPositionIdentifier", (1, 2), "time 2"),
    ],
)
def test_b37_two_phases_in_one_series_are_told_apart_and_one_can_be_chosen(
    keyword: str, values: tuple[Any, Any], words: str, series: Path, volume: Volume, outcome: Outcome
) -> None:
    uid = pydicom.dcmread(series / "slice_0001.dcm").SeriesInstanceUID
    edit_all(series, having(**{keyword: values[0]}))
    for path in write_ct_series(Volume(volume.array + 1, volume.geometry), series / "more"):
        edit(path, having(**{keyword: values[1]}, SeriesInstanceUID=uid))
        path.rename(series / f"phase2_{path.name}")
    with pytest.raises(SeriesChoiceError, match=f"one series mixes 2 stacks .*{words}") as asked:
        read_dicom(series)
    np.testing.assert_array_equal(read_dicom(series, series="#2").array, volume.array + 1)
    np.testing.assert_array_equal(read_dicom(series, series=f"{uid}#1").array, volume.array)
    outcome("ASK", asked.value)


@pytest.mark.parametrize("thin", [3, 7])
def test_b38_uneven_spacing_is_asked_about(thin: int, tmp_path: Path, outcome: Outcome) -> None:
    """The table wants a note; but one affine for all slices puts most of them in a wrong place: so the user says."""
    tall_series(tmp_path, [min(i, thin) + 5 * max(0, i - thin) for i in range(12)])
    with pytest.raises(
        UnevenSlicesError, match=r"not evenly spaced \(1.00 to 5.00 mm apart\); .*--accept-gaps"
    ) as asked:
        read_dicom(tmp_path)
    outcome("ASK", asked.value)


def test_b38_accepted_uneven_spacing_says_how_far_slices_are_off(tmp_path: Path, outcome: Outcome) -> None:
    tall_series(tmp_path, [0, 1, 2, 3, 4, 9, 14, 19, 24])
    read = read_dicom(tmp_path, accept_gaps=True)
    assert read.geometry.spacing_mm[0] == pytest.approx(3)
    np.testing.assert_allclose(read.geometry.corners_lps()[-1, 2], 24)
    assert "taken as 3 mm apart; slices lie up to 8.0 mm off their true place, and ml are" in read.notes[0]
    outcome("NOTE", read.notes[0])


def test_b39_gantry_tilt_is_kept_and_noted(volume: Volume, tmp_path: Path, outcome: Outcome) -> None:
    matrix = volume.geometry.index_to_lps.copy()
    matrix[1, 0] = 2.5 * np.tan(np.radians(12))
    tilted = Volume(volume.array, Geometry(volume.array.shape, matrix))
    write_ct_series(tilted, tmp_path / "ct")
    read = read_dicom(tmp_path / "ct")
    assert read.geometry.distance_mm(tilted.geometry) < 1e-6
    assert "tilted by 12.0 degrees" in read.notes[0]
    assert list_series(tmp_path / "ct")[0].odd == ("gantry tilted by 12.0 degrees",)
    outcome("NOTE", read.notes[0])


def test_b39_tilt_is_kept_over_accepted_gaps(tmp_path: Path, outcome: Outcome) -> None:
    files = tall_series(tmp_path, range(12))
    for index, path in enumerate(files):
        edit(path, having(ImagePositionPatient=[0, 0.2 * index, index]))
    files[5].unlink()
    read = read_dicom(tmp_path, accept_gaps=True)
    np.testing.assert_allclose(read.geometry.index_to_lps[:3, 0], [0, 0.2, 1], atol=1e-9)
    outcome("NOTE", "; ".join(read.notes))


def test_b40_each_slice_has_its_own_rescale(series: Path, volume: Volume, outcome: Outcome) -> None:
    edit(series / "slice_0002.dcm", having(RescaleSlope=2, RescaleIntercept=-2000))
    array = read_dicom(series).array
    np.testing.assert_array_equal(array[1], (volume.array[1].astype(int) + 1024) * 2 - 2000)
    np.testing.assert_array_equal(array[[0, 2, 3, 4]], volume.array[[0, 2, 3, 4]])
    outcome("OK")


def test_b40_a_rescale_that_is_no_number_is_refused(series: Path, outcome: Outcome) -> None:
    path = series / "slice_0002.dcm"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"-1024", b"-1O24"))
    assert path.read_bytes() != content
    with pytest.raises(InputError, match=r"slice_0002\.dcm has a RescaleIntercept that is no number") as no:
        read_dicom(series)
    outcome("REFUSE", no.value)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "1 localizer"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "1 secondary capture"),
        ({"Modality": "PT"}, "1 PT image"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Modality": "SR", "Rows": None},
            "1 imageless SR file",
        ),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR", "Rows": None}, "1 dose report"),
        ({"SamplesPerPixel": 3}, r"1 colour \(RGB\) image"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "1 screenshot"),
        ({"ImageType": ["DERIVED", "SECONDARY"], "BurnedInAnnotation": "YES"}, "1 screenshot"),
        ({"BitsAllocated": 8, "RescaleIntercept": None}, "1 screenshot"),
    ],
)
def test_b41_what_is_no_ct_slice_is_left_out_and_counted(
    values: dict[str, Any], named: str, series: Path, volume: Volume, outcome: Outcome
) -> None:
    shutil.copy(series / "slice_0001.dcm", series / "other.dcm")
    edit(series / "other.dcm", having(**values))
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.notes == (f"left out: {named}".replace("\\", ""),)
    with pytest.raises(InputError, match=f"holds no CT slices .found: {named}") as no:
        read_dicom(series / "other.dcm")
    outcome("NOTE", read.notes[0])
    outcome("REFUSE", no.value)


def test_b42_monochrome1_with_a_rescale_is_noted(series: Path, volume: Volume, outcome: Outcome) -> None:
    edit(series / "slice_0001.dcm", having(PhotometricInterpretation="MONOCHROME1"))
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    assert "MONOCHROME1); its values are not (in 1 of 5 slices)" in read.notes[0]
    outcome("NOTE", read.notes[0])


def test_b42_monochrome1_without_a_rescale_can_be_seen_but_not_segmented_unasked(
    series: Path, outcome: Outcome
) -> None:
    edit_all(
        series, having(PhotometricInterpretation="MONOCHROME1", RescaleSlope=None, RescaleIntercept=None)
    )
    read = read_dicom(series)
    assert "MONOCHROME1): air may be bright, and these no HU" in read.notes[1]
    with pytest.raises(InputError, match="HU offset") as asked:
        refuse_implausible_hu(read.array)
    outcome("ASK", asked.value)


def enhanced(folder: Path, **kwargs: Any) -> tuple[Path, np.ndarray]:
    """Write an enhanced CT of 4 frames that do not ascend, and return what is to be read of it."""
    folder.mkdir(exist_ok=True)
    heights = [5.0, -1.0, 2.0, 8.0]
    stored = np.arange(4 * 6 * 7, dtype=np.int16).reshape(4, 6, 7)
    write_enhanced(folder / "all.dcm", stored, heights, **kwargs)
    hu = stored - 1000 - np.array(heights, np.int16)[:, None, None]
    return folder / "all.dcm", hu[np.argsort(heights)]


def test_b43_an_enhanced_ct_is_read_frame_by_frame(tmp_path: Path, outcome: Outcome) -> None:
    path, expected = enhanced(tmp_path / "ct")
    for where in (path, path.parent):
        read = read_dicom(where)
        np.testing.assert_array_equal(read.array, expected)
        matrix = [[0, 0, 0.7, -100.5], [0, 0.8, 0, -20.25], [3, 0, 0, -1]]
        np.testing.assert_allclose(read.geometry.index_to_lps[:3], matrix, atol=1e-9)
        assert read.notes == ()
        assert read.source is not None
        assert read.source.files == (path,)
    (info,) = list_series(path)
    assert (info.slices, info.size, info.spacing_mm) == (4, (6, 7), (3, 0.8, 0.7))
    outcome("OK")


def test_b43_compressed_frames_of_an_enhanced_ct_are_read(tmp_path: Path, outcome: Outcome) -> None:
    path, expected = enhanced(tmp_path / "ct")
    edit(path, compressed(RLELossless))
    np.testing.assert_array_equal(read_dicom(path).array, expected)
    outcome("OK")


def test_b43_localizer_frames_are_left_out(tmp_path: Path, outcome: Outcome) -> None:
    def scout(group: Any) -> None:
        group.CTImageFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]

    def same(group: Any) -> None:
        pass

    path, expected = enhanced(tmp_path / "ct", each=[same, scout, same, same])
    read = read_dicom(path)
    np.testing.assert_array_equal(read.array, expected[1:])
    assert read.notes == ("left out: 1 localizer",)
    outcome("NOTE", read.notes[0])


def test_b43_two_stacks_in_an_enhanced_ct_are_asked_about(tmp_path: Path, outcome: Outcome) -> None:
    path, expected = enhanced(tmp_path / "ct", each=[in_stack(name) for name in "2112"])
    with pytest.raises(SeriesChoiceError, match=r"mixes 2 stacks of slices.*stack 1.*stack 2") as asked:
        read_dicom(path)
    np.testing.assert_array_equal(read_dicom(path, series="#1").array, expected[:2])
    np.testing.assert_array_equal(read_dicom(path, series="#2").array, expected[2:])
    outcome("ASK", asked.value)


@pytest.mark.parametrize("lacking", ["all", "one"])
def test_b43_frames_that_are_not_described_are_refused(
    lacking: str, tmp_path: Path, outcome: Outcome
) -> None:
    path, _ = enhanced(tmp_path / "ct")

    def spoil(tags: Any) -> None:
        if lacking == "all":
            del tags.PerFrameFunctionalGroupsSequence
        else:
            tags.PerFrameFunctionalGroupsSequence.pop()

    edit(path, spoil)
    described = 0 if lacking == "all" else 3
    with pytest.raises(
        InputError, match=f"all.dcm is a multi-frame CT that describes {described} of its 4"
    ) as no:
        read_dicom(path)
    assert list_series(path)[0].left_out == "multi-frame file without positions"
    outcome("REFUSE", no.value)


def test_b43_a_multi_frame_file_that_is_not_described_is_left_out_beside_a_series(
    series: Path, volume: Volume, outcome: Outcome
) -> None:
    shutil.copy(series / "slice_0001.dcm", series / "cine.dcm")
    edit(series / "cine.dcm", having(NumberOfFrames=7))
    read = read_dicom(series)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.notes == ("left out: 1 multi-frame file without positions",)
    outcome("NOTE", read.notes[0])


@pytest.mark.parametrize(
    "syntax",
    [JPEGLosslessSV1, JPEG2000Lossless, JPEGLSLossless, RLELossless, DeflatedExplicitVRLittleEndian],
    ids=lambda syntax: syntax.keyword,
)
def test_b44_compressed_slices_are_read_to_the_bit(
    syntax: UID, series: Path, volume: Volume, outcome: Outcome
) -> None:
    edit_all(series, compressed(syntax))
    assert pydicom.dcmread(series / "slice_0001.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_dicom(series).array, volume.array)
    outcome("OK", syntax.name)


def test_b44_a_missing_decoder_is_named(
    series: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    class Nothing:
        available_plugins = ("pillow",)  # which knows 8 bits only

    edit(series / "slice_0002.dcm", encapsulated(b"\0" * 20, HTJ2KLossless))
    monkeypatch.setattr(dicom_frames, "get_decoder", lambda _: Nothing)
    with pytest.raises(
        InputError, match=r'slice_0002.*High-Throughput JPEG 2000.*pip install "napari-resunet\[codecs\]"'
    ) as no:
        read_dicom(series)
    outcome("REFUSE", no.value)


def test_b44_an_unknown_compression_is_refused(series: Path, outcome: Outcome) -> None:
    edit(series / "slice_0001.dcm", encapsulated(b"\0" * 20, UID("1.2.840.10008.1.2.4.100")))
    with pytest.raises(InputError, match="compressed as MPEG2") as no:
        read_dicom(series / "slice_0001.dcm")
    outcome("REFUSE", no.value)


@pytest.mark.parametrize("syntax", ["1.2.3.4", "1.2.840.113619.5.2"])
def test_b44_a_transfer_syntax_nobody_knows_is_refused(syntax: str, series: Path, outcome: Outcome) -> None:
    edit(series / "slice_0001.dcm", encapsulated(b"\0" * 20, UID(syntax)))
    with pytest.raises(InputError, match="slice_0001") as no:
        read_dicom(series / "slice_0001.dcm")
    outcome("REFUSE", no.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "4 slices.*axial.*1 slice.*sagittal"),
        ({"PixelSpacing": [0.9, 0.9]}, "pixels of 0.8 x 0.7 mm.*pixels of 0.9 x 0.9 mm"),
        ({"Rows": 7, "Columns": 6}, "4 slices of 6 x 7.*1 slice of 7 x 6"),
    ],
)
def test_b45_slices_of_two_kinds_in_one_series_are_asked_about(
    values: dict[str, Any], words: str, series: Path, outcome: Outcome
) -> None:
    edit(series / "slice_0005.dcm", having(**values))
    with pytest.raises(
        SeriesChoiceError, match=f"one series mixes 2 stacks of slices.*'#1'.*{words}"
    ) as asked:
        read_dicom(series)
    assert read_dicom(series, series="#1").array.shape == (4, 6, 7)
    assert read_dicom(series, series="#2").array.shape[0] == 1
    outcome("ASK", asked.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ImagePositionPatient": None}, "1 of 5 slices have no valid position"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no valid orientation"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "no valid orientation"),
        ({"PixelSpacing": [0, 0.9]}, "no valid pixel spacing"),
    ],
)
def test_b45_one_slice_that_does_not_say_where_it_lies_is_refused(
    values: dict[str, Any], message: str, series: Path, outcome: Outcome
) -> None:
    edit(series / "slice_0004.dcm", having(**values))
    with pytest.raises(GeometryError, match=f"{message}.*slice_0004") as no:
        read_dicom(series)
    assert message in list_series(series)[0].odd[0]
    outcome("REFUSE", no.value)


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_b45_a_series_that_does_not_say_where_it_lies_needs_a_spacing(
    keyword: str, series: Path, volume: Volume, outcome: Outcome
) -> None:
    edit_all(series, having(**{keyword: None}))
    with pytest.raises(SpacingUnknownError, match=r"the 5 slices of .* have no valid .*spacing_mm=") as asked:
        read_dicom(series)
    outcome("ASK", asked.value)
    read = read_dicom(series, spacing_mm=(2.5, 0.8, 0.7))
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert read.geometry.axis_codes == "SPL"
    outcome("NOTE", read.notes[0])
    if keyword != "PixelSpacing":
        with pytest.raises(InputError, match=r"states pixels of 0.8,0.7 mm \(y,x\), 1,1 mm was given"):
            read_dicom(series, spacing_mm=(2.5, 1, 1))


def test_b45_slices_without_position_or_order_are_refused(series: Path, outcome: Outcome) -> None:
    edit_all(series, having(ImagePositionPatient=None, InstanceNumber=3))
    with pytest.raises(InputError, match="instance numbers do not say their order") as no:
        read_dicom(series, spacing_mm=(2.5, 0.8, 0.7))
    outcome("REFUSE", no.value)


@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
def test_b45_a_single_slice_that_does_not_say_where_it_lies_needs_a_spacing(
    keyword: str, series: Path, tmp_path: Path, outcome: Outcome
) -> None:
    path = (series / "slice_0002.dcm").rename(tmp_path / "alone.dcm")
    edit(path, having(**{keyword: None}))
    with pytest.raises(SpacingUnknownError, match=r"alone\.dcm has no valid .*spacing_mm=") as asked:
        read_dicom(path)
    read = read_dicom(path, spacing_mm=(4, 0.8, 0.7))
    assert read.geometry.spacing_mm == pytest.approx((4, 0.8, 0.7))
    assert "the slice has no valid" in read.notes[0]
    outcome("ASK", asked.value)


def codestream(path: Path) -> bytes:
    return pydicom.encaps.get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)


def with_huge_size(content: bytes) -> bytes:
    """Return a JPEG 2000 codestream that declares 60000 x 60000 pixels."""
    start = content.index(b"\xff\x51") + 6  # SIZ: marker, length, capabilities
    return content[:start] + struct.pack(">II", 60000, 60000) + content[start + 8 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:60] + bytes(reversed(content[60:])),
        lambda content: content[:4] + b"\xff" * 200,
        lambda content: b"no codestream at all" + content[:0],
        with_huge_size,
    ],
    ids=["cut", "scrambled", "marker and nonsense", "text", "60000 x 60000 pixels declared"],
)
def test_b46_damaged_compressed_pixels_are_refused_by_name(
    spoil: Any, series: Path, outcome: Outcome
) -> None:
    edit_all(series, compressed(JPEG2000Lossless))
    path = series / "slice_0003.dcm"
    edit(path, encapsulated(spoil(codestream(path)), JPEG2000Lossless))
    with pytest.raises(InputError, match=r"slice_0003\.dcm .*; copy or export it again") as no:
        read_dicom(series)
    outcome("REFUSE", no.value)


def test_b46_a_fragment_that_claims_more_than_the_file_has_is_read_as_far_as_it_goes(
    series: Path, volume: Volume, outcome: Outcome
) -> None:
    edit_all(series, compressed(JPEG2000Lossless))
    path = series / "slice_0003.dcm"
    content = path.read_bytes()
    item = content.rindex(b"\xfe\xff\x00\xe0")
    path.write_bytes(content[: item + 4] + struct.pack("<I", 0xFFFFFFF0) + content[item + 8 :])
    np.testing.assert_array_equal(read_dicom(series).array, volume.array)
    path.write_bytes(content[: item + 40])
    with pytest.raises(InputError, match=r"slice_0003\.dcm has truncated or damaged pixels") as no:
        read_dicom(series)
    outcome("REFUSE", no.value)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
            r"ended the program that decodes it \(code -11\)",
        ),
        ("import os; os.write(1, b'{'); os._exit(3)", r"ended the program that decodes it \(code 3\)"),
        ("import time; time.sleep(60)", "is not decoded after 1 s"),
        (
            "import time; much = bytearray(b'1') * 300_000_000; time.sleep(60)",
            "takes more than 0.2 GiB of memory",
        ),
        ('print(\'{"dtype": "<i2", "shape": [3, 3]}\')', r"holds \(3, 3\) pixels, its header says \(6, 7\)"),
    ],
    ids=["crash", "exit", "hang", "memory", "size"],
)
def test_b46_a_decoder_that_breaks_takes_nothing_with_it(
    program: str, message: str, series: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    edit_all(series, compressed(RLELossless))
    monkeypatch.setattr(dicom_decode, "_COMMAND", (sys.executable, "-c", program))
    monkeypatch.setattr(dicom_decode, "FRAME_SECONDS", 1 if "after 1 s" in message else 10)
    monkeypatch.setattr(dicom_decode, "MEMORY_BYTES", 200 << 20)
    with pytest.raises(InputError, match=f"slice_0001.*{message}.*; copy or export it again") as no:
        read_dicom(series)
    outcome("REFUSE", no.value)


def test_b46_a_huge_length_in_a_header_is_refused(series: Path, outcome: Outcome) -> None:
    path = series / "slice_0003.dcm"
    edit(path, lambda tags: tags.add_new(0x00091001, "OB", b"1234"))
    content = path.read_bytes()
    at = content.index(b"\x09\x00\x01\x10OB") + 8
    path.write_bytes(content[:at] + struct.pack("<I", 0xFFFFFFF0) + content[at + 4 :])
    with pytest.raises(InputError, match=r"slice_0003\.dcm is a CT image whose header ends early") as no:
        read_dicom(path)
    outcome("REFUSE", no.value)
    with pytest.raises(InputError, match=r"1 of 5 slices are missing.*1 unreadable file, such as slice_0003"):
        read_dicom(series)


def test_b46_a_deflated_file_that_inflates_without_end_is_refused_before_it_does(
    series: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    path = series / "slice_0003.dcm"
    edit(path, compressed(DeflatedExplicitVRLittleEndian))
    meta = 144 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    inside = zlib.decompress(path.read_bytes()[meta:], -zlib.MAX_WBITS)
    path.write_bytes(path.read_bytes()[:meta] + packer.compress(inside + bytes(9 << 20)) + packer.flush())
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(dicom_headers, "_MOST_INFLATED", 8 << 20)
    with pytest.raises(InputError, match=r"slice_0003\.dcm is deflated, and inflates to more than") as no:
        read_dicom(path)
    outcome("REFUSE", no.value)


@pytest.mark.filterwarnings("ignore:.* for VR CS")  # from pydicom, which goes on
def test_b47_a_dicomdir_is_followed_inside_its_folder_only(
    series: Path, volume: Volume, tmp_path: Path, outcome: Outcome
) -> None:
    folder, secret = tmp_path / "CD", tmp_path / "SECRET"
    folder.mkdir()
    series = series.rename(folder / "CT")
    shutil.copy(series / "slice_0001.dcm", secret)
    (folder / "LINK").symlink_to(secret)
    names = [["CT", path.name] for path in sorted(series.iterdir())]
    hostile = [["..", "SECRET"], ["CT", "..", "..", "SECRET"], [str(secret)], ["LINK"], ["A\0B"]]
    write_dicomdir(folder / "DICOMDIR", [*names, *hostile, ["CT", "LOST"]])
    read = read_dicom(folder / "DICOMDIR")
    np.testing.assert_array_equal(read.array, volume.array)
    assert "outside of its folder, which DICOMDIR names" in read.notes[0]
    assert read.notes[1] == "DICOMDIR names 1 file not to be found"
    write_dicomdir(folder / "DICOMDIR", hostile)
    with pytest.raises(InputError, match=r"DICOMDIR leads to no DICOM image \(left out: .* outside") as no:
        read_dicom(folder / "DICOMDIR")
    outcome("NOTE", read.notes[0])
    outcome("REFUSE", no.value)


@pytest.mark.filterwarnings("ignore:.* for VR CS")
def test_b47_a_folder_with_a_dicomdir_at_its_top_is_searched_below(
    series: Path, volume: Volume, tmp_path: Path, outcome: Outcome
) -> None:
    write_dicomdir(tmp_path / "DICOMDIR", [["..", "..", "secret.dcm"]])
    read = read_dicom(tmp_path)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.notes == ()
    outcome("OK")


@pytest.mark.parametrize(("value", "signed"), [(-976, 1), (64560, 0)])
def test_b48_padding_is_counted_whatever_its_sign_convention(
    value: int, signed: int, series: Path, outcome: Outcome
) -> None:
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
    outcome("NOTE", read.notes[-1])


def test_b48_a_range_of_padding_is_counted(series: Path, outcome: Outcome) -> None:
    def pad(tags: Any) -> None:
        pixels = tags.pixel_array.copy()
        pixels[0, :4] = [-2000, -1990, -1980, -1979]
        tags.PixelData = pixels.tobytes()
        tags.add_new("PixelPaddingValue", "SS", -2000)
        tags.add_new("PixelPaddingRangeLimit", "SS", -1980)

    edit(series / "slice_0002.dcm", pad)
    note = read_dicom(series).notes[-1]
    assert "3 voxels are padding" in note
    outcome("NOTE", note)


@pytest.mark.parametrize(("signed", "value"), [(0, 0x0FFF - 1024), (1, -1 - 1024)])
def test_b48_bits_above_the_stored_ones_are_left_out(
    signed: int, value: int, series: Path, tmp_path: Path, outcome: Outcome
) -> None:
    def overlay(tags: Any) -> None:
        pixels = np.zeros((6, 7), np.uint16)
        pixels[0, 0] = 0x0FFF | 0x3000 if signed else 0x2FFF
        tags.PixelData = pixels.tobytes()
        tags.BitsStored, tags.HighBit, tags.PixelRepresentation = 12, 11, signed

    path = (series / "slice_0001.dcm").rename(tmp_path / "alone.dcm")
    edit(path, overlay)
    read = read_dicom(path)
    assert read.array[0, 0, 0] == value
    assert read.notes == ("bits above the 12 stored ones, such as overlays, are left out",)
    outcome("NOTE", read.notes[0])


def test_b48_padding_that_does_not_fit_into_the_stored_bits_stays_padding(
    series: Path, tmp_path: Path, outcome: Outcome
) -> None:
    def pad(tags: Any) -> None:
        pixels = np.full((6, 7), 1000, np.uint16)
        pixels[:2] = np.uint16(65536 - 2000)
        tags.PixelData = pixels.tobytes()
        tags.BitsStored, tags.HighBit, tags.PixelRepresentation = 12, 11, 0
        tags.add_new("PixelPaddingValue", "US", 65536 - 2000)

    path = (series / "slice_0001.dcm").rename(tmp_path / "alone.dcm")
    edit(path, pad)
    read = read_dicom(path)
    assert read.array[0, 0, 0] == -3024  # and not 2096 - 1024, which is bone
    assert read.array[0, 5, 0] == -24
    assert read.notes == ("14 voxels are padding outside the field of view",)
    outcome("NOTE", read.notes[0])


def test_b48_signed_numbers_that_are_called_unsigned_are_noted(series: Path, outcome: Outcome) -> None:
    def unsign(tags: Any) -> None:
        tags.PixelData = np.full((6, 7), -50, np.int16).tobytes()
        tags.PixelRepresentation = 0

    edit_all(series, unsign)
    (note,) = read_dicom(series).notes
    assert "signed numbers that the header calls unsigned?" in note
    outcome("NOTE", note)


def test_b48_values_in_other_units_are_noted(series: Path, outcome: Outcome) -> None:
    edit_all(series, having(RescaleType="Z_EFF"))
    (note,) = read_dicom(series).notes
    assert note == "values in Z_EFF by their header, not in HU"
    outcome("NOTE", note)
