"""What napari asks when a file or folder is dropped or opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_resunet.errors import SpacingUnknownError
from napari_resunet.io.kind import can_read


def get_reader(path: str | list[str]) -> Callable[[str], list[object]] | None:
    """Return the function that reads `path`, or None, in microseconds, if it is not a CT of ours."""
    if not isinstance(path, str) or not can_read(path):
        return None
    return read_layers


def read_layers(path: str) -> list[object]:
    """Read a CT as one image layer in mm and HU."""
    from napari_resunet.io.files import read_volume
    from napari_resunet.plugin.layers import ct_layer_data

    try:
        return [ct_layer_data(read_volume(Path(path)))]
    except SpacingUnknownError as error:
        where = "in napari, open it with “Open file…” of the lung segmentation widget, which asks"
        raise SpacingUnknownError(f"{error}; {where}") from error
