from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_resunet.errors import OutputError
from napari_resunet.geometry import Geometry
from napari_resunet.io import export, itk, nifti, seg_nrrd, tiff
from napari_resunet.io.dicom import read_dicom, write_ct_series
from napari_resunet.io.files import read_mask, read_volume, write_mask, write_probability
from napari_resunet.volume import Mask, ProbabilityMap, Run, Source, Volume

ENDINGS = ["nii", "nii.gz", "tif", "tiff", "nrrd", "seg.nrrd", "mha", "NII.GZ", "MHA", "SEG.NRRD"]


@pytest.fixture
def mask(volume: Volume, tmp_path: Path) -> Mask:
    """Lung (1 and 2) in a CT that is a DICOM series."""
    write_ct_series(volume, tmp_path / "ct")
    ct = read_dicom(tmp_path / "ct")
    labels = np.zeros(ct.array.shape, np.uint8)
    labels[1:4, 2:5, 1:3], labels[1:4, 2:5, 4:6] = 1, 2
    return Mask(labels, ct.geometry, ct.source, {"threshold": 0.5, "run": {"model": "lung-ct"}})


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_mask_comes_back_from_every_format(ending: str, mask: Mask, tmp_path: Path) -> None:
    receipt = write_mask(mask, tmp_path / f"lungs.{ending}")
    read = read_mask(tmp_path / f"lungs.{ending}")
    np.testing.assert_array_equal(read.array, mask.array)
    assert read.geometry.matches(mask.geometry, within_mm=1e-4)
    assert receipt.path == tmp_path / f"lungs.{ending}"
    assert receipt.sidecar == tmp_path / "lungs.json"
    assert receipt.voxels == 36
    assert receipt.volume_ml == pytest.approx(36 * 2.5 * 0.8 * 0.7 / 1000)
    assert str(receipt) == f"{receipt.path}: 36 voxels, 0.1 ml, same grid as ct"
    assert {p.name for p in tmp_path.iterdir()} == {"ct", "lungs.json", f"lungs.{ending}"}


def test_itk_sees_the_mask_where_the_ct_is(mask: Mask, tmp_path: Path) -> None:
    write_mask(mask, tmp_path / "lungs.nii.gz")
    image = sitk.ReadImage(str(tmp_path / "lungs.nii.gz"))
    last = image.TransformIndexToPhysicalPoint((6, 5, 4))
    np.testing.assert_allclose(last, mask.geometry.corners_lps()[-1], atol=1e-3)
    assert image.GetPixelID() == sitk.sitkUInt8


def test_the_affine_of_a_nifti_source_is_repeated_to_the_bit(tmp_path: Path) -> None:
    affine = np.diag([-0.7, -0.7, 2.5, 1]) + 1e-3
    affine[3] = [0, 0, 0, 1]
    nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), affine).to_filename(tmp_path / "CT.nii.gz")
    volume = read_volume(tmp_path / "CT.nii.gz")
    receipt = write_mask(
        Mask(np.ones((6, 5, 4), np.uint8), volume.geometry, volume.source), tmp_path / "m.nii"
    )
    assert receipt.geometry == "same grid as CT.nii.gz"
    before, after = (nib.load(tmp_path / name).affine for name in ("CT.nii.gz", "m.nii"))
    np.testing.assert_array_equal(before, after)


def test_an_affine_that_is_not_repeated_to_the_bit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nib.Nifti1Image(np.zeros((4, 5, 6), np.int16), np.eye(4)).to_filename(tmp_path / "CT.nii.gz")
    volume = read_volume(tmp_path / "CT.nii.gz")
    write = nifti.write_nifti

    def a_bit_off(array: Any, geometry: Geometry, source: Any, path: Path, *, slope: float) -> None:
        matrix = geometry.index_to_lps.copy()
        matrix[0, 3] += 1e-5
        write(array, Geometry(geometry.shape, matrix), None, path, slope=slope)

    monkeypatch.setattr(nifti, "write_nifti", a_bit_off)
    with pytest.raises(OutputError, match="cannot hold where the voxels lie"):
        write_mask(Mask(np.ones((6, 5, 4), np.uint8), volume.geometry, volume.source), tmp_path / "m.nii")


def test_without_a_source_the_receipt_tells_the_spacing(mask: Mask, tmp_path: Path) -> None:
    receipt = write_mask(dataclasses.replace(mask, source=None), tmp_path / "lungs.nii")
    assert receipt.geometry == "voxels of 2.5 x 0.8 x 0.7 mm"


