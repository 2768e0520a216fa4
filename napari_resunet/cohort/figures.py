"""What the manifest says of the lungs of a case: ml and HU, side by side."""

from __future__ import annotations

import numpy as np

from napari_resunet.inference.postprocess import label_sides
from napari_resunet.measure.lungs import lung_figures
from napari_resunet.volume import Mask, Run, Volume


def figures_of(volume: Volume, mask: Mask, *, run: Run | None, swap_sides: bool) -> dict[str, float]:
    """Return the figures of both lungs and of each, whether or not the mask tells right from left.

    Parameters
    ----------
    volume : Volume
        The CT.
    mask : Mask
        On the same grid.
    run : Run, optional
        What found the lungs; knows where the middle of the body is.
    swap_sides : bool
        Whether the sides are the other way round.

    Returns
    -------
    dict
        Fields of `CaseEntry`; in HU nan where a lung is not there.
    """
    if not (mask.array == 2).any():
        spacing_mm = volume.axial_geometry.spacing_mm
        labels = label_sides(mask.axial > 0, spacing_mm=spacing_mm, run=run, swap=swap_sides)
        mask = Mask(np.ascontiguousarray(mask.geometry.to_axial.undo(labels)), mask.geometry)
    right, left, both = lung_figures(volume, mask, sides=True)
    return {
        "ml_right": right.volume_ml,
        "ml_left": left.volume_ml,
        "ml_total": both.volume_ml,
        "hu_right": right.mean_hu,
        "hu_left": left.mean_hu,
        "hu_mean": both.mean_hu,
        "laa950_percent": both.laa950_percent,
    }
