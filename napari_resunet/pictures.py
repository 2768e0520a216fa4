"""Pictures as PNG: the contour of a mask over its CT, a case at a glance, and the curve of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_resunet.volume import Mask, Volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LUNG_WINDOW_HU = (-1350.0, 150.0)
RIGHT_COLOUR, LEFT_COLOUR = "#ff8c1a", "#33bbee"  # told apart by colour-blind eyes, and on grey
_DOUBT_COLOUR, _PAPER, _INK = "#ffd400", "black", "white"
_AXIAL_PICTURES = 7
_LEAST_TOP = 0.2  # of the doubts: a case without any shall look like one


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
    from matplotlib.figure import Figure

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
    _draw_slice(axes[-1], hu[::-1, y], labels[::-1, y], aspect=dz / dx, caption=f"coronal, row {y}")
    if title:
        figure.suptitle(title, color="white", fontsize=13)
    figure.savefig(path, dpi=90, format="png")


def draw_case(
    volume: Volume, mask: Mask, doubt: npt.NDArray[np.floating], path: Path, *, title: str = ""
) -> None:
    """Draw a case so that a glance tells whether it needs a person: 1200 pixels wide.

    The middle and the most doubtful axial slice, a coronal and a sagittal one through the largest area of lung, each
    with the contour and in its true proportions, over the doubt of each slice.

    Parameters
    ----------
    volume : Volume
        The CT.
    mask : Mask
        On the same grid.
    doubt : (z,) array of float
        Of each axial slice, lowest first, from 0 to 1; nan where the network has not run.
    path : Path
        The PNG.
    title : str
        Stands above.

    Raises
    ------
    ValueError
        If there is not one doubt for each axial slice.
    """
    from matplotlib.figure import Figure

    labels = mask.axial
    if doubt.shape != (len(labels),):
        raise ValueError(f"one doubt for each of the {len(labels)} axial slices is needed; got {doubt.shape}")
    marks, doubtful = {_middle(labels): _INK}, most_doubtful_slice(doubt, labels)
    if doubtful is not None:
        marks[doubtful] = _DOUBT_COLOUR
    figure = Figure(figsize=(12, 5.2), facecolor=_PAPER, layout="constrained")
    grid = figure.add_gridspec(2, 4, height_ratios=(3.4, 1))
    views = [figure.add_subplot(grid[0, column]) for column in range(4)]
    _draw_axial_views(views[:2], volume, labels, marks)
    _draw_upright_views(views[2:], volume, labels, marks)
    _draw_doubt(figure.add_subplot(grid[1, :]), doubt, marks)
    if title:
        figure.suptitle(title, color=_INK, fontsize=12)
    figure.savefig(path, dpi=100, format="png")


def most_doubtful_slice(doubt: npt.NDArray[np.floating], labels: npt.NDArray[Any]) -> int | None:
    """Return the axial slice that a person should see first; None where there is no doubt at all.

    It holds lung or is next to a slice that does, if any of these is doubtful: what the network has seen far off from
    the lungs was cleaned away.

    Parameters
    ----------
    doubt : (z,) array of float
        Of each slice, from 0 to 1; nan where the network has not run.
    labels : (z, y, x) array
        The mask, in axial order.
    """
    holds_lung = np.pad(labels.any(axis=(1, 2)), 1)
    near_lung = holds_lung[1:-1] | holds_lung[:-2] | holds_lung[2:]
    known = np.nan_to_num(doubt)
    for wanted in (np.where(near_lung, known, 0), known):
        if wanted.any():
            return int(wanted.argmax())
    return None


def draw_curve(columns: Mapping[str, Sequence[float]], path: Path) -> None:
    """Draw the training loss and the validation Dice against the steps.

    Parameters
    ----------
    columns : mapping
        Holds ``step``, ``loss`` and ``dice``, of one length.
    path : Path
        The PNG.
    """
    from matplotlib.figure import Figure

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


def _middle(labels: npt.NDArray[Any]) -> int:
    """Return the slice half way through the lungs, or through the CT if there are none."""
    filled = np.flatnonzero(labels.any(axis=(1, 2)))
    first, last = (filled[0], filled[-1]) if len(filled) else (0, len(labels) - 1)
    return int(first + last) // 2


def _draw_axial_views(
    axes: Sequence[Axes], volume: Volume, labels: npt.NDArray[Any], marks: Mapping[int, str]
) -> None:
    _, dy, dx = volume.axial_geometry.spacing_mm
    for axis in axes:
        axis.set_axis_off()
    for axis, what, (z, colour) in zip(axes, ("middle", "most doubtful"), marks.items(), strict=False):
        caption = f"axial slice {z}, {what}"
        _draw_slice(axis, volume.axial[z], labels[z], aspect=dy / dx, caption=caption)
        axis.title.set_color(colour)


def _draw_upright_views(
    axes: Sequence[Axes], volume: Volume, labels: npt.NDArray[Any], marks: Mapping[int, str]
) -> None:
    """Draw a coronal and a sagittal view, superior up, with lines where the axial slices lie."""
    dz, dy, dx = volume.axial_geometry.spacing_mm
    row, column = _fullest(labels, axis=1), _fullest(labels, axis=2)
    coronal, sagittal = (slice(None, None, -1), row), (slice(None, None, -1), slice(None), column)
    for axis, place, aspect, caption in (
        (axes[0], coronal, dz / dx, f"coronal, row {row}"),
        (axes[1], sagittal, dz / dy, f"sagittal, column {column}"),
    ):
        _draw_slice(axis, volume.axial[place], labels[place], aspect=aspect, caption=caption)
        axis.set_axis_off()
        for z, colour in marks.items():
            axis.axhline(len(labels) - 1 - z, color=colour, linewidth=0.8, linestyle="--")


def _draw_doubt(axis: Axes, doubt: npt.NDArray[np.floating], marks: Mapping[int, str]) -> None:
    axis.set_facecolor(_PAPER)
    axis.fill_between(np.arange(len(doubt)), doubt, step="mid", color=LEFT_COLOUR, alpha=0.8, linewidth=0)
    for z, colour in marks.items():
        axis.axvline(z, color=colour, linewidth=1, linestyle="--")
    axis.set_xlim(-0.5, len(doubt) - 0.5)
    axis.set_ylim(0, max(float(np.nanmax(doubt, initial=0)), _LEAST_TOP))
    axis.set_xlabel("axial slice, lowest on the left", color=_INK, fontsize=9)
    axis.set_ylabel("doubt", color=_INK, fontsize=9)
    axis.tick_params(colors=_INK, labelsize=8)


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
