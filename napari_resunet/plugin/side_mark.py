"""An R in the corner of the axial slices, on the side of the patient's right."""

from __future__ import annotations

from napari_resunet.plugin.session import Session
from napari_resunet.plugin.slice_view import caption_of

MARK = "R"


class SideMark:
    """Writes the mark into napari's text in the corner, as long as nobody else writes there.

    Slices are always shown with the patient's right on the left.

    Parameters
    ----------
    session : Session
        Whose CT is shown.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._is_ours = False
        session.events.case.connect(self._show)
        for changed in (session.viewer.dims.events.order, session.viewer.dims.events.ndisplay):
            changed.connect(self._show)
        session.on_close.append(self._let_go)
        self._show()

    def _show(self, _event: object = None) -> None:
        overlay, dims = caption_of(self.session.viewer), self.session.viewer.dims
        if not self._is_ours and overlay.visible:
            return  # somebody's own words
        shows_axial = tuple(dims.displayed) == (dims.ndim - 2, dims.ndim - 1)
        self._is_ours = self.session.case is not None and shows_axial
        overlay.text = MARK if self._is_ours else ""
        overlay.position = "top_left"
        overlay.visible = self._is_ours

    def _let_go(self) -> None:
        for changed in (self.session.viewer.dims.events.order, self.session.viewer.dims.events.ndisplay):
            changed.disconnect(self._show)

    def hide(self) -> None:
        """Take the mark away, in a window that stays."""
        if self._is_ours:
            self._is_ours, caption_of(self.session.viewer).visible = False, False
