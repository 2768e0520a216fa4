from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.editing.smoothing import smooth

Bools = npt.NDArray[np.bool_]
CUBE = (1.0, 1.0, 1.0)


def ball(shape: tuple[int, int, int], radius_mm: float, spacing_mm: tuple[float, float, float]) -> Bools:
    z, y, x = ((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True))
    return np.asarray(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2 < radius_mm**2)


@pytest.mark.parametrize("spacing_mm", [(5.0, 1.0, 1.0), (5.0, 0.7, 0.7), (5.0, 2.0, 1.0)])
@pytest.mark.parametrize("radius_mm", [2.0, 4.0, 8.0])
def test_a_disc_keeps_its_area(spacing_mm: tuple[float, float, float], radius_mm: float) -> None:
    disc = ball((1, 121, 121), 25, spacing_mm)
    smoothed = smooth(disc, radius_mm=radius_mm, spacing_mm=spacing_mm)
    assert smoothed.sum() == pytest.approx(disc.sum(), rel=0.01)


@pytest.mark.parametrize("radius_mm", [3.0, 6.0])
def test_a_ball_keeps_its_volume_though_slices_are_thick(radius_mm: float) -> None:
    spacing_mm = (2.5, 1.0, 1.0)
    solid = ball((21, 51, 51), 20, spacing_mm)
    assert smooth(solid, radius_mm=radius_mm, spacing_mm=spacing_mm).sum() == pytest.approx(
        solid.sum(), rel=0.01
    )


def test_teeth_on_an_edge_vanish() -> None:
    comb = np.zeros((1, 60, 40), bool)
    comb[:, :, :20] = True
    comb[:, ::4, 20:23] = True  # a quarter of the rows is longer by 3 pixels: 0.75 on the average
    smoothed = smooth(comb, radius_mm=2.5, spacing_mm=CUBE)
    far_from_the_ends = smoothed[0, 15:-15].sum(axis=1)
    assert set(far_from_the_ends.tolist()) == {21}


def test_jumps_from_slice_to_slice_are_evened_out_where_slices_are_thinner_than_the_radius() -> None:
    jagged = np.zeros((40, 1, 40), bool)
    jagged[::2, :, :16] = jagged[1::2, :, :24] = True
    thin = smooth(jagged, radius_mm=4, spacing_mm=CUBE).sum(axis=(1, 2))
    thick = smooth(jagged, radius_mm=4, spacing_mm=(20.0, 1.0, 1.0)).sum(axis=(1, 2))
    assert thin[15:-15].tolist() == [20] * 10
    assert thick.tolist() == [16, 24] * 20


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_straight_edge_stays_where_it_is(axis: int) -> None:
    half = np.zeros((20, 20, 20), bool)
    half[:8] = True
    half = np.moveaxis(half, 0, axis)
    np.testing.assert_array_equal(smooth(half, radius_mm=3, spacing_mm=CUBE), half)


def test_a_thin_sheet_goes_and_a_thin_slit_is_closed() -> None:
    sheet = np.zeros((30, 30, 60), bool)
    sheet[:, :, 30:33] = True
    assert not smooth(sheet, radius_mm=5, spacing_mm=CUBE).any()
    assert smooth(~sheet, radius_mm=5, spacing_mm=CUBE).all()
    sheet[:, :, 30:38] = True
    assert smooth(sheet, radius_mm=5, spacing_mm=CUBE)[:, :, 30:38].all()


def test_where_the_mask_lies_in_the_picture_changes_nothing() -> None:
    small = np.random.default_rng(0).random((4, 9, 9)) < 0.7
    alone, among = np.zeros((30, 60, 60), bool), np.zeros((40, 90, 90), bool)
    alone[13:17, 20:29, 25:34] = among[20:24, 50:59, 41:50] = small
    near = smooth(alone, radius_mm=1.5, spacing_mm=CUBE)
    np.testing.assert_array_equal(
        near[7:23, 14:35, 19:40], smooth(among, radius_mm=1.5, spacing_mm=CUBE)[14:30, 44:65, 35:56]
    )
    assert near.sum() == near[7:23, 14:35, 19:40].sum() > 0


@given(hnp.arrays(np.uint8, (3, 6, 6), elements=st.integers(0, 2)))
@settings(max_examples=30)
def test_radius_0_returns_the_same_in_another_array_and_nothing_given_is_changed(
    mask: npt.NDArray[np.uint8],
) -> None:
    before = mask.copy()
    same = smooth(mask, radius_mm=0, spacing_mm=CUBE)
    np.testing.assert_array_equal(same, mask > 0)
    assert not np.shares_memory(same, mask)
    assert smooth(mask, radius_mm=1, spacing_mm=CUBE).dtype == same.dtype == bool
    np.testing.assert_array_equal(mask, before)


def test_nothing_stays_nothing_and_all_stays_all() -> None:
    for value in (False, True):
        mask = np.full((3, 8, 8), value)
        np.testing.assert_array_equal(smooth(mask, radius_mm=2, spacing_mm=CUBE), mask)


@pytest.mark.parametrize("radius_mm", [-1.0, math.nan, math.inf])
def test_a_radius_below_nothing_is_a_wrong_call(radius_mm: float) -> None:
    with pytest.raises(ValueError, match="radius_mm must be 0 or more"):
        smooth(np.zeros((2, 2, 2), bool), radius_mm=radius_mm, spacing_mm=CUBE)
