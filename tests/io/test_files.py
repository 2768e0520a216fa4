from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import psutil
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import GeometryError, InputError
from napari_resunet.io.dicom import write_ct_series
from napari_resunet.io.files import can_read, read_mask, read_volume
from napari_resunet.io.orientation import is_assumed
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Volume


@pytest.fixture
def one_of_each(volume: Volume, tmp_path: Path) -> dict[str, Path]:
    """The same CT in every format, the files all named ct.bin."""
    names = {
        "NIfTI": "a.nii",
        "packed NIfTI": "a.nii.gz",
        "TIFF": "a.tif",
        "NRRD": "a.nrrd",
        "MetaImage": "a.mha",
    }
    paths = {}
    image = sitk.GetImageFromArray(volume.array)
    for kind, name in names.items():
        path = tmp_path / name
        if "NIfTI" in kind:
            nib.Nifti1Image(volume.array.T, volume.geometry.ras_affine).to_filename(path)
        elif kind == "TIFF":
            sizes = {"PhysicalSizeZ": 2500, "PhysicalSizeY": 800, "PhysicalSizeX": 700}
            tifffile.imwrite(path, volume.array, ome=True, metadata={"axes": "ZYX", **sizes})
        else:
            image.SetSpacing((0.7, 0.8, 2.5))
            sitk.WriteImage(image, str(path))
        paths[kind] = path.rename(tmp_path / f"{kind}.bin")
    write_ct_series(volume, tmp_path / "series")
    paths["DICOM"] = tmp_path / "series"
    return paths


def test_every_format_is_known_by_content_and_gives_one_ct(
    one_of_each: dict[str, Path], volume: Volume
) -> None:
    for kind, path in one_of_each.items():
        assert can_read(path), kind
        assert can_read(str(path)), kind
        read = read_volume(str(path))
        np.testing.assert_array_equal(read.array, volume.array, err_msg=kind)
        assert read.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7)), kind
        assert read.source is not None
        assert read.source.format == kind.removeprefix("packed ")
        assert len(read.source.sha256) == 64


def test_a_spacing_that_contradicts_the_file_is_refused(one_of_each: dict[str, Path]) -> None:
    for path in one_of_each.values():
        assert read_volume(path, spacing_mm=(2.5, 0.8, 0.7)).array.size
        with pytest.raises(
            InputError, match=r"states a spacing of 2.5 x 0.8 x 0.7 mm, 9 x 0.8 x 0.7 mm was given"
        ):
            read_volume(path, spacing_mm=(9, 0.8, 0.7))


def test_a_single_dicom_file_and_a_pair_are_known(volume: Volume, tmp_path: Path) -> None:
    file = write_ct_series(volume, tmp_path / "series")[2]
    assert can_read(file)
    assert read_volume(file).array.shape == (1, 6, 7)
    nib.Nifti1Pair(volume.array.T, np.eye(4)).to_filename(tmp_path / "ct.img")
    assert can_read(tmp_path / "ct.img")
    assert can_read(tmp_path / "ct.hdr")
    assert read_volume(tmp_path / "ct.img").array.shape == (5, 6, 7)


def test_odd_values_are_noted(tmp_path: Path) -> None:
    nib.Nifti1Image(np.full((3, 4, 5), 7, np.int16), np.eye(4)).to_filename(tmp_path / "ct.nii")
    assert "nothing to segment" in read_volume(tmp_path / "ct.nii").notes[-1]


def test_what_a_user_says_of_a_ct_is_kept_with_it(tmp_path: Path) -> None:
    stored = np.arange(-1000, 2600, dtype=np.int16).reshape(4, 30, 30)
    nib.Nifti1Image(stored.T + np.int16(1024), np.eye(4)).to_filename(tmp_path / "ct.nii")
    volume = read_volume(tmp_path / "ct.nii", hu_offset=-1024)
    np.testing.assert_array_equal(volume.array, stored)
    assert volume.answers == InputAnswers(hu_offset=-1024)
    assert volume.hu_confirmed


def test_b01_an_empty_file_is_refused(tmp_path: Path, outcome: Outcome) -> None:
    (tmp_path / "ct.nii.gz").touch()
    assert not can_read(tmp_path / "ct.nii.gz")
    with pytest.raises(InputError, match=r"ct\.nii\.gz is empty \(0 bytes\)") as refused:
        read_volume(tmp_path / "ct.nii.gz")
    outcome("REFUSE", told(refused))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert not can_read(tmp_path / "gone.nii")
    with pytest.raises(InputError, match=r"gone\.nii cannot be opened \(No such file"):
        read_volume(tmp_path / "gone.nii")


