from __future__ import annotations

import runpy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.measure.doubt import SliceDoubt, slice_doubt

Bytes = npt.NDArray[np.uint8]
BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "doubt.py"
# What each slice is given, so that specks raise little doubt.
MM2, MM = 100, 10


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


def banded(wrong_mm2: float, contour_mm: float) -> float:
    """The band that so much wrong area makes along a contour, against 1 mm."""
    width_mm = wrong_mm2 / (contour_mm + MM)
    return width_mm / (width_mm + 1)


def test_a_sharp_contour_that_goes_on_raises_no_doubt() -> None:
    found = doubt(squares(4))
    for field in fields(found):
        np.testing.assert_array_equal(getattr(found, field.name), [0] * 4)


def test_the_overlap_is_what_the_network_expects_of_it() -> None:
    # 400 mm² of lung, and around it 84 pixels of 0.2: 16.8 mm² are to be expected among them
    slices = squares()
    slices[0, 4:26, 4:26] = np.maximum(slices[0, 4:26, 4:26], 51)
    assert doubt(slices).overlap == pytest.approx(16.8 / (400 + 416.8 + MM2))
    # 20 of the 400 at 0.8: 4 mm² are to be expected among those that are not
    slices = squares()
    slices[0, 5, 5:25] = 204
    assert doubt(slices).overlap == pytest.approx(4 / (400 + 396 + MM2))


def test_the_band_is_measured_against_the_length_of_the_contour() -> None:
    slices = squares()
    slices[0, 4:26, 4:26] = np.maximum(slices[0, 4:26, 4:26], 51)
    assert doubt(slices).band == pytest.approx(banded(16.8, 80))


def test_a_contour_is_as_long_as_its_pixels_are_high_and_wide() -> None:
    # 4 rows of 2 mm and 6 columns of 0.5 mm: 8 by 3 mm, with two pixels of 0.8 at the rim
    slices = np.zeros((1, 9, 9), np.uint8)
    slices[0, 2:6, 2:8] = 255
    slices[0, 2, 2:4] = 204
    found = doubt(slices, spacing_mm=(5, 2, 0.5))
    assert found.band == pytest.approx(banded(2 * 0.2, 22))
    assert found.overlap == pytest.approx(0.4 / (24 + 23.6 + MM2))


def test_the_total_is_the_mean_of_overlap_and_band() -> None:
    slices = np.random.default_rng(3).integers(0, 256, (6, 20, 20), dtype=np.uint8)
    found = doubt(slices)
    assert (found.overlap * found.band > 0).all()
    np.testing.assert_allclose(found.total**2, found.overlap * found.band)


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
    found = doubt(slices)
    assert found.change == pytest.approx(20 / (420 + MM2) if counts else 0)
    wrong = 20 * (0.5 if counts else min(value, 255 - value) / 255)
    assert found.band == pytest.approx(banded(wrong, 82 if value >= 128 else 80))


def test_where_the_threshold_decides_the_chance_is_even() -> None:
    # at a threshold of 0.3, the network is rather sure that 0.25 is not lung
    slices = squares()
    slices[0, 25, 5:25] = 64
    found = doubt(slices, threshold=0.3)
    assert found.band == pytest.approx(banded(10, 80))
    assert doubt(slices).band == pytest.approx(banded(20 * 64 / 255, 80))


def test_at_a_low_threshold_faint_voxels_far_off_count_too() -> None:
    # 20 is 0.078: below the threshold of 0.08, and within a tenth of it
    slices = squares()
    slices[0, 4:26, 4:26] = np.maximum(slices[0, 4:26, 4:26], 20)
    assert doubt(slices, threshold=0.08).change == pytest.approx(84 / (484 + MM2))


@pytest.mark.parametrize("threshold", [0.01, 0.05, 0.95, 0.99])
def test_at_the_ends_of_the_slider_nothing_is_everywhere_or_nowhere(threshold: float) -> None:
    found = doubt(squares(3), threshold=threshold)
    np.testing.assert_array_equal(found.total, [0, 0, 0])


