"""How the CT and the mask are shown: HU window, outline, edits, surface, orthogonal views."""

from __future__ import annotations

from functools import partial

from magicgui.widgets import CheckBox, Container, PushButton

from napari_resunet.plugin.by_hand import ByHand
from napari_resunet.plugin.hu_window import DRAG_KEY, WINDOWS_HU
from napari_resunet.plugin.orthogonal import has_orthogonal_views, toggle_orthogonal_views
from napari_resunet.plugin.panels.enabling import OPEN_CT_FIRST, enable
from napari_resunet.plugin.panels.rows import row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.side_mark import SideMark
from napari_resunet.plugin.viewing import Viewing

_SURFACE = "3-D surface", "Show the mask as it is now as a surface in 3-D."
_STOP = "Stop", "Stop building the surface."
_SLICES = "Back to slices", "Remove the surface; the slices are shown as they were."
_ORTHOGONAL = "Show or hide the coronal and the sagittal view."
_NO_ORTHOGONAL = (
    "Needs the plugin napari-orthogonal-views: install it with napari's Plugins menu, "
    "or with “pip install napari-orthogonal-views”, and start napari again."
)


class ViewPanel(Container):
    """Chooses how the CT and the mask are shown.

    Parameters
    ----------
    session : Session
        Whose CT and mask are shown.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.viewing = Viewing(session)
        self._hand, self.side_mark = ByHand(session), SideMark(session)
        self.windows = [
            PushButton(text=name, tooltip=f"Show {low:g} to {high:g} HU.")
            for name, (low, high) in WINDOWS_HU.items()
        ]
        self.window = text(tooltip="Centre (C) and width (W) of the window in HU.")
        self.drag = CheckBox(
            text=f"Drag to set the window ({DRAG_KEY})",
            tooltip=f"Drag in the picture: right is wider, left narrower, up brighter, down darker; key {DRAG_KEY}.",
        )
        self.outline = CheckBox(text="Outline", tooltip="Show the mask as an outline, not filled.")
        self.by_hand = CheckBox(
            text="What was set by hand",
            tooltip="Show the voxels that you have added in green, those that you have removed in magenta.",
        )
        self.surface = PushButton()
        self.orthogonal = PushButton(text="Orthogonal views", tooltip=_ORTHOGONAL)
        self.state = text()
        super().__init__(
            widgets=[
                row(*self.windows),
                self.drag,
                self.window,
                self.outline,
                self.by_hand,
                row(self.surface, self.orthogonal),
                self.state,
            ],
            labels=False,
        )
        for button in self.windows:
            button.changed.connect(partial(self._set_window, button.text))
        self.drag.changed.connect(self.viewing.hu_window.drag)
        self.outline.changed.connect(self.viewing.outline.show)
        self.by_hand.changed.connect(self._show_by_hand)
        self.surface.changed.connect(self.viewing.surface.toggle)
        self.orthogonal.changed.connect(self._toggle_orthogonal)
        self.viewing.hu_window.events.limits.connect(self._show_window)
        self.viewing.hu_window.events.drag.connect(self._show_drag)
        self.viewing.outline.events.shown.connect(self._show_outline)
        self.viewing.surface.events.said.connect(self._show_surface)
        session.events.layers.connect(self._show_layers)
        session.events.case.connect(self._show_case)
        self._show_case()

    def _toggle_orthogonal(self) -> None:
        toggle_orthogonal_views(self.session.viewer)

    def _show_by_hand(self, on: bool) -> None:
        (self._hand.show if on else self._hand.hide)()

    def _show_layers(self) -> None:
        with self.by_hand.changed.blocked():
            self.by_hand.value = self._hand.layer in self.session.viewer.layers

    def _set_window(self, name: str) -> None:
        self.viewing.hu_window.set(WINDOWS_HU[name])

    def _show_window(self, window: str) -> None:
        self.window.value = window

    def _show_drag(self, on: bool) -> None:
        with self.drag.changed.blocked():
            self.drag.value = on

    def _show_outline(self, on: bool) -> None:
        with self.outline.changed.blocked():
            self.outline.value = on

    def _show_surface(self, said: str) -> None:
        self.state.value = said
        if self.viewing.surface.layer is not None:
            self.surface.text, self.surface.tooltip = _SLICES
        elif not self.viewing.surface.is_idle:
            self.surface.text, self.surface.tooltip = _STOP
        else:
            self.surface.text, self.surface.tooltip = _SURFACE
        self.surface.enabled = self.session.case is not None
        if not self.surface.enabled:
            self.surface.tooltip = OPEN_CT_FIRST

    def _show_case(self) -> None:
        has_ct = self.session.case is not None
        for widget in (*self.windows, self.drag, self.outline, self.by_hand):
            enable(widget, "" if has_ct else OPEN_CT_FIRST)
        lacks = "" if has_ct else OPEN_CT_FIRST
        enable(self.orthogonal, lacks if has_orthogonal_views() else _NO_ORTHOGONAL)
        self._show_window(self.viewing.hu_window.text)
        self._show_outline(self.viewing.outline.is_shown)
        self._show_surface("")
