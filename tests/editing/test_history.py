from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_resunet.editing.history import Changes, EditHistory, Step

Z = 3


class Slice:
    """One slice of five voxels with its edits and its history; what the network says of it can change."""

    def __init__(self) -> None:
        self.history = EditHistory()
        self.automatic = np.zeros(5, bool)
        self.edits = np.zeros(5, np.int8)

    @property
    def shown(self) -> npt.NDArray[np.bool_]:
        return np.where(self.edits != 0, self.edits > 0, self.automatic)

    def hand(self, where: Sequence[int], lung: bool) -> None:
        """Paint or erase voxels, each of which it changes."""
        at = np.array(where)
        assert (self.shown[at] != lung).all()
        self.history.note(Z, Changes(at, ~np.full(len(at), lung), self.edits[at]))
        self.edits[at] = np.where(self.automatic[at] == lung, 0, 1 if lung else -1)

    def layer(self, how: Step, where: Sequence[int], lung: bool | Sequence[bool]) -> list[int]:
        """Let the layer write `lung`, and return all edits then."""
        at = np.array(where)
        written = np.broadcast_to(np.array(lung), at.shape)
        stated = np.where(written == self.automatic[at], 0, np.where(written, 1, -1)).astype(np.int8)
        now, shown = self.edits[at], self.shown[at]
        self.edits[at] = self.history.step(how, Z, Changes(at, written, stated), shown=shown, now=now)
        return self.edits.tolist()


@pytest.fixture
def one() -> Slice:
    return Slice()


def test_an_undo_gives_back_what_was_there_and_a_redo_what_it_took(one: Slice) -> None:
    one.hand([1, 2], True)
    assert one.layer("undo", [1, 2], False) == [0, 0, 0, 0, 0]
    assert one.layer("redo", [1, 2], True) == [0, 1, 1, 0, 0]
    assert one.layer("undo", [1, 2], False) == [0, 0, 0, 0, 0]


def test_of_two_changes_of_one_voxel_the_last_is_taken_back_first(one: Slice) -> None:
    one.hand([1, 2], True)
    one.hand([2], False)
    assert one.edits.tolist() == [0, 1, 0, 0, 0]
    assert one.layer("undo", [2], True) == [0, 1, 1, 0, 0]
    assert one.layer("undo", [1, 2], False) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("network_says", [False, True])
def test_what_the_network_says_by_then_makes_no_difference(one: Slice, network_says: bool) -> None:
    one.hand([1, 2], True)
    one.hand([2], False)
    one.automatic[...] = network_says
    assert one.layer("undo", [2], True) == [0, 1, 1, 0, 0]
    assert one.layer("undo", [1, 2], False) == [0, 0, 0, 0, 0]
    assert one.layer("redo", [1, 2], True) == [0, 1, 1, 0, 0]
    assert one.layer("redo", [2], False) == [0, 1, 0, 0, 0]


def test_a_step_may_take_parts_of_several_changes_and_leave_the_rest(one: Slice) -> None:
    one.hand([0, 1], True)
    one.hand([2, 3], True)
    one.hand([4], True)
    assert one.layer("undo", [1, 2], False) == [1, 0, 0, 1, 1]
    assert one.layer("undo", [0, 3, 4], False) == [0, 0, 0, 0, 0]


def test_one_step_may_write_both_ways(one: Slice) -> None:
    one.hand([0], True)
    one.automatic[1] = True
    one.hand([1], False)
    assert one.layer("undo", [0, 1], [False, True]) == [0, 0, 0, 0, 0]
    assert one.layer("redo", [0, 1], [True, False]) == [1, -1, 0, 0, 0]


def test_where_no_change_is_known_what_is_written_and_shows_is_taken_for_the_hands_word(one: Slice) -> None:
    assert one.layer("undo", [1, 2], True) == [0, 1, 1, 0, 0]
    assert one.layer("redo", [1, 2], False) == [0, 0, 0, 0, 0]


def test_where_no_change_is_known_what_is_written_and_does_not_show_says_nothing(one: Slice) -> None:
    one.automatic[...] = True
    assert one.layer("undo", [1, 2], True) == [0, 0, 0, 0, 0]
    assert one.layer("redo", [1, 2], True) == [0, 0, 0, 0, 0]


def test_a_step_that_changed_nothing_here_takes_nothing_back(one: Slice) -> None:
    one.hand([1], True)
    assert one.layer("undo", [1], True) == [0, 1, 0, 0, 0]  # another label on lung
    assert one.layer("redo", [1], True) == [0, 1, 0, 0, 0]
    assert one.layer("undo", [1], False) == [0, 0, 0, 0, 0]


def test_what_was_written_beside_the_layers_history_goes_with_the_step_under_it(one: Slice) -> None:
    one.hand([1], True)
    one.hand([1], False)  # by a script
    one.automatic[...] = True
    assert one.layer("undo", [1], False) == [0, 0, 0, 0, 0]
    assert one.layer("redo", [1], True) == [0, 0, 0, 0, 0]


def test_a_new_step_leaves_nothing_to_redo(one: Slice) -> None:
    one.hand([1], True)
    one.layer("undo", [1], False)
    assert one.history.slices("redo") == [Z]
    one.history.begin_step()
    assert one.history.slices("redo") == []


def test_slices_are_those_with_something_to_take_back(one: Slice) -> None:
    assert one.history.slices("undo") == []
    one.hand([1], True)
    assert (one.history.slices("undo"), one.history.slices("redo")) == ([Z], [])
    one.layer("undo", [1], False)
    assert (one.history.slices("undo"), one.history.slices("redo")) == ([], [Z])


def test_slices_do_not_know_of_each_other(one: Slice) -> None:
    one.hand([1], True)
    lung = Changes(np.array([1]), np.array([False]), np.array([0], np.int8))
    now = np.array([1], np.int8)
    edits = one.history.step("undo", Z + 1, lung, shown=np.array([False]), now=now)
    assert edits.tolist() == [1]
    assert one.layer("undo", [1], False) == [0, 0, 0, 0, 0]


@pytest.mark.parametrize("how", ["undo", "redo"])
def test_after_clearing_the_hand_is_taken_at_its_word(one: Slice, how: Any) -> None:
    one.hand([1], True)
    one.hand([2], True)
    one.layer("undo", [2], False)
    one.history.clear()
    assert one.history.slices("undo") == one.history.slices("redo") == []
    one.automatic[...] = True
    assert one.layer(how, [1], False) == [0, -1, 0, 0, 0]


def test_what_was_given_to_it_is_not_changed(one: Slice) -> None:
    one.hand([0, 1], True)
    written = Changes(np.array([0, 1]), np.array([False, False]), np.array([0, 0], np.int8))
    shown, now = np.array([True, True]), np.array([1, 1], np.int8)
    one.automatic[...] = True
    one.history.step("undo", Z, written, shown=shown, now=now)
    assert written.edits.tolist() == [0, 0]
    assert now.tolist() == [1, 1]


def test_the_oldest_of_very_many_changes_are_forgotten_and_taken_by_value(one: Slice) -> None:
    one.automatic[0] = True
    one.hand([0], False)
    for i in range(400):
        one.hand([1], i % 2 == 0)
    one.automatic[0] = False
    assert one.layer("undo", [0], True) == [1, 0, 0, 0, 0]
