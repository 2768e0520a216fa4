"""Lines of text in a panel: wrapped, on the left, as high as they need."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import Label
from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QLabel, QSizePolicy


def text(value: str = "", *, tooltip: str = "", visible: bool = True) -> Label:
    """Return a label that wraps."""
    # nothing said is not True: that would show it at once, in a window of its own
    return _Text(value=value, tooltip=tooltip, visible=None if visible else False)


class _Text(Label):  # type: ignore[misc]
    def __init__(self, **options: Any) -> None:
        self._height: _Height | None = None
        super().__init__(**options)
        self.native.setWordWrap(True)
        self.native.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.native.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.native.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._height = _Height(self.native)

    def set_value(self, value: Any) -> None:
        super().set_value(value)
        if self._height is not None:
            self._height.fit()


class _Height(QObject):
    """Keeps a label as high as its text needs at its width; one that says nothing takes no room.

    Layouts inside one another ask for a height before they know the width, and then leave too much.
    """

    def __init__(self, label: QLabel) -> None:
        super().__init__(label)
        self._label = label
        label.installEventFilter(self)
        self.fit()

    def eventFilter(self, _label: QObject, event: QEvent) -> bool:  # noqa: N802 Qt's name
        if event.type() in (QEvent.Type.Resize, QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self.fit()
        return False

    def fit(self) -> None:
        label = self._label
        label.setMinimumHeight(0)  # no label asks for less than its minimum
        label.setFixedHeight(label.heightForWidth(label.width()) if label.text() else 0)