@pytest.mark.parametrize("step_mm", [1.0, 10.0])
def test_a_border_that_moves_on_raises_no_doubt_however_fast(step_mm: float) -> None:
    slices = np.concatenate([squares(side=side) for side in (4, 10, 18, 30)])
    found = doubt(slices, spacing_mm=(step_mm, 1, 1))
    np.testing.assert_array_equal(found.total, [0] * 4)


def test_what_is_unlike_both_neighbours_is_as_likely_wrong_as_not() -> None:
    slices = squares(3)
    slices[1, 5:10, 5:25] = 0  # 100 mm² gone
    found = doubt(slices)
    assert found.neighbours == pytest.approx([0, 100 / (400 + MM2), 0])
    assert found.overlap == pytest.approx([0, 50 / (300 + 350 + MM2), 0])
    assert found.band == pytest.approx([0, banded(50, 70), 0])


def test_a_slice_that_was_lost_is_the_most_doubtful() -> None:
    slices = squares(5)
    slices[:, 4:26, 4:26] = np.maximum(slices[:, 4:26, 4:26], 130)  # a soft rim on each
    slices[2] = 0
    found = doubt(slices)
    assert found.total.argmax() == 2
    assert found.overlap[2] == pytest.approx(242 / (242 + MM2))


def test_islands_and_holes_are_pieces_and_two_lungs_are_not() -> None:
    slices = np.zeros((1, 40, 60), np.uint8)
    slices[0, 5:25, 5:25] = slices[0, 5:25, 35:55] = 255
    assert doubt(slices).pieces == [0]
    slices[0, 30:32, 5:10] = 255  # an island of 10 mm²
    slices[0, 10:12, 10:13] = 0  # a hole of 6 mm²
    slices[0, 5, 35:40] = 0  # a bay is no hole
    found, mask = doubt(slices), 400 + 400 + 10 - 6 - 5
    assert found.pieces == pytest.approx(16 / (mask + 6 + MM2))
    # a tenth of the island may not be there, a tenth of the hole may
    assert found.overlap == pytest.approx(1.6 / (mask + mask - 1 + 0.6 + MM2))


def test_a_hole_is_not_open_at_a_corner() -> None:
    slices = squares()
    slices[0, 5, 5] = 0
    slices[0, 6, 6] = 0  # joined to the corner by its own corner: outside
    assert doubt(slices).pieces == [0]


def test_lung_that_the_scan_cuts_off_is_no_hole() -> None:
    slices = np.full((1, 6, 6), 255, np.uint8)
    slices[0, 0, 2:4] = 0
    assert doubt(slices).pieces == [0]


def lungs() -> Bytes:
    """Five slices of two lungs with a contour that is a little soft."""
    y, x = np.mgrid[:60, :100]
    inside_mm = np.maximum(20 - np.hypot(y - 30, x - 25), 20 - np.hypot(y - 30, x - 75))
    return np.repeat((255 / (1 + np.exp(-inside_mm / 0.5))).astype(np.uint8)[np.newaxis], 5, axis=0)


def losing(here: Bytes) -> None:
    here[:] = 0


def losing_a_lung(here: Bytes) -> None:
    here[:, 50:] = 0


def adding_an_island(here: Bytes) -> None:
    here[5:9, 48:52] = 255


def cutting_a_hole(here: Bytes) -> None:
    here[28:32, 23:27] = 0


def blurring(here: Bytes) -> None:
    logit = np.log((here + 0.5) / (255.5 - here))
    here[:] = 255 / (1 + np.exp(-logit / 4))


@pytest.mark.parametrize("spoil", [losing, losing_a_lung, adding_an_island, cutting_a_hole, blurring])
def test_a_spoilt_slice_between_clean_ones_is_the_first_to_look_at(spoil: Any) -> None:
    slices = lungs()
    clean = doubt(slices).total
    spoil(slices[2])
    found = doubt(slices).total
    assert found[2] > clean[2] > 0
    assert found.argmax() == 2
    np.testing.assert_allclose(
        found[[0, 4]], clean[[0, 4]], rtol=1e-12
    )  # two slices off, nothing has changed


