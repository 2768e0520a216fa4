from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Surface
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_resunet.plugin import orthogonal
from napari_resunet.plugin.hu_window import WINDOWS_HU
from napari_resunet.plugin.layers import can_be_ct
from napari_resunet.plugin.panels.view import ViewPanel
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.slice_view import camera_of, caption_of
from napari_resunet.plugin.viewing import Viewing
from napari_resunet.volume import Mask, Volume

LUNG = [-1350, 150]  # centre -600, width 1500


def shown(session: Session, chest) -> Session:
    """The small chest with its true lungs as the mask, slice 14 in view."""
    session.show_ct(chest.volume)
    session.adopting.adopt_mask(
        Mask((chest.mask.array > 0).astype(np.uint8), chest.mask.geometry, source=chest.volume.source),
        name="truth",
    )
    session.viewer.dims.set_current_step(0, 14)
    return session


def ended(session: Session, viewing: Viewing, qtbot) -> None:
    session.close()
    qtbot.waitUntil(lambda: session.is_idle and viewing.surface.is_idle, timeout=30_000)


@pytest.fixture
def session(qtbot, chest):
    return shown(Session(ViewerModel()), chest)


@pytest.fixture
def viewing(session, qtbot):
    viewing = Viewing(session)
    yield viewing
    ended(session, viewing, qtbot)


@pytest.fixture
def panel(session, qtbot):
    panel = ViewPanel(session)
    yield panel
    ended(session, panel.viewing, qtbot)


@pytest.fixture
def window(make_napari_viewer, chest, qtbot):
    """A real window, with the brush of the mask in the hand."""
    session = shown(Session(make_napari_viewer(show=True)), chest)
    viewing = Viewing(session)
    session.viewer.layers.selection.active = session.mask_layer
    session.mask_layer.mode = "paint"
    qtbot.wait(100)
    yield viewing
    ended(session, viewing, qtbot)


def canvas(viewing: Viewing):
    return viewing.session.viewer.window._qt_viewer.canvas.native


def mouse(viewing: Viewing, kind: QEvent.Type, at: tuple[int, int], button=Qt.MouseButton.LeftButton) -> None:
    held = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseButtonRelease else button
    changed = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseMove else button
    place, keys = QPointF(*at), Qt.KeyboardModifier.NoModifier
    native = canvas(viewing)
    on_screen = QPointF(native.mapToGlobal(place.toPoint()))
    QApplication.sendEvent(native, QMouseEvent(kind, place, on_screen, changed, held, keys))


