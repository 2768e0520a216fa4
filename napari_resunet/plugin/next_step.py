"""The button that leads on stands out in the colour that napari's theme has for what is active."""

from __future__ import annotations

from magicgui.widgets import PushButton
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QWidget

from napari_resunet.plugin.session import Session

_MARK = "leadsOn"


class NextStep:
    """Marks the buttons that open a CT, then the one that runs the network, then the one that exports.

    Parameters
    ----------
    session : Session
        How far the work is.
    widget : QWidget
        Holds the buttons.
    opens, runs, exports : tuple of PushButton
        Of each step.
    """

    def __init__(
        self,
        session: Session,
        widget: QWidget,
        *,
        opens: tuple[PushButton, ...],
        runs: tuple[PushButton, ...],
        exports: tuple[PushButton, ...],
    ) -> None:
        self.session, self._widget = session, widget
        self._opens, self._runs, self._exports = opens, runs, exports
        events = session.events
        for signal in (events.case, events.mask, events.ran):
            signal.connect(self._show)
        session.viewer.events.theme.connect(self._follow_theme)
        session.on_close.append(self._let_go)
        self._follow_theme()
        self._show()

    @property
    def marked(self) -> tuple[PushButton, ...]:
        """The buttons that lead on from here."""
        case = self.session.case
        if case is None:
            return self._opens
        return self._exports if case.done.any() else self._runs

    def _show(self, _said: str = "") -> None:
        marked = self.marked
        for button in (*self._opens, *self._runs, *self._exports):
            is_marked = button in marked
            if button.native.property(_MARK) is not is_marked:
                button.native.setProperty(_MARK, is_marked)
                button.native.style().unpolish(button.native)  # only so is the mark looked at anew
                button.native.style().polish(button.native)

    def _follow_theme(self, _event: object = None) -> None:
        theme = get_theme(self.session.viewer.theme)
        self._widget.setStyleSheet(
            f"QPushButton[{_MARK}=true]:enabled {{ background-color: {theme.current.as_hex()}; }}"
            f"QCollapsible > QPushButton {{ background-color: {theme.foreground.as_hex()}; font-weight: bold; }}"
        )

    def _let_go(self) -> None:
        self.session.viewer.events.theme.disconnect(self._follow_theme)
