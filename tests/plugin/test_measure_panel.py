from __future__ import annotations

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers import Labels

import napari_resunet as nru
from napari_resunet.errors import GeometryError, InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.measure.lungs import LungFigures
from napari_resunet.plugin.layers import placed_like
from napari_resunet.plugin.panels import measure as measure_module
from napari_resunet.plugin.panels.measure import FILE, MeasurePanel
from napari_resunet.settings import PredictSettings
from napari_resunet.volume import Mask, Volume
from napari_resunet.workflows import measure_files


class Answers:
    """What the user answers to the dialogs, and what the window says of errors."""

    def __init__(self) -> None:
        self.reference: Path | None = None
        self.figures: Path | None = None
        self.proposed = ""
        self.errors: list[Exception] = []

    def ask_reference(self) -> Path | None:
        return self.reference

    def ask_figures(self, name: str) -> Path | None:
        self.proposed = name
        return self.figures


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def panel(session, answers, qtbot):
    session.events.failed.connect(answers.errors.append)
    panel = MeasurePanel(session, ask_reference=answers.ask_reference, ask_figures=answers.ask_figures)
    qtbot.addWidget(panel.native)
    yield panel
    qtbot.waitUntil(lambda: panel._job is None, timeout=30_000)


@pytest.fixture
def opened(panel, chest):
    """The panel with the small chest open, and its true lungs as the mask."""
    panel.session.show_ct(chest.volume)
    panel.session.adopting.adopt_mask(chest.mask, name="truth")
    return panel


def add_labels(panel, array, name: str = "reference", **place) -> Labels:
    """Add labels on the grid of the CT, unless they are placed elsewhere, and choose them as the reference."""
    place = {**placed_like(panel.session.ct_layer), **place}
    layer = panel.session.viewer.add_labels(np.array(array), name=name, **place)
    panel.reference.value = layer
    return layer


def choose_file(panel, answers, path: Path) -> None:
    answers.reference = path
    panel.reference.value = FILE


def measure(panel, qtbot) -> None:
    panel.measure.native.click()
    qtbot.waitUntil(lambda: panel._job is None, timeout=30_000)


def paint(layer: Labels, value: int, *voxels: tuple[int, int, int]) -> None:
    layer.data_setitem(tuple(np.transpose(voxels)), np.full(len(voxels), value, dtype=layer.data.dtype))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shown(panel) -> dict[str, list[str]]:
    """The lines of the table that the panel shows."""
    lines = panel.figures.value.partition("</table>")[0].split("<tr>")[1:]
    cells = [[cell.split("</td>")[0].rpartition(";")[2] for cell in line.split("<td")] for line in lines]
    return {line[1].lstrip(">"): line[2:] for line in cells}


def words(panel) -> str:
    return panel.figures.value.partition("</table>")[2]


def test_without_a_ct_there_is_nothing_to_measure_or_save(panel) -> None:
    assert not panel.measure.enabled
    assert not panel.save.enabled


def test_without_a_mask_the_panel_says_what_to_do(panel, answers, qtbot, chest) -> None:
    panel.session.show_ct(chest.volume)
    measure(panel, qtbot)
    assert panel.state.value == "there is no mask yet: run the network, or paint one"
    assert [str(error) for error in answers.errors] == [panel.state.value]
    assert not panel.save.enabled


def test_the_table_shows_the_figures_of_each_lung(opened, qtbot, chest) -> None:
    measure(opened, qtbot)
    mask = opened.session.case.finished_mask(split=True)
    lungs = nru.lung_figures(chest.volume, mask)
    assert [lung.name for lung in lungs] == ["right", "left", "both"]
    assert shown(opened) == {
        "": ["<b>right</b>", "<b>left</b>", "<b>both</b>"],
        "Volume, ml": [f"{lung.volume_ml:,.0f}" for lung in lungs],
        "Mean, HU": [f"{lung.mean_hu:.0f}" for lung in lungs],
        "SD, HU": [f"{lung.sd_hu:.0f}" for lung in lungs],
        "Perc15, HU": [f"{lung.p15_hu:.0f}" for lung in lungs],
        "LAA-950, %": [f"{lung.laa950_percent:.1f}" for lung in lungs],
    }
    assert words(opened) == "By hand: 0 voxels added, 0 removed."


