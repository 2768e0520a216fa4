from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.measure.doubt import SliceDoubt, slice_doubt

Bytes = npt.NDArray[np.uint8]
PARTS = ("band", "change", "neighbours", "pieces")
# What each slice is given, so that specks raise little doubt.
MM2, MM = 100, 35


def doubt(
    probabilities: Bytes,
    *,
    threshold: float = 0.5,
    spacing_mm: tuple[float, float, float] = (5.0, 1.0, 1.0),
    done: Any = True,
) -> SliceDoubt:
    flags = np.broadcast_to(np.asarray(done, bool), len(probabilities))
    return slice_doubt(probabilities, threshold=threshold, spacing_mm=spacing_mm, done=flags)


def squares(count: int = 1, side: int = 20, value: int = 255) -> Bytes:
    slices = np.zeros((count, 40, 40), np.uint8)
    slices[:, 5 : 5 + side, 5 : 5 + side] = value
    return slices


def test_a_sharp_contour_that_goes_on_raises_no_doubt() -> None:
    found = doubt(squares(4))
    for field in fields(found):
        np.testing.assert_array_equal(getattr(found, field.name), [0] * 4)


def test_the_band_is_measured_against_the_length_of_the_contour() -> None:
    # 20 x 20 mm of lung, and around it a rim of one pixel at 0.39: 84 mm² along a contour of 80 mm
    slices = squares()
    slices[0, 4:26, 4:26] = np.maximum(slices[0, 4:26, 4:26], 100)
    assert doubt(slices).band == pytest.approx(84 / (84 + 1.5 * (80 + MM)))


def test_a_contour_is_as_long_as_its_pixels_are_high_and_wide() -> None:
    # 4 rows of 2 mm and 6 columns of 0.5 mm: 8 by 3 mm, with two pixels of doubt inside, at the rim
    slices = np.zeros((1, 9, 9), np.uint8)
    slices[0, 2:6, 2:8] = 255
    slices[0, 2, 2:4] = 150
    found = doubt(slices, spacing_mm=(5, 2, 0.5))
    assert found.band == pytest.approx(2 / (2 + 1.5 * (22 + MM)))


@pytest.mark.parametrize(("value", "counts"), [(51, False), (52, True), (203, True), (204, False)])
def test_the_band_lies_between_a_fifth_and_four_fifths(value: int, counts: bool) -> None:
    assert (doubt(squares(value=value)).band > 0) == counts


@pytest.mark.parametrize(
    ("value", "counts"),
    [
        (101, False),
        (102, True),
        (127, True),
        (128, True),
        (152, True),
        (153, False),
    ],  # 0.4 is 102, 0.6 is 153
)
def test_change_is_what_a_tenth_more_or_less_would_change(value: int, counts: bool) -> None:
    slices = squares()
    slices[0, 25, 5:25] = value
    area = 400 + (20 if value >= 128 else 0)
    assert doubt(slices).change == pytest.approx(20 / (20 + 0.06 * (area + MM2)) if counts else 0)


def test_at_a_low_threshold_faint_voxels_far_off_count_too() -> None:
    # 20 is 0.078: below the threshold of 0.08, and within a tenth of it
    slices = squares()
    slices[0, 4:26, 4:26] = np.maximum(slices[0, 4:26, 4:26], 20)
    assert doubt(slices, threshold=0.08).change == pytest.approx(84 / (84 + 0.06 * (400 + MM2)))


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.95, 0.99])
def test_at_the_ends_of_the_slider_nothing_is_everywhere_or_nowhere(threshold: float) -> None:
    found = doubt(squares(3), threshold=threshold)
    np.testing.assert_array_equal(found.total, [0, 0, 0])


@pytest.mark.parametrize("step_mm", [1.0, 10.0])
def test_a_border_that_moves_on_raises_no_doubt_however_fast(step_mm: float) -> None:
    slices = np.concatenate([squares(side=side) for side in (4, 10, 18, 30)])
    found = doubt(slices, spacing_mm=(step_mm, 1, 1))
    np.testing.assert_array_equal(found.neighbours, [0] * 4)


def test_what_is_unlike_both_neighbours_raises_doubt() -> None:
    slices = squares(3)
    slices[1, 5:10, 5:25] = 0  # 100 mm² gone
    found = doubt(slices)
    assert found.neighbours == pytest.approx([0, 100 / (100 + 0.2 * (300 + MM2)), 0])


def test_a_slice_that_was_lost_is_the_most_doubtful() -> None:
    slices = squares(5)
    slices[:, 4:26, 4:26] = np.maximum(slices[:, 4:26, 4:26], 130)  # a soft rim on each
    slices[2] = 0
    found = doubt(slices)
    assert found.total.argmax() == 2
    assert found.neighbours[2] == pytest.approx(484 / (484 + 0.2 * MM2))
    assert found.total[2] == pytest.approx(found.neighbours[2])


def test_islands_and_holes_are_pieces_and_two_lungs_are_not() -> None:
    slices = np.zeros((1, 40, 60), np.uint8)
    slices[0, 5:25, 5:25] = slices[0, 5:25, 35:55] = 255
    assert doubt(slices).pieces == [0]
    slices[0, 30:32, 5:10] = 255  # an island of 10 mm²
    slices[0, 10:12, 10:13] = 0  # a hole of 6 mm²
    slices[0, 5, 35:40] = 0  # a bay is no hole
    area = 400 + 400 + 10 - 6 - 5
    assert doubt(slices).pieces == pytest.approx(16 / (16 + 0.1 * (area + MM2)))


