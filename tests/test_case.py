from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edit_twin import EXAMPLES, Twin
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_resunet.case import Case
from napari_resunet.editing.review import SliceState
from napari_resunet.errors import GeometryError, InputError
from napari_resunet.geometry import AxisOrder, Geometry
from napari_resunet.inference.postprocess import lung_voxels, to_mask
from napari_resunet.inference.predict import Batch
from napari_resunet.volume import Mask, Run, Source, Volume

SHAPE = (4, 6, 8)
GEOMETRY = Geometry.from_spacing(SHAPE, (5, 2, 1))
STORED = AxisOrder((0, 1, 2), (True, False, True))  # from the head down, from left to right
RUN = Run("tiny", "0123", 32, "cpu", "float32", (0, 6, 0, 8))
OTHER_RUN = Run("other", "4567", 32, "cpu", "float32", (0, 6, 0, 8))

LUNG, SURE = 200, 250
# One lung of 3 x 3 x 3 with a hole in it, and one voxel of gas, which clean-up drops.
FOUND = np.zeros(SHAPE, np.uint8)
FOUND[0:3, 1:4, 1:4] = LUNG
FOUND[1, 2, 2] = 10
FOUND[3, 5, 7] = SURE


def new_case(*, stored: bool = False) -> Case:
    array = np.zeros(SHAPE, np.int16)
    if stored:
        return Case(Volume(STORED.apply(array), GEOMETRY.reordered(STORED)))
    return Case(Volume(array, GEOMETRY))


def segmented(**options: Any) -> Case:
    case = new_case(**options)
    case.begin(RUN)
    case.accept(RUN, Batch(2, 4, FOUND[2:4]))
    case.accept(RUN, Batch(0, 2, FOUND[0:2]))
    case.settle()
    return case


@pytest.fixture
def case() -> Case:
    return segmented()


