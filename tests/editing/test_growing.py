from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.editing.growing import grow_from
from napari_resunet.errors import InputError

LUNG: dict[str, Any] = {"low_hu": -950, "high_hu": -500}
CUBE: dict[str, Any] = {"spacing_mm": (1.0, 1.0, 1.0), "in_slice": False}


def row(*values: float, dtype: Any = np.int16) -> npt.NDArray[Any]:
    return np.array(values, dtype).reshape(1, 1, -1)


def grown(hu: npt.NDArray[Any], seed: tuple[int, int, int], **choices: Any) -> list[int]:
    return np.flatnonzero(grow_from(hu, seed, **{**LUNG, **CUBE, "within_mm": math.inf, **choices})).tolist()


def test_it_grows_through_the_range_and_both_ends_belong_to_it() -> None:
    hu = row(-951, -950, -700, -500, -499, -700)
    assert grown(hu, (0, 0, 2)) == [1, 2, 3]


def test_it_does_not_leap_over_a_wall_nor_slip_past_a_corner() -> None:
    assert grown(row(-700, 40, -700), (0, 0, 0)) == [0]
    diagonal = np.full((1, 2, 2), 40)
    diagonal[0, 0, 0] = diagonal[0, 1, 1] = -700
    assert grown(diagonal, (0, 0, 0)) == [0]


@pytest.mark.parametrize(("within_mm", "steps"), [(0, 0), (1.09, 0), (1.1, 1), (3.3, 3), (3.2, 2)])
def test_it_reaches_as_many_steps_as_lie_within_the_distance(within_mm: float, steps: int) -> None:
    hu = np.full((1, 1, 11), -700)
    wanted = list(range(5 - steps, 5 + steps + 1))
    assert grown(hu, (0, 0, 5), within_mm=within_mm, spacing_mm=(5, 5, 1.1)) == wanted


def test_the_distance_is_in_mm_along_each_axis_and_the_bound_is_a_ball() -> None:
    hu = np.full((7, 21, 21), -700)
    region = grow_from(hu, (3, 10, 10), within_mm=6, spacing_mm=(3.0, 2.0, 1.0), in_slice=False, **LUNG)
    z, y, x = np.indices(hu.shape)
    np.testing.assert_array_equal(region, 9 * (z - 3) ** 2 + 4 * (y - 10) ** 2 + (x - 10) ** 2 <= 36)
    assert region.sum(axis=(1, 2))[[0, 1, 5, 6]].tolist() == [0, 1, 1, 0]


def test_a_way_that_leaves_the_ball_does_not_count() -> None:
    # a U: its other arm is 2 mm off, but the way there is longer than the ball allows
    hu = np.full((1, 8, 3), 40)
    hu[0, :, 0] = hu[0, :, 2] = hu[0, 7, 1] = -700
    assert not grow_from(hu, (0, 0, 0), within_mm=3, **LUNG, **CUBE)[0, :, 2].any()
    assert grow_from(hu, (0, 0, 0), within_mm=8, **LUNG, **CUBE)[0, 0, 2]


def test_in_the_slice_it_stays_there_and_takes_no_way_round_through_others() -> None:
    hu = np.full((2, 1, 3), -700)
    hu[0, 0, 1] = 40
    assert grown(hu, (0, 0, 0)) == [0, 2, 3, 4, 5]
    assert grown(hu, (0, 0, 0), in_slice=True) == [0]


def test_what_is_not_a_number_never_grows() -> None:
    hu = row(-700, math.nan, -700, dtype=np.float32)
    assert grown(hu, (0, 0, 0), low_hu=-math.inf, high_hu=math.inf) == [0]
    with pytest.raises(InputError, match="column 1 has no HU, outside of the range from -950 to -500 HU"):
        grown(hu, (0, 0, 1))


@pytest.mark.parametrize(("hu", "said"), [(40, "40 HU"), (-951, "-951 HU"), (-499.5, "-499.5 HU")])
def test_a_seed_outside_of_the_range_is_refused_by_its_hu(hu: float, said: str) -> None:
    with pytest.raises(
        InputError,
        match=rf"slice 0, row 0, column 1 has {said}, outside of the range from -950 to -500 HU; click",
    ):
        grown(row(-700, hu, dtype=np.float32), (0, 0, 1))


def test_a_seed_outside_of_the_ct_is_refused() -> None:
    with pytest.raises(InputError, match="outside of the CT"):
        grown(row(-700), (0, 0, -1))


@pytest.mark.parametrize("within_mm", [-1.0, math.nan])
def test_a_distance_below_nothing_is_a_wrong_call(within_mm: float) -> None:
    with pytest.raises(ValueError, match="within_mm must be 0 or more"):
        grown(row(-700), (0, 0, 0), within_mm=within_mm)


@given(
    hnp.arrays(np.int16, (4, 5, 6), elements=st.sampled_from([-900, -600, 0])),
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)),
    st.floats(0, 12),
    st.booleans(),
)
@settings(max_examples=60)
def test_it_holds_the_seed_and_stays_within_the_distance_and_the_range(
    hu: npt.NDArray[np.int16], seed: tuple[int, int, int], within_mm: float, in_slice: bool
) -> None:
    hu[seed] = -900
    before = hu.copy()
    spacing_mm = (2.5, 0.8, 1.1)
    region = grow_from(hu, seed, within_mm=within_mm, spacing_mm=spacing_mm, in_slice=in_slice, **LUNG)
    np.testing.assert_array_equal(hu, before)
    assert region.shape == hu.shape
    assert region.dtype == bool
    assert region[seed]
    assert set(hu[region].tolist()) <= {-900, -600}
    away = np.linalg.norm((np.argwhere(region) - seed) * spacing_mm, axis=1)
    assert away.max() <= within_mm + 1e-6
    assert not in_slice or not np.delete(region, seed[0], axis=0).any()
