"""Help for the eye: the HU window by dragging, outlines, the mask as a surface in 3-D.

Nothing here changes a mask or a CT; it only changes how they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakMethod

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Surface
from psygnal import Signal, SignalGroup

from napari_resunet.errors import InputError
from napari_resunet.pictures import LUNG_WINDOW_HU
from napari_resunet.plugin.jobs import Job
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.slice_view import SliceView, camera_of, caption_of
from napari_resunet.plugin.surface import Mesh, meshing, surface_layer

Limits = tuple[float, float]

WINDOWS_HU: dict[str, Limits] = {
    "Lung": LUNG_WINDOW_HU,
    "Mediastinum": (-160, 240),
    "Bone": (-500, 1300),
}
DRAG_KEY = "W"  # not one of napari's own
_HU_PER_PIXEL = 4  # of the screen; as in other viewers of CT
# along (z, y, x): seen from the front, head up
_FRONTAL = {"view_direction": (0, 1, 0), "up_direction": (1, 0, 0)}


class ViewingEvents(SignalGroup):
    """What the view tells its panel."""

    window = Signal(str)  # centre and width in HU
    drag = Signal(bool)  # whether dragging sets the window
    outline = Signal(bool)  # whether the mask is shown as an outline
    surface = Signal(str)  # what there is to say of the surface; it may have come or gone


class Viewing:
    """How the CT and the mask of one session are shown.

    Parameters
    ----------
    session : Session
        Whose CT and mask are looked at.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events = ViewingEvents()
        self.drags_window = False
        self.surface_layer: Surface | None = None
        self._ct: Image | None = None  # whose window is told
        self._mask: Labels | None = None  # whose look is kept
        self._look: tuple[int, float] | None = None  # contour and opacity
        self._filled_opacity = 1.0
        self._modes: dict[Layer, str] = {}  # of the layers whose tools rest while dragging sets the window
        self._job: Job | None = None
        self._slices: SliceView | None = None  # to come back to from the surface
        self._drag, self._on_key = _weakly(self._drag_from_here), _weakly(self._toggle_drag)
        session.events.case.connect(self._on_case)
        session.events.layers.connect(self._follow_layers)
        session.events.mask.connect(self._on_mask)
        session.on_close.append(self.close)
        self._bind_key()
        self._follow_layers()

    def close(self) -> None:
        """Let go of the viewer, which is left as it was; done once, however often it is asked for."""
        # first of all: the widgets that listen may be gone already
        for signal in self.events.signals.values():
            signal.disconnect()
        self.session.events.case.disconnect(self._on_case)
        self.session.events.layers.disconnect(self._follow_layers)
        self.session.events.mask.disconnect(self._on_mask)
        self.drag_window(False)
        self.hide_surface()
        self._follow(None, None)
        self._unbind_key()

    def _on_case(self) -> None:
        self.hide_surface()
        if self.session.case is None:
            self.drag_window(False)
        self._follow_layers()

    def _follow_layers(self) -> None:
        self._follow(self.session.ct_layer, self.session.mask_layer)

    def _follow(self, ct: Image | None, mask: Labels | None) -> None:
        if ct is not self._ct:
            _hear("contrast_limits", self._tell_window, before=self._ct, now=ct)
            self._ct = ct
            self._tell_window()
        if mask is not self._mask:
            for event in ("contour", "opacity"):
                _hear(event, self._take_look, before=self._mask, now=mask)
            self._mask = mask
            if self._look is not None:
                self._set_look(*self._look)
            self._take_look()

    # ---- the HU window

    @property
    def window(self) -> str:
        """Centre and width of the window in HU, as radiologists write them; empty without a CT."""
        return "" if self._ct is None else _window_text(*self._ct.contrast_limits)

    def set_window(self, limits: Limits) -> None:
        """Show the CT from one value in HU, black, to another, white."""
        if self._ct is not None:
            self._ct.contrast_limits = limits

    def drag_window(self, on: bool) -> None:
        """Let dragging set the window; until it is off again every layer's tool rests, and the camera stands."""
        if on == self.drags_window:
            return
        self.drags_window = on
        viewer = self.session.viewer
        if on:
            viewer.mouse_drag_callbacks.append(self._drag)
            viewer.layers.selection.events.active.connect(self._rest_tool)
            self._rest_tool()
        else:
            viewer.mouse_drag_callbacks.remove(self._drag)
            viewer.layers.selection.events.active.disconnect(self._rest_tool)
            self._resume_tools()
        self.events.drag.emit(on)

    def _rest_tool(self) -> None:
        """Let the tool of the active layer rest: a drag would paint."""
        layer = self.session.viewer.layers.selection.active
        if layer is not None and layer not in self._modes:
            self._modes[layer] = layer.mode
            layer.mode = "pan_zoom"
            layer.events.mode.connect(self._on_mode)

    def _resume_tools(self) -> None:
        modes, self._modes = self._modes, {}
        for layer, mode in modes.items():
            layer.events.mode.disconnect(self._on_mode)
            layer.mode = mode

    def _on_mode(self, event: Any) -> None:
        """Stop dragging when a tool is chosen: one thing at a time."""
        layer = event.source
        if layer.mode != "pan_zoom":
            self._modes[layer] = layer.mode
            self.drag_window(False)

    def _drag_from_here(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        """Follow a drag from press to release: to the right is wider, down is darker."""
        ct = self._ct
        if ct is None or event.button != 1 or event.modifiers or len(event.dims_displayed) != 2:
            return
        start, (low, high) = np.array(event.pos), ct.contrast_limits
        caption = caption_of(viewer)
        before = caption.text, caption.visible
        camera_of(viewer).mouse_pan = False
        caption.text, caption.visible = self.window, True
        yield
        while event.type == "mouse_move":
            wider, higher = _HU_PER_PIXEL * (np.array(event.pos) - start)
            centre, width = (low + high) / 2 + higher, max(high - low + wider, 1)
            ct.contrast_limits = float(centre - width / 2), float(centre + width / 2)
            caption.text = _window_text(*ct.contrast_limits)
            yield
        caption.text, caption.visible = before
        active = viewer.layers.selection.active
        camera_of(viewer).mouse_pan = active is None or active.mouse_pan

    def _tell_window(self) -> None:
        self.events.window.emit(self.window)

    def _bind_key(self) -> None:
        try:
            self.session.viewer.bind_key(DRAG_KEY, self._on_key)
        except ValueError:  # somebody else has it already
            return

    def _unbind_key(self) -> None:
        keymap = self.session.viewer.keymap
        for key in [key for key, bound in keymap.items() if bound is self._on_key]:
            del keymap[key]

    def _toggle_drag(self, _viewer: ViewerModel) -> None:
        if self._ct is not None or self.drags_window:
            self.drag_window(not self.drags_window)

    # ---- the outline

    @property
    def is_outline(self) -> bool:
        """Whether the mask is shown as an outline."""
        return self._look is not None and self._look[0] > 0

    def show_outline(self, on: bool) -> None:
        """Show the mask as an outline, or filled; a mask layer that is made later is shown the same way."""
        self.session.show_layers()
        if self._mask is None or on == self.is_outline:
            return
        if on:
            self._filled_opacity = self._mask.opacity
            self._set_look(1, 1.0)  # a thin line has to be seen
        else:
            self._set_look(0, self._filled_opacity)

    def _set_look(self, contour: int, opacity: float) -> None:
        if self._mask is not None:
            self._mask.contour, self._mask.opacity = contour, opacity

    def _take_look(self) -> None:
        """Remember how the mask is shown, also where it was chosen among napari's own controls."""
        if self._mask is not None:
            self._look = self._mask.contour, self._mask.opacity
        self.events.outline.emit(self.is_outline)

    # ---- the surface

    @property
    def is_idle(self) -> bool:
        return self._job is None

    def toggle_surface(self) -> None:
        """Show the mask as a surface in 3-D; if that is so or on its way, go back to the slices."""
        if self.surface_layer is not None or self._job is not None:
            self.hide_surface()
        else:
            self._build_surface()

    def _build_surface(self) -> None:
        case = self.session.case
        if case is None:
            self.session.events.failed.emit(InputError("there is no CT yet: open one first"))
            return
        self.session.sync()
        work = (case.mask > 0, case.volume.axial_geometry.spacing_mm)  # a copy: painting goes on meanwhile
        ears = {"on_value": self._show_surface, "on_error": self._fail, "on_end": self._on_end}
        self._job = Job(meshing, *work, **ears, label="building the surface")
        self.events.surface.emit("building the surface …")
        self._job.start()

    def _fail(self, error: Exception) -> None:
        self.session.events.failed.emit(error)
        self._job = None
        self.events.surface.emit(str(error))  # in full: a notification is cut after a few words

    def _on_end(self) -> None:
        self._job = None

    def _show_surface(self, mesh: Mesh) -> None:
        self.drag_window(False)
        viewer = self.session.viewer
        self._slices = SliceView.of(viewer)
        self._slices.hide()  # first: a whole CT in 3-D would take seconds
        viewer.dims.ndisplay = 3
        self.surface_layer = surface_layer(mesh, self._ct)
        viewer.add_layer(self.surface_layer)
        camera_of(viewer).set_view_direction(**_FRONTAL)
        viewer.reset_view(reset_camera_angle=False)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay, position="last")
        self.events.surface.emit("Drag to turn the surface.")

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self.surface_layer:
            self._slices.show()  # napari may crash when it draws nothing but a brush after a surface is gone
            self.hide_surface()

    def _on_ndisplay(self) -> None:
        """Take napari's own button for 2-D as a way back too."""
        if self.session.viewer.dims.ndisplay == 2:
            self.hide_surface()

    def _on_mask(self) -> None:
        if self.surface_layer is not None:
            self.events.surface.emit("The mask has changed since this surface was built.")

    def hide_surface(self) -> None:
        """Go back to the slices as they were, and forget a surface that is being built."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        layer, self.surface_layer = self.surface_layer, None
        slices, self._slices = self._slices, None
        viewer = self.session.viewer
        if slices is not None:
            viewer.layers.events.removed.disconnect(self._on_layer_removed)
            viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
            layer.visible = False
            slices.bring_back()
            if layer in viewer.layers:
                viewer.layers.remove(layer)  # last: see above
            slices.go_to_place()
        self.events.surface.emit("")


def _hear(event: str, listener: Any, *, before: Layer | None, now: Layer | None) -> None:
    if before is not None:
        getattr(before.events, event).disconnect(listener)
    if now is not None:
        getattr(now.events, event).connect(listener)


def _weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a method: a viewer that keeps it does not keep the widget of a closed dock."""
    kept = WeakMethod(method)

    def call(*arguments: Any) -> Any:
        alive = kept()
        return None if alive is None else alive(*arguments)

    return call


def _window_text(low: float, high: float) -> str:
    return f"C {(low + high) / 2:.0f}  W {high - low:.0f} HU"
