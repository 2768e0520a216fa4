from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_resunet.geometry import AxisOrder, Geometry
from napari_resunet.inference.postprocess import finish_mask, lung_voxels, to_mask
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import ProbabilityMap, Run, Source, threshold_level

RUN = Run("tiny", "0123", 32, "cpu", "float32", (0, 20, 0, 60))
SHAPE = (6, 20, 60)
GEOMETRY = Geometry.from_spacing(SHAPE, (5, 2.5, 2.5))
STORED = AxisOrder((2, 1, 0), (False, True, True))


def lungs() -> npt.NDArray[np.uint8]:
    """Two lungs of 4 x 12 x 14 voxels with a hole, 80 mm apart, and a speck of gas."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:5, 4:16, 5:19] = array[1:5, 4:16, 40:54] = 200
    array[2, 8:10, 10:12] = 30
    array[0, 0, 0] = 255
    return array


def probability(array: npt.NDArray[np.uint8] | None = None, **changes: Any) -> ProbabilityMap:
    prob = ProbabilityMap(lungs() if array is None else array, GEOMETRY, np.ones(SHAPE[0], bool), RUN)
    return dataclasses.replace(prob, **changes)


def test_half_is_128_of_255() -> None:
    assert threshold_level(0.5) == 128


@pytest.mark.parametrize("level", range(256))
def test_a_threshold_that_is_a_level_is_that_level(level: int) -> None:
    assert threshold_level(level / 255) == level


def test_a_slider_that_adds_up_its_steps_reaches_the_level_it_shows() -> None:
    shown = 0.1 + 0.2 + 0.3
    assert shown > 0.6
    assert threshold_level(shown) == threshold_level(0.6) == 153


@given(st.floats(0.01, 0.99), st.integers(0, 255))
def test_a_voxel_is_lung_where_its_probability_is_at_least_the_threshold(
    threshold: float, level: int
) -> None:
    is_lung = bool(
        lung_voxels(np.full((1, 1, 1), level, np.uint8), threshold=threshold, clean=False)[0, 0, 0]
    )
    if abs(level / 255 - threshold) > 1e-8:  # within rounding of a level, the level counts as reached
        assert is_lung == (level / 255 >= threshold)


@pytest.mark.parametrize("threshold", [0.0, 1.0, float("nan")])
def test_a_threshold_that_would_take_all_or_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be at "):
        to_mask(probability(), threshold)


def test_the_mask_is_cleaned_up_by_default() -> None:
    mask = to_mask(probability())
    assert np.count_nonzero(mask.array) == 2 * 4 * 12 * 14
    assert mask.array[2, 8, 10]
    assert not mask.array[0, 0, 0]
    assert mask.array.max() == 1


def test_without_clean_up_the_mask_is_the_threshold_alone() -> None:
    np.testing.assert_array_equal(to_mask(probability(), clean=False).array, lungs() >= 128)
    np.testing.assert_array_equal(to_mask(probability(), 0.9, clean=False).array, lungs() >= 230)


def test_a_split_mask_has_the_right_lung_1_and_the_left_2_on_the_same_voxels() -> None:
    whole, split = to_mask(probability()), to_mask(probability(), split=True)
    np.testing.assert_array_equal(split.array > 0, whole.array > 0)
    assert set(np.unique(split.array[:, :, :30])) == {0, 1}
    assert set(np.unique(split.array[:, :, 30:])) == {0, 2}


@pytest.mark.parametrize(("crop", "side"), [((0, 20, 0, 60), 2), ((0, 20, 35, 60), 1)])
def test_one_lung_lies_right_or_left_of_the_middle_of_the_body_the_network_saw(crop: Any, side: int) -> None:
    array = lungs()
    array[:, :, :30] = 0
    array[:, :, 46:] = 0  # columns 40 to 45 are left
    run = dataclasses.replace(RUN, crop=crop)
    assert to_mask(probability(array, run=run), split=True).array.max() == side


def test_without_a_run_the_middle_of_the_picture_is_the_middle_of_the_body() -> None:
    array = lungs()
    array[:, :, :30] = 0
    assert to_mask(probability(array, run=None), split=True).array.max() == 2


@pytest.mark.parametrize("split", [False, True])
def test_the_mask_lies_in_the_order_of_the_source(split: bool) -> None:
    stored = ProbabilityMap(
        np.ascontiguousarray(STORED.apply(lungs())), GEOMETRY.reordered(STORED), np.ones(SHAPE[0], bool), RUN
    )
    mask = to_mask(stored, split=split)
    np.testing.assert_array_equal(mask.array, STORED.apply(to_mask(probability(), split=split).array))
    assert mask.geometry is stored.geometry
    assert mask.array.flags.c_contiguous


def test_a_mask_tells_how_it_was_made() -> None:
    done = np.array([True, True, False, False, False, False])
    source = Source(Path("ct"), "phantom", "00")
    mask = to_mask(probability(done=done, source=source), threshold=0.25, clean=False, split=True)
    assert mask.source is source
    assert mask.history == {
        "run": dataclasses.asdict(RUN),
        "mask": {"threshold": 0.25, "clean": False, "split": True, "swap_sides": False},
        "slices_run": [[0, 2]],
        "slices": 6,
        "voxels_edited_by_hand": 0,
        "notes_on_the_ct": [],
    }


def test_a_mask_that_no_network_made_says_so_and_counts_what_a_hand_did() -> None:
    mask = finish_mask(np.zeros(SHAPE, np.uint8), probability(run=None), MaskSettings(), edited=7)
    assert mask.history["run"] is None
    assert mask.history["voxels_edited_by_hand"] == 7


def test_the_probabilities_stay_as_they_were() -> None:
    prob = probability()
    to_mask(prob, split=True)
    np.testing.assert_array_equal(prob.array, lungs())
