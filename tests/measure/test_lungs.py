from __future__ import annotations

import math
from dataclasses import astuple, replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from napari_resunet.errors import GeometryError, InputError
from napari_resunet.geometry import Geometry
from napari_resunet.measure.lungs import lung_figures
from napari_resunet.phantom import Phantom
from napari_resunet.volume import Mask, Volume

VOXEL_ML = 5 * 4 * 2 / 1000


def row(hu: list[float], labels: list[int], dtype: str = "int16") -> tuple[Volume, Mask]:
    """One row of voxels, with a voxel of fat outside at its end."""
    geometry = Geometry.from_spacing((1, 1, len(hu) + 1), (5, 4, 2))
    array = np.array([*hu, -100], dtype).reshape(1, 1, -1)
    return Volume(array, geometry), Mask(np.array([*labels, 0], np.uint8).reshape(1, 1, -1), geometry)


def test_right_left_and_both_by_hand() -> None:
    right, left, both = lung_figures(*row([-800, -900, -1000, -700, -900], [1, 1, 1, 2, 2]))
    assert [right.name, left.name, both.name] == ["right", "left", "both"]
    assert [f.voxels for f in (right, left, both)] == [3, 2, 5]
    assert [f.volume_ml for f in (right, left, both)] == pytest.approx(
        [3 * VOXEL_ML, 2 * VOXEL_ML, 5 * VOXEL_ML]
    )
    assert [f.mean_hu for f in (right, left, both)] == pytest.approx([-900, -800, -860])
    assert right.sd_hu == pytest.approx(math.sqrt((100**2 + 0 + 100**2) / 3))
    assert left.sd_hu == pytest.approx(100)
    assert right.laa950_percent == pytest.approx(100 / 3)
    assert left.laa950_percent == 0
    assert both.laa950_percent == pytest.approx(20)


def test_the_15th_percentile_lies_between_the_values_around_it() -> None:
    # 11 values of 10 steps: 15 % of the way is 1.5 steps, between -990 and -980
    (both,) = lung_figures(*row([-1000 + 10 * i for i in range(11)], [1] * 11))
    assert both.p15_hu == pytest.approx(-985)


def test_minus_950_is_not_below_minus_950() -> None:
    (both,) = lung_figures(*row([-949, -950, -951, -952], [1] * 4))
    assert both.laa950_percent == 50


def test_a_mask_without_sides_gives_only_both() -> None:
    assert [f.name for f in lung_figures(*row([-800, -900], [1, 1]))] == ["both"]


def test_a_right_lung_alone_is_right_by_the_word_of_who_made_the_mask() -> None:
    right, left, both = lung_figures(*row([-800, -900], [1, 1]), sides=True)
    assert (right.voxels, left.voxels, both.voxels) == (2, 0, 2)
    assert math.isnan(left.mean_hu)


def test_a_left_lung_alone_leaves_the_right_one_empty() -> None:
    right, left, _ = lung_figures(*row([-800, -900], [2, 2]))
    assert (right.voxels, right.volume_ml) == (0, 0)
    assert left.voxels == 2


@pytest.mark.parametrize("padding", [-1500, -2000, -3024])
def test_padding_counts_for_the_volume_and_not_for_the_density(padding: int) -> None:
    (both,) = lung_figures(*row([-800, -1000, padding], [1, 1, 1]))
    assert both.voxels == 3
    assert both.volume_ml == pytest.approx(3 * VOXEL_ML)
    assert (both.mean_hu, both.sd_hu, both.laa950_percent) == (-900, 100, 50)


def test_noise_in_air_is_not_padding() -> None:
    (both,) = lung_figures(*row([-1499, -901], [1, 1]))
    assert both.mean_hu == -1200


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_counts_for_the_volume_and_not_for_the_density(value: float) -> None:
    (both,) = lung_figures(*row([-800, value, -900], [1, 1, 1], "float32"))
    assert both.voxels == 3
    assert (both.mean_hu, both.p15_hu) == pytest.approx((-850, -885))


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_without_a_measured_voxel_the_density_is_not_a_number(labels: list[int]) -> None:
    (both,) = lung_figures(*row([-2048, -2048], labels))
    assert both.voxels == sum(labels)
    assert np.isnan([both.mean_hu, both.sd_hu, both.p15_hu, both.laa950_percent]).all()


def test_the_mean_of_float32_voxels_is_not_itself_a_float32() -> None:
    # of -850.3 the nearest float32 is 1.2e-5 off
    (both,) = lung_figures(*row([-850] * 7 + [-851] * 3, [1] * 10, "float32"))
    assert both.mean_hu == pytest.approx(-850.3, abs=1e-6)
    assert both.sd_hu == pytest.approx(math.sqrt(0.3 * 0.7), abs=1e-6)


def test_itk_finds_the_same_mean_spread_and_volume() -> None:
    rng = np.random.default_rng(0)
    hu, labels = rng.integers(-1100, 0, (4, 6, 8)), rng.integers(0, 3, (4, 6, 8))
    geometry = Geometry.from_spacing((4, 6, 8), (5, 0.8, 0.7))
    found = lung_figures(Volume(hu.astype(np.int16), geometry), Mask(labels.astype(np.uint8), geometry))
    filter_ = sitk.LabelStatisticsImageFilter()
    filter_.Execute(
        sitk.GetImageFromArray(hu.astype(np.int16)), sitk.GetImageFromArray(labels.astype(np.uint8))
    )
    for label, lung in zip((1, 2), found, strict=False):
        count = filter_.GetCount(label)
        assert lung.voxels == count
        assert lung.volume_ml == pytest.approx(count * 5 * 0.8 * 0.7 / 1000)
        assert lung.mean_hu == pytest.approx(filter_.GetMean(label))
        # ITK estimates the spread of a population from a sample
        assert lung.sd_hu == pytest.approx(filter_.GetSigma(label) * math.sqrt((count - 1) / count))


def test_a_mask_on_another_grid_is_refused() -> None:
    volume, _ = row([-800, -900], [1, 1])
    moved = volume.geometry.index_to_lps.copy()
    moved[2, 3] = 5
    mask = Mask(np.ones((1, 1, 3), np.uint8), Geometry((1, 1, 3), moved))
    with pytest.raises(GeometryError, match=r"the mask lies 5.00 mm beside the CT at a corner"):
        lung_figures(volume, mask)
    _, longer = row([-800] * 3, [1] * 3)
    with pytest.raises(
        GeometryError, match=r"the mask has \(1, 1, 4\) voxels \(z, y, x\), the CT \(1, 1, 3\)"
    ):
        lung_figures(volume, longer)


def test_the_figures_are_plain_numbers_that_json_can_hold() -> None:
    for lung in lung_figures(*row([-800, -960], [1, 2])):
        assert {type(value) for value in astuple(lung)} == {str, int, float}


def test_values_that_look_like_hu_and_1024_are_not_measured_as_hu(chest: Phantom) -> None:
    shifted = replace(chest.volume, array=chest.volume.array + np.int16(1024), hu_confirmed=False)
    with pytest.raises(InputError, match="HU offset of -1024"):
        lung_figures(shifted, chest.mask)
    assert lung_figures(shifted.with_hu_offset(-1024), chest.mask) == lung_figures(chest.volume, chest.mask)
