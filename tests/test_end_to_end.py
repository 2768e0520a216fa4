"""The main job on real CT, against masks that no model has seen."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

import napari_resunet as nru
from napari_resunet import workflows
from napari_resunet.settings import MaskSettings, PredictSettings

pytestmark = pytest.mark.usefixtures("quick_network")
LEAST_DICE = 0.98  # on the native grid, against silver masks


@pytest.mark.parametrize(
    ("ct", "lungs"),
    [
        ("test/lidc/LIDC-IDRI-0001_dicom", "test/lidc/LIDC-IDRI-0001_lungs.nii.gz"),
        ("test/lung-dx/A0002_B40f_ct.nii.gz", "test/lung-dx/A0002_B40f_lungs.nii.gz"),
    ],
    ids=["DICOM", "NIfTI"],
)
def test_lungs_of_a_real_chest_are_found_on_the_right_voxels(
    real_ct: Path, tmp_path: Path, ct: str, lungs: str
) -> None:
    output = tmp_path / "lungs.nii.gz"
    volume, mask, _ = workflows.segment(real_ct / ct, output, predict_settings=PredictSettings(device="cpu"))
    assert nru.evaluate(nru.read_mask(output), nru.read_mask(real_ct / lungs))["lungs"].dice >= LEAST_DICE
    # two other libraries see the file on the grid of the CT
    image = nib.load(output)
    assert np.allclose(image.affine, volume.geometry.ras_affine, atol=1e-4)
    assert np.array_equal(np.asarray(image.dataobj).T, mask.array)
    other = sitk.ReadImage(str(output))
    assert np.allclose(other.GetOrigin(), volume.geometry.index_to_lps[:3, 3], atol=1e-3)
    assert np.array_equal(sitk.GetArrayFromImage(other), mask.array)


def test_the_right_lung_is_the_larger_one_and_lies_on_the_patients_right(real_ct: Path) -> None:
    volume = nru.read_volume(real_ct / "test/lidc/LIDC-IDRI-0001_dicom")
    mask = nru.to_mask(nru.predict(volume, device="cpu"), split=True)
    right, left = (np.argwhere(mask.array == label) for label in (1, 2))
    assert len(right) > len(left) > 0.6 * len(right)
    to_lps = volume.geometry.index_to_lps
    right_x, left_x = ((to_lps @ [*points.mean(axis=0), 1])[0] for points in (right, left))
    assert right_x < left_x - 80  # mm; +x is the patient's left


def test_no_lung_is_found_where_there_is_none(real_ct: Path) -> None:
    volume = nru.read_volume(real_ct / "test/covid-ny-sbu/A056396_neck_ct.nii.gz")
    mask = nru.to_mask(nru.predict(volume, device="cpu"))
    assert mask.volume_ml < 1


@pytest.mark.computed
def test_a_contour_moved_on_screen_is_the_same_mask_as_on_the_command_line(chest, tmp_path: Path) -> None:
    """The arrows of the API, taken one by one and at once, give the same file."""
    from napari_resunet.case import Case
    from napari_resunet.inference.predict import Prediction
    from napari_resunet.io.dicom_series import write_ct_series

    write_ct_series(chest.volume, tmp_path / "ct")
    workflows.segment(
        tmp_path / "ct",
        tmp_path / "cli.nii.gz",
        predict_settings=PredictSettings(device="cpu"),
        mask_settings=MaskSettings(threshold=0.3),
    )
    case = Case(nru.read_volume(tmp_path / "ct"))
    prediction = Prediction(case.volume, device="cpu", start=20)
    case.begin(prediction.run)
    for batch in prediction.batches():
        case.accept(prediction.run, batch)
    case.set_threshold(0.3)
    case.settle()
    nru.write_mask(case.finished_mask(), tmp_path / "window.nii.gz")
    assert (tmp_path / "cli.nii.gz").read_bytes() == (tmp_path / "window.nii.gz").read_bytes()