def test_napari_s_table_of_features_holds_them_too(opened, qtbot, chest) -> None:
    measure(opened, qtbot)
    features = opened.session.mask_layer.features
    lungs = nru.lung_figures(chest.volume, opened.session.case.finished_mask(split=True))
    assert features["name"].tolist() == ["right", "left", "both"]
    for name in ("voxels", "volume_ml", "mean_hu", "sd_hu", "p15_hu", "laa950_percent"):
        assert features[name].tolist() == [getattr(lung, name) for lung in lungs]
    assert features["voxels_added_by_hand"].tolist() == [0, 0, 0]


def test_under_the_mouse_a_voxel_of_the_left_lung_is_not_called_right(opened, qtbot, chest) -> None:
    measure(opened, qtbot)
    layer = opened.session.mask_layer
    voxel = np.argwhere(chest.mask.axial == 2)[0]
    status = layer.get_status(layer.data_to_world(voxel), dims_displayed=[1, 2], world=True)
    assert "name: both" in status["value"]


def test_voxels_added_and_removed_by_hand_are_counted_apart(opened, qtbot) -> None:
    layer = opened.session.mask_layer
    paint(layer, 0, tuple(np.argwhere(layer.data)[0]))
    paint(layer, 1, (0, 0, 0), (0, 0, 1), (0, 0, 2))
    measure(opened, qtbot)
    assert words(opened) == "By hand: 3 voxels added, 1 removed."
    features = layer.features
    assert features["voxels_added_by_hand"].tolist() == [3, 3, 3]
    assert features["voxels_removed_by_hand"].tolist() == [1, 1, 1]


def test_voxels_painted_into_another_array_count_as_well(opened, qtbot) -> None:
    layer = opened.session.mask_layer
    other = layer.data.copy()
    other[0, 0, :5] = 1
    layer.data = other
    measure(opened, qtbot)
    assert words(opened).startswith("By hand: 5 voxels added")


def test_a_right_lung_alone_is_called_right(panel, qtbot, chest) -> None:
    panel.session.show_ct(chest.volume)
    panel.session.adopting.adopt_mask(
        Mask((chest.mask.array == 1).view(np.uint8), chest.mask.geometry), name="right"
    )
    measure(panel, qtbot)
    assert shown(panel)["Volume, ml"][1] == "0"
    assert shown(panel)["Mean, HU"][1] == "n/a"


# ---- a reference


def test_the_mask_itself_and_a_preview_are_no_references(opened) -> None:
    session = opened.session
    session.viewer.add_labels(np.zeros((2, 3), np.uint8), name="flat")
    session.correcting.use("Clear this slice", None)
    assert opened.reference.choices == (None, FILE)


def test_a_layer_of_labels_is_compared_and_the_sides_apart_where_it_tells_them(opened, qtbot, chest) -> None:
    reference = chest.mask.axial.copy()
    reference[:, :50] = 0
    add_labels(opened, reference)
    measure(opened, qtbot)
    mask = opened.session.case.finished_mask(split=True)
    truth = Mask(chest.volume.geometry.to_axial.undo(reference).copy(), chest.volume.geometry)
    found = nru.evaluate(mask, truth)
    sides = [found[name] for name in ("right", "left", "lungs")]
    table = shown(opened)
    assert table["Reference, ml"] == [f"{side.reference_ml:,.0f}" for side in sides]
    assert table["Difference, ml"] == [f"{side.volume_difference_ml:+,.0f}" for side in sides]
    assert table["Dice"] == [f"{side.dice:.3f}" for side in sides]
    assert table["IoU"] == [f"{side.iou:.3f}" for side in sides]
    assert table["HD95, mm"] == [f"{side.hd95_mm:.2f}" for side in sides]
    assert table["ASSD, mm"] == [f"{side.assd_mm:.2f}" for side in sides]
    assert table["NSD 2 mm"] == [f"{side.nsd_2mm:.3f}" for side in sides]
    assert "Compared with reference." in words(opened)
    features = opened.session.mask_layer.features
    for name in ("dice", "iou", "hd95_mm", "assd_mm", "nsd_2mm", "volume_difference_ml"):
        assert features[name].tolist() == [getattr(side, name) for side in sides]


def test_a_reference_of_one_label_is_compared_with_both_lungs_alone(opened, qtbot, chest) -> None:
    add_labels(opened, (chest.mask.axial > 0).astype(int) * 7)
    measure(opened, qtbot)
    assert shown(opened)["Dice"] == ["–", "–", "1.000"]
    assert "It does not tell right from left." in words(opened)


def test_a_copy_of_the_mask_layer_is_a_reference(opened, qtbot) -> None:
    data, look, _ = opened.session.mask_layer.as_layer_data_tuple()
    copy = Labels(data.copy(), **look)
    opened.session.viewer.add_layer(copy)
    opened.reference.value = copy
    measure(opened, qtbot)
    assert shown(opened)["Dice"][2] == "1.000"


