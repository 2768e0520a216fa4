"""Whatever is done in the window, in whatever order, a voxel that a hand has set stays as the hand has set it.

Two machines of Hypothesis work on a mask layer of napari that is bound to a session, without a window. Beside them
goes a twin that does the same the slow way, and after each step both have to agree: on what is shown, on the edits,
on the edits that were set aside, and on the review.

What an undo or a redo gives back are the *edits* that its voxels had before or after that step, wherever threshold,
clean-up, runs and masks from elsewhere have gone since. napari's history is known by what it writes, so there are
limits; the machines stay within them, and the tests at the end of this file hold them down:

- Edits that were forgotten, brought back or taken in from a record are no steps of napari's history. A step made
  before that, once undone or redone after it, is taken by the values that it writes.
- Voxels that a script writes into ``layer.data`` are edits, but no step either. An undo of an earlier step of the
  same voxels gives back what it says as long as the threshold has not moved in between; and a redo after the script
  is taken by its values.
- What a script writes, and a stroke paints over before anything has looked at it, was never seen.
- Another label on a voxel that is lung already is no edit, but a step; if the threshold takes the voxel away since,
  its undo paints the voxel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from napari.components import ViewerModel
from scipy import ndimage

import napari_resunet as nru
from napari_resunet.editing.review import SliceState
from napari_resunet.geometry import Geometry
from napari_resunet.imaging.components import clean
from napari_resunet.inference.predict import Batch
from napari_resunet.io.case_file import read_case
from napari_resunet.plugin import correcting, session
from napari_resunet.plugin.session import Session
from napari_resunet.settings import FORGET_EDITS, KEEP_EDITS, KEEP_TICKED, PredictSettings, ToolSettings
from napari_resunet.volume import Mask, Run, Volume

Bools = npt.NDArray[np.bool_]
Edits = npt.NDArray[np.int8]

SHAPE = DEPTH, HEIGHT, WIDTH = 3, 12, 16
SPACING_MM = (5.0, 2.0, 1.0)
GEOMETRY = Geometry.from_spacing(SHAPE, SPACING_MM)
CT = Volume(np.zeros(SHAPE, np.int16), GEOMETRY)
EVERY_HU = ToolSettings()


class AtOnce:
    """A job that is done on the spot, so that a machine meets no chance."""

    def __init__(self, generator: Any, *arguments: Any, on_value: Any, on_error: Any, on_end: Any, label="") -> None:
        self._generator, self._arguments = generator, arguments
        self._on_value, self._on_error, self._on_end = on_value, on_error, on_end

    def start(self) -> None:
        for value in self._generator(*self._arguments):
            self._on_value(value)
        self._on_end()


# ---- the twin


@dataclass
class Step:
    """A step of napari's history: its voxels, and what it gives back when it is undone (or redone).

    Parameters
    ----------
    where : (z, y, x) array of bool
        The voxels that it changed.
    lung : (z, y, x) array of bool
        What napari writes there.
    edit : (z, y, x) array of int8
        The edits that were there.
    is_known : bool
        Whether the edits are still known; else it is taken by what napari writes.
    """

    where: Bools
    lung: Bools
    edit: Edits
    known: Bools


class Twin:
    """What the case must be, kept the slow way: whole arrays, and a step for each entry in napari's history."""

    def __init__(self) -> None:
        self.probability = np.zeros(SHAPE, np.uint8)
        self.done = np.zeros(DEPTH, bool)
        self.adopted = np.zeros(SHAPE, bool)
        self.threshold, self.is_clean = 0.5, True
        self.automatic = np.zeros(SHAPE, bool)
        self.hand = np.zeros(SHAPE, np.int8)
        self.bank: list[Edits] = []
        self.seen: dict[int, Bools] = {}
        self.flagged: set[int] = set()
        self.past: list[Step] = []
        self.future: list[Step] = []

    @property
    def mask(self) -> Bools:
        return np.where(self.hand != 0, self.hand > 0, self.automatic)

    # what a hand does

    def change(self, where: Bools, lung: Bools | bool, *, is_step: bool = True) -> None:
        lung = np.broadcast_to(lung, SHAPE)
        changed = where & (self.mask != lung)
        if not changed.any():
            return
        if is_step:
            self.past.append(Step(changed, ~lung, self.hand.copy(), changed.copy()))
            self.future.clear()
        else:
            self._forget_steps(self.future)
        self.hand[changed] = self._stated(lung)[changed]

    def _stated(self, lung: Bools) -> Edits:
        return np.where(lung == self.automatic, 0, np.where(lung, 1, -1)).astype(np.int8)

    def undo(self) -> None:
        self._step(self.past, self.future)

    def redo(self) -> None:
        self._step(self.future, self.past)

    def _step(self, taken: list[Step], kept: list[Step]) -> None:
        if not taken:
            return
        step, before = taken.pop(), self.hand.copy()
        stated = step.where & ~step.known & (self.mask != step.lung)
        self.hand[stated] = self._stated(step.lung)[stated]
        self.hand[step.known] = step.edit[step.known]
        kept.append(Step(step.where, ~step.lung, before, step.known | stated))

    def _forget_steps(self, steps: list[Step]) -> None:
        for step in steps:
            step.known[...] = False

    def edits_became_others(self) -> None:
        self._forget_steps(self.past)
        self._forget_steps(self.future)

    def forget(self, kept: Any = ()) -> None:
        leaving = [z for z in range(DEPTH) if self.hand[z].any() and z not in kept]
        if leaving:
            self.bank.append(np.zeros(SHAPE, np.int8))
            self.bank[-1][leaving] = self.hand[leaving]
            self.hand[leaving] = 0
            self.edits_became_others()

    def bring_back(self) -> None:
        if self.bank:
            self.lay_under(self.bank.pop())

    def lay_under(self, edit: Edits) -> None:
        self.hand = np.where(self.hand != 0, self.hand, edit)
        self.edits_became_others()

    @property
    def in_history(self) -> Bools:
        """Voxels that napari has a step for."""
        return np.any([step.where for step in (*self.past, *self.future)] or [np.zeros(SHAPE, bool)], axis=0)

    # what the network and the settings say

    def move_threshold(self) -> None:
        self.automatic = self._with_adopted(self.probability >= self.threshold * 255)

    def settle(self) -> None:
        found = self.probability >= self.threshold * 255
        self.automatic = self._with_adopted(clean(found) if self.is_clean else found)

    def _with_adopted(self, found: Bools) -> Bools:
        return np.where(self.done[:, None, None], found, found | self.adopted)

    def begin_anew(self) -> None:
        self.probability[...], self.done[...] = 0, False
        self.settle()

    def batch(self, first: int, last: int, probability: npt.NDArray[np.uint8]) -> None:
        self.probability[first:last], self.done[first:last] = probability, True
        self.automatic[first:last] = probability >= self.threshold * 255

    # the review

    @property
    def states(self) -> list[int]:
        return [self._state(z) for z in range(DEPTH)]

    def _state(self, z: int) -> SliceState:
        if z in self.flagged:
            return SliceState.FLAGGED
        if z in self.seen and np.array_equal(self.seen[z], self.mask[z]):
            return SliceState.REVIEWED
        return SliceState.EDITED if self.hand[z].any() else SliceState.AUTO

    # a record

    def take_in(self, record: Twin, *, whole: bool) -> None:
        if whole:
            self.probability, self.done = record.probability.copy(), record.done.copy()
            self.adopted = record.adopted.copy()
        self.threshold, self.is_clean = record.threshold, record.is_clean
        self.seen, self.flagged = dict(record.seen), set(record.flagged)
        self.bank = [*deepcopy(record.bank), *self.bank]
        self.lay_under(record.hand)
        self.settle()