def test_a_hole_is_not_open_at_a_corner() -> None:
    slices = squares()
    slices[0, 5, 5] = 0
    slices[0, 6, 6] = 0  # joined to the corner by its own corner: outside
    assert doubt(slices).pieces == [0]


def test_lung_that_the_scan_cuts_off_is_no_hole() -> None:
    slices = np.full((1, 6, 6), 255, np.uint8)
    slices[0, 0, 2:4] = 0
    assert doubt(slices).pieces == [0]


def test_the_parts_make_the_total() -> None:
    slices = np.random.default_rng(3).integers(0, 256, (6, 20, 20), dtype=np.uint8)
    found = doubt(slices)
    sure = [1 - getattr(found, name) for name in PARTS]
    assert (np.array(sure) < 1).any(axis=1).all()
    wanted = 1 - np.sqrt(sure[0] * sure[1]) * sure[2] * sure[3] ** 0.1
    np.testing.assert_allclose(found.total, wanted)


def test_a_speck_raises_less_doubt_than_a_lung_as_soft() -> None:
    lung, speck = squares(), squares(side=3)
    lung[0, 4:26, 4:26] = np.maximum(lung[0, 4:26, 4:26], 100)
    speck[0, 5, 5:8] = 100
    assert 0 < doubt(speck).total[0] < doubt(lung).total[0]


def test_slices_not_run_are_not_a_number_and_no_ones_neighbour() -> None:
    slices = squares(5)
    slices[0] = 0
    slices[2] = 0  # not run: as it is in a map; slice 1 is not known to be unlike both neighbours
    found = doubt(slices, done=[True, True, False, True, True])
    for field in fields(found):
        np.testing.assert_array_equal(getattr(found, field.name), [0, 0, np.nan, 0, 0])
    assert doubt(slices).neighbours[1] > 0
    assert np.isnan(doubt(squares(2), done=False).total).all()


def test_a_threshold_off_by_rounding_is_the_threshold_meant() -> None:
    # 0.6 is 153; six steps of 0.1 come to 0.6000000000000001, which would be 154
    slices = squares(3, value=153)
    slices[1] = 0
    assert 6 * 0.1 > 0.6
    assert doubt(slices, threshold=6 * 0.1).neighbours[1] > 0


def test_slices_without_any_probability_above_a_tenth_are_zero() -> None:
    # 25 of 255 is below a tenth, 26 above; the threshold is so low that both are in the mask
    for value, is_zero in ((25, True), (26, False)):
        slices = squares(3, value=255)
        slices[2] = squares(value=value)[0]
        slices[1] = 0
        slices[2, 20:, :] = 0
        assert (doubt(slices, threshold=0.08).total[2] == 0) == is_zero
    np.testing.assert_array_equal(doubt(np.zeros((3, 4, 4), np.uint8)).total, [0, 0, 0])


def test_the_doubt_of_a_slice_stays_while_slices_further_off_come_in() -> None:
    slices = np.random.default_rng(1).integers(0, 256, (7, 12, 12), dtype=np.uint8)
    some = doubt(slices, done=[False, True, True, True, True, False, False]).total
    np.testing.assert_allclose(some[2:4], doubt(slices).total[2:4])


def test_a_softer_contour_is_more_doubtful() -> None:
    distance = np.abs(np.arange(60) - 29.5)
    totals = []
    for softness_px in (0.5, 1, 2, 4):
        profile = 255 / (1 + np.exp((distance - 18) / softness_px))
        totals.append(doubt(np.minimum.outer(profile, profile)[np.newaxis].astype(np.uint8)).total[0])
    assert totals == sorted(totals)
    assert totals[-1] > totals[0]


@pytest.mark.parametrize(
    ("array", "done"),
    [
        (np.zeros((4, 4), np.uint8), np.ones(4, bool)),
        (np.zeros((2, 4, 4), np.float32), np.ones(2, bool)),
        (np.zeros((2, 4, 4), np.uint8), np.ones(3, bool)),
    ],
)
def test_other_arrays_are_refused(array: Any, done: Any) -> None:
    with pytest.raises(ValueError, match=r"takes a \(z, y, x\) array of uint8 and a \(z,\) array of bool"):
        slice_doubt(array, threshold=0.5, spacing_mm=(1, 1, 1), done=done)


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6))),
    st.floats(0.01, 0.99),
)
def test_every_part_lies_between_sure_and_one_and_turning_the_slices_changes_nothing(
    slices: Bytes, threshold: float
) -> None:
    given_slices = slices.copy()
    found = doubt(slices, threshold=threshold)
    np.testing.assert_array_equal(slices, given_slices)
    turned = doubt(slices[:, ::-1].transpose(0, 2, 1), threshold=threshold)
    for name in ("total", "band", "change", "neighbours"):
        part = getattr(found, name)
        assert ((part >= 0) & (part < 1)).all()
        np.testing.assert_allclose(getattr(turned, name), part, atol=1e-12)