def drag(viewing: Viewing, qtbot, by: tuple[int, int], *, release: bool = True, **options) -> None:
    """Press in the middle of the picture, move in three steps, release."""
    native = canvas(viewing)
    x, y = native.width() // 2, native.height() // 2
    mouse(viewing, QEvent.Type.MouseButtonPress, (x, y), **options)
    for part in (1, 2, 3):
        mouse(viewing, QEvent.Type.MouseMove, (x + by[0] * part // 3, y + by[1] * part // 3), **options)
        qtbot.wait(30)  # napari takes one move in 5 ms
    if release:
        mouse(viewing, QEvent.Type.MouseButtonRelease, (x + by[0], y + by[1]), **options)


def press(viewing: Viewing, key: Qt.Key) -> None:
    QTest.keyClick(canvas(viewing), key)


# ---- the HU window


def test_a_drag_to_the_right_widens_the_window_and_one_down_raises_it(window, qtbot) -> None:
    window.hu_window.drag(True)
    drag(window, qtbot, (30, 60))
    low, high = window.session.ct_layer.contrast_limits
    assert high - low == 1500 + 4 * 30
    assert (low + high) / 2 == -600 + 4 * 60
    assert window.hu_window.text == "C -360  W 1620 HU"


def test_a_second_drag_starts_from_where_the_first_one_ended(window, qtbot) -> None:
    window.hu_window.drag(True)
    drag(window, qtbot, (-30, 0))
    drag(window, qtbot, (0, -15))
    assert window.hu_window.text == "C -660  W 1380 HU"


def test_the_window_stays_at_least_one_hu_wide(window, qtbot) -> None:
    window.hu_window.set((0, 60))
    window.hu_window.drag(True)
    drag(window, qtbot, (-90, 0))
    assert window.session.ct_layer.contrast_limits == [29.5, 30.5]


def test_while_dragging_sets_the_window_nothing_is_painted_and_the_camera_stands(window, qtbot) -> None:
    session = window.session
    mask, camera = session.mask_layer.data.copy(), camera_of(session.viewer)
    place = camera.center, camera.zoom
    window.hu_window.drag(True)
    drag(window, qtbot, (30, -60))
    assert np.array_equal(session.mask_layer.data, mask)
    assert (camera.center, camera.zoom) == place
    # also where the picture would pan
    session.viewer.layers.selection.active = session.ct_layer
    drag(window, qtbot, (30, -60))
    session.viewer.layers.selection.active = None
    drag(window, qtbot, (30, -60))
    assert (camera.center, camera.zoom) == place
    assert window.hu_window.text == f"C {-600 - 3 * 240}  W {1500 + 3 * 120} HU"


def test_once_it_is_off_the_same_drags_paint_and_pan_again(window, qtbot) -> None:
    session = window.session
    session.mask_layer.data_setitem(np.nonzero(session.mask_layer.data), 0)
    camera = camera_of(session.viewer)
    place = camera.center
    window.hu_window.drag(True)
    drag(window, qtbot, (30, 0))
    window.hu_window.drag(False)
    limits = session.ct_layer.contrast_limits
    assert session.mask_layer.mode == "paint"
    drag(window, qtbot, (30, 0))
    assert session.mask_layer.data[14].any()
    assert camera.center == place
    session.viewer.layers.selection.active = session.ct_layer
    drag(window, qtbot, (30, 0))
    assert camera.center != place
    assert session.ct_layer.contrast_limits == limits


def test_the_numbers_stand_in_the_picture_while_one_drags_and_go_with_the_release(window, qtbot) -> None:
    caption = caption_of(window.session.viewer)
    caption.text = "mine"
    window.hu_window.drag(True)
    drag(window, qtbot, (30, 60), release=False)
    assert (caption.text, caption.visible) == ("C -360  W 1620 HU", True)
    mouse(window, QEvent.Type.MouseButtonRelease, (0, 0))
    assert (caption.text, caption.visible) == ("mine", False)


def test_only_the_left_button_sets_the_window(window, qtbot) -> None:
    window.hu_window.drag(True)
    drag(window, qtbot, (30, 60), button=Qt.MouseButton.RightButton)
    assert window.session.ct_layer.contrast_limits == LUNG


def test_the_key_switches_it_on_and_off(window) -> None:
    mask = window.session.mask_layer
    press(window, Qt.Key.Key_W)
    assert (window.hu_window.is_dragged, mask.mode) == (True, "pan_zoom")
    press(window, Qt.Key.Key_W)
    assert (window.hu_window.is_dragged, mask.mode) == (False, "paint")


def test_who_chooses_a_tool_gets_it_and_dragging_ends(window, qtbot) -> None:
    window.hu_window.drag(True)
    press(window, Qt.Key.Key_1)
    assert (window.hu_window.is_dragged, window.session.mask_layer.mode) == (False, "erase")
    drag(window, qtbot, (30, 60))
    assert window.session.ct_layer.contrast_limits == LUNG


def test_switched_off_in_the_middle_of_a_drag_the_brush_does_not_pan(window, qtbot) -> None:
    window.hu_window.drag(True)
    drag(window, qtbot, (30, 0), release=False)
    press(window, Qt.Key.Key_W)
    mouse(window, QEvent.Type.MouseButtonRelease, (0, 0))
    assert not camera_of(window.session.viewer).mouse_pan


def test_the_tools_of_all_layers_rest_that_are_chosen_meanwhile(viewing, session) -> None:
    layers = session.viewer.layers
    layers.selection.active = session.mask_layer
    session.mask_layer.mode = "fill"
    points = session.viewer.add_points([[0, 0, 0]])
    points.mode = "add"
    viewing.hu_window.drag(True)
    layers.selection.active = session.mask_layer
    assert (points.mode, session.mask_layer.mode) == ("pan_zoom", "pan_zoom")
    viewing.hu_window.drag(False)
    assert (points.mode, session.mask_layer.mode) == ("add", "fill")


@pytest.mark.parametrize(("name", "limits"), WINDOWS_HU.items())
def test_a_preset_sets_the_window(panel, session, name: str, limits) -> None:
    next(button for button in panel.windows if button.text == name).native.click()
    assert tuple(session.ct_layer.contrast_limits) == limits


def test_the_panel_tells_the_window_whoever_set_it(panel, session) -> None:
    assert panel.window.value == "C -600  W 1500 HU"
    session.ct_layer.contrast_limits = (-160, 240)
    assert panel.window.value == "C 40  W 400 HU"
    session.viewer.layers.remove(session.ct_layer)
    assert panel.window.value == ""


def test_the_switch_in_the_panel_follows_the_key_and_the_tools(panel, session) -> None:
    session.viewer.layers.selection.active = session.mask_layer
    panel.drag.native.click()
    assert panel.viewing.hu_window.is_dragged
    session.mask_layer.mode = "paint"
    assert not panel.drag.value


# ---- the outline


def test_the_outline_is_there_again_when_the_mask_layer_is_made_anew(viewing, session) -> None:
    viewing.outline.show(True)
    assert (session.mask_layer.contour, session.mask_layer.opacity) == (1, 1.0)
    session.viewer.layers.remove(session.mask_layer)
    session.show_layers()
    assert (session.mask_layer.contour, session.mask_layer.opacity) == (1, 1.0)
    viewing.outline.show(False)
    assert (session.mask_layer.contour, session.mask_layer.opacity) == (0, 0.45)


def test_the_outline_is_shown_on_another_case_too(viewing, session, chest) -> None:
    viewing.outline.show(True)
    session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    session.show_layers()
    assert session.mask_layer.contour == 1


def test_what_is_chosen_among_naparis_own_controls_is_kept_too(panel, session) -> None:
    session.mask_layer.contour, session.mask_layer.opacity = 3, 0.8
    assert panel.outline.value
    session.viewer.layers.remove(session.mask_layer)
    session.show_layers()
    assert (session.mask_layer.contour, session.mask_layer.opacity) == (3, 0.8)
    panel.outline.native.click()
    assert session.mask_layer.contour == 0


# ---- the surface


def show_surface(viewing: Viewing, qtbot) -> Surface:
    viewing.surface.toggle()
    qtbot.waitUntil(lambda: viewing.surface.is_idle, timeout=30_000)
    assert viewing.surface.layer is not None
    return viewing.surface.layer


def look(session: Session) -> dict[str, object]:
    viewer = session.viewer
    return {
        "layers": [(layer.name, layer.visible) for layer in viewer.layers],
        "active": viewer.layers.selection.active.name,
        "tool": session.mask_layer.mode,
        "ndisplay": viewer.dims.ndisplay,
        "slice": viewer.dims.current_step,
        "camera": (camera_of(viewer).center, camera_of(viewer).zoom),
    }


def test_the_surface_is_all_that_is_shown_in_3_d(viewing, session, qtbot) -> None:
    surface = show_surface(viewing, qtbot)
    assert session.viewer.dims.ndisplay == 3
    assert [layer for layer in session.viewer.layers if layer.visible] == [surface]


def test_the_surface_lies_where_the_mask_lies(viewing, session, qtbot) -> None:
    surface = show_surface(viewing, qtbot)
    inside = np.argwhere(session.case.mask)
    low, high = (session.mask_layer.data_to_world(end) for end in (inside.min(axis=0), inside.max(axis=0)))
    voxel = np.array(session.case.volume.axial_geometry.spacing_mm)
    # the voxels are 11 x 3.8 x 3.8 mm; the surface ends half a voxel beyond their centres, rounded off at the tips
    assert np.all(np.abs(surface.extent.world[0] - (low - voxel / 2)) < voxel)
    assert np.all(np.abs(surface.extent.world[1] - (high + voxel / 2)) < voxel)


def test_the_surface_does_not_disturb_the_session(viewing, session, qtbot) -> None:
    case, ct, mask = session.case, session.ct_layer, session.mask_layer
    surface = show_surface(viewing, qtbot)
    assert not can_be_ct(surface)
    viewing.surface.toggle()
    assert (session.case, session.ct_layer, session.mask_layer) == (case, ct, mask)
    assert session.case.voxels_edited == 0


def test_back_to_slices_brings_back_the_view_as_it_was(window, qtbot) -> None:
    session, camera = window.session, camera_of(window.session.viewer)
    session.viewer.add_points([[0, 0, 0]], name="hidden", visible=False)
    session.viewer.layers.selection.active = session.mask_layer
    camera.center, camera.zoom = (0, 30, 40), 1.5 * camera.zoom
    before = look(session)
    for _ in range(2):
        show_surface(window, qtbot)
        qtbot.wait(50)
        window.surface.toggle()
        qtbot.wait(50)
        assert look(session) == before


@pytest.mark.parametrize("way", ["own button", "layer removed"])
def test_other_ways_back_end_in_the_same_view(window, qtbot, way: str) -> None:
    before = look(window.session)
    surface = show_surface(window, qtbot)
    qtbot.wait(50)
    if way == "own button":
        window.session.viewer.dims.ndisplay = 2
    else:
        window.session.viewer.layers.remove(surface)
    qtbot.wait(50)
    assert window.surface.layer is None
    assert look(window.session) == before


def test_an_empty_mask_is_said_to_be_empty(panel, session, qtbot) -> None:
    errors: list[Exception] = []
    session.events.failed.connect(errors.append)
    session.mask_layer.data_setitem(np.nonzero(session.mask_layer.data), 0)
    panel.surface.native.click()
    qtbot.waitUntil(lambda: panel.viewing.surface.is_idle, timeout=30_000)
    assert panel.state.value.startswith("the mask is empty")
    assert [str(error) for error in errors] == [panel.state.value]
    assert panel.surface.text == "3-D surface"
    assert session.viewer.dims.ndisplay == 2


@pytest.mark.parametrize("what", ["closed", "another", "stopped"])
def test_a_surface_that_comes_too_late_is_thrown_away(panel, session, chest, qtbot, what: str) -> None:
    panel.surface.native.click()
    job = panel.viewing.surface._job
    assert panel.surface.text == "Stop"
    if what == "closed":
        session.viewer.layers.remove(session.ct_layer)
    elif what == "another":
        session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    else:
        panel.surface.native.click()
    qtbot.waitUntil(lambda: not job._worker.is_running, timeout=30_000)
    qtbot.wait(100)  # for its answer, were it heard
    assert panel.viewing.surface.layer is None
    assert session.viewer.dims.ndisplay == 2
    assert not [layer for layer in session.viewer.layers if isinstance(layer, Surface)]
    assert panel.surface.text == "3-D surface"


def test_another_case_ends_the_surface(viewing, session, chest, qtbot) -> None:
    show_surface(viewing, qtbot)
    session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    assert session.viewer.dims.ndisplay == 2
    assert "lung surface" not in session.viewer.layers


def test_a_surface_that_is_out_of_date_says_so(panel, session, qtbot) -> None:
    show_surface(panel.viewing, qtbot)
    assert panel.surface.text == "Back to slices"
    assert panel.state.value == "Drag to turn the surface."
    session.case.adopt(session.case.finished_mask(), name="again")
    assert panel.state.value == "The mask has changed since this surface was built."


# ---- orthogonal views


def test_without_the_plugin_the_button_names_it_and_cannot_be_pressed(
    session, qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orthogonal, "find_spec", lambda _name: None)
    panel = ViewPanel(session)
    assert not panel.orthogonal.enabled
    assert "pip install napari-orthogonal-views" in panel.orthogonal.tooltip
    ended(session, panel.viewing, qtbot)


def test_with_the_plugin_the_other_views_show_the_same_mask_and_can_be_painted_in(window, qtbot) -> None:
    plugin = pytest.importorskip("napari_orthogonal_views.ortho_view_manager")
    session = window.session
    orthogonal.toggle_orthogonal_views(session.viewer)
    manager = plugin._get_manager(session.viewer)
    try:
        others = [side.vm_container.viewer_model for side in (manager.right_widget, manager.bottom_widget)]
        assert all(other.layers["lung mask"].data is session.case.mask for other in others)
        session.case.mask[...] = 0
        others[1].layers["lung mask"].paint((14, 50, 50), 1)
        session.sync()
        assert session.case.voxels_edited > 0
        assert camera_of(others[1]).orientation2d == ("up", "right")
        orthogonal.toggle_orthogonal_views(session.viewer)
        assert not manager.is_shown()
    finally:
        plugin.delete_and_cleanup(session.viewer)


# ---- without a CT, and at the end


def test_without_a_ct_there_is_nothing_to_press(qtbot) -> None:
    session = Session(ViewerModel())
    panel = ViewPanel(session)
    pressed = (*panel.windows, panel.drag, panel.outline, panel.surface, panel.orthogonal)
    assert not any(widget.enabled for widget in pressed)
    ended(session, panel.viewing, qtbot)


def test_every_control_has_a_tool_tip(panel) -> None:
    controls = (*panel.windows, panel.drag, panel.outline, panel.surface, panel.orthogonal)
    assert all(widget.tooltip for widget in controls)


def test_the_viewer_does_not_keep_alive_what_nobody_else_needs(qtbot, chest) -> None:
    session = Session(ViewerModel())
    session.show_ct(chest.volume)
    viewer, viewing = session.viewer, Viewing(session)
    viewing.hu_window.drag(True)
    gone = weakref.ref(viewing)
    del session, viewing
    gc.collect()
    assert gone() is None
    assert len(viewer.layers) == 1


def test_closed_it_leaves_the_viewer_as_it_was(make_napari_viewer, chest, qtbot) -> None:
    session = shown(Session(make_napari_viewer()), chest)
    viewer, mask = session.viewer, session.mask_layer
    viewer.layers.selection.active = mask
    mask.mode = "paint"
    callbacks, keys, before = list(viewer.mouse_drag_callbacks), dict(viewer.keymap), look(session)
    viewing = Viewing(session)
    show_surface(viewing, qtbot)
    viewing.hu_window.drag(True)
    ended(session, viewing, qtbot)
    assert list(viewer.mouse_drag_callbacks) == callbacks
    assert dict(viewer.keymap) == keys
    assert (viewer.dims.ndisplay, mask.mode) == (2, "paint")
    assert [(layer.name, layer.visible) for layer in viewer.layers] == before["layers"]
    viewing.close()  # once more does no harm
