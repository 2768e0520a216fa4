"""magicgui widgets made from the settings records: one source for names, limits, defaults and tool tips."""

from __future__ import annotations

from typing import Any

from magicgui.widgets import FloatSpinBox, Widget, create_widget

from napari_resunet.settings import explain


def field_widget(settings: type[Any], name: str, *, value: Any = None, widget_type: str | None = None) -> Any:
    """Return the widget for the field `name` of a settings record, with its default where no value is given."""
    meta = explain(settings, name)
    options: dict[str, Any] = {"tooltip": meta["tip"]}
    if meta["options"] is not None:
        options["choices"] = list(meta["options"])
    elif meta["low"] is not None:
        options |= {"min": meta["low"], "max": meta["high"], "step": meta["step"]}
    widget: Widget = create_widget(
        value=meta["default"] if value is None else value,
        annotation=meta["type"],
        name=name,
        label=meta["label"],
        widget_type=widget_type,
        options=options,
    )
    if isinstance(meta["step"], float) and isinstance(widget, FloatSpinBox):
        widget.native.setDecimals(len(f"{meta['step']:g}".partition(".")[2]))
    return widget
