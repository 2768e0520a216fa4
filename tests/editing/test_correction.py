from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from napari_resunet.editing.correction import changed_by_hand, compose, stated_by

SHAPE = (2, 3)
bools = hnp.arrays(bool, SHAPE)
edits = hnp.arrays(np.int8, SHAPE, elements={"min_value": -1, "max_value": 1})


def row(*values: int, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    return np.array(values, dtype).reshape(1, -1)


def test_an_edit_decides_and_where_there_is_none_the_automatic_mask_does() -> None:
    automatic = row(0, 0, 0, 1, 1, 1, dtype=bool)
    edit = row(-1, 0, 1, -1, 0, 1, dtype=np.int8)
    mask = compose(automatic, edit)
    assert mask.ravel().tolist() == [0, 0, 1, 0, 1, 1]
    assert mask.dtype == np.uint8


@given(bools, edits)
def test_composing_is_the_sum_it_is_said_to_be_and_changes_nothing(automatic: Any, edit: Any) -> None:
    before = automatic.copy(), edit.copy()
    np.testing.assert_array_equal(compose(automatic, edit), np.where(edit != 0, edit > 0, automatic))
    np.testing.assert_array_equal(automatic, before[0])
    np.testing.assert_array_equal(edit, before[1])


def test_a_slice_that_is_as_it_was_shown_has_no_changes() -> None:
    assert changed_by_hand(row(0, 1, 0), row(0, 1, 0)).tolist() == []


def test_changes_are_found_in_both_directions_as_flat_rising_indices() -> None:
    where = changed_by_hand(np.array([[1, 0], [0, 1]], np.uint8), np.array([[0, 0], [1, 1]], np.uint8))
    assert where.tolist() == [0, 2]


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_any_label_above_zero_is_lung(dtype: Any) -> None:
    where = changed_by_hand(row(2, 7, 0, dtype=dtype), row(1, 0, 0))
    assert where.tolist() == [1]


def test_another_label_on_lung_alone_is_no_change() -> None:
    assert changed_by_hand(row(2, 1, 0), row(1, 1, 0)).tolist() == []


def test_what_is_painted_is_put_in_and_what_is_erased_is_taken_out() -> None:
    stated = stated_by(np.array([True, False]), np.array([False, True]))
    assert stated.tolist() == [1, -1]
    assert stated.dtype == np.int8


def test_what_is_brought_back_to_the_automatic_mask_is_untouched() -> None:
    assert stated_by(np.array([True, False]), np.array([True, False])).tolist() == [0, 0]


@given(bools, edits, bools)
def test_whatever_a_hand_leaves_is_what_the_sum_gives_afterwards(
    automatic: Any, edit: Any, left: Any
) -> None:
    before, composed = edit.copy(), compose(automatic, edit)
    where = changed_by_hand(left.astype(np.uint8), composed)
    edit.ravel()[where] = stated_by(left.ravel()[where], automatic.ravel()[where])
    np.testing.assert_array_equal(compose(automatic, edit), left)
    np.testing.assert_array_equal(edit[left == (composed > 0)], before[left == (composed > 0)])
