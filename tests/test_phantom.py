from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from napari_resunet.geometry import Geometry
from napari_resunet.io.files import read_mask, read_volume
from napari_resunet.phantom import LEFT_LUNG, PADDING_HU, RIGHT_LUNG, Phantom, make_phantom

SAMPLES = Path(__file__).parents[1] / "sample_data"
# A change of the anatomy changes these; then run sample_data/make.py too.
CT_SHA256 = "c95e90392049ffd4d0a2224103ff1d93c891d7136857e27dce2be58aca486972"
MASK_SHA256 = "bd4e8be6dabe587898820014928a27973aa6e9d9e480d61e60db3d68dee7c860"


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom()


def ml(phantom: Phantom, label: int) -> float:
    voxels = np.count_nonzero(phantom.mask.array == label)
    return voxels * phantom.mask.geometry.voxel_volume_mm3 / 1000


def centroid_lps(where: npt.NDArray[Any], geometry: Geometry) -> npt.NDArray[np.float64]:
    point: npt.NDArray[np.float64] = geometry.index_to_lps @ [*np.argwhere(where).mean(axis=0), 1]
    return point[:3]


def hu_at(phantom: Phantom, x: float, y: float, z: float) -> float:
    """Mean HU of 3 x 3 pixels about a patient point."""
    k, j, i, _ = np.rint(np.linalg.inv(phantom.volume.geometry.index_to_lps) @ [x, y, z, 1]).astype(int)
    return float(phantom.volume.array[k, j - 1 : j + 2, i - 1 : i + 2].mean())


def in_lung_at(phantom: Phantom, x: float, y: float, z: float) -> bool:
    k, j, i, _ = np.rint(np.linalg.inv(phantom.mask.geometry.index_to_lps) @ [x, y, z, 1]).astype(int)
    return bool(phantom.mask.array[k, j, i])


def test_the_grid_runs_to_head_back_and_left_with_the_chest_in_its_middle(phantom: Phantom) -> None:
    geometry = phantom.volume.geometry
    assert geometry.shape == (56, 160, 160)
    assert geometry.spacing_mm == pytest.approx((5.5, 2.3, 2.3), abs=1e-12)
    assert geometry.axis_codes == "SPL"
    assert geometry.to_axial.is_identity
    assert not geometry.is_oblique
    np.testing.assert_allclose(geometry.corners_lps().mean(axis=0), [0, 14, 0], atol=1e-9)


def test_label_1_lies_on_the_patients_right_and_label_2_on_the_left(phantom: Phantom) -> None:
    array, geometry = phantom.mask.array, phantom.mask.geometry
    assert set(np.unique(array)) == {0, RIGHT_LUNG, LEFT_LUNG}
    assert -100 < centroid_lps(array == RIGHT_LUNG, geometry)[0] < -50
    assert 50 < centroid_lps(array == LEFT_LUNG, geometry)[0] < 100


def test_the_heart_lies_to_the_patients_left(phantom: Phantom) -> None:
    # At the height of the heart the left lung has to make room for it, the right one much less.
    lungs, geometry = phantom.mask.array, phantom.mask.geometry
    level = round(float((np.linalg.inv(geometry.index_to_lps) @ [0, 0, -15, 1])[0]))
    blood = (phantom.volume.array[level] > 0) & (lungs[level] == 0)
    heart = blood & (np.abs(geometry.index_to_lps[1, 3] + 2.3 * np.arange(160) + 28) < 35)[:, None]
    x = geometry.index_to_lps[0, 3] + 2.3 * np.arange(160)
    heart[:, np.abs(x) > 85] = False  # the chest wall
    assert 10 < x[np.nonzero(heart)[1]].mean() < 35
    left, right = ((lungs[level] == label).sum() for label in (LEFT_LUNG, RIGHT_LUNG))
    assert left < 0.9 * right


