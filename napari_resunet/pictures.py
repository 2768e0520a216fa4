"""Pictures as PNG: the contour of a mask over its CT, and the curve of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from napari_resunet.volume import Mask, Volume

LUNG_WINDOW_HU = (-1350.0, 150.0)
RIGHT_COLOUR, LEFT_COLOUR = "#ff8c1a", "#33bbee"  # told apart by colour-blind eyes, and on grey
_AXIAL_PICTURES = 7


def draw_overlay(volume: Volume, mask: Mask, path: Path, *, title: str = "") -> None:
    """Draw the contour of a mask over its CT: seven axial slices through it and a coronal one.

    Parameters
    ----------
    volume : Volume
        The CT.
    mask : Mask
        On the same grid.
    path : Path
        The PNG.
    title : str
        Stands above.
    """
    hu, labels = volume.axial, mask.axial
    dz, dy, dx = volume.axial_geometry.spacing_mm
    figure = Figure(figsize=(14, 7.6), facecolor="black", layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, z in zip(axes, _slices_through(labels), strict=False):
        _draw_slice(axis, hu[z], labels[z], aspect=dy / dx, caption=f"axial slice {z} (0-{len(hu) - 1})")
    y = _fullest(labels, axis=1)
    # superior is up
    _draw_slice(axes[-1], hu[::-1, y], labels[::-1, y], aspect=dz / dx, caption=f"coronal, row {y + 1}")
    if title:
        figure.suptitle(title, color="white", fontsize=13)
    figure.savefig(path, dpi=90)


def draw_curve(columns: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the training loss and the validation Dice against the steps.

    Parameters
    ----------
    columns : mapping
        Holds ``step``, ``loss`` and ``dice``, of one length.
    path : Path
        The PNG.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    loss = figure.subplots()
    loss.plot(columns["step"], columns["loss"], color="tab:blue", marker=".")
    loss.set(xlabel="step", ylabel="training loss (Dice + BCE)", yscale="log")
    loss.yaxis.label.set_color("tab:blue")
    dice = loss.twinx()
    dice.plot(columns["step"], columns["dice"], color="tab:orange", marker=".")
    dice.set_ylabel("validation Dice, native grid", color="tab:orange")
    figure.savefig(path, dpi=100)


def _slices_through(labels: npt.NDArray[Any]) -> list[int]:
    """Return slices spread over those that hold lung, or over all if none does."""
    filled = np.flatnonzero(labels.any(axis=(1, 2)))
    first, last = (filled[0], filled[-1]) if len(filled) else (0, len(labels) - 1)
    return sorted({round(z) for z in np.linspace(first, last, _AXIAL_PICTURES + 2)[1:-1]})


def _fullest(labels: npt.NDArray[Any], axis: int) -> int:
    others = tuple(i for i in range(3) if i != axis)
    area = np.count_nonzero(labels, axis=others)
    return int(area.argmax()) if area.any() else labels.shape[axis] // 2


def _draw_slice(
    axis: Axes, hu: npt.NDArray[Any], labels: npt.NDArray[Any], *, aspect: float, caption: str
) -> None:
    low, high = LUNG_WINDOW_HU
    axis.imshow(hu, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    for label, colour in ((1, RIGHT_COLOUR), (2, LEFT_COLOUR)):
        # a CT of one slice is one line in the coronal picture, and has no contour there
        if min(labels.shape) > 1 and (labels == label).any() and not (labels == label).all():
            axis.contour(labels == label, levels=[0.5], colors=colour, linewidths=1.2)
    axis.set_title(caption, color="white", fontsize=10)
