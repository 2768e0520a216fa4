"""A part of the widget that folds."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible


class Section(QCollapsible):
    """A title with an arrow, and what it shows or hides.

    Parameters
    ----------
    title : str
        Always shown.
    content : QWidget
        Shown when it is unfolded.
    """

    def __init__(self, title: str, content: QWidget) -> None:
        # the arrow is text, which follows the theme; an icon would be drawn black on black
        nothing = _transparent_icon()
        super().__init__(title, expandedIcon=nothing, collapsedIcon=nothing)
        self.title = title
        self.layout().setContentsMargins(0, 2, 0, 2)
        self.layout().setSpacing(0)
        self.content().layout().setContentsMargins(2, 0, 2, 0)
        self.addWidget(content)
        self.toggled.connect(self._show_arrow)
        self._show_arrow(False)

    def _show_arrow(self, is_open: bool) -> None:
        self.setText(f"{'▾' if is_open else '▸'}  {self.title}")


def _transparent_icon() -> QIcon:
    """Return an icon that shows nothing; one without a picture is taken for none under PySide6."""
    pixel = QPixmap(1, 1)
    pixel.fill(Qt.GlobalColor.transparent)
    return QIcon(pixel)
