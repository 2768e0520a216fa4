"""How widgets stand in a panel: side by side, or one below the other with labels in a column."""

from __future__ import annotations

from magicgui.widgets import Container, Widget
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QLabel, QWidget


def row(*widgets: Widget) -> Container:
    """Return widgets side by side."""
    return _bare(Container(widgets=widgets, layout="horizontal", labels=False))


def fields(*widgets: Widget) -> Container:
    """Return widgets one below the other, each with its label."""
    container = _bare(Container())
    container.extend(widgets)
    _Column(container.native)
    return container


def _bare(container: Container) -> Container:
    container.margins = (0, 0, 0, 0)
    return container


class _Column(QObject):
    """Gives the labels of fields the same width.

    magicgui measures them before they have the font of the window.
    """

    def __init__(self, fields: QWidget) -> None:
        super().__init__(fields)
        self._fields = fields
        fields.installEventFilter(self)

    def eventFilter(self, _fields: QObject, event: QEvent) -> bool:  # noqa: N802 Qt's name
        if event.type() in (QEvent.Type.Show, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._align()
        return False

    def _align(self) -> None:
        layout = self._fields.layout()
        rows = [layout.itemAt(index).widget().layout() for index in range(layout.count())]
        labels = [
            found for found in (row.itemAt(0).widget() for row in rows if row) if isinstance(found, QLabel)
        ]
        widest = max((label.sizeHint().width() for label in labels), default=0)
        for label in labels:
            label.setFixedWidth(widest)
