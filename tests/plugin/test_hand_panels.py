"""What the panels do with what a hand did: keep, forget, bring back, count, correct, swap the sides."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtWidgets import QMessageBox

import napari_resunet as nru
from napari_resunet.editing.review import SliceState
from napari_resunet.imaging.sides import LEFT, RIGHT
from napari_resunet.inference.predict import Batch
from napari_resunet.io.case_file import read_case
from napari_resunet.plugin import launch
from napari_resunet.settings import FORGET_EDITS, KEEP_EDITS, KEEP_TICKED
from napari_resunet.volume import Run, Volume

pytestmark = pytest.mark.usefixtures("unstyled")

RUN = Run("truth", "", 128, "cpu", "float32", (0, 96, 0, 96))
NO, YES = QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes
EDITED, TICKED = 4, 14  # the slices with 36 voxels by hand each; one of them is ticked


@pytest.fixture
def dock(make_napari_viewer, qtbot, chest):
    """The small chest with its true lungs as what the network found, clean-up off."""
    dock = launch.show_widget(make_napari_viewer())
    dock.segment.device.value = "cpu"
    session = dock.session
    session.show_ct(chest.volume)
    session.show_layers()
    session.case.begin(RUN)
    session.case.accept(RUN, Batch(0, 28, (chest.mask.axial > 0).astype(np.uint8) * 255))
    session.masking.set_clean(False)
    idle(qtbot, dock)
    yield dock
    session.close()
    qtbot.waitUntil(lambda: session.is_idle, timeout=60_000)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """The questions that were asked; `answer` of it is given to each."""
    asked = SimpleNamespace(questions=[], answer=YES)

    def answer(*arguments):
        asked.questions.append(arguments[2])
        return asked.answer

    monkeypatch.setattr(QMessageBox, "question", answer)
    return asked


def idle(qtbot, dock) -> None:
    qtbot.waitUntil(lambda: dock.session.is_idle and not dock.mask._rest.isActive(), timeout=60_000)


def edit(dock) -> None:
    """Put in 36 voxels on each of two slices, and tick one of them."""
    for z in (EDITED, TICKED):
        dock.session.mask_layer.data[z, 2:8, 2:8] = 1
    dock.session.sync()
    dock.session.show_slice(TICKED)
    dock.review.tick.native.click()


def edited(dock) -> list[int]:
    dock.session.sync()
    return np.flatnonzero(dock.session.case.edited).tolist()


def run(qtbot, dock, edits: str) -> None:
    dock.segment.edits.value = edits
    dock.segment.start.native.click()
    idle(qtbot, dock)


# ---- what a run does to the edits


def test_the_choice_is_there_only_while_there_are_edits(dock) -> None:
    assert not dock.segment.edits.enabled
    with dock.session.mask_layer.block_history():
        dock.session.mask_layer.paint((5, 6, 6), 1)
    assert dock.segment.edits.enabled
    assert dock.segment.edits.value == KEEP_EDITS
    dock.session.mask_layer.undo()
    assert not dock.segment.edits.enabled


def test_the_choice_is_of_the_ct_that_is_open(dock, chest) -> None:
    edit(dock)
    dock.segment.edits.value = FORGET_EDITS
    first = dock.session.ct_layer
    dock.session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    assert not dock.segment.edits.enabled
    dock.session.choose(first)
    assert dock.segment.edits.enabled
    assert dock.segment.edits.value == KEEP_EDITS


def test_a_choice_stays_through_the_next_stroke(dock) -> None:
    edit(dock)
    dock.segment.edits.value = FORGET_EDITS
    with dock.session.mask_layer.block_history():
        dock.session.mask_layer.paint((5, 6, 6), 1)
    assert dock.segment.edits.value == FORGET_EDITS


def test_a_choice_that_is_not_shown_forgets_nothing(dock, qtbot, asked) -> None:
    edit(dock)
    dock.segment.edits.value = FORGET_EDITS
    dock.session.hand.forget_edits()
    assert not dock.segment.edits.enabled
    dock.segment.start.native.click()
    idle(qtbot, dock)
    assert not asked.questions
    assert dock.session.case.run.model == "lung-ct"


def test_edits_are_kept_unasked(dock, qtbot, asked) -> None:
    edit(dock)
    run(qtbot, dock, KEEP_EDITS)
    assert not asked.questions
    assert edited(dock) == [EDITED, TICKED]
    assert dock.session.mask_layer.data[[EDITED, TICKED], 2:8, 2:8].all()
    assert not dock.session.case.banked


def test_edits_are_kept_on_ticked_slices_alone(dock, qtbot, asked) -> None:
    edit(dock)
    run(qtbot, dock, KEEP_TICKED)
    assert len(asked.questions) == 1
    assert "on slices you have not ticked" in asked.questions[0]
    assert edited(dock) == [TICKED]
    assert dock.session.mask_layer.data[TICKED, 2:8, 2:8].all()
    assert not dock.session.mask_layer.data[EDITED, 2:8, 2:8].any()


def test_edits_are_forgotten_and_can_be_brought_back(dock, qtbot, asked) -> None:
    edit(dock)
    run(qtbot, dock, FORGET_EDITS)
    assert len(asked.questions) == 1
    assert edited(dock) == []
    assert not dock.session.mask_layer.data[[EDITED, TICKED], 2:8, 2:8].any()
    dock.correct.bring_back.native.click()
    assert edited(dock) == [EDITED, TICKED]


@pytest.mark.parametrize("choice", [KEEP_TICKED, FORGET_EDITS])
def test_no_runs_nothing_and_forgets_nothing(dock, qtbot, asked, choice: str) -> None:
    edit(dock)
    asked.answer = NO
    run(qtbot, dock, choice)
    assert len(asked.questions) == 1
    assert dock.session.case.run is RUN
    assert edited(dock) == [EDITED, TICKED]


def test_after_a_run_the_choice_is_to_keep_all(dock, qtbot, asked) -> None:
    edit(dock)
    run(qtbot, dock, KEEP_TICKED)
    assert dock.segment.edits.value == KEEP_EDITS
    run(qtbot, dock, dock.segment.edits.value)
    assert len(asked.questions) == 1
    assert edited(dock) == [TICKED]


def test_a_run_that_cannot_begin_forgets_nothing(dock, qtbot, asked, tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_text("<html>sign in</html>")
    dock.segment.model.choices = [*dock.segment.model.choices, str(tmp_path / "page.safetensors")]
    dock.segment.model.value = str(tmp_path / "page.safetensors")
    edit(dock)
    run(qtbot, dock, FORGET_EDITS)
    assert edited(dock) == [EDITED, TICKED]


def test_a_run_cancelled_at_once_says_what_became_of_the_edits(dock, qtbot, asked) -> None:
    edit(dock)
    dock.segment.edits.value = FORGET_EDITS
    dock.segment.start.native.click()
    dock.segment.stop.native.click()
    idle(qtbot, dock)
    case = dock.session.case
    assert bool(edited(dock)) != bool(case.banked)  # either kept, or to be brought back; never neither


# ---- forget, bring back, count


def test_the_count_follows_every_stroke_undo_and_tool(dock, qtbot) -> None:
    count = dock.correct.count
    assert count.value == "Set by hand: 0 voxels added, 0 removed"
    layer = dock.session.mask_layer
    layer.data_setitem(tuple(np.mgrid[5:6, 2:8, 2:8].reshape(3, -1)), 1)
    qtbot.waitUntil(lambda: "36 voxels added, 0 removed" in count.value, timeout=5_000)
    lung = np.argwhere(layer.data[14] > 0)[:7]
    layer.data_setitem((np.full(7, 14), *lung.T), 0)
    qtbot.waitUntil(lambda: "36 voxels added, 7 removed" in count.value, timeout=5_000)
    layer.undo()
    layer.undo()
    assert count.value == "Set by hand: 0 voxels added, 0 removed"
    assert not dock.correct.forget.enabled


def test_forget_asks_and_no_keeps_the_edits(dock, asked) -> None:
    assert not dock.correct.forget.enabled
    assert not dock.correct.bring_back.enabled
    edit(dock)
    assert dock.correct.forget.enabled
    asked.answer = NO
    dock.correct.forget.native.click()
    assert len(asked.questions) == 1
    assert edited(dock) == [EDITED, TICKED]
    assert not dock.correct.bring_back.enabled


def test_forget_shows_the_mask_of_the_network_and_bring_back_the_edits(dock, asked, chest) -> None:
    edit(dock)
    dock.correct.forget.native.click()
    assert np.array_equal(dock.session.mask_layer.data > 0, chest.mask.axial > 0)
    assert dock.correct.count.value == "Set by hand: 0 voxels added, 0 removed"
    assert not dock.correct.forget.enabled
    assert dock.correct.bring_back.enabled
    dock.correct.bring_back.native.click()
    assert dock.correct.count.value == "Set by hand: 72 voxels added, 0 removed"
    assert dock.session.mask_layer.data[[EDITED, TICKED], 2:8, 2:8].all()
    assert not dock.correct.bring_back.enabled


def test_newer_edits_stay_when_older_ones_are_brought_back(dock, asked) -> None:
    edit(dock)
    dock.correct.forget.native.click()
    lung = np.argwhere(dock.session.case.mask[TICKED])[:5]
    dock.session.mask_layer.data_setitem((np.full(5, TICKED), *lung.T), 0)
    dock.correct.bring_back.native.click()
    assert not dock.session.mask_layer.data[TICKED][tuple(lung.T)].any()
    assert dock.session.mask_layer.data[TICKED, 2:8, 2:8].all()


def test_a_tick_follows_the_edits_away_and_back(dock, asked, qtbot) -> None:
    edit(dock)
    dock.correct.forget.native.click()
    assert dock.session.case.slice_states()[TICKED] != SliceState.REVIEWED
    dock.correct.bring_back.native.click()
    assert dock.session.case.slice_states()[TICKED] == SliceState.REVIEWED


def test_the_buttons_are_of_the_ct_that_is_open(dock, asked, chest) -> None:
    edit(dock)
    dock.correct.forget.native.click()
    first = dock.session.ct_layer
    dock.session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    assert not dock.correct.bring_back.enabled
    dock.session.choose(first)
    assert dock.correct.bring_back.enabled


# ---- tools that wait for a click


def click_at(dock, at: tuple[int, int, int]) -> None:
    layer = dock.session.mask_layer
    for callback in list(layer.mouse_drag_callbacks):
        callback(layer, SimpleNamespace(position=layer.data_to_world(at)))


def piece(dock, z: int) -> tuple[int, int, int]:
    dock.session.mask_layer.data_setitem(tuple(np.mgrid[z : z + 1, 2:4, 2:4].reshape(3, -1)), 1)
    return z, 3, 3


def test_a_tool_that_needs_a_click_waits_for_the_next_one_after_each_apply(dock, qtbot) -> None:
    places = [piece(dock, z) for z in (3, 6, 9)]
    dock.correct.tool.value = "Remove the clicked piece"
    assert dock.correct.look.text == "Click in picture"
    dock.correct.look.native.click()
    for place in places:
        assert dock.correct.state.value == "Click a voxel in the picture."
        click_at(dock, place)
        idle(qtbot, dock)
        assert "4 to remove" in dock.correct.state.value
        dock.correct.apply.native.click()
        assert not dock.session.mask_layer.data[place]
    assert dock.correct.state.value == "Click a voxel in the picture."
    assert not dock.correct.apply.enabled
    dock.correct.discard.native.click()
    assert dock.correct.state.value == ""


def test_each_apply_is_a_step_of_its_own(dock, qtbot) -> None:
    places = [piece(dock, z) for z in (3, 6)]
    dock.correct.tool.value = "Remove the clicked piece"
    dock.correct.look.native.click()
    for place in places:
        click_at(dock, place)
        idle(qtbot, dock)
        dock.correct.apply.native.click()
    dock.session.mask_layer.undo()
    assert not dock.session.mask_layer.data[places[0]]
    assert dock.session.mask_layer.data[places[1]]


def test_taking_up_the_brush_lets_go_of_the_tool(dock) -> None:
    layer = dock.session.mask_layer
    layer.mode = "paint"
    dock.correct.tool.value = "Remove the clicked piece"
    dock.correct.look.native.click()
    assert layer.mode == "pan_zoom"
    layer.mode = "paint"
    assert layer.mode == "paint"
    assert dock.correct.state.value == ""
    assert not dock.correct.discard.enabled
    before = list(layer.mouse_drag_callbacks)
    click_at_nothing = dock.session.correcting._on_click not in before
    assert click_at_nothing


def test_discard_gives_the_brush_back(dock) -> None:
    layer = dock.session.mask_layer
    layer.mode = "paint"
    dock.correct.tool.value = "Remove the clicked piece"
    dock.correct.look.native.click()
    dock.correct.discard.native.click()
    assert layer.mode == "paint"


def test_a_tool_that_waits_is_let_go_with_the_ct(dock, chest) -> None:
    mask = dock.session.mask_layer
    mask.mode = "paint"
    callbacks = list(mask.mouse_drag_callbacks)
    dock.correct.tool.value = "Remove the clicked piece"
    dock.correct.look.native.click()
    first = dock.session.ct_layer
    dock.session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    assert dock.correct.state.value == ""
    dock.session.choose(first)  # napari lets nobody paint in a layer that is hidden
    mask.mode = "paint"
    assert list(mask.mouse_drag_callbacks) == callbacks
    mask.mode = "erase"  # of which the tools know nothing any more
    assert mask.mode == "erase"


def test_a_tool_that_waits_is_let_go_with_the_mask(dock) -> None:
    dock.correct.tool.value = "Remove the clicked piece"
    dock.correct.look.native.click()
    dock.session.viewer.layers.remove(dock.session.mask_layer)
    assert dock.correct.state.value == ""
    assert not dock.correct.discard.enabled


# ---- right and left

SWAP = "Swap right and left"


def swap(qtbot, dock) -> None:
    dock.correct.tool.value = SWAP
    dock.correct.look.native.click()
    idle(qtbot, dock)
    dock.correct.apply.native.click()


def split(dock, folder: Path, name: str) -> tuple[np.ndarray, dict]:
    assert dock.session.saving.export(folder / f"{name}.nii.gz", split=True)
    said = json.loads((folder / f"{name}.json").read_text())
    return nru.read_mask(folder / f"{name}.nii.gz").axial, said["history"]["mask"]


def test_the_swap_is_shown_first_and_changes_nothing(dock, qtbot, tmp_path: Path) -> None:
    before = dock.session.mask_layer.data.copy()
    labels, _ = split(dock, tmp_path, "before")
    dock.correct.tool.value = SWAP
    dock.correct.look.native.click()
    idle(qtbot, dock)
    preview = dock.session.correcting.preview_layer.data
    assert np.array_equal(preview == LEFT, labels == RIGHT)
    assert np.array_equal(preview == RIGHT, labels == LEFT)
    assert "right lung orange, left lung blue" in dock.correct.state.value
    dock.correct.discard.native.click()
    assert not dock.session.case.settings.swap_sides
    assert np.array_equal(dock.session.mask_layer.data, before)


def test_a_swap_exchanges_the_labels_of_an_export_and_the_sidecar_says_so(
    dock, qtbot, tmp_path: Path
) -> None:
    before, said_before = split(dock, tmp_path, "before")
    shown = dock.session.mask_layer.data.copy()
    swap(qtbot, dock)
    after, said_after = split(dock, tmp_path, "after")
    assert np.array_equal(after == LEFT, before == RIGHT)
    assert np.array_equal(after == RIGHT, before == LEFT)
    assert (said_before["swap_sides"], said_after["swap_sides"]) == (False, True)
    assert np.array_equal(dock.session.mask_layer.data, shown)
    assert dock.session.case.voxels_edited == 0
    assert "preview" not in dock.session.viewer.layers


def test_two_swaps_are_none(dock, qtbot, tmp_path: Path) -> None:
    before, _ = split(dock, tmp_path, "before")
    swap(qtbot, dock)
    swap(qtbot, dock)
    after, said = split(dock, tmp_path, "after")
    assert np.array_equal(after, before)
    assert not said["swap_sides"]


def test_a_swap_is_unsaved_work_that_a_case_file_keeps(dock, qtbot, tmp_path: Path) -> None:
    assert not dock.session.saving.unsaved_cases()
    swap(qtbot, dock)
    assert dock.session.saving.unsaved_cases() == [dock.session.case]
    assert dock.session.saving.save_case(tmp_path / "case.nru")
    assert read_case(tmp_path / "case.nru").settings.swap_sides
    assert not dock.session.saving.unsaved_cases()


def test_a_swap_stays_through_a_run(dock, qtbot, asked) -> None:
    swap(qtbot, dock)
    run(qtbot, dock, KEEP_EDITS)
    assert dock.session.case.settings.swap_sides


def test_there_is_nothing_to_swap_without_a_lung(dock, qtbot) -> None:
    dock.session.mask_layer.data[...] = 0
    dock.session.sync()
    dock.correct.tool.value = SWAP
    dock.correct.look.native.click()
    idle(qtbot, dock)
    assert dock.correct.state.value == "There is no lung to label yet."
    assert not dock.correct.apply.enabled
