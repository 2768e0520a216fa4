from __future__ import annotations

import re
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import (
    FrameChoiceError,
    GeometryError,
    InputError,
    OutputError,
    SpacingUnknownError,
)
from napari_resunet.geometry import Geometry
from napari_resunet.io.itk import read_itk, read_itk_mask, write_itk
from napari_resunet.io.orientation import is_assumed
from napari_resunet.volume import Volume

META = b"NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\n"


def image_of(volume: Volume) -> Any:
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-100.5, -20.25, 30))
    return image


@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd", "ct.nrrd", "ct.nhdr"])
@pytest.mark.parametrize("packed", [False, True])
def test_voxels_and_places_are_those_of_itk(name: str, packed: bool, volume: Volume, tmp_path: Path) -> None:
    sitk.WriteImage(image_of(volume), str(tmp_path / name), useCompression=packed)
    read = read_itk(tmp_path / name)
    np.testing.assert_array_equal(read.array, volume.array)
    assert read.geometry.distance_mm(volume.geometry) < 1e-9
    assert read.notes == ()
    assert read.source is not None
    assert len(read.source.files) == (2 if name.endswith(("hd", "hdr")) else 1)
    assert read.source.format == ("NRRD" if "n" in name[2:] else "MetaImage")


@pytest.mark.parametrize("name", ["mask.mha", "mask.nrrd"])
def test_a_written_mask_comes_back(name: str, tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3] = [[0.02, 0.1, 0.7, 1 / 3], [0.1, -0.8, 0.1, -20.25], [-2.5, 0, 0.3, 30]]  # turned and sheared
    geometry = Geometry((5, 6, 7), matrix)
    mask = np.random.default_rng(0).integers(0, 3, (5, 6, 7)).astype(np.uint8)
    write_itk(mask, geometry, tmp_path / name)
    read = read_itk_mask(tmp_path / name)
    np.testing.assert_array_equal(read.array, mask)
    assert read.geometry.distance_mm(geometry) < 1e-6
    assert any("right angles" in note for note in read_itk(tmp_path / name).notes)


def test_b55_nrrd_in_ras_and_in_lps_lie_in_one_place(tmp_path: Path, outcome: Outcome) -> None:
    head = (
        "NRRD0004\ntype: short\ndimension: 3\nspace: {}\nsizes: 2 3 4\nspace directions: {}\n"
        "endian: little\nencoding: raw\nspace origin: {}\n\n"
    )
    lps = head.format("left-posterior-superior", "(1,0,0) (0,2,0) (0,0,3)", "(10,20,30)")
    ras = head.format("right-anterior-superior", "(-1,0,0) (0,-2,0) (0,0,3)", "(-10,-20,30)")
    for name, text in (("lps.nrrd", lps), ("ras.nrrd", ras)):
        (tmp_path / name).write_bytes(text.encode() + bytes(48))
    first, second = (read_itk(tmp_path / name).geometry for name in ("lps.nrrd", "ras.nrrd"))
    assert first.distance_mm(second) == 0
    assert first.spacing_mm == (3, 2, 1)
    outcome("OK")


@pytest.mark.parametrize("elsewhere", ["../../etc/passwd", "/etc/passwd", "sub/../../x.raw"])
@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_b55_voxels_outside_the_folder_are_not_followed(
    elsewhere: str, kind: str, tmp_path: Path, outcome: Outcome
) -> None:
    nrrd = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nencoding: raw\n"
    text = META + b"ElementDataFile = " if kind == "mhd" else nrrd + b"data file: "
    (tmp_path / f"ct.{kind}").write_bytes(text + elsewhere.encode() + b"\n")
    with pytest.raises(InputError, match="outside its folder; this is not followed") as refused:
        read_itk(tmp_path / f"ct.{kind}")
    outcome("REFUSE", told(refused))


def test_b55_a_list_of_files_is_looked_through(tmp_path: Path, outcome: Outcome) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(12))
    (tmp_path / "ct.mhd").write_bytes(META + b"ElementDataFile = LIST\na.raw\n../b.raw\n")
    with pytest.raises(InputError, match=r"takes its voxels from \.\./b\.raw") as refused:
        read_itk(tmp_path / "ct.mhd")
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize(
    ("named", "message"), [("gone.raw", "needs gone.raw beside it"), ("s%03d.raw", "numbered")]
)
def test_data_files_that_cannot_be_used_are_named(named: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "ct.mhd").write_bytes(META + f"ElementDataFile = {named}\n".encode())
    with pytest.raises(InputError, match=message):
        read_itk(tmp_path / "ct.mhd")


