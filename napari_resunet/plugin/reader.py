"""What napari asks when a file or folder is dropped or opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_resunet.errors import CtMissingError, InputError, SpacingUnknownError
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
    """Read a CT as one image layer in mm and HU."""
    from napari_resunet.io.files import read_volume
    from napari_resunet.plugin.layers import ct_layer_data

    try:
        return [ct_layer_data(read_volume(Path(path)))]
    except SpacingUnknownError as error:
        where = "in napari, open it with “Open file…” of the lung segmentation widget, which asks"
        raise SpacingUnknownError(f"{error}; {where}") from error


def read_case_layers(path: str) -> list[object]:
    """Read a case file as the layer of its CT; the widget takes in the work that it holds."""
    from napari_resunet.io.case_file import open_case_ct, read_case
    from napari_resunet.plugin.layers import RECORD, ct_layer_data

    record = read_case(Path(path))
    try:
        volume = open_case_ct(Path(path), record)
    except CtMissingError as error:
        where = "open the case with “Open file…” of the lung segmentation widget, which asks"
        raise InputError(f"{error}: {where}") from error
    data, look, kind = ct_layer_data(volume)
    return [(data, {**look, "metadata": {**look["metadata"], RECORD: record}}, kind)]
