"""The mask as an outline, or filled."""

from __future__ import annotations

from napari.layers import Labels
from psygnal import Signal, SignalGroup

from napari_resunet.plugin.session import Session


class OutlineEvents(SignalGroup):
    """What the outline tells its panel."""

    shown = Signal(bool)


class Outline:
    """Whether the mask of one session is shown as an outline.

    Parameters
    ----------
    session : Session
        Whose mask is looked at.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events = OutlineEvents()
        self._mask: Labels | None = None  # whose look is kept
        self._look: tuple[int, float] | None = None  # contour and opacity
        self._filled_opacity = 1.0
        session.events.case.connect(self._follow)
        session.events.layers.connect(self._follow)
        self._follow()

    def close(self) -> None:
        """Let go of the mask, which is left as it was."""
        # first of all: the widgets that listen may be gone already
        self.events.shown.disconnect()
        self.session.events.case.disconnect(self._follow)
        self.session.events.layers.disconnect(self._follow)
        self._listen_to(None)

    def _follow(self) -> None:
        if self.session.mask_layer is not self._mask:
            self._listen_to(self.session.mask_layer)
            if self._look is not None:
                self._set_look(*self._look)
            self._take_look()

    def _listen_to(self, mask: Labels | None) -> None:
        if self._mask is not None:
            self._mask.events.contour.disconnect(self._take_look)
            self._mask.events.opacity.disconnect(self._take_look)
        if mask is not None:
            mask.events.contour.connect(self._take_look)
            mask.events.opacity.connect(self._take_look)
        self._mask = mask

    @property
    def is_shown(self) -> bool:
        """Whether the mask is shown as an outline."""
        return self._look is not None and self._look[0] > 0

    def show(self, on: bool) -> None:
        """Show the mask as an outline, or filled; a mask layer that is made later is shown the same way."""
        self.session.show_layers()
        if self._mask is None or on == self.is_shown:
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
        self.events.shown.emit(self.is_shown)