class Layer:
    """A mask layer as far as a case is concerned: it paints, and has a history of values."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._past: list[tuple[Any, Any, int]] = []
        self._future: list[tuple[Any, Any, int]] = []

    def paint(self, where: Any, label: int) -> None:
        changed = np.zeros(SHAPE, bool)
        changed[where] = True
        changed &= self.case.mask != label
        if changed.any():
            self._past.append((changed, self.case.mask[changed], label))
            self._future.clear()
            self.case.mask[changed] = label
            self.case.begin_step()
            self.case.absorb_edits()

    def undo(self) -> None:
        if self._past:
            self._future.append(self._past.pop())
            changed, before, _ = self._future[-1]
            self.case.step("undo", partial(self._write, changed, before))

    def redo(self) -> None:
        if self._future:
            self._past.append(self._future.pop())
            changed, _, label = self._past[-1]
            self.case.step("redo", partial(self._write, changed, label))

    def _write(self, where: Any, values: Any) -> None:
        self.case.mask[where] = values


@pytest.fixture
def layer(case: Case) -> Layer:
    return Layer(case)


def refound(case: Case, probability: int) -> None:
    """Let the network be as sure of lung everywhere, and the mask not be cleaned up."""
    case.change_settings(clean=False)
    case.begin(RUN)
    case.accept(RUN, Batch(0, SHAPE[0], np.full(SHAPE, probability, np.uint8)))
    case.settle()


def emitted(case: Case) -> list[Any]:
    seen: list[Any] = []
    case.events.probability.connect(lambda start, stop: seen.append((start, stop)))
    case.events.mask.connect(lambda: seen.append("mask"))
    return seen


def test_a_new_case_is_empty_and_has_no_mask_to_export() -> None:
    case = new_case()
    assert not case.mask.any()
    assert case.volume_ml == 0
    assert case.voxels_edited == 0
    with pytest.raises(InputError, match="there is no mask yet: run the network, or paint one"):
        case.finished_mask()


def test_batches_are_shown_as_they_come_not_cleaned_up() -> None:
    case = new_case()
    case.begin(RUN)
    case.accept(RUN, Batch(2, 4, FOUND[2:4]))
    np.testing.assert_array_equal(case.mask[2:4], FOUND[2:4] >= 128)
    assert case.done.tolist() == [False, False, True, True]
    assert not case.mask[:2].any()


def test_what_settles_is_cleaned_up(case: Case) -> None:
    assert case.mask[1, 2, 2] == 1
    assert case.mask[3, 5, 7] == 0
    assert case.mask.sum() == 27
    assert case.volume_ml == pytest.approx(27 * 10 / 1000)


def test_the_answer_of_an_old_run_is_thrown_away(case: Case) -> None:
    case.begin(OTHER_RUN)
    seen = emitted(case)
    case.accept(RUN, Batch(0, 4, FOUND))
    assert not case.probability.any()
    assert not case.done.any()
    assert seen == []


def test_a_run_of_the_same_kind_goes_on_with_what_is_there(case: Case) -> None:
    again = Run(**vars(RUN))
    case.begin(again)
    assert case.done.all()
    case.accept(RUN, Batch(0, 2, np.zeros((2, 6, 8), np.uint8)))  # late, from the run before
    np.testing.assert_array_equal(case.probability, FOUND)
    case.accept(again, Batch(0, 2, np.zeros((2, 6, 8), np.uint8)))
    assert not case.probability[:2].any()


def test_another_run_forgets_the_probabilities_and_keeps_the_edits(case: Case) -> None:
    case.mask[3, 0, 0], case.mask[0, 1, 1] = 1, 0
    case.begin(OTHER_RUN)
    assert not case.probability.any()
    assert not case.done.any()
    assert case.mask.sum() == 1
    assert case.mask[3, 0, 0] == 1
    case.accept(OTHER_RUN, Batch(0, 4, FOUND))
    case.settle()
    assert case.mask[3, 0, 0] == 1
    assert case.mask[0, 1, 1] == 0
    assert case.voxels_edited == 2


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.9, 0.99])
def test_painted_and_erased_voxels_stay_wherever_the_threshold_goes(case: Case, threshold: float) -> None:
    case.mask[3, 0, 0], case.mask[0, 1, 1] = 1, 0
    case.set_threshold(threshold)
    assert case.settings.threshold == threshold
    expected = threshold * 255 <= FOUND
    expected[3, 0, 0], expected[0, 1, 1] = True, False
    np.testing.assert_array_equal(case.mask, expected)


def test_painted_and_erased_voxels_stay_with_clean_up_and_without(case: Case) -> None:
    case.mask[3, 0, 0], case.mask[0, 1, 1] = 1, 0  # a speck that clean-up would drop
    for is_clean in (False, True, False):
        case.change_settings(clean=is_clean)
        case.settle()
        assert case.mask[3, 0, 0] == 1
        assert case.mask[0, 1, 1] == 0
        assert case.mask[1, 2, 2] == is_clean
        assert case.mask[3, 5, 7] == (not is_clean)


def test_painted_voxels_stay_when_the_network_sees_their_slice_again(case: Case) -> None:
    case.mask[3, 0, 0], case.mask[3, 5, 6] = 1, 1
    case.accept(RUN, Batch(3, 4, np.zeros((1, 6, 8), np.uint8)))
    assert case.mask[3].sum() == 2


def test_a_voxel_brought_back_by_an_undo_is_untouched(case: Case) -> None:
    case.mask[0, 1, 1] = 0
    assert case.voxels_edited == 1
    case.mask[0, 1, 1] = 1
    assert case.voxels_edited == 0
    case.set_threshold(0.9)
    assert case.mask[0, 1, 1] == 0  # the threshold moves it again


def test_painting_while_a_clean_up_runs_elsewhere_is_kept(case: Case) -> None:
    version = case.version
    case.mask[3, 0, 0] = 1
    case.accept_automatic(version, np.zeros(SHAPE, bool))
    assert case.mask.sum() == 1


def test_a_clean_up_that_comes_too_late_is_ignored(case: Case) -> None:
    version, before = case.version, case.mask.copy()
    case.set_threshold(0.4)
    case.accept_automatic(version, np.ones(SHAPE, bool))
    assert case.mask.sum() < case.mask.size
    case.settle()
    np.testing.assert_array_equal(case.mask, before)


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case.set_threshold(0.4),
        lambda case: case.change_settings(clean=False),
        lambda case: case.accept(RUN, Batch(0, 1, FOUND[:1])),
        lambda case: case.begin(OTHER_RUN),
        lambda case: case.adopt(Mask(np.zeros(SHAPE, np.uint8), GEOMETRY)),
    ],
)
def test_every_change_makes_a_new_version(case: Case, change: Any) -> None:
    before = case.version
    change(case)
    assert case.version > before


def test_a_threshold_out_of_range_is_refused_and_changes_nothing(case: Case) -> None:
    before = case.mask.copy()
    with pytest.raises(ValueError, match="threshold must be at most"):
        case.set_threshold(1.5)
    assert case.settings.threshold == 0.5
    np.testing.assert_array_equal(case.mask, before)


def test_the_mask_is_one_array_for_as_long_as_the_case_is_open() -> None:
    case = new_case()
    mask = case.mask
    case.begin(RUN)
    case.accept(RUN, Batch(0, 4, FOUND))
    case.set_threshold(0.3)
    case.settle()
    case.adopt(Mask(np.ones(SHAPE, np.uint8), GEOMETRY))
    case.begin(OTHER_RUN)
    case.take_shown(np.ones(SHAPE, np.uint8))
    assert case.mask is mask


@pytest.mark.parametrize("stored", [False, True])
def test_an_adopted_mask_is_kept_where_the_network_has_not_been(stored: bool) -> None:
    case = new_case(stored=stored)
    array = np.zeros(SHAPE, np.uint8)
    array[:, 4:6, 4:6] = 2
    given = Mask(STORED.apply(array), GEOMETRY.reordered(STORED)) if stored else Mask(array, GEOMETRY)
    case.adopt(given)
    np.testing.assert_array_equal(case.mask, array > 0)
    assert case.voxels_edited == 0
    case.begin(RUN)
    case.accept(RUN, Batch(0, 2, FOUND[0:2]))
    for show in (lambda: case.set_threshold(0.3), case.settle):
        show()
        np.testing.assert_array_equal(case.mask[2:], array[2:] > 0)
        assert not case.mask[:2, 4:6, 4:6].any()
        assert case.mask[:2].any()


def test_an_adopted_mask_comes_back_when_another_run_begins_and_edits_stay() -> None:
    case = new_case()
    case.adopt(Mask(np.ones(SHAPE, np.uint8), GEOMETRY))
    case.mask[0, 0, 0] = 0
    case.begin(RUN)
    case.accept(RUN, Batch(0, 4, np.zeros(SHAPE, np.uint8)))
    case.begin(OTHER_RUN)
    assert case.mask.sum() == case.mask.size - 1
    assert case.mask[0, 0, 0] == 0


def test_a_mask_on_another_grid_is_not_adopted(case: Case) -> None:
    before = case.mask.copy()
    with pytest.raises(
        GeometryError, match=r"a mask made elsewhere lies 0\.\d+ mm beside the other at a corner; export it"
    ):
        case.adopt(Mask(np.ones(SHAPE, np.uint8), Geometry.from_spacing(SHAPE, (5, 2, 1.1))))
    np.testing.assert_array_equal(case.mask, before)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("changes", [{}, {"threshold": 0.9}, {"clean": False}, {"split": True}])
def test_without_edits_the_export_is_that_of_the_command_line_byte_for_byte(
    stored: bool, changes: Any
) -> None:
    case = segmented(stored=stored)
    case.change_settings(**changes)
    case.settle()
    exported, expected = case.finished_mask(), to_mask(case.probability_map(), **changes)
    assert exported.array.tobytes() == expected.array.tobytes()
    assert exported.array.shape == expected.array.shape
    assert exported.geometry.matches(case.volume.geometry)
    assert exported.history == expected.history


def test_the_export_holds_the_edits_in_the_order_of_the_source_and_counts_them() -> None:
    case = segmented(stored=True)
    case.mask[3, 0, 0] = 1
    exported = case.finished_mask()
    axial = np.zeros(SHAPE, bool)
    axial[0:3, 1:4, 1:4] = axial[3, 0, 0] = True
    np.testing.assert_array_equal(exported.array, STORED.apply(axial))
    assert exported.history["voxels_edited_by_hand"] == 1


def test_split_can_be_asked_for_at_export_alone(case: Case) -> None:
    assert set(np.unique(case.finished_mask(split=True).array)) == {0, 1}
    case.change_settings(split=True)
    assert case.finished_mask(split=False).history["mask"]["split"] is False


def test_any_label_painted_is_lung_in_the_export(case: Case) -> None:
    case.mask[3, 0, 0] = 2
    assert case.finished_mask().array.max() == 1
    assert case.finished_mask().array.sum() == 28


@pytest.mark.parametrize("how", ["painted", "found", "adopted"])
def test_there_is_a_mask_as_soon_as_something_was_painted_found_or_adopted(how: str) -> None:
    case = new_case()
    if how == "painted":
        case.mask[0, 0, 0] = 1
    elif how == "found":  # and it found nothing
        case.begin(RUN)
        case.accept(RUN, Batch(0, 1, np.zeros((1, 6, 8), np.uint8)))
    else:
        case.adopt(Mask(np.ones(SHAPE, np.uint8), GEOMETRY))
    assert case.finished_mask().array.shape == SHAPE


def test_the_probability_map_is_that_of_the_source_and_a_copy() -> None:
    case = segmented(stored=True)
    prob = case.probability_map()
    np.testing.assert_array_equal(prob.array, STORED.apply(FOUND))
    assert prob.run is RUN
    case.begin(OTHER_RUN)
    assert prob.done.all()
    assert prob.array.any()


def test_listeners_hear_which_slices_came_and_that_the_mask_changed() -> None:
    case = new_case()
    seen = emitted(case)
    case.begin(RUN)
    assert seen == []
    case.accept(RUN, Batch(2, 4, FOUND[2:4]))
    assert seen == ["mask", (2, 4)]
    seen.clear()
    case.set_threshold(0.4)
    assert seen == ["mask"]
    seen.clear()
    case.begin(OTHER_RUN)
    assert seen == [(0, 4), "mask"]


def test_a_layer_with_another_array_is_taken_in_as_edits(case: Case) -> None:
    shown = np.zeros(SHAPE, np.int64)
    shown[0:3, 1:4, 1:4] = 1
    shown[3, 0, 0], shown[0, 1, 1] = 5, 0
    case.take_shown(shown)
    assert case.voxels_edited == 2
    assert case.mask[3, 0, 0] == 1
    assert case.mask[0, 1, 1] == 0
    assert shown[3, 0, 0] == 5


def test_a_layer_that_shows_the_mask_itself_is_taken_in_too(case: Case) -> None:
    case.mask[3, 0, 0] = 1
    case.take_shown(case.mask)
    assert case.edit[3, 0, 0] == 1


def test_other_hu_forget_what_the_network_found_and_keep_what_was_painted(case: Case) -> None:
    case.begin(RUN)
    case.accept(RUN, Batch(0, SHAPE[0], np.full(SHAPE, 255, np.uint8)))
    case.mask[0, 0, :2] = 0
    case.restate(case.volume.with_hu_offset(-1024))
    assert not case.probability.any()
    assert not case.done.any()
    assert (case.edit[0, 0, :2] == -1).all()
    assert case.run is None
    assert case.volume.hu_confirmed


# ---- undo and redo


VOXEL = (0, 0, 0)


def test_an_undo_of_a_stroke_the_network_has_since_agreed_with_leaves_its_mask(
    case: Case, layer: Layer
) -> None:
    refound(case, 100)
    layer.paint(VOXEL, 1)
    case.set_threshold(0.2)
    layer.undo()  # writes the 0 of before the threshold moved
    assert case.edit[VOXEL] == 0
    assert case.mask[VOXEL] == 1


@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_an_undo_of_the_second_of_two_strokes_gives_the_edit_of_the_first_back(
    case: Case, layer: Layer, threshold: float
) -> None:
    refound(case, 100)
    layer.paint(VOXEL, 1)
    layer.paint(VOXEL, 0)
    assert case.edit[VOXEL] == 0
    case.set_threshold(threshold)
    layer.undo()
    assert case.edit[VOXEL] == 1
    layer.undo()
    assert case.edit[VOXEL] == 0
    case.set_threshold(0.9)
    assert case.mask[VOXEL] == 0


@pytest.mark.parametrize("threshold", [0.2, 0.9])
def test_a_redo_gives_back_what_the_undo_took(case: Case, layer: Layer, threshold: float) -> None:
    refound(case, 100)
    for label in (1, 0):
        layer.paint(VOXEL, label)
    for edit in (1, 0):
        layer.undo()
        assert case.edit[VOXEL] == edit
    case.set_threshold(threshold)
    for edit in (1, 0, 0):  # and there is no third
        layer.redo()
        assert case.edit[VOXEL] == edit


def test_an_undo_moves_nothing_but_the_voxels_of_its_step(case: Case, layer: Layer) -> None:
    layer.paint(np.s_[3, 0, :4], 1)
    layer.paint(np.s_[3, 0, 2:6], 0)
    case.mask[3, 5, 0] = 1  # by a script, and not looked at yet
    layer.undo()
    assert case.edit[3, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert case.edit[3, 5, 0] == 1


def test_an_undo_that_breaks_off_leaves_the_mask_as_it_was(case: Case, layer: Layer) -> None:
    layer.paint(np.s_[3, 0, :4], 1)
    before = case.mask.copy()

    def fails() -> None:
        raise IndexError

    with pytest.raises(IndexError):
        case.step("undo", fails)
    np.testing.assert_array_equal(case.mask, before)
    assert case.voxels_added == 4


def test_an_undo_is_told_once_the_mask_is_whole_again(case: Case, layer: Layer) -> None:
    layer.paint(np.s_[3, 0, :4], 1)
    seen = emitted(case)
    sums: list[int] = []
    case.events.mask.connect(lambda: sums.append(int(case.mask.sum())))
    layer.undo()
    assert seen == ["mask"]
    assert sums == [27]


def test_of_edits_that_were_taken_in_the_layer_knows_no_step(case: Case) -> None:
    case.mask[0, 1, 1] = 0
    again = new_case()
    again.take_in(case.record())
    layer = Layer(again)
    layer.undo()
    assert again.edit[0, 1, 1] == -1
    layer.paint(np.s_[0, 1, 1:3], 1)
    layer.undo()
    assert again.edit[0, 1].tolist() == [0, -1, 0, 0, 0, 0, 0, 0]


def test_a_step_from_before_edits_were_taken_in_is_undone_by_its_value(case: Case, layer: Layer) -> None:
    other = segmented()
    other.mask[0, 1, 1] = 0
    layer.paint((3, 0, 0), 1)
    case.take_in(other.record())
    layer.undo()
    assert case.edit[3, 0, 0] == 0
    assert case.edit[0, 1, 1] == -1


# ---- edits set aside


def edited_on_three_slices(case: Case) -> None:
    case.mask[0, 1, 1] = 0
    case.mask[2, 0, 0] = 1
    case.mask[3, 0, :2] = 1


def test_forgotten_edits_leave_what_the_network_says_and_are_counted(case: Case) -> None:
    before = case.mask.copy()
    edited_on_three_slices(case)
    assert case.forget_edits() == 4
    np.testing.assert_array_equal(case.mask, before)
    assert case.voxels_edited == 0
    assert not case.edited.any()
    assert case.banked[0].edits.slices.tolist() == [0, 2, 3]
    assert case.banked[0].edits.voxels() == 4


def test_slices_to_keep_keep_their_edits(case: Case) -> None:
    edited_on_three_slices(case)
    assert case.forget_edits(keep=np.array([False, False, True, False])) == 3
    assert case.edited.tolist() == [False, False, True, False]
    assert case.mask[2, 0, 0] == 1
    assert case.mask[0, 1, 1] == 1
    assert not case.mask[3].any()


def test_there_may_be_nothing_to_forget_and_nothing_to_bring_back(case: Case) -> None:
    seen, version = emitted(case), case.hand_version
    assert case.forget_edits() == 0
    assert case.bring_back() == 0
    case.mask[2, 0, 0] = 1
    version_painted = version + 1
    assert case.forget_edits(keep=np.ones(4, bool)) == 0
    assert case.banked == []
    assert case.hand_version == version_painted
    assert seen == []


def test_forgotten_edits_come_back_with_another_model(case: Case) -> None:
    edited_on_three_slices(case)
    case.forget_edits()
    case.begin(OTHER_RUN)
    assert not case.mask.any()
    assert case.bring_back() == 4
    assert case.banked == []
    assert case.mask.sum() == 3
    case.accept(OTHER_RUN, Batch(0, 4, FOUND))
    assert case.mask[0, 1, 1] == 0


def test_edits_made_since_win_over_those_that_are_brought_back(case: Case) -> None:
    case.mask[3, 0, :3] = 1
    case.mask[0, 1, 1] = 0
    case.forget_edits()
    case.begin(OTHER_RUN)
    case.accept(OTHER_RUN, Batch(0, 4, np.full(SHAPE, LUNG, np.uint8)))
    case.settle()
    case.mask[3, 0, 1] = 0
    case.mask[1, 5, 5] = 0
    case.bring_back()
    assert case.edit[3, 0, :4].tolist() == [1, -1, 1, 0]
    assert case.edit[0, 1, 1] == case.edit[1, 5, 5] == -1
    assert case.voxels_edited == 5


def test_what_was_forgotten_last_is_brought_back_first(case: Case) -> None:
    for x in range(3):
        case.mask[3, 0, x] = 1
        case.forget_edits()
    assert [banked.edits.values[0, 0].argmax() for banked in case.banked] == [0, 1, 2]
    for x in (2, 1, 0):
        case.bring_back()
        assert case.edit[3, 0, x] == 1
    assert case.edit[3, 0, :3].tolist() == [1, 1, 1]


def test_listeners_hear_of_edits_set_aside_and_brought_back(case: Case) -> None:
    case.mask[3, 0, 0] = 1
    seen = emitted(case)
    case.forget_edits()
    case.bring_back()
    assert seen == ["mask", "mask"]


# ---- figures of the hand


def test_voxels_put_in_and_taken_out_are_counted_apart(case: Case) -> None:
    case.mask[3, 0, :5] = 1
    case.mask[0, 1, 1:3] = 0
    assert (case.voxels_added, case.voxels_removed, case.voxels_edited) == (5, 2, 7)
    case.mask[3, 0, 0] = 0
    assert (case.voxels_added, case.voxels_removed, case.voxels_edited) == (4, 2, 6)


@pytest.mark.parametrize(
    "by_hand",
    [
        lambda case: case.mask.__setitem__(VOXEL, 1),
        lambda case: case.mask.__setitem__((3, 1, 1), 0),
        lambda case: Layer(case).paint(VOXEL, 1),
        lambda case: case.forget_edits(),
        lambda case: case.tick(0),
        lambda case: case.flag(0),
        lambda case: case.clear_mark(0),
    ],
)
def test_the_version_of_the_hand_grows_with_what_a_hand_does(case: Case, by_hand: Any) -> None:
    case.mask[3, 1, 1] = 1
    case.absorb_edits()
    before = case.hand_version
    by_hand(case)
    case.absorb_edits()
    assert case.hand_version > before


def test_the_version_of_the_hand_grows_with_undo_redo_and_edits_brought_back(
    case: Case, layer: Layer
) -> None:
    layer.paint(VOXEL, 1)
    versions = [case.hand_version]
    for change in (layer.undo, layer.redo, case.forget_edits, case.bring_back):
        change()
        versions.append(case.hand_version)
    assert versions == sorted(set(versions))


@pytest.mark.parametrize(
    "not_by_hand",
    [
        lambda case: case.set_threshold(0.9),
        lambda case: case.settle(),
        lambda case: case.accept(RUN, Batch(0, 1, FOUND[:1])),
        lambda case: case.begin(OTHER_RUN),
        lambda case: case.adopt(Mask(np.ones(SHAPE, np.uint8), GEOMETRY)),
        lambda case: case.absorb_edits(),
        lambda case: case.finished_mask(),
        lambda case: case.record(),
        lambda case: case.slice_states(),
        lambda case: case.mask.__setitem__((0, 1, 1), 2),
        lambda case: Layer(case).undo(),
    ],
)
def test_the_version_of_the_hand_stays_where_no_hand_did_anything(case: Case, not_by_hand: Any) -> None:
    case.mask[VOXEL] = 1
    case.absorb_edits()
    before = case.hand_version
    not_by_hand(case)
    case.absorb_edits()
    assert case.hand_version == before


def test_work_is_unsaved_from_the_first_thing_a_hand_does_until_it_is_kept(case: Case) -> None:
    assert not case.has_unsaved_work
    case.mask[VOXEL] = 1
    assert case.has_unsaved_work
    case.kept()
    assert not case.has_unsaved_work
    case.flag(2)
    assert case.has_unsaved_work


def test_what_was_painted_and_undone_is_no_work_until_something_was_kept(case: Case, layer: Layer) -> None:
    layer.paint(VOXEL, 1)
    layer.undo()
    assert not case.has_unsaved_work
    layer.redo()
    case.kept()
    layer.undo()
    assert case.has_unsaved_work


# ---- the review


def test_a_tick_is_gone_when_the_slice_changes_and_comes_back_when_it_is_as_seen(case: Case) -> None:
    def state() -> int:
        return int(case.slice_states()[0])

    case.tick(0)
    assert state() == SliceState.REVIEWED
    case.set_threshold(0.9)
    assert state() == SliceState.AUTO
    case.set_threshold(0.5)
    assert state() == SliceState.REVIEWED
    case.mask[VOXEL] = 1
    assert state() == SliceState.EDITED
    case.mask[VOXEL] = 0
    assert state() == SliceState.REVIEWED
    case.begin(OTHER_RUN)
    assert state() == SliceState.AUTO
    case.accept(OTHER_RUN, Batch(0, 4, FOUND))
    case.settle()
    assert state() == SliceState.REVIEWED


def test_a_flag_stays_whatever_becomes_of_the_slice_until_it_is_cleared(case: Case) -> None:
    case.flag(0)
    case.mask[VOXEL] = 1
    case.begin(OTHER_RUN)
    assert case.slice_states().tolist() == [SliceState.FLAGGED, 0, 0, 0]
    case.clear_mark(0)
    assert case.slice_states().tolist() == [SliceState.EDITED, 0, 0, 0]


def test_what_was_painted_just_before_a_tick_is_ticked_with_it(case: Case) -> None:
    case.mask[VOXEL] = 1
    case.tick(0)
    assert case.slice_states()[0] == SliceState.REVIEWED


def test_listeners_hear_of_ticks_flags_and_clearing(case: Case) -> None:
    heard: list[int] = []
    case.events.review.connect(lambda: heard.append(1))
    case.tick(0)
    case.flag(1)
    case.clear_mark(0)
    assert heard == [1, 1, 1]


# ---- put away, and taken up again


def worked_on(case: Case) -> None:
    edited_on_three_slices(case)
    case.forget_edits(keep=np.array([True, False, False, False]))
    case.mask[1, 5, 5] = 1
    case.change_settings(threshold=0.6, clean=False, split=True)
    case.tick(0)
    case.flag(1)
    case.settle()


@pytest.mark.parametrize("stored", [False, True])
def test_a_case_goes_on_where_its_record_was_made(stored: bool) -> None:
    case, again = segmented(stored=stored), new_case(stored=stored)
    given = Mask(np.ones(SHAPE, np.uint8), GEOMETRY)
    if stored:
        given = Mask(np.ascontiguousarray(STORED.apply(given.array)), GEOMETRY.reordered(STORED))
    case.adopt(given, name="theirs.nii.gz")
    worked_on(case)
    seen, mask = emitted(again), again.mask
    again.take_in(case.record())
    assert again.mask is mask
    for name in ("mask", "edit", "automatic", "probability", "done", "edited"):
        np.testing.assert_array_equal(getattr(again, name), getattr(case, name), err_msg=name)
    assert again.run == case.run
    assert again.settings == case.settings
    assert again.slice_states().tolist() == case.slice_states().tolist() == [2, 3, 0, 0]
    assert again.finished_mask().history == case.finished_mask().history
    assert again.finished_mask().history["began_from"] == "theirs.nii.gz"
    assert {"mask", (0, 4)} <= set(seen)
    assert case.bring_back() == again.bring_back() == 3
    np.testing.assert_array_equal(again.edit, case.edit)


def test_a_record_is_a_copy(case: Case) -> None:
    worked_on(case)
    record = case.record()
    before = deepcopy((record.edits.values, record.probability, record.done, record.marks, record.seen))
    case.mask[...] = 1 - case.mask
    case.tick(3)
    case.begin(OTHER_RUN)
    after = record.edits.values, record.probability, record.done, record.marks, record.seen
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert record.run == RUN
    again = new_case()
    again.take_in(record)
    again.mask[...] = 0
    again.absorb_edits()
    np.testing.assert_array_equal(record.edits.values, before[0])


def test_a_record_holds_what_was_painted_a_moment_ago(case: Case) -> None:
    case.mask[VOXEL] = 1
    assert case.record(whole=False).edits.voxels() == 1


def test_a_record_without_probabilities_is_small_and_leaves_those_that_are_there() -> None:
    case, again = segmented(), segmented()
    worked_on(case)
    record = case.record(whole=False)
    assert record.probability is None
    assert record.adopted is None
    again.begin(OTHER_RUN)
    again.accept(OTHER_RUN, Batch(0, 2, FOUND[:2]))
    again.take_in(record)
    assert again.run is OTHER_RUN
    assert again.done.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(again.probability[:2], FOUND[:2])
    np.testing.assert_array_equal(again.edit, case.edit)
    assert again.settings == case.settings
    assert again.slice_states()[1] == SliceState.FLAGGED


def test_edits_made_here_win_over_those_of_the_record(case: Case) -> None:
    case.mask[3, 0, :3] = 1
    again = segmented()
    again.take_in(case.record())
    again.mask[3, 0, 1] = 0  # untouched again, which is no edit
    again.set_threshold(0.1)
    again.mask[3, 5, 7] = 0
    case.mask[3, 5, 7] = 1
    again.take_in(case.record())
    assert again.edit[3, 0, :4].tolist() == [1, 1, 1, 0]
    assert again.edit[3, 5, 7] == -1


def test_ticks_and_flags_made_here_win_over_those_of_the_record(case: Case) -> None:
    for z in range(3):
        case.tick(z)
    again = segmented()
    again.flag(1)
    again.mask[VOXEL] = 1
    again.tick(0)
    again.take_in(case.record())
    assert again.slice_states().tolist() == [
        SliceState.REVIEWED,  # as it was seen here, with a voxel more
        SliceState.FLAGGED,
        SliceState.REVIEWED,
        SliceState.AUTO,
    ]


def test_what_was_set_aside_in_a_record_lies_under_what_was_set_aside_here(case: Case) -> None:
    case.mask[3, 0, 0] = 1
    case.forget_edits()
    again = segmented()
    again.mask[3, 0, 1] = 1
    again.forget_edits()
    again.take_in(case.record())
    assert again.voxels_edited == 0
    again.bring_back()
    assert again.edit[3, 0, :2].tolist() == [0, 1]
    again.bring_back()
    assert again.edit[3, 0, :2].tolist() == [1, 1]


def from_file(sha256: str, geometry: Geometry = GEOMETRY) -> Case:
    source = Source(Path(f"ct_{sha256[0]}.nii.gz"), "NIfTI", sha256)
    return Case(Volume(np.zeros(SHAPE, np.int16), geometry, source=source))


@pytest.mark.parametrize(
    "other",
    [
        from_file("b" * 64),
        from_file("a" * 64, Geometry.from_spacing(SHAPE, (5, 2, 1.1))),
        from_file("a" * 64, GEOMETRY.reordered(STORED)),
    ],
)
def test_a_record_of_another_ct_is_refused_and_changes_nothing(other: Case) -> None:
    worked_on(other)
    record = other.record()
    case = from_file("a" * 64)
    case.mask[VOXEL] = 1
    case.flag(2)
    seen, versions = emitted(case), (case.version, case.hand_version + 1)
    with pytest.raises(InputError, match=r"this work was done on ct_.\.nii\.gz .* is another CT; open ct_"):
        case.take_in(record)
    assert not case.is_of(record)
    case.absorb_edits()
    assert (case.version, case.hand_version) == versions
    assert seen == []
    assert case.mask.sum() == 1
    assert case.banked == []
    assert case.slice_states().tolist() == [1, 0, 3, 0]


def test_the_same_ct_from_another_folder_is_the_same() -> None:
    first, second = from_file("a" * 64), from_file("a" * 64)
    assert second.volume.source is not None
    elsewhere = replace(second.volume.source, path=Path("elsewhere/ct.nii.gz"))
    second.volume = replace(second.volume, source=elsewhere)
    first.mask[VOXEL] = 1
    second.take_in(first.record())
    assert second.mask[VOXEL] == 1


def test_late_batches_of_the_run_before_a_record_was_taken_in_are_thrown_away(case: Case) -> None:
    again = new_case()
    again.begin(OTHER_RUN)
    again.take_in(case.record())
    again.accept(OTHER_RUN, Batch(0, 4, np.zeros(SHAPE, np.uint8)))
    np.testing.assert_array_equal(again.probability, FOUND)


def test_a_clean_up_begun_before_a_record_was_taken_in_is_ignored(case: Case) -> None:
    again = new_case()
    version = again.version
    again.take_in(case.record())
    again.accept_automatic(version, np.ones(SHAPE, bool))
    np.testing.assert_array_equal(again.mask, case.mask)


# ---- everything at once


@st.composite
def boxes(draw: Any) -> tuple[slice, ...]:
    starts = [draw(st.integers(0, n - 1)) for n in SHAPE]
    return tuple(
        slice(start, start + draw(st.integers(1, n))) for start, n in zip(starts, SHAPE, strict=True)
    )


thresholds = st.sampled_from([None, 0.1, 0.3, 0.5, 0.7, 0.9])


class EditsSurvive(RuleBasedStateMachine):
    """Whatever happens, in whatever order, a voxel that a hand has set stays as the hand has set it."""

    looks_always = True

    @initialize(seed=st.integers(0, 99))
    def open(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.case, self.twin = new_case(), Twin(SHAPE)
        self.layer, self.array = Layer(self.case), self.case.mask
        self.unlooked, self.has_other_labels = np.zeros(SHAPE, bool), False
        self.cleaning: tuple[int, Any] | None = None
        self.kept: tuple[Any, Twin, bool] | None = None
        self.runs = [RUN, OTHER_RUN]
        self.case.begin(RUN)
        self.a_batch_comes(0, SHAPE[0], False)

    # what a hand does

    @rule(
        box=boxes(), labels=st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=3), threshold=thresholds
    )
    def paint(self, box: tuple[slice, ...], labels: list[int], threshold: float | None) -> None:
        """Paint, and perhaps think better of it: over the same place once more, with the threshold elsewhere."""
        for label in labels:
            where = self.turned_by(box, label)
            self.look_where_a_script_wrote(where)
            self.layer.paint(where, label)
            self.twin.change(where, label > 0)
            self.move_threshold(threshold)

    @rule(box=boxes(), label=st.sampled_from([1, 2]))
    def paint_another_label(self, box: tuple[slice, ...], label: int) -> None:
        self.case.absorb_edits()
        where = np.zeros(SHAPE, bool)
        where[box] = True
        where &= (self.twin.hand > 0) & (self.array != label)
        self.layer.paint(where, label)
        self.twin.relabel(where)
        self.has_other_labels |= bool(where.any())

    def edits_became_others(self) -> None:
        """Take a layer without a history, where by its values another label on lung would be the hand's word."""
        if self.has_other_labels:
            self.layer, self.has_other_labels = Layer(self.case), False
            self.twin.past, self.twin.future = [], []

    @rule(box=boxes(), label=st.sampled_from([0, 1, 2]))
    def a_script_writes(self, box: tuple[slice, ...], label: int) -> None:
        where = self.turned_by(box, label) & ~self.twin.in_history
        self.look_where_a_script_wrote(where)
        self.array[where] = label
        self.unlooked |= where
        self.twin.change(where, label > 0, is_step=False)

    def look_where_a_script_wrote(self, where: Any) -> None:
        """Look, since what a script writes and a hand paints over at once was never seen."""
        if (where & self.unlooked).any():
            self.case.absorb_edits()
            self.unlooked[...] = False

    def turned_by(self, box: tuple[slice, ...], label: int) -> Any:
        """The voxels of a box that a label makes lung, or not: another label on lung is for other tests."""
        where = np.zeros(SHAPE, bool)
        where[box] = True
        return where & (self.twin.mask != (label > 0))

    @precondition(lambda self: self.twin.past or self.twin.future)
    @rule(steps=st.lists(st.sampled_from(["undo", "redo"]), min_size=1, max_size=4), threshold=thresholds)
    def undo_and_redo(self, steps: list[str], threshold: float | None) -> None:
        for step in steps:
            self.move_threshold(threshold)
            getattr(self.layer, step)()
            getattr(self.twin, step)()

    @precondition(lambda self: self.twin.hand.any() or self.twin.bank)
    @rule(how=st.sampled_from(["forget", "keep some", "bring back"]), z=st.integers(0, 3))
    def set_edits_aside(self, how: str, z: int) -> None:
        if how == "bring back":
            self.case.bring_back()
            self.twin.bring_back()
        elif how == "forget":
            self.case.forget_edits()
            self.twin.forget()
        else:
            self.case.forget_edits(keep=np.arange(SHAPE[0]) == z)
            self.twin.forget(kept=[z])
        self.edits_became_others()

    @rule(z=st.integers(0, 3), how=st.sampled_from(["tick", "flag", "clear"]))
    def mark(self, z: int, how: str) -> None:
        {"tick": self.case.tick, "flag": self.case.flag, "clear": self.case.clear_mark}[how](z)
        self.twin.mark(z, how)

    # what the network and the settings do

    @rule(start=st.integers(0, 3), length=st.integers(1, 4), is_late=st.booleans())
    def a_batch_comes(self, start: int, length: int, is_late: bool) -> None:
        stop = min(start + length, SHAPE[0])
        blob = self.rng.integers(0, 256, (stop - start, 3, 4), np.uint8).repeat(2, axis=1).repeat(2, axis=2)
        run = self.runs[is_late]
        self.case.accept(run, Batch(start, stop, blob))
        if run is self.case.run:
            self.twin.batch(start, stop, blob)

    def move_threshold(self, threshold: float | None) -> None:
        if threshold is not None:
            self.case.set_threshold(threshold)
            self.twin.move_threshold(threshold)

    @rule(threshold=thresholds, is_clean=st.none() | st.booleans())
    def settle(self, threshold: float | None, is_clean: bool | None) -> None:
        self.move_threshold(threshold)
        if is_clean is not None:
            self.case.change_settings(clean=is_clean)
            self.case.settle()
            self.twin.is_clean = is_clean
            self.twin.settle()

    @rule()
    def begin_to_clean_up_elsewhere(self) -> None:
        settings = self.case.settings
        lungs = lung_voxels(self.case.probability, threshold=settings.threshold, clean=settings.clean)
        self.cleaning = self.case.version, lungs

    @precondition(lambda self: self.cleaning is not None)
    @rule()
    def end_to_clean_up_elsewhere(self) -> None:
        assert self.cleaning is not None
        version, lungs = self.cleaning
        is_late = version != self.case.version
        self.case.accept_automatic(version, lungs)
        if not is_late:
            self.twin.settle()

    @rule()
    def begin_another_run(self) -> None:
        self.runs.reverse()
        if self.case.run != self.runs[0]:
            self.twin.begin_anew()
        self.case.begin(self.runs[0])

    @precondition(lambda self: not self.twin.done.all())  # else there is no place for it
    @rule()
    def adopt_a_mask(self) -> None:
        self.twin.adopted = self.rng.random(SHAPE) < 0.5
        self.case.adopt(Mask(self.twin.adopted.astype(np.uint8), GEOMETRY))
        self.twin.settle()

    # the files

    @rule(goes_back=st.booleans(), whole=st.booleans(), in_a_new_case=st.booleans())
    def keep_a_record_or_go_back_to_one(self, goes_back: bool, whole: bool, in_a_new_case: bool) -> None:
        if goes_back and self.kept is not None:
            record, twin, whole = self.kept
            if in_a_new_case:
                self.case, self.twin = new_case(), Twin(SHAPE)
                self.layer, self.array, self.cleaning = Layer(self.case), self.case.mask, None
            self.case.take_in(record)
            self.twin.take_in(twin, whole=whole)
            self.edits_became_others()
        else:
            self.kept = self.case.record(whole=whole), deepcopy(self.twin), whole

    @precondition(lambda self: self.twin.hand.any())
    @rule()
    def export(self) -> None:
        mask = self.case.finished_mask().array
        self.twin.settle()  # what is exported is never waiting for its clean-up
        np.testing.assert_array_equal(mask, self.twin.mask)

    # what must be true

    def look(self) -> None:
        self.case.absorb_edits()
        np.testing.assert_array_equal(self.case.edit, self.twin.hand)
        np.testing.assert_array_equal(self.case.edited, self.twin.hand.any(axis=(1, 2)))
        assert self.case.voxels_edited == np.count_nonzero(self.twin.hand)
        assert self.case.slice_states().tolist() == self.twin.states
        banked = [each.edits.voxels() for each in self.case.banked]
        assert banked == [np.count_nonzero(edit) for edit in self.twin.bank]

    @invariant()
    def what_is_shown_is_the_hand_over_the_automatic(self) -> None:
        np.testing.assert_array_equal(self.array > 0, self.twin.mask)

    @invariant()
    def once_looked_at_all_is_as_the_twin_has_it(self) -> None:
        if self.looks_always:
            self.look()

    def teardown(self) -> None:
        self.look()