def test_a_layer_beside_the_ct_is_refused_in_mm_and_nothing_is_measured(
    opened, answers, qtbot, chest
) -> None:
    layer = add_labels(opened, chest.mask.axial)
    layer.translate = layer.translate + np.array([0, 3, 0])
    measure(opened, qtbot)
    assert opened.state.value.startswith("the layer “reference” lies 3.00 mm beside the CT at a corner;")
    assert isinstance(answers.errors[0], GeometryError)
    assert not opened.save.enabled


def test_a_file_is_compared(opened, answers, qtbot, chest, tmp_path: Path) -> None:
    nru.write_mask(chest.mask, tmp_path / "truth.nii.gz")
    choose_file(opened, answers, tmp_path / "truth.nii.gz")
    assert opened.reference.value == tmp_path / "truth.nii.gz"
    measure(opened, qtbot)
    assert shown(opened)["Dice"] == ["1.000", "1.000", "1.000"]
    assert "Compared with truth.nii.gz." in words(opened)


def test_a_dialog_that_is_cancelled_leaves_the_choice_as_it_was(opened, chest) -> None:
    layer = add_labels(opened, chest.mask.axial)
    opened.reference.value = FILE
    assert opened.reference.value is layer


def test_a_file_on_another_grid_is_refused_and_the_lungs_are_measured_all_the_same(
    opened, answers, qtbot, chest, tmp_path: Path
) -> None:
    matrix = chest.volume.geometry.index_to_lps.copy()
    matrix[1, 3] += 4
    moved = Mask(chest.mask.array, Geometry(chest.mask.array.shape, matrix))
    nru.write_mask(moved, tmp_path / "moved.nii.gz")
    choose_file(opened, answers, tmp_path / "moved.nii.gz")
    measure(opened, qtbot)
    assert opened.state.value.startswith("moved.nii.gz lies 4.00 mm beside the CT at a corner;")
    assert "Volume, ml" in shown(opened)
    assert "Dice" not in shown(opened)


def test_a_file_without_voxel_size_is_refused_and_not_asked_for_the_ct_s(
    opened, answers, qtbot, chest, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "bare.tif", (chest.mask.array > 0).astype(np.uint8))
    choose_file(opened, answers, tmp_path / "bare.tif")
    measure(opened, qtbot)
    (error,) = answers.errors
    assert isinstance(error, InputError)
    assert not isinstance(error, SpacingUnknownError)
    assert str(error).startswith("bare.tif does not say how large its voxels are")


def test_a_layer_that_is_removed_is_compared_with_no_more(opened, qtbot, chest) -> None:
    layer = add_labels(opened, chest.mask.axial)
    opened.session.viewer.layers.remove(layer)
    assert opened.reference.value is None
    measure(opened, qtbot)
    assert "Dice" not in shown(opened)


def test_a_lung_that_the_mask_lacks_is_said_to_be_missed(opened, qtbot, chest) -> None:
    layer = opened.session.mask_layer
    layer.data_setitem(np.nonzero(chest.mask.axial == 2), 0)
    add_labels(opened, chest.mask.axial)
    measure(opened, qtbot)
    assert shown(opened)["Dice"][:2] == ["1.000", "0.000"]
    assert "left: missed (the mask has none): overlap counts as 0, distances as the diagonal" in words(opened)
    assert opened.session.mask_layer.features["missed"].tolist() == [False, True, False]


def test_lungs_that_the_reference_lacks_are_said_to_be_missed(opened, qtbot, chest) -> None:
    add_labels(opened, np.zeros_like(chest.mask.axial))
    measure(opened, qtbot)
    assert "lungs: missed (the reference has none)" in words(opened)


def test_of_two_empty_masks_the_panel_says_that_there_is_nothing_to_compare(opened, qtbot, chest) -> None:
    opened.session.mask_layer.data_setitem(np.nonzero(chest.mask.axial), 0)
    add_labels(opened, np.zeros_like(chest.mask.axial))
    measure(opened, qtbot)
    assert shown(opened)["Dice"] == ["–", "–", "n/a"]
    assert "lungs: n/a: both empty." in words(opened)


# ---- what happens meanwhile


def test_a_stroke_after_measuring_is_told_of_until_measured_again(opened, qtbot) -> None:
    measure(opened, qtbot)
    assert opened.state.value == ""
    paint(opened.session.mask_layer, 1, (0, 0, 0))
    assert opened.state.value == "The mask has changed since: measure again."
    measure(opened, qtbot)
    assert opened.state.value == ""