def test_the_lungs_hold_what_those_of_an_adult_hold_the_right_one_more(phantom: Phantom) -> None:
    assert ml(phantom, RIGHT_LUNG) == pytest.approx(1756, abs=1)
    assert ml(phantom, LEFT_LUNG) == pytest.approx(1633, abs=1)
    assert phantom.mask.volume_ml == pytest.approx(ml(phantom, RIGHT_LUNG) + ml(phantom, LEFT_LUNG))


@pytest.mark.parametrize("label", [RIGHT_LUNG, LEFT_LUNG])
def test_each_lung_is_one_piece_and_touches_no_other(phantom: Phantom, label: int) -> None:
    pieces, count = ndimage.label(phantom.mask.array == label)
    assert count == 1
    grown = ndimage.binary_dilation(pieces > 0)
    assert not (phantom.mask.array[grown] == RIGHT_LUNG + LEFT_LUNG - label).any()


def test_lungs_look_like_lungs_denser_at_the_back_and_crossed_by_vessels(phantom: Phantom) -> None:
    core = ndimage.binary_erosion(phantom.mask.array > 0, iterations=3)
    hu = phantom.volume.array[core]
    assert -900 < np.median(hu) < -850
    assert 0.005 < (hu > -500).mean() < 0.05  # vessels
    rows = np.nonzero(core)[1]
    front, back = (np.median(hu[part]) for part in (rows < 70, rows > 95))
    assert 15 < back - front < 60


def test_slices_at_both_ends_hold_no_lung_and_those_between_all_do(phantom: Phantom) -> None:
    has_lung = phantom.mask.array.any(axis=(1, 2))
    assert list(np.flatnonzero(has_lung)) == list(range(8, 48))


def test_windpipe_stomach_and_bowel_hold_air_that_is_not_lung(phantom: Phantom) -> None:
    size = (0.99, 0.97, 1.0)  # of this patient, roughly
    for x, y, z in [(0, 4, 80), (0, -10, 125), (60, -45, -98)]:
        point = tuple(s * c for s, c in zip(size, (x, y, z), strict=True))
        assert hu_at(phantom, *point) < -850, point
        assert not in_lung_at(phantom, *point), point


def test_there_is_gas_below_the_lowest_lung(phantom: Phantom) -> None:
    rows, columns = np.ogrid[:160, :160]
    body = ((rows - 70) / 40) ** 2 + ((columns - 80) / 60) ** 2 < 1
    gas = (phantom.volume.array[:8] < -800) & body
    assert gas.sum() > 100
    assert not phantom.mask.array[:8].any()


def test_a_scan_is_round_and_padded_outside(phantom: Phantom) -> None:
    array = phantom.volume.array
    assert array.dtype == np.int16
    assert (array[:, [0, 0, -1, -1], [0, -1, 0, -1]] == PADDING_HU).all()
    assert (array[:, 80, [0, -1]] > PADDING_HU).mean() > 0.5
    padded = (array == PADDING_HU).all(axis=0).mean()
    assert padded == pytest.approx(1 - np.pi / 4, abs=0.01)


def test_hu_are_even_and_noise_is_as_strong_as_asked(phantom: Phantom) -> None:
    quiet = make_phantom(noise_hu=0)
    assert not (phantom.volume.array % 2).any()
    np.testing.assert_array_equal(phantom.mask.array, quiet.mask.array)
    difference = (phantom.volume.array - quiet.volume.array)[phantom.mask.array > 0]
    assert difference.mean() == pytest.approx(0, abs=0.5)
    assert difference.std() == pytest.approx(20, rel=0.02)


def test_the_sample_has_the_same_bytes_everywhere(phantom: Phantom) -> None:
    assert hashlib.sha256(phantom.volume.array.tobytes()).hexdigest() == CT_SHA256
    assert hashlib.sha256(phantom.mask.array.tobytes()).hexdigest() == MASK_SHA256
    assert phantom.volume.source is not None
    assert phantom.volume.source.sha256 == CT_SHA256
    assert phantom.volume.source.format == "phantom"
    assert phantom.mask.source is phantom.volume.source


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_seed_is_another_adult(phantom: Phantom, seed: int) -> None:
    other = make_phantom(seed=seed, shape=(44, 80, 80), spacing_mm=(7.0, 4.6, 4.6))
    right, left = ml(other, RIGHT_LUNG), ml(other, LEFT_LUNG)
    assert 1400 < left < right < 2600
    assert abs(right - ml(phantom, RIGHT_LUNG)) > 50
    assert not other.mask.array[[0, -1]].any()