def test_a_softer_contour_is_more_doubtful() -> None:
    distance = np.abs(np.arange(60) - 29.5)
    totals = []
    for softness_px in (0.5, 1, 2, 4):
        profile = 255 / (1 + np.exp((distance - 18) / softness_px))
        totals.append(doubt(np.minimum.outer(profile, profile)[np.newaxis].astype(np.uint8)).total[0])
    assert totals == sorted(set(totals))


def test_of_two_slices_as_soft_the_one_with_less_lung_is_more_doubtful() -> None:
    large, small = squares(side=30), squares(side=12)
    large[0, 4:36, 4:36] = np.maximum(large[0, 4:36, 4:36], 51)
    small[0, 4:18, 4:18] = np.maximum(small[0, 4:18, 4:18], 51)
    assert doubt(small).total[0] > doubt(large).total[0]


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


@pytest.mark.parametrize("threshold", [0.05, 0.5])
@pytest.mark.parametrize(("value", "is_zero"), [(2, True), (3, False)])
def test_less_than_a_hundredth_is_nothing(value: int, is_zero: bool, threshold: float) -> None:
    slices = squares(5)
    slices[:3, 4:26, 4:26] = np.maximum(slices[:3, 4:26, 4:26], value)
    slices[4] = 255  # far off, and all over
    found = doubt(slices, threshold=threshold, done=[True, True, True, False, True])
    np.testing.assert_array_equal(found.total[:3] == 0, [is_zero] * 3)
    np.testing.assert_array_equal(doubt(np.zeros((3, 4, 4), np.uint8)).total, [0, 0, 0])


def test_the_doubt_of_a_slice_stays_while_slices_further_off_come_in() -> None:
    slices = np.zeros((7, 40, 40), np.uint8)
    slices[2:5] = np.random.default_rng(1).integers(0, 256, (3, 1, 1), dtype=np.uint8)
    slices[1:6, 14:26, 14:26] = np.random.default_rng(1).integers(0, 256, (5, 12, 12), dtype=np.uint8)
    some = doubt(slices, done=[False, True, True, True, True, False, False])
    slices[[0, 6]] = 255  # far off, and all over
    every = doubt(slices)
    for field in fields(some):
        np.testing.assert_allclose(
            getattr(some, field.name)[2:4], getattr(every, field.name)[2:4], rtol=1e-12
        )


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
    for field in fields(found):
        part = getattr(found, field.name)
        assert ((part >= 0) & (part < 1)).all()
    for name in ("change", "neighbours", "pieces"):  # of islands of one size, either may count as the lung
        np.testing.assert_allclose(getattr(turned, name), getattr(found, name), atol=1e-12)


def test_the_benchmark_counts_what_its_head_says() -> None:
    figures = runpy.run_path(str(BENCHMARK))["figures"]
    dice = np.linspace(0.9, 0.995, 20)  # the worst tenth are the first two slices
    order_by = np.arange(20.0, 0, -1)
    assert figures(order_by, dice) == pytest.approx([1, 1, 1, 1, 1])
    order_by[1] = 15.5  # looked at as the fifth
    precision, found, average, auroc, _ = figures(order_by, dice)
    assert (precision, found) == (0.5, 0.5)
    assert average == pytest.approx((1 / 1 + 2 / 5) / 2)
    assert auroc == pytest.approx(
        1 - 3 / 36
    )  # 3 of the 36 pairs of a worst and another slice are in disorder


def test_on_a_ct_the_doubt_finds_the_worst_slices_before_the_smallest_masks_do(real_ct: Path) -> None:
    import napari_resunet as nru

    benchmark = runpy.run_path(str(BENCHMARK))
    ((_, ct, reference),) = benchmark["pairs"](real_ct / "val" / "cmb-crc")
    slices = benchmark["measured"](ct, reference, nru.load_model("lung-ct"), everywhere=False)
    ours, smallest = (
        dict(zip(benchmark["NAMES"], benchmark["figures"](order_by, slices.dice), strict=True))
        for order_by in (slices.doubt, -slices.area_mm2)
    )
    assert ours["prec 10 %"] >= smallest["prec 10 %"]
    for name in ("found 20 %", "AP", "AUROC", "rho"):
        assert ours[name] > smallest[name] + 0.02
