from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_resunet.case import Case
from napari_resunet.errors import GeometryError, InputError
from napari_resunet.geometry import AxisOrder, Geometry
from napari_resunet.imaging.components import clean
from napari_resunet.inference.postprocess import to_mask
from napari_resunet.inference.predict import Batch
from napari_resunet.volume import Mask, Run, Volume

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


class Twin:
    """What the mask must be, kept the slow way: three arrays and their sum."""

    def __init__(self) -> None:
        self.probability = np.zeros(SHAPE, np.uint8)
        self.automatic = np.zeros(SHAPE, bool)
        self.hand = np.zeros(SHAPE, int)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        return np.where(self.hand != 0, self.hand > 0, self.automatic)


@st.composite
def boxes(draw: Any) -> tuple[slice, ...]:
    edges = (sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in SHAPE)
    return tuple(slice(first, last) for first, last in edges)


class EditsSurvive(RuleBasedStateMachine):
    """Whatever happens, in whatever order, a voxel that a hand has set stays as the hand has set it."""

    @initialize(seed=st.integers(0, 99))
    def open(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.case, self.twin = new_case(), Twin()
        self.array = self.case.mask
        self.runs = [RUN, OTHER_RUN]
        self.case.begin(RUN)

    @rule(box=boxes(), label=st.sampled_from([0, 1, 2]))
    def paint(self, box: tuple[slice, ...], label: int) -> None:
        twin = self.twin
        where = np.zeros(SHAPE, bool)
        where[box] = True
        where &= twin.mask != (label > 0)
        twin.hand[where] = np.where(twin.automatic[where] == (label > 0), 0, 1 if label else -1)
        self.array[box] = label

    @rule(start=st.integers(0, 3), length=st.integers(1, 4), is_late=st.booleans())
    def a_batch_comes(self, start: int, length: int, is_late: bool) -> None:
        stop = min(start + length, SHAPE[0])
        blob = self.rng.integers(0, 256, (stop - start, 3, 4), np.uint8).repeat(2, axis=1).repeat(2, axis=2)
        self.case.accept(self.runs[is_late], Batch(start, stop, blob))
        if not is_late:
            self.twin.probability[start:stop] = blob
            self.twin.automatic[start:stop] = blob >= self.case.settings.threshold * 255

    @rule(threshold=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]))
    def move_threshold(self, threshold: float) -> None:
        self.case.set_threshold(threshold)
        self.twin.automatic = self.twin.probability >= threshold * 255

    @rule(is_clean=st.booleans())
    def settle(self, is_clean: bool) -> None:
        self.case.change_settings(clean=is_clean)
        self.case.settle()
        self.twin_settles()

    def twin_settles(self) -> None:
        settings = self.case.settings
        automatic = self.twin.probability >= settings.threshold * 255
        self.twin.automatic = clean(automatic) if settings.clean else automatic

    @rule()
    def begin_another_run(self) -> None:
        self.runs.reverse()
        self.case.begin(self.runs[0])
        self.twin.probability[...] = 0
        self.twin.automatic = np.zeros(SHAPE, bool)

    @rule()
    def look(self) -> None:
        assert self.case.voxels_edited == np.count_nonzero(self.twin.hand)

    @precondition(lambda self: self.twin.mask.any())
    @rule()
    def export(self) -> None:
        mask = self.case.finished_mask().array
        self.twin_settles()  # what is exported is never waiting for its clean-up
        np.testing.assert_array_equal(mask, self.twin.mask)

    @invariant()
    def what_is_shown_is_the_hand_over_the_automatic(self) -> None:
        np.testing.assert_array_equal(self.array > 0, self.twin.mask)

    @invariant()
    def once_absorbed_the_edits_are_those_of_the_hand(self) -> None:
        self.case.absorb_edits()
        np.testing.assert_array_equal(self.case.edit, self.twin.hand)
        touched = self.case.edit != 0
        np.testing.assert_array_equal((self.case.mask > 0)[touched], self.case.edit[touched] > 0)


class EditsSurviveUnwatched(EditsSurvive):
    """The same, where nobody asks the case to look at its mask in between."""

    def once_absorbed_the_edits_are_those_of_the_hand(self) -> None:
        pass


TestEditsSurvive = EditsSurvive.TestCase
TestEditsSurvive.settings = hypothesis_settings(max_examples=40, stateful_step_count=15, deadline=None)
TestEditsSurviveUnwatched = EditsSurviveUnwatched.TestCase
TestEditsSurviveUnwatched.settings = TestEditsSurvive.settings


def test_an_undo_of_a_stroke_the_network_has_since_agreed_with_leaves_its_mask(case: Case) -> None:
    case.begin(RUN)
    case.accept(RUN, Batch(0, SHAPE[0], np.full(SHAPE, 100, np.uint8)))
    case.mask[0, 0, 0] = 1
    case.set_threshold(0.2)
    case.mask[0, 0, 0] = 0  # what a history from before the threshold move brings back
    case.absorb_edits(undone=True)
    assert case.edit[0, 0, 0] == 0
    assert case.mask[0, 0, 0] == 1


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