def test_a_stroke_while_it_measures_is_told_of_too(opened, qtbot) -> None:
    opened.measure.changed.emit(True)
    paint(opened.session.mask_layer, 1, (0, 0, 0))
    qtbot.waitUntil(lambda: opened._job is None, timeout=30_000)
    assert opened.state.value == "The mask has changed since: measure again."
    assert len(opened.session.mask_layer.features) == 0


def test_another_ct_begins_with_an_empty_table_and_the_old_answer_is_not_shown(
    opened, qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(volume: Volume, mask: Mask, *, sides: bool) -> list[LungFigures]:
        go_on.wait(30)
        return nru.lung_figures(volume, mask, sides=sides)

    monkeypatch.setattr(measure_module, "lung_figures", slow)
    opened.measure.native.click()
    worker = opened._job._worker
    opened.session.show_ct(nru.make_phantom(shape=(20, 64, 64), spacing_mm=(15.0, 5.5, 5.5)).volume)
    with qtbot.waitSignal(worker.finished, timeout=30_000):
        go_on.set()
    assert opened.figures.value == "Measures the mask as it is shown, right and left."
    assert not opened.save.enabled
    assert opened.measure.enabled


# ---- the file


def saved(panel, answers, path: Path) -> None:
    answers.figures = path
    panel.save.native.click()
    assert panel.state.value == f"{path}: written."


def test_the_file_holds_what_the_command_line_measures_and_how_the_mask_was_made(
    panel, answers, qtbot, chest, tmp_path: Path
) -> None:
    write_ct_series(chest.volume, tmp_path / "ct")
    panel.session.show_ct(nru.read_volume(tmp_path / "ct"))
    panel.session.run(PredictSettings(device="cpu"))
    qtbot.waitUntil(lambda: panel.session.is_idle, timeout=60_000)
    panel.session.masking.set_threshold(0.6)
    paint(panel.session.mask_layer, 1, (0, 0, 0), (0, 0, 1))
    measure(panel, qtbot)
    saved(panel, answers, tmp_path / "window.csv")
    assert answers.proposed == "ct_lung_figures.csv"

    panel.session.saving.export(tmp_path / "mask.nii.gz", split=True)
    measure_files(tmp_path / "ct", tmp_path / "mask.nii.gz", tmp_path / "shell.csv")
    in_window, in_shell = rows_of(tmp_path / "window.csv"), rows_of(tmp_path / "shell.csv")
    assert len(in_window) == len(in_shell) == 3
    made = {
        "threshold": "0.6", "clean": "True", "model": "lung-ct", "grid": "128", "slices_run": "28", "slices": "28",
        "voxels_added_by_hand": "2", "voxels_removed_by_hand": "0", "version": nru.__version__,
    }  # fmt: skip
    for row, wanted in zip(in_window, in_shell, strict=True):
        assert row == {**wanted, "mask": "lung mask", **made}


def test_json_holds_the_same_as_csv(opened, answers, qtbot, chest, tmp_path: Path) -> None:
    add_labels(opened, (chest.mask.axial > 0).astype(int))
    measure(opened, qtbot)
    saved(opened, answers, tmp_path / "t.json")
    saved(opened, answers, tmp_path / "t.csv")
    in_json = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    in_csv = rows_of(tmp_path / "t.csv")
    assert [row["name"] for row in in_json] == ["right", "left", "both"]
    assert in_json[2]["dice"] == 1
    assert in_json[0]["dice"] is None  # one label: nobody knows
    assert in_json[0]["model"] is None  # no run
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in in_json] == in_csv


def test_what_is_saved_is_what_was_measured_and_not_what_was_painted_since(
    opened, answers, qtbot, tmp_path: Path
) -> None:
    measure(opened, qtbot)
    paint(opened.session.mask_layer, 1, (0, 0, 0))
    saved(opened, answers, tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())[2]["voxels_added_by_hand"] == 0


def test_another_ending_is_refused_in_one_line(opened, answers, qtbot, tmp_path: Path) -> None:
    measure(opened, qtbot)
    answers.figures = tmp_path / "t.xlsx"
    opened.save.native.click()
    assert "is neither .csv nor .json" in opened.state.value
    assert not list(tmp_path.iterdir())


def test_a_save_that_is_cancelled_writes_nothing(opened, answers, qtbot, tmp_path: Path) -> None:
    measure(opened, qtbot)
    opened.save.native.click()
    assert opened.state.value == ""
    assert not list(tmp_path.iterdir())