@pytest.mark.parametrize(
    "content", [b"GIF89a" + bytes(600), b"hello", bytes(600), b"\x1f\x8bbroken", b"\x08\x00" + b"\xff" * 40]
)
def test_an_unknown_kind_is_refused_with_what_can_be_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "ct.nii").write_bytes(content)
    assert not can_read(tmp_path / "ct.nii")
    with pytest.raises(
        InputError,
        match=r"ct\.nii is of an unknown kind; give a DICOM folder .*NRRD or MetaImage.* PNG or JPEG",
    ):
        read_volume(tmp_path / "ct.nii")
    with pytest.raises(InputError, match="unknown kind"):
        read_mask(tmp_path / "ct.nii")


def test_b08_b31_an_orientation_that_contradicts_the_file_is_refused_naming_both(
    one_of_each: dict[str, Path], volume: Volume, outcome: Outcome
) -> None:
    """A TIFF says nothing of it: there the answer is taken. The slices of a series have an order of their own."""
    for kind, path in one_of_each.items():
        if kind == "TIFF":
            assert read_volume(path, orientation="IAR").geometry.axis_codes == "IAR"
            continue
        codes = read_volume(path).geometry.axis_codes
        assert read_volume(path, orientation=codes.lower()).geometry.axis_codes == codes
        other = codes[0] + codes[1] + ("L" if codes[2] == "R" else "R")
        with pytest.raises(
            InputError, match=rf"axes \(z, y, x\) run to {codes}, {other} was given; leave"
        ) as refused:
            read_volume(path, orientation=other)
        outcome("REFUSE", told(refused))


@pytest.mark.parametrize("orientation", ["", "SP", "SPX", "SPP", "SPLL"])
def test_letters_that_are_no_orientation_are_refused_whatever_the_file_says(
    orientation: str, one_of_each: dict[str, Path]
) -> None:
    for path in one_of_each.values():
        with pytest.raises(GeometryError, match="an orientation is three letters"):
            read_volume(path, orientation=orientation)


def test_a_volume_chosen_of_a_file_that_has_one_is_refused(one_of_each: dict[str, Path]) -> None:
    for path in one_of_each.values():
        with pytest.raises(InputError, match=r"holds one volume, number 0 was asked for; leave that out"):
            read_volume(path, frame=0)


def test_a_mask_of_several_volumes_is_refused_without_a_word_of_choosing(tmp_path: Path) -> None:
    nib.Nifti1Image(np.ones((3, 4, 5, 2), np.uint8), np.eye(4)).to_filename(tmp_path / "m.nii")
    with pytest.raises(InputError, match="holds 2 volumes; save the mask as one 3-D volume"):
        read_mask(tmp_path / "m.nii")


def test_a_mask_of_a_file_without_orientation_lies_as_the_user_says(volume: Volume, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", (volume.array > 0).astype(np.uint8))
    mask = read_mask(tmp_path / "m.tif", spacing_mm=(1, 1, 1), orientation="IAR")
    assert mask.geometry.axis_codes == "IAR"
    with pytest.raises(GeometryError, match="three letters"):
        read_mask(tmp_path / "m.tif", spacing_mm=(1, 1, 1), orientation="?")


@pytest.mark.parametrize("orientation", [None, "SPL", "IPL", "AIL"])
def test_b45_dicom_without_a_place_lies_as_the_user_says(
    orientation: str | None, volume: Volume, tmp_path: Path, outcome: Outcome
) -> None:
    for path in write_ct_series(volume, tmp_path / "series"):
        data = pydicom.dcmread(path)
        del data.ImagePositionPatient, data.ImageOrientationPatient
        data.save_as(path)
    read = read_volume(tmp_path / "series", spacing_mm=(2.5, 0.8, 0.7), orientation=orientation)
    assert read.geometry.axis_codes[1:] == (orientation or "SPL")[1:]
    first = volume.array[
        -1 if orientation in ("IPL", "AIL") else 0
    ]  # a series runs to the head, or to the back
    np.testing.assert_array_equal(read.array[0], first)
    assert is_assumed(read.notes) == (orientation is None)
    outcome("NOTE" if orientation else "ASK", next(note for note in read.notes if "the voxels lie" in note))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_b56_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, outcome: Outcome) -> None:
    os.mkfifo(tmp_path / "ct.nii")
    assert not can_read(tmp_path / "ct.nii")
    assert not can_read(tmp_path)
    with pytest.raises(InputError, match="is not a regular file"):
        read_volume(tmp_path / "ct.nii")
    with pytest.raises(InputError, match="holds no DICOM files") as refused:
        read_volume(tmp_path)
    outcome("REFUSE", told(refused))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices here")
