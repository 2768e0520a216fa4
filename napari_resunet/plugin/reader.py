"""What napari asks when a file or folder is dropped or opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_resunet.errors import InputError, ResUNetError
from napari_resunet.io.kind import can_read

CASE_ENDING = ".nru"


def get_reader(path: str | list[str]) -> Callable[[str], list[object]] | None:
    """Return the function that reads `path`, or None, in microseconds, if it is no CT and no case file."""
    if not isinstance(path, str):
        return None
    if path.lower().endswith(CASE_ENDING):
        return read_case_layers
    return read_layers if can_read(path) else None


def read_layers(path: str) -> list[object]:
    """Read a CT as one image layer in mm and HU.

    Where the file leaves something open the widget asks, if it is there, and opens the CT itself; then there is no
    layer here.

    Raises
    ------
    InputError
        If the CT cannot be read, or there is something to ask and no widget to ask it in.
    """
    from napari_resunet.io.open_ct import open_ct
    from napari_resunet.plugin.asked import ANSWERABLE
    from napari_resunet.plugin.layers import ct_layer_data

    try:
        return [ct_layer_data(open_ct(Path(path)))]
    except ANSWERABLE as error:
        return _leave_to_widget(Path(path), error)


def read_case_layers(path: str) -> list[object]:
    """Read a case file as the layer of its CT; the widget takes in the work that it holds.

    Raises
    ------
    InputError
        As `read_layers`.
    """
    from napari.utils.notifications import show_info

    from napari_resunet.io.case_file import open_case_ct, read_case
    from napari_resunet.plugin.asked import ANSWERABLE
    from napari_resunet.plugin.drops import widget_that_asks
    from napari_resunet.plugin.layers import RECORD, ct_layer_data

    record = read_case(Path(path))
    try:
        volume = open_case_ct(Path(path), record)
    except ANSWERABLE as error:
        return _leave_to_widget(Path(path), error)
    if widget_that_asks() is None:
        show_info("Choose Layers > Segment > Segment lungs in CT… to go on with the work on this CT.")
    data, look, kind = ct_layer_data(volume)
    return [(data, {**look, "metadata": {**look["metadata"], RECORD: record}}, kind)]


def _leave_to_widget(path: Path, error: ResUNetError) -> list[object]:
    """Let the widget open what leaves a question; return napari's sign for no layer."""
    from napari_resunet.errors import without_options
    from napari_resunet.plugin.drops import widget_that_asks

    widget = widget_that_asks()
    if widget is None:
        button = "Open folder…" if path.is_dir() else "Open file…"
        raise InputError(
            f"{path.name} leaves a question: open it with “{button}” of the lung segmentation widget, which asks. "
            f"{without_options(error)}"
        ) from error
    widget.open(path)
    return [(None,)]
