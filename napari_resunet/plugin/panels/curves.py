"""Two curves, one above the other: how the loss falls, and how the Dice rises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg

LOSS_COLOUR, HELD_OUT_COLOUR, REPLAY_COLOUR = "#58a6ff", "#3fb950", "#f5a623"
LEGEND = (
    f'<span style="color:{HELD_OUT_COLOUR}">●</span> held out &nbsp; '
    f'<span style="color:{REPLAY_COLOUR}">●</span> made-up chests'
)
_AXIS = "#888888"  # reads on light and on dark
_HEIGHT = 190


class LearningCurves(pg.GraphicsLayoutWidget):
    """The training loss of each step, and the Dice of each validation."""

    def __init__(self) -> None:
        super().__init__()
        self.setBackground(None)
        self.setFixedHeight(_HEIGHT)
        self._loss_plot = self._plot(0, "loss")
        self._dice_plot = self._plot(1, "Dice")
        self._dice_plot.setXLink(self._loss_plot)
        self.loss = self._loss_plot.plot(pen=pg.mkPen(LOSS_COLOUR, width=1.5))
        self.held_out = self._dice_plot.plot(**_dotted(HELD_OUT_COLOUR))
        self.replay = self._dice_plot.plot(**_dotted(REPLAY_COLOUR))
        self.setToolTip(
            "Above: the training loss of each step.\n"
            "Below: Dice of the cases held out (green) and of made-up chests (orange); step 0 is the old model."
        )

    def _plot(self, row: int, name: str) -> pg.PlotItem:
        plot = self.addPlot(row=row, col=0)
        plot.setMenuEnabled(False)
        plot.setMouseEnabled(x=False, y=False)
        plot.hideButtons()
        for side in ("left", "bottom"):
            axis = plot.getAxis(side)
            axis.setPen(_AXIS)
            axis.setTextPen(_AXIS)
        plot.getAxis("left").enableAutoSIPrefix(False)  # a Dice is no thousandths
        plot.getAxis("left").setWidth(52)
        plot.setLabel("left", name, color=_AXIS)
        return plot

    def show_losses(self, losses: Sequence[tuple[int, float]]) -> None:
        """Draw the loss of each step."""
        steps, values = np.array(losses, dtype=float).reshape(-1, 2).T
        self.loss.setData(steps, values)

    def show_lines(self, lines: Sequence[Any]) -> None:
        """Draw the Dice of each validation."""
        steps = np.array([line.step for line in lines], dtype=float)
        for curve, name in ((self.held_out, "dice"), (self.replay, "replay")):
            values = np.array([getattr(line, name) for line in lines], dtype=float)
            known = np.isfinite(values)
            curve.setData(steps[known], values[known])

    def wheelEvent(self, event) -> None:  # noqa: N802 Qt's name
        event.ignore()  # the panel scrolls


def _dotted(colour: str) -> dict[str, Any]:
    return {
        "pen": pg.mkPen(colour, width=1.5),
        "symbol": "o",
        "symbolSize": 5,
        "symbolBrush": colour,
        "symbolPen": None,
    }
