"""The whole main job in a real window."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFileDialog

import napari_resunet as nru
from napari_resunet.inference import ready
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.model.device import choose_device
from napari_resunet.plugin import launch, warm_up
from napari_resunet.plugin.dock import LungSegmentation
from napari_resunet.plugin.layers import ct_layer_data
from napari_resunet.plugin.panels.segment import IN_VIEW, OTHER_FILE, RANGE
from napari_resunet.plugin.questions import VoxelQuestion
from napari_resunet.settings import PredictSettings
from napari_resunet.volume import Volume


@pytest.fixture
def opened(dock, viewer, chest):
    """The widget with the small chest open in it."""
    data, look, _ = ct_layer_data(chest.volume)
    viewer.add_image(data, **look)
    return dock


def settled(qtbot, dock) -> None:
    qtbot.waitUntil(lambda: dock.session.is_idle and not dock.mask._rest.isActive(), timeout=60_000)


def test_the_widget_is_what_the_menu_opens_and_there_is_one_of_it(viewer, dock) -> None:
    assert isinstance(dock, LungSegmentation)
    assert launch.show_widget(viewer) is dock


def test_a_widget_that_is_closed_lets_go_of_the_viewer_and_of_its_keys(dock, viewer) -> None:
    session = dock.session
    viewer.window.remove_dock_widget(dock)
    assert not {"N", "R", "W"} & {str(key) for key in viewer.keymap}
    viewer.add_image(np.zeros((3, 4, 5), np.int16))
    assert session.case is None
    assert launch.show_widget(viewer) is not dock


def test_an_empty_widget_says_what_to_do_and_offers_nothing_that_cannot_be_done(dock) -> None:
    assert "Drop a CT into the window" in dock.ct.card.value
    assert not dock.segment.start.enabled
    assert dock.segment.start.tooltip == "Open a CT first."
    assert not dock.mask.threshold.enabled
    assert not dock.export.export.enabled


@pytest.mark.computed
def test_the_main_job_open_run_cancel_run_threshold_paint_export_reopen(
    dock, viewer, qtbot, chest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # open: a DICOM folder through the dialog
    write_ct_series(chest.volume, tmp_path / "ct")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "ct"))
    dock.ct.open_folder.native.click()
    qtbot.waitUntil(lambda: dock.session.case is not None and dock.session.is_idle, timeout=30_000)
    assert "28 axial slices of 96 × 96" in dock.ct.card.value
    assert dock.ct.layer.value is dock.session.ct_layer

    # run, and cancel at the first light
    stop = dock.session.events.progress.connect(lambda *_: dock.segment.stop.native.click())
    dock.segment.start.native.click()
    assert not dock.segment.start.enabled
    assert dock.segment.stop.enabled
    settled(qtbot, dock)
    case = dock.session.case
    assert 0 < case.done.sum() < 28
    assert dock.segment.status.value.startswith(f"{case.done.sum()} of 28 slices segmented on cpu")

    # run again
    dock.session.events.progress.disconnect(stop)
    dock.segment.start.native.click()
    settled(qtbot, dock)
    assert case.done.all()
    prob = nru.predict(chest.volume, device="cpu")
    assert np.array_equal(viewer.layers["lung mask"].data, nru.to_mask(prob).axial)

    # move the threshold
    dock.mask.threshold.value = 0.8
    settled(qtbot, dock)
    assert np.array_equal(viewer.layers["lung mask"].data, nru.to_mask(prob, threshold=0.8).axial)

    # paint with napari's own brush
    layer = viewer.layers["lung mask"]
    layer.brush_size = 6
    layer.paint((5, 5, 5), 1)
    dock.mask.clean.value = False
    settled(qtbot, dock)
    painted = layer.data[5] > nru.to_mask(prob, threshold=0.8, clean=False).axial[5]
    assert painted.sum() == case.voxels_edited > 20
    qtbot.waitUntil(
        lambda: f"{case.voxels_edited} voxels set by hand" in dock.mask.figures.value, timeout=5_000
    )

    # export, and open what was written
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "lungs.nii.gz"), ""))
    dock.export.export.native.click()
    assert "same grid as ct" in dock.export.receipt.value
    mask = nru.read_mask(tmp_path / "lungs.nii.gz")
    assert np.array_equal(mask.axial, layer.data)
    assert mask.geometry.matches(chest.volume.geometry)


def test_a_ct_dropped_into_the_window_is_open_in_the_widget(
    dock, viewer, qtbot, chest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ct_series(chest.volume, tmp_path / "ct")
    from napari.settings import get_settings

    # the user's answer to "which reader?"
    monkeypatch.setattr(get_settings().plugins, "extension2reader", {f"{tmp_path}/ct/": "napari-resunet"})
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(tmp_path / "ct"))])
    copy, left, none = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    event = QDropEvent(QPointF(QPoint(50, 50)), copy, data, left, none)
    viewer.window._qt_viewer.dropEvent(event)
    assert dock.session.case is not None
    assert np.array_equal(dock.session.case.volume.array, chest.volume.array)
    assert viewer.layers["ct"].scale.tolist() == list(chest.volume.geometry.spacing_mm)


def test_the_sample_opens_from_the_menu(dock, viewer) -> None:
    viewer.open_sample("napari-resunet", "chest")
    assert viewer.layers[0].name == "made-up chest CT"
    assert dock.session.ct_layer is viewer.layers[0]
    assert dock.ct.layer.value is viewer.layers[0]


def test_the_widget_shows_which_layer_is_the_ct_also_when_it_is_renamed(opened, viewer) -> None:
    viewer.layers[0].name = "another name"
    viewer.add_points([[0, 0, 0]])
    assert opened.ct.layer.value is viewer.layers["another name"]


def test_a_mask_saved_from_the_file_menu_lies_on_the_grid_of_the_ct(
    opened, viewer, qtbot, chest, tmp_path
) -> None:
    opened.session.show_layers()
    viewer.layers["lung mask"].data[5, 10:20, 30:40] = 1
    viewer.layers["lung mask"].save(str(tmp_path / "saved.nii.gz"), plugin="napari-resunet")
    mask = nru.read_mask(tmp_path / "saved.nii.gz")
    assert mask.geometry.matches(chest.volume.geometry)
    assert mask.array.sum() == 100


@pytest.mark.parametrize(("choice", "expected"), [(IN_VIEW, [3]), (RANGE, [5, 6, 7, 8])])
def test_one_slice_or_a_range_can_be_run(opened, viewer, qtbot, choice: str, expected: list[int]) -> None:
    viewer.dims.set_current_step(0, 3)
    opened.segment.slices.value = choice
    opened.segment.first.value, opened.segment.last.value = 8, 5  # the other way round is understood
    opened.segment.start.native.click()
    settled(qtbot, opened)
    assert np.flatnonzero(opened.session.case.done).tolist() == expected


def test_weights_of_ones_own_can_be_chosen(opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_resunet.model.card import find_model

    own = tmp_path / "own.safetensors"
    own.write_bytes(find_model("lung-ct").read_bytes())
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(own), ""))
    opened.segment.model.value = OTHER_FILE
    assert opened.segment.settings.model == str(own)
    assert "paper, width 32" in opened.segment.model_card.value


def test_no_weights_chosen_leaves_the_built_in_ones(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: ("", ""))
    opened.segment.model.value = OTHER_FILE
    assert opened.segment.settings.model == "lung-ct"


def test_values_that_are_not_hu_are_asked_about_in_the_card(dock, viewer, chest) -> None:
    array = (chest.volume.array.astype(np.int32) + 1024).astype(np.int16)
    data, look, _ = ct_layer_data(Volume(array, chest.volume.geometry))
    viewer.add_image(data, **look)
    assert "HU + 1024" in dock.ct.checks.value
    dock.ct.subtract.native.click()
    assert not dock.ct.are_hu.visible
    assert np.array_equal(dock.session.case.volume.array, chest.volume.array)


def test_a_tiff_without_voxel_size_is_asked_for_it(
    dock, qtbot, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "ct.tif", np.full((6, 40, 50), -1000, dtype=np.int16))

    def answer(question: VoxelQuestion) -> bool:
        for length, mm in zip(question.lengths, (5, 0.8, 0.7), strict=True):
            length.value = mm
        return True

    monkeypatch.setattr(VoxelQuestion, "exec", answer)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "ct.tif"), ""))
    dock.ct.open_file.native.click()
    qtbot.waitUntil(lambda: dock.session.case is not None, timeout=30_000)
    assert dock.session.case.volume.geometry.spacing_mm == (5, 0.8, 0.7)


def test_the_window_presets_set_the_contrast(opened) -> None:
    opened.view.windows[1].native.click()
    assert tuple(opened.session.ct_layer.contrast_limits) == (-160, 240)


def test_the_menu_commands_open_the_dialogs(viewer, dock, qtbot, chest, tmp_path, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: asked.append("folder") or "")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: asked.append("file") or ("", ""))
    launch.ask_for_folder(viewer)
    launch.ask_for_file(viewer)
    assert asked == ["folder", "file"]


def test_research_use_only_stands_in_the_widget(dock) -> None:
    from qtpy.QtWidgets import QLabel

    assert any("research use only" in label.text() for label in dock.findChildren(QLabel))


@pytest.fixture
def found(opened, qtbot):
    """The widget after a run."""
    opened.segment.start.native.click()
    settled(qtbot, opened)
    return opened


def test_a_tool_is_chosen_shown_and_applied_with_buttons(found, viewer, qtbot) -> None:
    panel = found.correct
    viewer.dims.set_current_step(0, 14)
    panel.tool.value = "Clear this slice"
    assert panel.tip.value == "Remove everything in the slice in view."
    assert not panel.apply.enabled
    panel.look.native.click()
    settled(qtbot, found)
    assert "to remove (magenta)" in panel.state.value
    assert "preview" in viewer.layers
    panel.apply.native.click()
    assert not viewer.layers["lung mask"].data[14].any()
    assert "preview" not in viewer.layers
    assert not panel.apply.enabled


def test_a_tool_shows_only_the_settings_it_goes_by(opened) -> None:
    opened.correct.tool.value = "Smooth"
    shown = [name for name, widget in opened.correct.choices.items() if not widget.native.isHidden()]
    assert shown == ["radius_mm"]


def test_the_review_of_nothing_says_what_to_do(opened) -> None:
    opened.review.next.native.click()
    assert opened.review.place.value.startswith("Run the network first")


def test_the_networks_code_comes_in_with_the_first_ct_and_not_with_the_widget(
    make_napari_viewer, chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, done = [], Event()
    monkeypatch.setattr(warm_up, "make_ready", lambda settings: (asked.append(settings), done.set()))
    monkeypatch.delitem(sys.modules, "napari_resunet.inference.predict", raising=False)
    dock = launch.show_widget(make_napari_viewer())
    dock.segment.device.value = "cpu"
    assert not asked
    dock.session.show_ct(chest.volume)
    assert done.wait(10)
    assert asked == [dock.segment.settings]
    assert asked[0].device == "cpu"
    dock.session.close()


def test_a_run_finds_the_model_loaded_that_was_made_ready() -> None:
    ready._from_file.cache_clear()
    warm_up.make_ready(PredictSettings(device="cpu"))
    before = ready._from_file.cache_info()
    ready.ready_network("lung-ct", choose_device("cpu"))
    assert ready._from_file.cache_info().hits == before.hits + 1


def test_a_model_that_cannot_be_made_ready_is_left_to_the_run(tmp_path: Path) -> None:
    warm_up.make_ready(PredictSettings(model=str(tmp_path / "none.safetensors"), device="cpu"))