class EditsSurviveUnwatched(EditsSurvive):
    """The same, where nobody asks the case to look at its mask in between."""

    looks_always = False


# derandomized: CI meets the same examples each time, and is as steady as any other test
STEADY = hypothesis_settings(
    max_examples=3 * EXAMPLES, stateful_step_count=25, deadline=None, derandomize=True
)
TestEditsSurvive = EditsSurvive.TestCase
TestEditsSurvive.settings = STEADY
TestEditsSurviveUnwatched = EditsSurviveUnwatched.TestCase
TestEditsSurviveUnwatched.settings = STEADY


@pytest.mark.parametrize("side", [8, 9])  # voxels of a slice that are a multiple of eight, and that are not
@pytest.mark.parametrize("at", [0, -1])
def test_a_single_voxel_set_by_hand_is_seen_wherever_the_threshold_goes(side: int, at: int) -> None:
    shape = (2, side, side)
    case = Case(Volume(np.zeros(shape, np.int16), Geometry.from_spacing(shape, (1.0, 1.0, 1.0))))
    case.mask[1].ravel()[at] = 1
    case.set_threshold(0.7)
    assert case.voxels_added == 1
    assert case.mask[1].ravel()[at] == 1


def test_what_was_noted_of_the_run_goes_into_the_history_of_the_mask() -> None:
    case = new_case()
    case.begin(RUN)
    case.accept(RUN, Batch(0, SHAPE[0], FOUND, ("memory ran out",)))
    assert case.probability_map().notes == (*case.volume.notes, "memory ran out")
    assert "memory ran out" in case.finished_mask().history["notes_on_the_ct"]
    case.begin(replace(RUN, grid=256))
    assert case.probability_map().notes == case.volume.notes
