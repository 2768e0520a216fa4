"""What the eye is given beside the mask: where a hand was at work, and which side is the right one."""

from __future__ import annotations

import numpy as np
import pytest

from napari_resunet.plugin.panels.measure import MeasurePanel
from napari_resunet.plugin.panels.view import ViewPanel
from napari_resunet.plugin.slice_view import caption_of


@pytest.fixture
def panel(session, chest) -> ViewPanel:
    session.show_ct(chest.volume)
    session.case.adopt(chest.mask, name="true.nii.gz")
    session.show_layers()
    return ViewPanel(session)


def test_what_a_hand_sets_is_shown_and_follows_it(panel, session) -> None:
    session.viewer.layers.selection.active = session.mask_layer
    panel.by_hand.value = True
    (layer,) = [layer for layer in session.viewer.layers if layer.name == "set by hand"]
    assert not layer.data.any()
    assert session.viewer.layers.selection.active is session.mask_layer

    inside = tuple(np.argwhere(session.case.mask)[0])
    session.mask_layer.data_setitem(tuple(np.array([i]) for i in inside), 0)
    session.mask_layer.data_setitem((np.array([0]), np.array([1]), np.array([2])), 1)
    session.sync()
    assert (layer.data[inside], layer.data[0, 1, 2]) == (-1, 1)

    panel.by_hand.value = False
    assert layer not in session.viewer.layers


def test_a_layer_of_edits_that_is_deleted_unticks_its_box_and_is_no_reference(panel, session) -> None:
    measure = MeasurePanel(session, ask_reference=lambda: None, ask_figures=lambda _: None)
    panel.by_hand.value = True
    assert "set by hand" not in [str(choice) for choice in measure.reference.choices]
    session.viewer.layers.remove("set by hand")
    assert panel.by_hand.value is False
    panel.by_hand.value = True
    assert "set by hand" in session.viewer.layers


def test_the_edits_of_another_ct_are_not_shown(panel, session, chest) -> None:
    panel.by_hand.value = True
    session.viewer.layers.remove(session.ct_layer)
    assert "set by hand" not in session.viewer.layers
    assert panel.by_hand.value is False


def test_the_patients_right_is_marked_on_axial_slices_alone(panel, session) -> None:
    overlay, dims = caption_of(session.viewer), session.viewer.dims
    assert (overlay.visible, overlay.text, str(overlay.position)) == (True, "R", "top_left")
    dims.ndisplay = 3
    assert not overlay.visible
    dims.ndisplay = 2
    assert overlay.visible
    dims.order = (1, 0, 2)
    assert not overlay.visible
    dims.order = (0, 1, 2)
    panel.side_mark.hide()
    assert not overlay.visible


def test_somebodys_own_words_in_the_corner_stay(session, chest) -> None:
    caption = caption_of(session.viewer)
    caption.text, caption.visible = "my study", True
    panel = ViewPanel(session)
    session.show_ct(chest.volume)
    assert caption.text == "my study"
    assert panel.by_hand.enabled
