"""What napari calls to save a mask layer: File > Save Selected Layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_resunet.case import Case
from napari_resunet.errors import InputError
from napari_resunet.io.files import write_mask
from napari_resunet.plugin.layers import KEY


def write_labels(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write a mask layer on the grid of its CT.

    Raises
    ------
    InputError
        If the layer is not a mask of a CT opened with this plugin: where its voxels lie would be a guess.
    OutputError
        If the file cannot be written.
    """
    case = meta.get("metadata", {}).get(KEY)
    if not isinstance(case, Case):
        raise InputError(
            f"{meta.get('name', 'this layer')} was not made by napari-resunet, so its place in the patient is unknown; "
            "save it with another writer, or segment the CT with this plugin and correct that mask"
        )
    if np.shape(data) != case.mask.shape:
        raise InputError(
            f"the mask has {np.shape(data)} voxels, its CT {case.mask.shape}; undo the change of size"
        )
    # from what this layer holds, which may be a copy: the case and its mask stay as they are
    return [str(write_mask(case.as_mask(np.asarray(data)), Path(path)).path)]
