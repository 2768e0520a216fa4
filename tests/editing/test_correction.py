from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis.extra import numpy as hnp

from napari_resunet.editing.correction import absorb_edits, compose

SHAPE = (2, 2, 3)
bools = hnp.arrays(bool, SHAPE)
edits = hnp.arrays(np.int8, SHAPE, elements={"min_value": -1, "max_value": 1})


def row(*values: int, dtype: Any = np.uint8) -> npt.NDArray[Any]:
    return np.array(values, dtype).reshape(1, 1, -1)


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


def test_what_is_painted_is_put_in_and_what_is_erased_is_taken_out() -> None:
    automatic, last = row(0, 0, 1, 1, dtype=bool), row(0, 0, 1, 1)
    edit = row(0, 0, 0, 0, dtype=np.int8)
    assert absorb_edits(row(1, 0, 0, 1), last, automatic, edit) == 2
    assert edit.ravel().tolist() == [1, 0, -1, 0]


def test_an_undo_makes_a_voxel_untouched_again() -> None:
    automatic, edit = row(0, 1, dtype=bool), row(1, -1, dtype=np.int8)
    assert absorb_edits(row(0, 1), compose(automatic, edit), automatic, edit) == 2
    assert edit.ravel().tolist() == [0, 0]


def test_an_edit_that_the_hand_did_not_touch_this_time_stays() -> None:
    automatic = row(1, 1, 0, dtype=bool)
    edit = row(1, 0, 0, dtype=np.int8)  # the first was put in when the automatic mask said no
    assert absorb_edits(row(1, 1, 1), row(1, 1, 0), automatic, edit) == 1
    assert edit.ravel().tolist() == [1, 0, 1]


def test_any_label_above_zero_is_lung() -> None:
    edit = row(0, 0, dtype=np.int8)
    assert absorb_edits(row(2, 7, dtype=np.int64), row(1, 0), row(1, 0, dtype=bool), edit) == 1
    assert edit.ravel().tolist() == [0, 1]


@given(bools, edits, bools)
def test_whatever_is_shown_is_what_the_sum_gives_afterwards(automatic: Any, edit: Any, shown: Any) -> None:
    last = compose(automatic, edit)
    changed = absorb_edits(shown.astype(np.uint8), last, automatic, edit)
    assert changed == np.count_nonzero(shown != (last > 0))
    np.testing.assert_array_equal(compose(automatic, edit), shown)
    assert absorb_edits(shown.astype(np.uint8), shown.astype(np.uint8), automatic, edit) == 0