def brush(z: int, y: int, x: int, size: int, *, in_3d: bool) -> Bools:
    """Return what a round brush covers, in units of the smallest voxel side that it paints along."""
    zs, ys, xs = np.ogrid[:DEPTH, :HEIGHT, :WIDTH]
    away = ((ys - y) * 2) ** 2 + (xs - x) ** 2
    away = away + ((zs - z) * 5) ** 2 if in_3d else np.where(zs == z, away, np.inf)
    return away <= (size // 2 + 0.5) ** 2


# ---- the machines

slices = st.integers(0, DEPTH - 1)
# close together, so that strokes meet
rows, columns = st.integers(3, 6), st.integers(3, 8)
labels = st.sampled_from([1, 0])


class EditsSurvive(RuleBasedStateMachine):
    """A session, a hand and a network, with the twin beside them; what is painted is looked at after each step."""

    looks_always = True

    @initialize(seed=st.integers(0, 99))
    def open(self, seed: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(session, "Job", AtOnce)
        self.patch.setattr(correcting, "Job", AtOnce)
        self.patch.setattr(session, "predicting", self.predicting)
        self.folder = TemporaryDirectory()
        self.rng = np.random.default_rng(seed)
        self.twin, self.kept = Twin(), None
        self.unlooked = np.zeros(SHAPE, bool)
        self.old_runs: list[Run] = []
        self.errors: list[Exception] = []
        self.open_ct()

    def open_ct(self) -> None:
        self.session = Session(ViewerModel())
        self.session.events.failed.connect(self.errors.append)
        self.session.show_ct(CT)
        self.session.show_layers()

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.look()
            self.session.close()
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

    def strokes_over(self, where: Bools) -> None:
        """Let the session look first at what a script wrote where a stroke is going to paint."""
        if (where & self.unlooked).any():
            self.session.sync()
            self.unlooked[...] = False

    @rule(
        z=slices,
        y=rows,
        x=columns,
        along=st.integers(0, 4),
        size=st.sampled_from([1, 3, 7]),
        label=labels,
        in_3d=st.booleans(),
    )
    def paint(self, z: int, y: int, x: int, along: int, size: int, label: int, in_3d: bool) -> None:
        covered = np.any([brush(z, y, x + i, size, in_3d=in_3d) for i in range(along + 1)], axis=0)
        self.strokes_over(covered)
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
        self.strokes_over(covered)
        self.layer.n_edit_dimensions = 2
        with self.layer.block_history():
            self.layer.fill((z, y, x), label)
        self.twin.change(covered, bool(label))

    @rule(z=slices, y=rows, x=columns, height=st.integers(1, 3), width=st.integers(1, 4), label=labels)
    def paint_polygon(self, z: int, y: int, x: int, height: int, width: int, label: int) -> None:
        covered = np.zeros(SHAPE, bool)
        covered[z, y : y + height + 1, x : x + width + 1] = True
        self.strokes_over(covered)
        self.layer.n_edit_dimensions = 2
        corners = ((y, x), (y, x + width), (y + height, x + width), (y + height, x))
        self.layer.paint_polygon([(z, *corner) for corner in corners], label)  # no block: as the mouse does
        self.twin.change(covered, bool(label))

    @rule(
        z=slices, tool=st.sampled_from(["Clear this slice", "Accept the model here"]), is_applied=st.booleans()
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
        if in_place:
            self.layer.data[where] = label
        else:
            written = self.layer.data.copy()
            written[where] = label
            self.layer.data = written
        self.unlooked |= where
        self.twin.change(where, bool(label), is_step=False)

    @rule(times=st.integers(1, 3))
    def undo(self, times: int) -> None:
        for _ in range(times):
            self.layer.undo()
            self.twin.undo()

    @rule(times=st.integers(1, 3))
    def redo(self, times: int) -> None:
        for _ in range(times):
            self.layer.redo()
            self.twin.redo()

    # ---- what the network and the settings do

    @rule(threshold=st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), rests=st.booleans())
    def move_threshold(self, threshold: float, rests: bool) -> None:
        self.session.set_threshold(threshold)
        self.twin.threshold = threshold
        self.twin.move_threshold()
        if rests:
            self.session.settle()
            self.twin.settle()

    @rule(is_clean=st.booleans())
    def clean_up(self, is_clean: bool) -> None:
        self.session.set_clean(is_clean)
        self.twin.is_clean = is_clean
        self.twin.settle()

    @rule(
        model=st.sampled_from(["one", "other"]),
        first=slices,
        length=st.integers(1, DEPTH),
        edits=st.sampled_from([KEEP_EDITS, KEEP_TICKED, FORGET_EDITS]),
        paints_meanwhile=st.booleans(),
    )
    def run_the_network(self, model: str, first: int, length: int, edits: str, paints_meanwhile: bool) -> None:
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
        self, volume: Volume, settings: PredictSettings, slices: Any, start: int, earlier: Run | None, done: Bools
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
        self.paint(1, 4, 4, 3, 3, int(self.rng.integers(2)), False)

    @precondition(lambda self: self.old_runs)
    @rule(first=slices)
    def a_late_batch_comes(self, first: int) -> None:
        run = self.old_runs[-1]
        batch = Batch(first, first + 1, self.blob(1))
        self.case.accept(run, batch)
        if run is self.case.run:  # a record of that run was taken in meanwhile
            self.twin.batch(first, first + 1, batch.probabilities)

    @rule()
    def adopt_a_mask(self) -> None:
        self.twin.adopted = self.blob(DEPTH) > 128
        self.session.adopt_mask(Mask(self.twin.adopted.astype(np.uint8), GEOMETRY), name="a mask")
        self.twin.settle()

    # ---- edits set aside, the review

    @rule(how=st.sampled_from(["forget", "keep ticked", "bring back", "bring back"]))
    def set_edits_aside(self, how: str) -> None:
        if how == "bring back":
            self.session.bring_back()
            self.twin.bring_back()
        else:
            self.session.forget_edits(keep_ticked=how == "keep ticked")
            self.twin.forget(kept=self.twin.seen if how == "keep ticked" else ())

    @rule(z=slices, how=st.sampled_from(["tick", "tick", "flag", "clear"]))
    def mark(self, z: int, how: str) -> None:
        self.session.sync()
        self.twin.flagged.discard(z)
        self.twin.seen.pop(z, None)
        if how == "tick":
            self.case.tick(z)
            self.twin.seen[z] = self.twin.mask[z]
        elif how == "flag":
            self.case.flag(z)
            self.twin.flagged.add(z)
        else:
            self.case.clear_mark(z)

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
            self.session = Session(self.session.viewer)
            self.session.events.failed.connect(self.errors.append)

    @rule(whole=st.booleans())
    def keep_a_record(self, whole: bool) -> None:
        self.session.sync()
        self.kept = self.case.record(whole=whole), deepcopy(self.twin), whole

    @precondition(lambda self: self.kept is not None)
    @rule()
    def take_in_the_record(self) -> None:
        record, twin, whole = self.kept
        self.session.take_in(record)
        self.twin.take_in(twin, whole=whole)

    @rule()
    def save_and_open_again(self) -> None:
        path = Path(self.folder.name, "case.nru")
        assert self.session.save_case(path)
        self.session.close()
        self.open_ct()
        self.session.take_in(read_case(path))
        old, self.twin = self.twin, Twin()
        self.twin.take_in(old, whole=True)

    @precondition(lambda self: self.twin.mask.any())
    @rule()
    def export(self) -> None:
        receipt = self.session.export(Path(self.folder.name, "lungs.nii.gz"))
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


STEADY = hypothesis_settings(
    max_examples=int(os.environ.get("EX", 120)), stateful_step_count=20, deadline=None, derandomize="EX" not in os.environ, database=None
)
TestEditsSurvive = EditsSurvive.TestCase
TestEditsSurvive.settings = STEADY
TestEditsSurviveUnwatched = EditsSurviveUnwatched.TestCase
TestEditsSurviveUnwatched.settings = STEADY
