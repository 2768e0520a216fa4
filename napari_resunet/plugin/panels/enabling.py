"""Widgets that cannot be used say why."""

from __future__ import annotations

from magicgui.widgets import Widget

OPEN_CT_FIRST = "Open a CT first."
_OWN_TIP = "own tip"


def enable(widget: Widget, why_not: str = "") -> None:
    """Enable a widget, or disable it for a reason, which is its tool tip then.

    Parameters
    ----------
    widget : Widget
        Its tool tip must not be set elsewhere later.
    why_not : str
        A sentence; none enables the widget.
    """
    own = widget.native.property(_OWN_TIP)
    if own is None:
        own = widget.tooltip or ""
        widget.native.setProperty(_OWN_TIP, own)
    widget.enabled = not why_not
    widget.tooltip = why_not or own