def test_a_turned_scan_is_turned_about_x_and_then_about_z() -> None:
    geometry = make_phantom(shape=(2, 3, 4), spacing_mm=(60, 60, 60), oblique_deg=30).volume.geometry
    c, s = np.sqrt(3) / 2, 1 / 2
    z_step, y_step, x_step = geometry.directions.T
    np.testing.assert_allclose(x_step, [c, s, 0], atol=1e-12)
    np.testing.assert_allclose(y_step, [-s * c, c * c, s], atol=1e-12)
    np.testing.assert_allclose(z_step, [s * s, -c * s, c], atol=1e-12)
    np.testing.assert_allclose(geometry.corners_lps().mean(axis=0), [0, 14, 0], atol=1e-9)


@pytest.mark.parametrize("degrees", [8.0, -15.0])
def test_turning_the_scan_leaves_the_patient_where_they_are(phantom: Phantom, degrees: float) -> None:
    turned = make_phantom(oblique_deg=degrees)
    assert turned.volume.geometry.is_oblique
    assert not turned.volume.geometry.is_sheared
    for label in (RIGHT_LUNG, LEFT_LUNG):
        assert ml(turned, label) == pytest.approx(ml(phantom, label), rel=0.01)
        there, here = (centroid_lps(p.mask.array == label, p.mask.geometry) for p in (turned, phantom))
        np.testing.assert_allclose(there, here, atol=1.0)
    # and it is not that nothing was turned
    assert np.count_nonzero(turned.mask.array != phantom.mask.array) > 20_000


def test_a_finer_scan_shows_the_same_patient(phantom: Phantom) -> None:
    fine = make_phantom(shape=(80, 200, 200), spacing_mm=(3.85, 1.84, 1.84))
    for label in (RIGHT_LUNG, LEFT_LUNG):
        assert ml(fine, label) == pytest.approx(ml(phantom, label), rel=0.01)
        there, here = (centroid_lps(p.mask.array == label, p.mask.geometry) for p in (fine, phantom))
        np.testing.assert_allclose(there, here, atol=1.0)


@pytest.mark.parametrize("name", ["phantom_ct.nii.gz", "phantom_dicom"])
def test_a_sample_file_is_the_phantom_voxel_for_voxel_in_its_place(phantom: Phantom, name: str) -> None:
    volume = read_volume(SAMPLES / name)
    np.testing.assert_array_equal(volume.axial, phantom.volume.array)
    # NIfTI keeps its affine as float32: about 1e-5 mm at 200 mm
    assert volume.axial_geometry.matches(phantom.volume.geometry, within_mm=1e-4)


def test_the_sample_tiff_is_the_phantom_voxel_for_voxel_with_its_spacing(phantom: Phantom) -> None:
    volume = read_volume(SAMPLES / "phantom_ct.tif")
    np.testing.assert_array_equal(volume.array, phantom.volume.array)
    assert volume.geometry.spacing_mm == pytest.approx((5.5, 2.3, 2.3), rel=1e-6)


def test_the_sample_mask_is_the_phantoms_lungs(phantom: Phantom) -> None:
    mask = read_mask(SAMPLES / "phantom_lungs.nii.gz")
    np.testing.assert_array_equal(mask.axial, phantom.mask.array)
    in_place = mask.geometry.reordered(mask.geometry.to_axial)
    assert in_place.matches(phantom.mask.geometry, within_mm=1e-4)


def test_the_samples_are_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in SAMPLES.rglob("*") if file.is_file()) < 8e6