def test_b56_a_device_is_refused_and_not_read(outcome: Outcome) -> None:
    with pytest.raises(InputError, match="is not a regular file") as refused:
        read_volume("/dev/zero")
    outcome("REFUSE", str(refused.value))


def test_b56_a_link_is_followed_and_a_link_to_nowhere_is_refused(
    volume: Volume, tmp_path: Path, outcome: Outcome
) -> None:
    nib.Nifti1Image(volume.array.T, np.eye(4)).to_filename(tmp_path / "ct.nii")
    (tmp_path / "link").symlink_to(tmp_path / "ct.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "link").array, volume.array)
    outcome("OK", "a link is followed")
    (tmp_path / "ct.nii").unlink()
    with pytest.raises(InputError, match="cannot be opened") as refused:
        read_volume(tmp_path / "link")
    outcome("REFUSE", told(refused))


def test_b56_a_path_of_more_than_260_characters_is_read(
    volume: Volume, tmp_path: Path, outcome: Outcome
) -> None:
    folder = tmp_path.joinpath(*["deep " * 20] * 3)
    folder.mkdir(parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(volume.array), str(folder / "ct.mha"))
    np.testing.assert_array_equal(read_volume(folder / "ct.mha").array, volume.array)
    outcome("OK")


def test_b56_odd_names_are_read(volume: Volume, tmp_path: Path, outcome: Outcome) -> None:
    for name in ("肺 %d #1", "Lünge 🫁.", "x" * 200):
        for ending in (".nii.gz", ".nrrd", ".tif"):
            path = tmp_path / (name + ending)
            if ending == ".nii.gz":
                nib.Nifti1Image(volume.array.T, np.eye(4)).to_filename(path)
            elif ending == ".nrrd":
                sitk.WriteImage(sitk.GetImageFromArray(volume.array), str(path))
            else:
                tifffile.imwrite(path, volume.array)
            np.testing.assert_array_equal(read_volume(path, spacing_mm=(1, 1, 1)).array, volume.array)
    outcome("OK")


def test_b56_a_folder_named_like_a_file_is_a_folder(volume: Volume, tmp_path: Path, outcome: Outcome) -> None:
    write_ct_series(volume, tmp_path / "x.nii.gz")
    assert can_read(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, volume.array)
    outcome("OK")


@pytest.mark.parametrize("path", ["", "\0", "/dev/zero", "a" * 5000])
def test_can_read_never_raises(path: str) -> None:
    assert not can_read(path)


def test_a_folder_without_dicom_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    assert not can_read(tmp_path)


def test_a_mask_is_read_from_every_format_but_dicom(volume: Volume, tmp_path: Path) -> None:
    labels = (volume.array > 0).astype(np.int16)
    nib.Nifti1Image(labels.T, np.eye(4)).to_filename(tmp_path / "m.nii")
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "m.nrrd"))
    tifffile.imwrite(tmp_path / "m.tif", labels.astype(np.uint8) * 255)
    for name in ("m.nii", "m.nrrd", "m.tif"):
        mask = read_mask(tmp_path / name, spacing_mm=(1, 1, 1))
        np.testing.assert_array_equal(mask.array, labels, err_msg=name)
    write_ct_series(volume, tmp_path / "series")
    with pytest.raises(InputError, match="give the mask as NIfTI"):
        read_mask(tmp_path / "series")


def test_more_data_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)).to_filename(tmp_path / "ct.nii")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=1000))
    with pytest.raises(InputError, match="of memory; crop it or use a larger machine"):
        read_volume(tmp_path / "ct.nii")


def test_importing_the_front_door_imports_no_file_library() -> None:
    code = (
        "import sys; import napari_resunet.io.files; "
        "print([m for m in ('nibabel', 'pydicom', 'tifffile', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
