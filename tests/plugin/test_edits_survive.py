"""Whatever is done in the window, in whatever order, a voxel that a hand has set stays as the hand has set it.

Two machines of Hypothesis work on a mask layer of napari that is bound to a session, without a window. Beside them
goes a twin that does the same the slow way, and after each step both have to agree: on what is shown, on the edits,
on those that were set aside, and on the review.

An undo or a redo gives back the *edits* that its voxels had before or after that step, wherever threshold, clean-up,
runs and masks from elsewhere have gone since. It has limits, since napari's history tells no more than what it writes.
The machines stay within them, and the tests at the end hold them down.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from edit_twin import EXAMPLES, Twin
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from napari.components import ViewerModel
from scipy import ndimage

import napari_resunet as nru
from napari_resunet.geometry import Geometry
from napari_resunet.inference.predict import Batch
from napari_resunet.io.case_file import read_case
from napari_resunet.plugin import correcting, masking, session
from napari_resunet.plugin.layers import ct_layer_data
from napari_resunet.plugin.session import Session
from napari_resunet.settings import FORGET_EDITS, KEEP_EDITS, KEEP_TICKED, PredictSettings, ToolSettings
from napari_resunet.volume import Mask, Run, Volume

pytestmark = pytest.mark.usefixtures("unstyled")

Bools = npt.NDArray[np.bool_]

SHAPE = DEPTH, HEIGHT, WIDTH = 3, 12, 16
GEOMETRY = Geometry.from_spacing(SHAPE, (5, 2, 1))
CT = Volume(np.zeros(SHAPE, np.int16), GEOMETRY)


class AtOnce:
    """A job that is done on the spot, so that a machine meets no chance."""

    def __init__(self, generator: Any, *arguments: Any, on_value: Any, on_end: Any, **_options: Any) -> None:
        self._generator, self._arguments = generator, arguments
        self._on_value, self._on_end = on_value, on_end

    def start(self) -> None:
        for value in self._generator(*self._arguments):
            self._on_value(value)
        self._on_end()


def brush(z: int, y: int, x: int, size: int, *, in_3d: bool) -> Bools:
    """Return what a round brush covers, in units of the smallest voxel side that it paints along."""
    zs, ys, xs = np.ogrid[:DEPTH, :HEIGHT, :WIDTH]
    away = ((ys - y) * 2) ** 2 + (xs - x) ** 2
    away = away + ((zs - z) * 5) ** 2 if in_3d else np.where(zs == z, away, np.inf)
    return away <= (size // 2 + 0.5) ** 2


# ---- the machines


@cache
def viewer_with_ct() -> ViewerModel:
    """The one viewer of all examples: to make one, with its CT, takes longer than an example."""
    viewer = ViewerModel()
    data, look, _ = ct_layer_data(CT)
    viewer.add_image(data, **look)
    return viewer


slices = st.integers(0, DEPTH - 1)
# close together, so that strokes meet
rows, columns = st.integers(3, 6), st.integers(3, 8)
labels = st.sampled_from([1, 0])
thresholds = st.sampled_from([None, 0.1, 0.3, 0.5, 0.7, 0.9])


class EditsSurvive(RuleBasedStateMachine):
    """A session, a hand and a network, with the twin beside them; what is painted is looked at after each step."""

    looks_always = True

    @initialize(seed=st.integers(0, 99), slices_run=st.sampled_from([DEPTH, DEPTH, 1, 0]))
    def open(self, seed: int, slices_run: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(session, "Job", AtOnce)
        self.patch.setattr(masking, "Job", AtOnce)
        self.patch.setattr(correcting, "Job", AtOnce)
        self.patch.setattr(session, "predicting", self.predicting)
        self.folder = TemporaryDirectory()
        self.rng = np.random.default_rng(seed)
        self.twin, self.kept = Twin(SHAPE), None
        self.unlooked = np.zeros(SHAPE, bool)
        self.old_runs: list[Run] = []
        self.errors: list[Exception] = []
        self.open_ct()
        if slices_run:
            self.run_the_network("one", 0, slices_run, KEEP_EDITS, paints_meanwhile=False)

    def open_ct(self) -> None:
        self.open_widget()
        self.session.show_layers()

    def open_widget(self) -> None:
        self.session = Session(viewer_with_ct())
        self.session.events.failed.connect(self.errors.append)

    def close_ct(self) -> None:
        self.session.close()
        for layer in list(self.session.viewer.layers)[1:]:
            self.session.viewer.layers.remove(layer)

    def teardown(self) -> None:
        if not hasattr(self, "patch"):
            return
        try:
            self.look()
        finally:
            self.close_ct()
            self.patch.undo()
            self.folder.cleanup()

    @property
    def case(self) -> Any:
        return self.session.case

    @property
    def layer(self) -> Any:
        return self.session.mask_layer

    def blob(self, length: int) -> npt.NDArray[np.uint8]:
        """Coarse probabilities, so that a move of the threshold turns whole regions."""
        coarse = self.rng.choice([0, 60, 110, 150, 200, 255], (length, 6, 8))
        return coarse.astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)

    # ---- what a hand does

    def look_where_a_script_wrote(self, where: Bools) -> None:
        """Look, since what a script writes and a hand paints over at once was never seen."""
        if (where & self.unlooked).any():
            self.session.sync()
            self.unlooked[...] = False

    @rule(
        z=slices,
        y=rows,
        x=columns,
        along=st.integers(0, 4),
        size=st.sampled_from([1, 3, 7]),
        labels=st.lists(labels, min_size=1, max_size=3),
        in_3d=st.booleans(),
        threshold=thresholds,
    )
    def paint(
        self,
        z: int,
        y: int,
        x: int,
        along: int,
        size: int,
        labels: list[int],
        in_3d: bool,
        threshold: float | None,
    ) -> None:
        """Paint, and perhaps think better of it: over a part of it once more, with the threshold elsewhere."""
        for i, label in enumerate(labels):
            self.stroke(z, y + i, x, along, size, label, in_3d)
            self.move_threshold(threshold)

    def stroke(self, z: int, y: int, x: int, along: int, size: int, label: int, in_3d: bool) -> None:
        covered = np.any([brush(z, y, x + i, size, in_3d=in_3d) for i in range(along + 1)], axis=0)
        self.look_where_a_script_wrote(covered)
        self.layer.brush_size, self.layer.n_edit_dimensions = size, 3 if in_3d else 2
        with self.layer.block_history():  # as the mouse does
            for i in range(along + 1):
                self.layer.paint((z, y, x + i), label)
        self.twin.change(covered, bool(label))

    @rule(z=slices, y=rows, x=columns)
    def fill(self, z: int, y: int, x: int) -> None:
        label = int(not self.twin.mask[z, y, x])
        pieces, _ = ndimage.label(self.twin.mask[z] == self.twin.mask[z, y, x])
        covered = np.zeros(SHAPE, bool)
        covered[z] = pieces == pieces[y, x]
        self.look_where_a_script_wrote(covered)
        self.layer.n_edit_dimensions = 2
        with self.layer.block_history():
            self.layer.fill((z, y, x), label)
        self.twin.change(covered, bool(label))

    @rule(z=slices, y=rows, x=columns, height=st.integers(1, 3), width=st.integers(1, 4), label=labels)
    def paint_polygon(self, z: int, y: int, x: int, height: int, width: int, label: int) -> None:
        covered = np.zeros(SHAPE, bool)
        covered[z, y : y + height + 1, x : x + width + 1] = True
        self.look_where_a_script_wrote(covered)
        self.layer.n_edit_dimensions = 2
        corners = ((y, x), (y, x + width), (y + height, x + width), (y + height, x))
        self.layer.paint_polygon([(z, *corner) for corner in corners], label)  # no block: as the mouse does
        self.twin.change(covered, bool(label))

    @rule(
        z=slices,
        tool=st.sampled_from(["Clear this slice", "Accept the model here"]),
        is_applied=st.booleans(),
    )
    def use_a_tool(self, z: int, tool: str, is_applied: bool) -> None:
        self.session.show_slice(z)
        self.session.correcting.use(tool, ToolSettings())
        if is_applied:
            self.session.correcting.apply()
            here = np.zeros(SHAPE, bool)
            here[z] = True
            self.twin.change(here, self.twin.automatic if tool.startswith("Accept") else False)
        else:
            self.session.correcting.discard()

    @rule(z=slices, y=rows, x=columns, label=labels, in_place=st.booleans())
    def a_script_writes(self, z: int, y: int, x: int, label: int, in_place: bool) -> None:
        where = np.zeros(SHAPE, bool)
        where[z, y : y + 2, x : x + 2] = True
        where &= ~self.twin.in_history
        self.look_where_a_script_wrote(where)
        if in_place:
            self.layer.data[where] = label
        else:
            written = self.layer.data.copy()
            written[where] = label
            self.layer.data = written
        self.unlooked |= where
        self.twin.change(where, bool(label), is_step=False)

    @precondition(lambda self: self.twin.past or self.twin.future)
    @rule(steps=st.lists(st.sampled_from(["undo", "redo"]), min_size=1, max_size=4), threshold=thresholds)
    def undo_and_redo(self, steps: list[str], threshold: float | None) -> None:
        for step in steps:
            self.move_threshold(threshold)
            getattr(self.layer, step)()
            getattr(self.twin, step)()

    # ---- what the network and the settings do

    def move_threshold(self, threshold: float | None) -> None:
        if threshold is not None:
            self.session.masking.set_threshold(threshold)
            self.twin.move_threshold(threshold)

    @rule(threshold=thresholds, is_clean=st.booleans())
    def move_threshold_and_rest(self, threshold: float | None, is_clean: bool) -> None:
        self.move_threshold(threshold)
        self.session.masking.set_clean(is_clean)
        self.twin.is_clean = is_clean
        self.twin.settle()

    @rule(
        model=st.sampled_from(["one", "other"]),
        first=slices,
        length=st.integers(1, DEPTH),
        edits=st.sampled_from([KEEP_EDITS, KEEP_TICKED, FORGET_EDITS]),
        paints_meanwhile=st.booleans(),
    )
    def run_the_network(
        self, model: str, first: int, length: int, edits: str, paints_meanwhile: bool
    ) -> None:
        self.meanwhile = self.paints_meanwhile if paints_meanwhile else lambda: None
        self.forgets = {
            KEEP_EDITS: lambda: None,
            KEEP_TICKED: lambda: self.twin.forget(kept=self.twin.seen),
            FORGET_EDITS: self.twin.forget,
        }[edits]
        last = min(first + length, DEPTH)
        self.session.run(PredictSettings(model=model, device="cpu"), (first, last), edits=edits)
        self.twin.settle()

    def predicting(
        self,
        _volume: Volume,
        settings: PredictSettings,
        slices: Any,
        _start: int,
        earlier: Run | None,
        _done: Any,
    ) -> Iterator[tuple[Run, Batch | None, int, int]]:
        """What a model says, without one: its first slice, what a hand does meanwhile, then the rest."""
        run = Run(settings.model, "", 128, "cpu", "float32", (0, HEIGHT, 0, WIDTH))
        self.forgets()
        if earlier is not None and run != earlier:
            self.old_runs.append(earlier)
            self.twin.begin_anew()
        yield run, None, 0, 1
        first, last = slices
        for start, stop in ((first, first + 1), (first + 1, last)):
            batch = Batch(start, stop, self.blob(stop - start))
            self.twin.batch(start, stop, batch.probabilities)
            yield run, batch, 1, 1
            self.meanwhile()

    def paints_meanwhile(self) -> None:
        self.stroke(1, 4, 4, 3, 3, int(self.rng.integers(2)), False)

    @precondition(lambda self: self.old_runs)
    @rule(first=slices)
    def a_late_batch_comes(self, first: int) -> None:
        run = self.old_runs[-1]
        batch = Batch(first, first + 1, self.blob(1))
        self.case.accept(run, batch)
        if run is self.case.run:  # a record of that run was taken in meanwhile
            self.twin.batch(first, first + 1, batch.probabilities)

    @precondition(lambda self: not self.twin.done.all())  # else there is no place for it
    @rule()
    def adopt_a_mask(self) -> None:
        self.twin.adopted = self.blob(DEPTH) > 128
        self.session.adopting.adopt_mask(Mask(self.twin.adopted.astype(np.uint8), GEOMETRY), name="a mask")
        self.twin.settle()

    # ---- edits set aside, the review

    @precondition(lambda self: self.twin.hand.any() or self.twin.bank)
    @rule(how=st.sampled_from(["forget", "keep ticked", "bring back", "bring back"]))
    def set_edits_aside(self, how: str) -> None:
        if how == "bring back":
            self.session.hand.bring_back()
            self.twin.bring_back()
        else:
            self.session.hand.forget_edits(keep_ticked=how == "keep ticked")
            self.twin.forget(kept=self.twin.seen if how == "keep ticked" else ())

    @rule(z=slices, how=st.sampled_from(["tick", "tick", "flag", "clear"]))
    def mark(self, z: int, how: str) -> None:
        self.session.sync()
        {"tick": self.case.tick, "flag": self.case.flag, "clear": self.case.clear_mark}[how](z)
        self.twin.mark(z, how)

    # ---- the window and the files

    @rule(what=st.sampled_from(["another slice", "a new mask layer", "a new widget"]), z=slices)
    def change_the_window(self, what: str, z: int) -> None:
        if what == "another slice":
            self.session.show_slice(z)
        elif what == "a new mask layer":
            self.session.viewer.layers.remove(self.layer)
            self.session.show_layers()
            self.twin.past, self.twin.future = [], []  # the new layer has a history of its own
        else:
            self.session.sync()
            self.session.close()
            self.open_widget()
            if self.twin.done.any():
                self.twin.settle()

    @rule(goes_back=st.booleans(), whole=st.booleans())
    def keep_a_record_or_go_back_to_one(self, goes_back: bool, whole: bool) -> None:
        if goes_back and self.kept is not None:
            record, twin, was_whole = self.kept
            self.session.adopting.take_in(record)
            self.twin.take_in(twin, whole=was_whole)
        else:
            self.session.sync()
            self.kept = self.case.record(whole=whole), deepcopy(self.twin), whole

    @precondition(lambda self: self.twin.hand.any())
    @rule()
    def save_and_open_again(self) -> None:
        path = Path(self.folder.name, "case.nru")
        assert self.session.saving.save_case(path)
        self.close_ct()
        self.open_ct()
        self.session.adopting.take_in(read_case(path))
        old, self.twin = self.twin, Twin(SHAPE)
        self.twin.take_in(old, whole=True)

    @precondition(lambda self: self.twin.hand.any())
    @rule()
    def export(self) -> None:
        receipt = self.session.saving.export(Path(self.folder.name, "lungs.nii.gz"))
        self.twin.settle()  # what is exported is never waiting for its clean-up
        np.testing.assert_array_equal(nru.read_mask(receipt.path).array > 0, self.twin.mask)
        mask = self.case.finished_mask()
        assert mask.history["voxels_edited_by_hand"] == np.count_nonzero(self.twin.hand)

    # ---- what must be true

    def look(self) -> None:
        self.session.sync()
        self.unlooked[...] = False
        np.testing.assert_array_equal(self.case.edit, self.twin.hand)
        np.testing.assert_array_equal(self.case.mask > 0, self.twin.mask)
        np.testing.assert_array_equal(self.case.edited, self.twin.hand.any(axis=(1, 2)))
        assert self.case.voxels_added == np.count_nonzero(self.twin.hand > 0)
        assert self.case.voxels_removed == np.count_nonzero(self.twin.hand < 0)
        assert self.case.slice_states().tolist() == self.twin.states
        assert [each.edits.voxels() for each in self.case.banked] == [
            np.count_nonzero(edit) for edit in self.twin.bank
        ]

    @invariant()
    def what_is_shown_is_the_hand_over_the_automatic(self) -> None:
        np.testing.assert_array_equal(self.layer.data > 0, self.twin.mask)

    @invariant()
    def nothing_went_wrong(self) -> None:
        assert self.errors == []

    @invariant()
    def once_looked_at_all_is_as_the_twin_has_it(self) -> None:
        if self.looks_always:
            self.look()


class EditsSurviveUnwatched(EditsSurvive):
    """The same, where nobody looks in between."""

    looks_always = False


# derandomized: CI meets the same examples each time, and is as steady as any other test
STEADY = hypothesis_settings(max_examples=EXAMPLES, stateful_step_count=20, deadline=None, derandomize=True)
TestEditsSurvive = EditsSurvive.TestCase
TestEditsSurvive.settings = STEADY
TestEditsSurviveUnwatched = EditsSurviveUnwatched.TestCase
TestEditsSurviveUnwatched.settings = STEADY


# ---- the limits


class Hand:
    """A hand that sets one voxel, the first of the CT, where the network is half sure of lung."""

    def __init__(self) -> None:
        self.session = Session(ViewerModel())
        self.session.show_ct(CT)
        self.session.show_layers()
        self.layer.brush_size = 1
        case = self.session.case
        case.change_settings(clean=False)
        run = Run("one", "", 128, "cpu", "float32", (0, HEIGHT, 0, WIDTH))
        case.begin(run)
        case.accept(run, Batch(0, DEPTH, np.full(SHAPE, 128, np.uint8)))
        self.wants_more = partial(self.session.masking.set_threshold, 0.3)
        self.wants_less = partial(self.session.masking.set_threshold, 0.7)
        self.wants_less()

    @property
    def layer(self) -> Any:
        return self.session.mask_layer

    def paints(self, label: int) -> None:
        with self.layer.block_history():
            self.layer.paint((0, 0, 0), label)

    def scripts(self, label: int) -> None:
        self.layer.data[0, 0, 0] = label

    @property
    def voxel(self) -> tuple[bool, int]:
        """Whether it is shown as lung, and its edit."""
        self.session.sync()
        return bool(self.layer.data[0, 0, 0]), int(self.session.case.edit[0, 0, 0])


@pytest.fixture
def hand() -> Iterator[Hand]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "Job", AtOnce)
        patch.setattr(masking, "Job", AtOnce)
        hand = Hand()
        yield hand
        hand.session.close()


NOT_LUNG, LUNG = (False, 0), (True, 0)
PUT_IN, TAKEN_OUT = (True, 1), (False, -1)


def test_strokes_are_undone_and_redone_wherever_the_threshold_goes_in_between(hand: Hand) -> None:
    hand.paints(1)
    hand.paints(0)
    hand.wants_more()
    assert hand.voxel == LUNG
    hand.layer.undo()  # writes 1, which is shown already
    assert hand.voxel == PUT_IN
    hand.layer.undo()
    assert hand.voxel == LUNG
    hand.wants_less()
    assert hand.voxel == NOT_LUNG
    hand.layer.redo()
    hand.wants_more()
    hand.layer.redo()
    assert hand.voxel == LUNG
    hand.wants_less()
    assert hand.voxel == NOT_LUNG


def test_an_undo_of_nothing_changes_nothing(hand: Hand) -> None:
    hand.scripts(1)
    for step in (hand.layer.undo, hand.layer.redo):
        step()
        assert hand.voxel == PUT_IN


def test_a_history_that_does_not_fit_the_mask_any_more_leaves_it_as_it_is(hand: Hand) -> None:
    hand.paints(1)
    hand.layer._undo_history.append([((np.array([99]), np.array([0]), np.array([0])), np.array([1]), 0)])
    with pytest.raises(IndexError):
        hand.layer.undo()
    assert hand.voxel == PUT_IN


@pytest.mark.parametrize("how", ["forgotten", "brought back", "taken in"])
def test_once_edits_became_others_a_step_made_before_is_undone_by_the_value_that_it_writes(
    hand: Hand, how: str
) -> None:
    hand.paints(1)
    hand.paints(0)
    hand.scripts(1)
    if how == "taken in":
        hand.session.adopting.take_in(hand.session.case.record())
    else:
        hand.session.hand.forget_edits()
    if how == "brought back":
        hand.session.hand.bring_back()
    hand.layer.undo()  # writes 1
    assert hand.voxel == PUT_IN
    hand.wants_more()
    hand.layer.undo()  # writes 0, and the network says lung
    assert hand.voxel == TAKEN_OUT


def test_what_a_script_writes_is_no_step_and_goes_when_the_stroke_under_it_is_undone(hand: Hand) -> None:
    hand.paints(1)
    hand.scripts(0)
    hand.session.sync()
    hand.wants_more()
    hand.layer.undo()
    assert hand.voxel == LUNG
    hand.wants_less()
    assert hand.voxel == NOT_LUNG


def test_what_a_script_writes_after_a_move_of_the_threshold_stays_when_the_stroke_under_it_is_undone(
    hand: Hand,
) -> None:
    hand.paints(1)
    hand.wants_more()
    hand.scripts(0)
    hand.layer.undo()  # writes 0, as the script has
    assert hand.voxel == TAKEN_OUT


def test_what_a_script_writes_and_a_stroke_paints_over_before_anything_looks_was_never_there(
    hand: Hand,
) -> None:
    hand.scripts(1)
    hand.paints(0)
    assert hand.voxel == NOT_LUNG
    hand.wants_more()
    hand.layer.undo()  # writes the 1 of the script, as the network has it
    assert hand.voxel == LUNG


def test_another_label_on_lung_is_no_edit_but_its_undo_paints_where_the_threshold_took_the_lung_away(
    hand: Hand,
) -> None:
    hand.wants_more()
    hand.paints(2)
    assert hand.voxel == LUNG
    hand.wants_less()
    hand.layer.undo()  # writes 1
    assert hand.voxel == PUT_IN


@pytest.mark.parametrize("label", [2, 255])
def test_lung_of_any_label_is_undone_and_redone(hand: Hand, label: int) -> None:
    hand.paints(label)
    hand.paints(0)
    hand.layer.undo()
    assert hand.voxel == PUT_IN
    hand.layer.undo()
    assert hand.voxel == NOT_LUNG
    hand.layer.redo()
    assert hand.voxel == PUT_IN


@pytest.mark.parametrize("label", [2, 255])
def test_another_label_on_what_was_painted_is_no_edit_and_neither_are_its_undo_and_redo(
    hand: Hand, label: int
) -> None:
    hand.paints(1)
    hand.paints(label)
    hand.wants_more()
    for step in (hand.layer.undo, hand.layer.redo):
        step()
        assert hand.voxel == PUT_IN
    hand.layer.undo()
    hand.layer.undo()
    assert hand.voxel == LUNG
