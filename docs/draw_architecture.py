"""Draws docs/architecture.svg: the network of a model as its card describes it, with the shapes it really has.

``python docs/draw_architecture.py`` draws that of lung-ct; a test fails where the picture is of another network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from napari_resunet.model.card import ModelCard, read_card
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet

PICTURE = Path(__file__).with_name("architecture.svg")
ENCODER, DECODER, ENDS = "#cfe3f5", "#d8eed3", "#eeeeee"
WIDTH, HEIGHT = 3.0, 0.9  # of a box
_SHORTCUTS = {
    "conv": "each unit added to a 1×1 convolution of its input",
    "identity": "each unit added to its input",
    "none": "units without a shortcut",
}


@dataclass(frozen=True)
class Box:
    """One stage of the network.

    Parameters
    ----------
    what : str
        What it does.
    shape : tuple of int
        Channels, rows and columns of what comes out of it.
    """

    what: str
    shape: tuple[int, ...]

    @property
    def label(self) -> str:
        channels, rows, columns = self.shape
        return f"{channels} × {rows} × {columns}"


def boxes(settings: NetworkSettings, grid: int) -> tuple[list[Box], list[Box]]:
    """Return the stages on the way down and on the way up, with the shapes that the network itself gives."""
    with torch.device("meta"):  # shapes only: no weights, no arithmetic
        network = ResUNet(settings)
        shapes = _shapes(network, torch.empty(1, settings.in_channels, grid, grid))
    stem, head = shapes[network.stem], shapes[network.head]
    down = [Box(f"{settings.stem} × convolution 3×3", stem)]
    for level, count in zip(network.encoder, settings.units, strict=True):
        down.append(Box(f"{count} units, the first halves", shapes[level]))
    up = [Box("up by 2, join, 1 unit", shapes[level]) for level in network.decoder]
    return down, [*up, Box("convolution 1×1, sigmoid", head)]


def _shapes(network: ResUNet, image: Tensor) -> dict[nn.Module, tuple[int, ...]]:
    found: dict[nn.Module, tuple[int, ...]] = {}

    def note(module: nn.Module, _given: object, out: Tensor) -> None:
        found[module] = tuple(out.shape[1:])

    for module in (network.stem, *network.encoder, *network.decoder, network.head):
        module.register_forward_hook(note)
    network.eval()(image)
    return found


def caption(card: ModelCard) -> str:
    """Return the line under the picture."""
    return (
        f"{card.name}: preset {card.preset}, {_SHORTCUTS[card.network.shortcut]}; channels × rows × columns"
    )


def draw(card: ModelCard) -> Figure:
    """Return the picture: down on the left, up on the right, what is handed across in between."""
    down, up = boxes(card.network, card.grid)
    figure = Figure(figsize=(9, 1.05 * len(down) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    bottom = len(down) - 1
    for depth, box in enumerate(down):
        _draw_box(axes, box, (0, -1.5 * depth), ENCODER if depth else ENDS)
        if depth:
            _draw_arrow(axes, (0, -1.5 * (depth - 1) - HEIGHT / 2), (0, -1.5 * depth + HEIGHT / 2))
    for step, box in enumerate(up[:-1]):
        depth = bottom - 1 - step
        _draw_box(axes, box, (5, -1.5 * depth), DECODER)
        _draw_arrow(axes, (WIDTH / 2, -1.5 * depth), (5 - WIDTH / 2, -1.5 * depth), dashed=True)
        start = (5, -1.5 * (depth + 1) + HEIGHT / 2) if step else (WIDTH / 2, -1.5 * bottom)
        _draw_arrow(axes, start, (5, -1.5 * depth - HEIGHT / 2))
    _draw_box(axes, up[-1], (5, 1.5), ENDS)
    _draw_arrow(axes, (5, HEIGHT / 2), (5, 1.5 - HEIGHT / 2))
    _draw_box(
        axes,
        Box("axial slice, HU window as 0 to 1", (card.network.in_channels, *up[-1].shape[1:])),
        (0, 1.5),
        ENDS,
    )
    _draw_arrow(axes, (0, 1.5 - HEIGHT / 2), (0, HEIGHT / 2))
    axes.set_xlim(-2, 7)
    axes.set_ylim(-1.5 * bottom - 1.3, 2.2)
    axes.text(2.5, -1.5 * bottom - 1.0, caption(card), ha="center", fontsize=9)
    return figure


def _draw_box(axes: Axes, box: Box, centre: tuple[float, float], colour: str) -> None:
    x, y = centre
    axes.add_patch(
        FancyBboxPatch(
            (x - WIDTH / 2, y - HEIGHT / 2),
            WIDTH,
            HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.1",
            fc=colour,
        )
    )
    axes.text(x, y + 0.17, box.label, ha="center", va="center", fontsize=10, weight="bold")
    axes.text(x, y - 0.2, box.what, ha="center", va="center", fontsize=9)


def _draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], *, dashed: bool = False
) -> None:
    style = {"arrowstyle": "->", "linestyle": "dashed" if dashed else "solid", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=style)


if __name__ == "__main__":
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "napari-resunet", "font.family": "sans-serif"}
    ):
        draw(read_card("lung-ct")).savefig(PICTURE, metadata={"Date": None})