def test_a_missing_spacing_is_asked_for_never_made_up(tmp_path: Path) -> None:
    (tmp_path / "ct.mha").write_bytes(META + b"ElementDataFile = LOCAL\n" + bytes(48))
    with pytest.raises(
        SpacingUnknownError, match=r"does not say how large its voxels are; give .*--spacing Z,Y,X"
    ):
        read_itk(tmp_path / "ct.mha")
    read = read_itk(tmp_path / "ct.mha", spacing_mm=(3, 2, 1))
    assert read.geometry.spacing_mm == (3, 2, 1)
    assert "does not say how the voxels lie" in read.notes[0]


@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd", "ct.nrrd"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_truncated_file_is_refused(name: str, packed: bool, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(tmp_path / name), useCompression=packed)
    path = next((p for p in tmp_path.iterdir() if p.suffix in (".raw", ".zraw")), tmp_path / name)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="is truncated or damaged"):
        read_itk(tmp_path / name)


def test_a_header_that_declares_too_much_is_refused(tmp_path: Path) -> None:
    text = META.replace(b"2 3 4", b"9999 9999 9999")
    (tmp_path / "ct.mha").write_bytes(text + b"ElementDataFile = LOCAL\n" + bytes(48))
    with pytest.raises(InputError, match="declares 1,999,400,059,998 bytes"):
        read_itk(tmp_path / "ct.mha")


@pytest.mark.parametrize("name", ["ct.mha", "ct.nrrd"])
@pytest.mark.parametrize("packed", [False, True])
def test_b24_of_several_volumes_one_is_asked_for(
    name: str, packed: bool, volume: Volume, tmp_path: Path, outcome: Outcome
) -> None:
    frames = [image_of(volume), image_of(volume) + 1, image_of(volume) + 2]
    sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / name), useCompression=packed)
    with pytest.raises(FrameChoiceError, match=r"holds 3 volumes.*\(--frame or frame=\)") as refused:
        read_itk(tmp_path / name)
    assert refused.value.frames == 3
    outcome("ASK", told(refused))
    for frame in range(3):
        read = read_itk(tmp_path / name, frame=frame)
        np.testing.assert_array_equal(read.array, volume.array + frame)
        assert read.geometry.distance_mm(volume.geometry) < 1e-9
        assert read.notes[0] == f"volume {frame} was read, by the user's word (0 to 2 are there)"
    with pytest.raises(InputError, match="has no volume 3"):
        read_itk(tmp_path / name, frame=3)


def test_five_dimensions_are_refused(tmp_path: Path) -> None:
    text = b"NDims = 5\nDimSize = 2 3 4 1 2\nElementType = MET_SHORT\nElementSpacing = 1 1 1 1 1\n"
    (tmp_path / "ct.mha").write_bytes(text + b"ElementDataFile = LOCAL\n" + bytes(96))
    with pytest.raises(InputError, match=r"is 5-D \(2 x 3 x 4 x 1 x 2\)|damaged"):
        read_itk(tmp_path / "ct.mha")


NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nencoding: raw\nendian: little\n"


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("ct.mha", META.decode() + "ElementSpacing = 1 2 3\nOffset = 7 8 9\nElementDataFile = LOCAL\n"),
        ("ct.nrrd", NRRD + "spacings: 1 2 3\n\n"),
        ("ct.nrrd", NRRD + "space dimension: 3\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n\n"),
    ],
)
def test_b31_a_file_without_directions_lies_as_the_user_says(
    name: str, head: str, tmp_path: Path, outcome: Outcome
) -> None:
    (tmp_path / name).write_bytes(head.encode() + bytes(48))
    assumed = read_itk(tmp_path / name)
    assert is_assumed(assumed.notes)
    outcome("ASK", assumed.notes[-1])
    said = read_itk(tmp_path / name, orientation="AIL")
    assert said.geometry.axis_codes == "AIL"
    assert said.geometry.spacing_mm == (3, 2, 1)
    assert not is_assumed(said.notes)
    np.testing.assert_array_equal(said.geometry.index_to_lps[:, 3], assumed.geometry.index_to_lps[:, 3])
    outcome("NOTE", said.notes[-1])


def test_colour_and_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ct.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True), str(path))
    with pytest.raises(InputError, match="holds 3 values a voxel"):
        read_itk(path)
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkComplexFloat32), str(tmp_path / "ct.nrrd"))
    with pytest.raises(InputError, match=r"complex|2 values a voxel"):
        read_itk(tmp_path / "ct.nrrd")