def test_the_sidecar_tells_what_it_is_and_how_it_was_made(mask: Mask, tmp_path: Path) -> None:
    receipt = write_mask(mask, tmp_path / "lungs.nii.gz")
    text = receipt.sidecar.read_text()
    record = json.loads(text)
    assert mask.source is not None
    assert record["source"] == {"name": "ct", "format": "DICOM", "sha256": mask.source.sha256}
    assert record["history"] == {"threshold": 0.5, "run": {"model": "lung-ct"}}
    assert record["voxels"] == {"0": 174, "1": 18, "2": 18}
    assert record["output"]["sha256"] == receipt.sha256
    assert record["geometry"]["index_to_lps"] == mask.geometry.index_to_lps.tolist()
    assert str(tmp_path) not in text  # a folder's name may be a patient's
    assert list(record) == sorted(record)


@pytest.mark.parametrize("name", ["lungs.png", "lungs", "lungs.gz", ".nii.gz", "lungs.nhdr"])
def test_an_unknown_ending_is_refused(name: str, mask: Mask, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"use one of .*, \.tiff, \.seg\.nrrd, \.nrrd, \.mha, \.dcm$"):
        write_mask(mask, tmp_path / name)


def test_f09_the_ct_is_never_written_over(mask: Mask, tmp_path: Path, outcome) -> None:
    nib.Nifti1Image(np.zeros((7, 6, 5), np.int16), np.eye(4)).to_filename(tmp_path / "CT.nii")
    (tmp_path / "link.nii").symlink_to(tmp_path / "CT.nii")
    (tmp_path / "hard.nii").hardlink_to(tmp_path / "CT.nii")
    (tmp_path / "way").symlink_to(tmp_path)
    before = (tmp_path / "CT.nii").read_bytes()
    volume = read_volume(tmp_path / "CT.nii")
    one = Mask(np.ones((5, 6, 7), np.uint8), volume.geometry, volume.source)
    for name in ("CT.nii", "link.nii", "hard.nii", "way/CT.nii", "ct/../CT.nii"):
        with pytest.raises(OutputError, match="is the CT itself"):
            write_mask(one, tmp_path / name)
    assert (tmp_path / "CT.nii").read_bytes() == before
    outcome("REFUSE", "… is the CT itself, which is never written over; choose another name")


def test_f09_no_slice_of_the_ct_is_written_over(mask: Mask, tmp_path: Path, outcome) -> None:
    slice_file = tmp_path / "ct" / "slice_0001.nii"
    (tmp_path / "ct" / "slice_0001.dcm").rename(slice_file)
    volume = read_dicom(tmp_path / "ct")
    with pytest.raises(OutputError, match="is the CT itself"):
        write_mask(dataclasses.replace(mask, source=volume.source), slice_file)
    outcome("REFUSE", "… is the CT itself, which is never written over; choose another name")


def test_an_existing_file_is_kept_on_request(mask: Mask, tmp_path: Path) -> None:
    (tmp_path / "lungs.nii").write_text("old")
    with pytest.raises(OutputError, match="is there already"):
        write_mask(mask, tmp_path / "lungs.nii", overwrite=False)
    assert (tmp_path / "lungs.nii").read_text() == "old"
    write_mask(mask, tmp_path / "lungs.nii")
    write_mask(mask, tmp_path / "lungs.nii")
    assert read_mask(tmp_path / "lungs.nii").array.any()


def test_a_json_of_somebody_else_is_not_replaced(mask: Mask, tmp_path: Path) -> None:
    (tmp_path / "lungs.json").write_text('{"RepetitionTime": 2}')
    with pytest.raises(OutputError, match=r"lungs\.json would be replaced, but is not a sidecar"):
        write_mask(mask, tmp_path / "lungs.nii")
    assert "RepetitionTime" in (tmp_path / "lungs.json").read_text()


