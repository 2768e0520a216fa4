"""What the window says is so: of a part that is run, of a run that failed, of figures of before, of marks."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_resunet.geometry import Geometry
from napari_resunet.plugin.dialogs import Dialogs
from napari_resunet.plugin.panels.review import ReviewPanel
from napari_resunet.settings import PredictSettings, ToolSettings
from napari_resunet.volume import Volume

pytestmark = pytest.mark.usefixtures("unstyled")

CPU = PredictSettings(device="cpu")


@pytest.fixture
def part(dock, chest, qtbot):
    """The widget after a run over 5 of the 28 slices."""
    dock.session.show_ct(chest.volume)
    dock.session.run(CPU, (10, 15))
    qtbot.waitUntil(lambda: dock.session.is_idle, timeout=120_000)
    return dock


def test_a_part_is_called_a_part_everywhere(part, tmp_path, monkeypatch, qtbot) -> None:
    assert "5 of 28 slices segmented" in part.segment.status.value
    assert "23 are not run yet" in part.segment.status.value
    qtbot.waitUntil(lambda: "on 5 of 28 slices" in part.mask.figures.value)

    part.measure.measure.native.click()
    qtbot.waitUntil(lambda: "ml" in part.measure.figures.value, timeout=60_000)
    assert part.measure.state.value == "23 of 28 slices are not run yet: this is a part."

    monkeypatch.setattr(part.export, "_ask_output", lambda _: tmp_path / "lungs.nii.gz")
    part.export.export.native.click()
    assert part.export.receipt.value.endswith("23 of 28 slices are not run yet, and empty there")


def test_another_ct_elsewhere_with_fewer_slices_and_back_again(part, chest, qtbot) -> None:
    session, first = part.session, part.session.ct_layer
    matrix = chest.volume.geometry.index_to_lps.copy()
    matrix[2, 3] += 2000  # mm: beyond all slices of the first
    few = Volume(chest.volume.array[:4].copy(), Geometry((4, *chest.volume.array.shape[1:]), matrix))
    session.show_ct(few)
    assert (len(session.case.done), session.slice_in_view) == (4, 2)
    session.run(CPU, (2, 3))
    qtbot.waitUntil(lambda: session.is_idle, timeout=60_000)
    session.choose(first)
    assert (len(session.case.done), session.slice_in_view) == (28, 14)
    assert part.review.place.value.startswith("Slice 14")
    session.mask_layer.data_setitem((np.array([14]), np.array([1]), np.array([1])), 1)
    assert session.case.voxels_edited == 1


def test_a_run_that_failed_is_not_told_as_one_that_went_well(part, monkeypatch, qtbot) -> None:
    from napari_resunet.errors import PredictionError
    from napari_resunet.inference.predict import Prediction

    def fail(*_: object) -> None:
        raise PredictionError("no luck")

    monkeypatch.setattr(Prediction, "batches", fail)
    part.session.run(CPU)
    qtbot.waitUntil(lambda: part.session.is_idle, timeout=60_000)
    assert part.segment.status.value.startswith("The run failed")
    assert [str(error) for error in part.errors] == ["no luck"]


def test_weights_that_cannot_be_used_cannot_be_run(dock, chest, tmp_path, monkeypatch) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"\x10\x00 nothing of the kind")
    dock.session.show_ct(chest.volume)
    monkeypatch.setattr(dock.segment, "_ask_weights", lambda: wrong)
    dock.segment.model.value = "weights file…"
    assert not dock.segment.start.enabled
    assert dock.segment.start.tooltip == dock.segment.model_card.value
    assert dock.segment.model_card.value.endswith("not a whole safetensors file; save or copy it again")
    dock.segment.model.value = "lung-ct"
    assert dock.segment.start.enabled


def test_before_a_run_there_is_no_mask_to_export(dock, chest) -> None:
    dock.session.show_ct(chest.volume)
    dock.mask._show_figures()
    assert dock.mask.figures.value == "No mask yet: press Run."
    assert (dock.export.export.enabled, dock.export.export.tooltip) == (
        False,
        "There is no mask yet: press Run.",
    )
    dock.session.adopting.adopt_mask(chest.mask, name="made elsewhere")
    assert dock.export.export.enabled


def test_figures_of_before_are_called_so_and_not_told_at_each_voxel(part, qtbot) -> None:
    part.measure.measure.native.click()
    qtbot.waitUntil(lambda: "ml" in part.measure.figures.value, timeout=60_000)
    layer = part.session.mask_layer
    assert len(layer.features)
    layer.data_setitem((np.array([12]), np.array([3]), np.array([3])), 1)
    part.session.sync()
    part.session.events.painted.emit()
    assert not len(layer.features)
    assert part.measure.state.value == "The mask has changed since: measure again."


def test_a_panel_that_comes_after_the_ct_shows_marks_and_doubt(part, qtbot) -> None:
    part.session.case.tick(12)
    part.session.show_slice(12)
    later = ReviewPanel(part.session)
    assert later.progress.value.startswith("1 of 5 slices with lung reviewed")
    qtbot.waitUntil(lambda: later.place.value.startswith("Slice 12, reviewed, doubt"))


@pytest.mark.parametrize("which", ["ct_layer", "mask_layer"])
def test_no_key_moves_ct_or_mask(part, which) -> None:
    layer = getattr(part.session, which)
    layer.mode = "transform"  # napari's key 2 on an image
    assert str(layer.mode) == "pan_zoom"
    assert "stays where its file says" in str(part.errors[-1])


def test_the_choice_for_edits_stays_in_its_place(part) -> None:
    edits = part.segment.edits
    assert (edits.enabled, edits.tooltip) == (False, "Nothing is set by hand.")
    part.session.mask_layer.data_setitem((np.array([12]), np.array([3]), np.array([3])), 1)
    part.session.sync()
    assert edits.enabled


@pytest.mark.computed
def test_cancel_says_so_at_once(dock, chest, qtbot) -> None:
    dock.session.show_ct(chest.volume)
    dock.segment.start.native.click()
    dock.segment.stop.native.click()
    assert dock.segment.status.value == "stopping after the slices at work …"
    assert (dock.segment.stop.enabled, dock.segment.stop.tooltip) == (False, "It is stopping.")
    qtbot.waitUntil(lambda: dock.session.is_idle, timeout=60_000)


def test_advice_of_a_tool_stands_in_the_panel_alone(part, qtbot) -> None:
    part.correct.tool.value = "Fill between edited slices"
    part.session.correcting.use("Fill between edited slices", ToolSettings())
    qtbot.waitUntil(lambda: part.session.is_idle and bool(part.correct.state.value), timeout=60_000)
    assert part.correct.state.value[0].isupper()
    assert part.errors == []
    assert not part.correct.discard.enabled


def test_dialogs_begin_where_the_last_one_ended_and_beside_a_ct(
    dock, ct, tmp_path, monkeypatch, qtbot
) -> None:
    begun = []

    def choose(_parent, _title, folder, _kinds):
        begun.append(folder)
        return str(tmp_path / "elsewhere" / "a.nii"), ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", choose)
    dialogs = Dialogs(None)
    dialogs.ct_file()
    dialogs.ct_file()
    assert begun[1] == str(tmp_path / "elsewhere")

    dock.open(ct)
    qtbot.waitUntil(lambda: dock.session.is_idle and dock.session.case is not None, timeout=60_000)
    dock._dialogs.weights()
    assert begun[2] == str(ct.parent)


def test_the_receipt_of_a_case_tells_of_ticks(part, tmp_path, monkeypatch) -> None:
    part.session.case.tick(12)
    part.session.case.flag(13)
    monkeypatch.setattr(part.export, "_ask_case", lambda _: tmp_path / "a.nru")
    assert part.export.ask_and_save_case()
    assert part.export.receipt.value.endswith("0 voxels set by hand, 1 slice reviewed, 1 slice flagged")


def test_a_case_that_is_opened_again_says_what_is_done(part, ct, chest, tmp_path, qtbot) -> None:
    from napari_resunet.io.open_ct import open_ct

    session = part.session
    volume = open_ct(ct)
    session.show_ct(volume)
    session.run(CPU, (3, 5))
    qtbot.waitUntil(lambda: session.is_idle, timeout=60_000)
    assert session.saving.save_case(tmp_path / "ct.nru")
    session.viewer.layers.clear()
    assert part.segment.status.value == ""
    session.opening.open_case(tmp_path / "ct.nru", ct)
    qtbot.waitUntil(lambda: session.is_idle and session.case is not None, timeout=60_000)
    assert part.segment.status.value == "2 of 28 slices segmented"
    qtbot.waitUntil(lambda: session.viewer.layers.selection.active is session.mask_layer)


def test_masks_named_by_uids_have_probability_maps_of_their_own(part, tmp_path) -> None:
    for name in ("1.2.840.111_lung_mask.nii.gz", "1.2.840.222_lung_mask.seg.nrrd", "lungs.v2.NII.GZ"):
        assert part.session.saving.export(tmp_path / name, probability=True) is not None
    assert {path.name for path in tmp_path.glob("*_probability.*") if path.suffix.lower() != ".json"} == {
        "1.2.840.111_lung_mask_probability.nii.gz",
        "1.2.840.222_lung_mask_probability.nii.gz",
        "lungs.v2_probability.NII.GZ",
    }