def test_one_frame_and_one_slice_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ct.mha"
    sitk.WriteImage(sitk.JoinSeries([sitk.Image(4, 5, 6, sitk.sitkInt16)]), str(path))
    assert read_itk(path).array.shape == (6, 5, 4)
    sitk.WriteImage(sitk.Image(4, 5, sitk.sitkInt16), str(path))
    read = read_itk(path)
    assert read.array.shape == (1, 5, 4)
    assert "without a thickness: taken as 1 mm" in read.notes[0]
    assert read_itk(path, spacing_mm=(3, 1, 1)).geometry.spacing_mm == (3, 1, 1)


def test_a_direction_that_flattens_is_refused(tmp_path: Path) -> None:
    fields = b"TransformMatrix = 1 0 0 1 1e-9 0 0 0 1\nElementSpacing = 1 1 1\n"
    (tmp_path / "ct.mha").write_bytes(META + fields + b"ElementDataFile = LOCAL\n" + bytes(48))
    with pytest.raises((GeometryError, InputError), match=r"ct\.mha"):
        read_itk(tmp_path / "ct.mha")


def test_an_output_that_itk_refuses_is_an_output_error(volume: Volume, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"mask\.nonsense could not be written"):
        write_itk(np.ones((5, 6, 7), np.uint8), volume.geometry, tmp_path / "mask.nonsense")


def test_real_nrrd_mask_lies_on_its_ct(real_ct: Path) -> None:
    ct, mask = (real_ct / "formats" / f"cip_mini{part}.nrrd" for part in ("", "_lungs"))
    assert read_itk(ct).geometry.matches(read_itk_mask(mask).geometry, within_mm=1e-9)


@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd"])
def test_b02_packed_voxels_that_are_damaged_are_refused_though_itk_reads_on(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], outcome: Outcome
) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(tmp_path / name), useCompression=True)
    path = tmp_path / ("ct.mha" if name == "ct.mha" else "ct.zraw")
    content = bytearray(path.read_bytes())
    content[-3000] ^= 0xFF
    path.write_bytes(content)
    assert (
        sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / name))).shape == noise.shape
    )  # without an error
    assert "Uncompress failed" in capfd.readouterr().err
    with pytest.raises(
        InputError, match=rf"{path.name} is truncated or damaged .*copy or export it again"
    ) as refused:
        read_itk(tmp_path / name)
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize("said", [b"", b"CompressedDataSize = 12\n", b"CompressedDataSize = 999999\n"])
def test_b02_a_packed_file_must_say_how_much_is_packed(said: bytes, tmp_path: Path, outcome: Outcome) -> None:
    """Without it, ITK takes another part of the file for the voxels."""
    path = tmp_path / "ct.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((9, 9, 9), np.int16)), str(path), useCompression=True)
    path.write_bytes(re.sub(rb"CompressedDataSize = \d+\n", said, path.read_bytes()))
    with pytest.raises(
        InputError, match=r"bytes of packed voxels follow \(CompressedDataSize\), \d+ do"
    ) as refused:
        read_itk(path)
    outcome("REFUSE", told(refused))


def test_b07_packed_voxels_that_unpack_to_more_than_declared_are_not_unpacked(
    tmp_path: Path, outcome: Outcome
) -> None:
    packed = zlib.compress(bytes(1 << 26))
    head = META + b"ElementSpacing = 1 1 1\nCompressedData = True\nCompressedDataSize = %d\n" % len(packed)
    (tmp_path / "ct.mha").write_bytes(head + b"ElementDataFile = LOCAL\n" + packed)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"unpack to [\d,]+ bytes, 48 are declared") as refused:
        read_itk(tmp_path / "ct.mha")
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize("dimensions", [b"-1", b"1e300", b"0", b"99", b"x", b"4"])
def test_a_number_of_dimensions_that_is_none_is_refused_before_itk_dies_of_it(
    dimensions: bytes, tmp_path: Path
) -> None:
    head = META.replace(b"NDims = 3", b"NDims = " + dimensions)
    (tmp_path / "ct.mha").write_bytes(head + b"ElementSpacing = 1 1 1\nElementDataFile = LOCAL\n" + bytes(48))
    with pytest.raises(
        InputError, match=r"dimensions \(NDims\); it is damaged|DimSize \(2 3 4\) is not 4 numbers"
    ):
        read_itk(tmp_path / "ct.mha")


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ct.mhd").write_bytes(META + b"ElementDataFile = a\0b\n")
    with pytest.raises(InputError, match="the name of the file with its voxels is none"):
        read_itk(tmp_path / "ct.mhd")


@pytest.mark.parametrize("name", ["ct.mha", "ct.mhd"])
def test_packed_voxels_of_several_megabytes_are_read(name: str, tmp_path: Path) -> None:
    array = np.zeros((40, 256, 256), np.int16)
    array[-1, -1, -1] = 7
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name), useCompression=True)
    np.testing.assert_array_equal(read_itk(tmp_path / name).array, array)
