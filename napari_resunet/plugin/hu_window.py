"""The HU window of the CT: a preset, or by dragging in the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakMethod

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Layer
from psygnal import Signal, SignalGroup

from napari_resunet.pictures import LUNG_WINDOW_HU
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.slice_view import camera_of, caption_of

Limits = tuple[float, float]

WINDOWS_HU: dict[str, Limits] = {
    "Lung": LUNG_WINDOW_HU,
    "Mediastinum": (-160, 240),
    "Bone": (-500, 1300),
}
DRAG_KEY = "W"  # not one of napari's own
_HU_PER_PIXEL = 4  # of the screen; as in other viewers of CT


class HuWindowEvents(SignalGroup):
    """What the window tells its panel."""

    limits = Signal(str)  # centre and width in HU
    drag = Signal(bool)  # whether dragging sets them


class HuWindow:
    """From which HU, black, to which, white, the CT of one session is shown.

    Parameters
    ----------
    session : Session
        Whose CT is looked at.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events = HuWindowEvents()
        self.is_dragged = False
        self._ct: Image | None = None  # whose window is told
        self._modes: dict[Layer, str] = {}  # of the layers whose tools rest while dragging sets the window
        self._drag, self._on_key = _weakly(self._drag_from_here), _weakly(self._toggle_drag)
        session.events.case.connect(self._on_case)
        session.events.layers.connect(self._follow)
        self._bind_key()
        self._follow()

    def close(self) -> None:
        """Let go of the viewer, which is left as it was."""
        # first of all: the widgets that listen may be gone already
        for signal in self.events.signals.values():
            signal.disconnect()
        self.session.events.case.disconnect(self._on_case)
        self.session.events.layers.disconnect(self._follow)
        self.drag(False)
        self._listen_to(None)
        self._unbind_key()

    def _on_case(self) -> None:
        if self.session.case is None:
            self.drag(False)
        self._follow()

    def _follow(self) -> None:
        if self.session.ct_layer is not self._ct:
            self._listen_to(self.session.ct_layer)
            self._tell()

    def _listen_to(self, ct: Image | None) -> None:
        if self._ct is not None:
            self._ct.events.contrast_limits.disconnect(self._tell)
        if ct is not None:
            ct.events.contrast_limits.connect(self._tell)
        self._ct = ct

    @property
    def text(self) -> str:
        """Centre and width in HU, as radiologists write them; empty without a CT."""
        return "" if self._ct is None else _text(*self._ct.contrast_limits)

    def set(self, limits: Limits) -> None:
        """Show the CT from one value in HU, black, to another, white."""
        if self._ct is not None:
            self._ct.contrast_limits = limits

    def _tell(self) -> None:
        self.events.limits.emit(self.text)

    # ---- by dragging

    def drag(self, on: bool) -> None:
        """Let dragging set the window; until it is off again every layer's tool rests, and the camera stands."""
        if on == self.is_dragged:
            return
        self.is_dragged = on
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
            self.drag(False)

    def _drag_from_here(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        """Follow a drag from press to release: to the right is wider, down is darker."""
        ct = self._ct
        if ct is None or event.button != 1 or event.modifiers or len(event.dims_displayed) != 2:
            return
        start, (low, high) = np.array(event.pos), ct.contrast_limits
        caption = caption_of(viewer)
        before = caption.text, caption.visible
        camera_of(viewer).mouse_pan = False
        caption.text, caption.visible = self.text, True
        yield
        while event.type == "mouse_move":
            wider, higher = _HU_PER_PIXEL * (np.array(event.pos) - start)
            centre, width = (low + high) / 2 + higher, max(high - low + wider, 1)
            ct.contrast_limits = float(centre - width / 2), float(centre + width / 2)
            caption.text = _text(*ct.contrast_limits)
            yield
        caption.text, caption.visible = before
        active = viewer.layers.selection.active
        camera_of(viewer).mouse_pan = active is None or active.mouse_pan

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
        if self._ct is not None or self.is_dragged:
            self.drag(not self.is_dragged)


def _weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls a method: a viewer that keeps it does not keep the widget of a closed dock."""
    kept = WeakMethod(method)

    def call(*arguments: Any) -> Any:
        alive = kept()
        return None if alive is None else alive(*arguments)

    return call


def _text(low: float, high: float) -> str:
    return f"C {(low + high) / 2:.0f}  W {high - low:.0f} HU"