def flipped(array: Any) -> Any:
    return array[:, :, ::-1]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("module", "name", "ending"),
    [
        (nifti, "write_nifti", "nii.gz"),
        (nifti, "write_nifti", "nii"),
        (tiff, "write_tiff", "tif"),
        (itk, "write_itk", "mha"),
        (seg_nrrd, "write_seg_nrrd", "seg.nrrd"),
    ],
)
@pytest.mark.parametrize("fault", ["voxels", "place", "half", "disk full"])
def test_f01_f04_a_faulty_write_is_refused_and_leaves_the_old_file(
    module: Any,
    name: str,
    ending: str,
    fault: str,
    mask: Mask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome,
) -> None:
    path = tmp_path / f"lungs.{ending}"
    path.write_text("old")
    write = getattr(module, name)

    def faulty(array: Any, geometry: Geometry, *rest: Any, **options: Any) -> None:
        target = next(value for value in rest if isinstance(value, Path))
        if fault == "disk full":
            target.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        matrix = geometry.index_to_lps.copy()
        matrix[:3, 3] += 0.1 if fault == "place" else 0
        write(
            flipped(array) if fault == "voxels" else array, Geometry(geometry.shape, matrix), *rest, **options
        )
        if fault == "half":
            truncate(target)

    labels = mask.array.copy()
    labels[0, 0, 0] = 1  # not the same when flipped
    monkeypatch.setattr(module, name, faulty)
    message = {
        "voxels": "other voxels",
        "place": "where the voxels lie",
        "half": "written whole",
        "disk full": "full",
    }
    with pytest.raises(OutputError, match=message[fault]):
        write_mask(dataclasses.replace(mask, array=labels), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ct", path.name]
    assert path.read_text() == "old"
    outcome("old file", message[fault])


def test_a_folder_that_is_not_there_is_refused(mask: Mask, tmp_path: Path) -> None:
    for ending in ("nii.gz", "tif", "mha"):
        with pytest.raises(OutputError, match="there is no folder"):
            write_mask(mask, tmp_path / "gone" / f"lungs.{ending}")


def test_a_source_that_is_gone_does_not_stop_the_export(mask: Mask, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "ct")
    (tmp_path / "lungs.nii").write_text("old")
    assert write_mask(mask, tmp_path / "lungs.nii").voxels == 36


@pytest.fixture
def prob(mask: Mask) -> ProbabilityMap:
    array = np.arange(210, dtype=np.uint8).reshape(5, 6, 7)
    run = Run("lung-ct", "ab", 128, "cpu", "float32", (0, 6, 0, 7))
    return ProbabilityMap(array, mask.geometry, np.array([True] * 4 + [False]), run, mask.source)


def test_other_programs_see_probabilities_from_0_to_1(prob: ProbabilityMap, tmp_path: Path) -> None:
    receipt = write_probability(prob, tmp_path / "prob.nii.gz")
    image = nib.load(tmp_path / "prob.nii.gz")
    assert image.header.get_data_dtype() == np.uint8
    np.testing.assert_allclose(np.asarray(image.dataobj), prob.array.T / 255, atol=1e-7)
    np.testing.assert_array_equal(np.asarray(image.dataobj.get_unscaled()), prob.array.T)
    assert receipt.voxels == 82
    record = json.loads(receipt.sidecar.read_text())
    assert record["kind"] == "probability"
    assert record["history"]["run"]["model"] == "lung-ct"
    assert record["history"]["slices"] == {"predicted": 4, "of": 5}


def test_a_probability_map_as_tiff_is_plain_uint8(prob: ProbabilityMap, tmp_path: Path) -> None:
    write_probability(dataclasses.replace(prob, run=None), tmp_path / "prob.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "prob.tif").array, prob.array)


def test_a_probability_map_has_fewer_formats(prob: ProbabilityMap, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"use one of \.nii\.gz, \.nii, \.tif, \.tiff$"):
        write_probability(prob, tmp_path / "prob.mha")


def test_a_source_without_files_is_no_hindrance(mask: Mask, tmp_path: Path) -> None:
    source = Source(tmp_path / "phantom", "phantom", "ab")
    assert (
        write_mask(dataclasses.replace(mask, source=source), tmp_path / "l.nii").geometry
        == "same grid as phantom"
    )


def test_the_sidecar_of_the_old_file_does_not_stay_beside_the_new_one(
    mask: Mask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mask(mask, tmp_path / "lungs.nii")

    def fail(path: Path, facts: Any) -> None:
        raise OutputError("no")

    monkeypatch.setattr(export, "write_sidecar", fail)
    with pytest.raises(OutputError, match="no"):
        write_mask(mask, tmp_path / "lungs.nii")
    assert {p.name for p in tmp_path.iterdir()} == {"ct", "lungs.nii"}
