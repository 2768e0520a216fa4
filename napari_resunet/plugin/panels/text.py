"""Lines of text in a panel: wrapped, on the left, as high as they need."""

from __future__ import annotations

from magicgui.widgets import Container, Label, Widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QSizePolicy


def text(value: str = "", *, tooltip: str = "", visible: bool = True) -> Label:
    """Return a label that wraps."""
    # nothing said is not True: that would show it at once, in a window of its own
    label = Label(value=value, tooltip=tooltip, visible=None if visible else False)
    label.native.setWordWrap(True)
    label.native.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
    label.native.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.MinimumExpanding)
    policy.setHeightForWidth(True)
    label.native.setSizePolicy(policy)
    return label


def row(*widgets: Widget) -> Container:
    """Return widgets side by side."""
    return _bare(Container(widgets=widgets, layout="horizontal", labels=False))


def fields(*widgets: Widget) -> Container:
    """Return widgets one below the other, each with its label."""
    container = _bare(Container())
    container.extend(widgets)  # once it is there: only then does it give all labels the same width
    return container


def _bare(container: Container) -> Container:
    container.margins = (0, 0, 0, 0)
    return container
