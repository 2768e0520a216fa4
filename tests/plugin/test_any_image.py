from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_making import discs, tiny_model

from napari_resunet.images.predict import image_labels, predict_image
from napari_resunet.model.card import find_model
from napari_resunet.model.checkpoint import save_model
from napari_resunet.plugin import any_image

CLASSES = ("red", "green")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = tiny_model(3, CLASSES)
    save_model(made.network, made.card, tmp_path / "discs.safetensors")
    return tmp_path / "discs.safetensors"


@pytest.fixture
def widget(viewer, qtbot):
    _, widget = viewer.window.add_plugin_dock_widget("napari-resunet", "Segment any image")
    widget.device.value = "cpu"
    yield widget
    qtbot.waitUntil(lambda: not widget.is_running, timeout=30_000)


def run(widget, qtbot) -> None:
    widget.start.native.click()
    qtbot.waitUntil(lambda: not widget.is_running, timeout=30_000)


def test_a_colour_layer_gets_probabilities_and_labels_that_lie_on_it(
    widget, viewer, model: Path, qtbot, tmp_path: Path
) -> None:
    picture, _ = discs(0)
    layer = viewer.add_image(picture, rgb=True, name="discs", scale=(0.5, 0.25), translate=(3, 4))
    widget.model.value = model
    run(widget, qtbot)
    assert [each.name for each in viewer.layers] == [
        "discs",
        "discs red probability",
        "discs green probability",
        "discs red, green",
    ]
    expected = predict_image(picture, model=model, device="cpu")
    for added in viewer.layers[1:]:
        assert added.data.shape == picture.shape[:2]
        assert added.extent.world.tolist() == layer.extent.world.tolist()
    np.testing.assert_array_equal(np.asarray(viewer.layers[2].data), expected[1, 0] / np.float32(255))
    labels = viewer.layers[3]
    np.testing.assert_array_equal(labels.data, image_labels(expected)[0])
    labels.paint((5, 5), 2)
    viewer.layers.selection = {labels}
    (saved,) = viewer.layers.save(str(tmp_path / "labels.tif"), selected=True, plugin="napari")
    assert tifffile.imread(saved)[5, 5] == 2


def test_a_grey_stack_gets_layers_of_its_shape(widget, viewer, model: Path, qtbot) -> None:
    viewer.add_image(np.random.default_rng(0).random((5, 20, 30)), name="stack")
    widget.model.value = model
    run(widget, qtbot)
    assert [each.data.shape for each in viewer.layers] == [(5, 20, 30)] * 4


def test_what_is_missing_is_said_on_the_button(widget, viewer, model: Path) -> None:
    assert (widget.start.enabled, widget.start.tooltip) == (False, "Choose a model first.")
    widget.model.value = model
    assert (
        widget.model_card.value == "tiny 1 finds red, green in images in colour, seen as a whole at grid 32"
    )
    assert (widget.start.enabled, widget.start.tooltip) == (False, "Choose an image layer first.")
    layer = viewer.add_image(np.zeros((8, 8)))
    assert widget.start.enabled
    viewer.layers.remove(layer)
    assert not widget.start.enabled


def test_a_model_for_ct_is_sent_to_the_other_widget(widget, viewer, model: Path) -> None:
    viewer.add_image(np.zeros((8, 8)))
    widget.model.value = model
    widget.model_card.tooltip = "of the model before"
    widget.model.value = find_model("lung-ct")
    assert (
        "the model lung-ct is for CT in HU; use it in the widget “Lung segmentation”"
        in widget.model_card.value
    )
    assert not widget.model_card.tooltip
    assert not widget.start.enabled


def test_an_image_that_the_model_cannot_see_is_refused_and_nothing_is_added(
    widget, viewer, tmp_path: Path, qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(any_image, "show_error", shown.append)
    made = tiny_model(1)
    save_model(made.network, made.card, tmp_path / "grey.safetensors")
    viewer.add_image(discs(0)[0], rgb=True)
    widget.model.value = tmp_path / "grey.safetensors"
    run(widget, qtbot)
    reason = "the image is in colour, the model is for grey ones; convert the image to grey values"
    assert (shown, widget.status.value) == ([reason], reason)
    assert len(viewer.layers) == 1


def test_the_window_for_ct_says_that_such_a_model_is_not_for_it(dock, model: Path) -> None:
    dock.segment.model.choices = ["lung-ct", str(model)]
    dock.segment.model.value = str(model)
    assert "the model tiny finds red, green in images that are no CT; choose" in dock.segment.model_card.value
