"""A strip along the slices: how doubtful each is, and what the review says of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyqtgraph as pg
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QSizePolicy

from napari_resunet.editing.review import SliceState

STATE_COLOURS = {  # of Okabe and Ito, which people tell apart who are colour-blind
    SliceState.AUTO: "#6b7078",
    SliceState.EDITED: "#e69f00",
    SliceState.REVIEWED: "#009e73",
    SliceState.FLAGGED: "#cc79a7",
}
_DOUBT_COLOUR, _LINE_COLOUR = "#56b4e9", "#d55e00"
_HEIGHT, _RIBBON = 96, 0.14  # pixels; of the height of the doubts
_LEAST_TOP = 0.2  # a CT without doubts shall look like one


class DoubtStrip(pg.PlotWidget):
    """Bars for the doubt over a ribbon for the states; a line stands at the slice in view.

    A click or a drag asks for a slice by `chosen`.
    """

    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__(background=None)
        self._slices = 0
        self._doubts = pg.BarGraphItem(x=[], height=[], width=1.0, pen=None, brush=_DOUBT_COLOUR)
        self._states = pg.BarGraphItem(x=[], height=[], width=1.0, pen=None)
        self._line = pg.InfiniteLine(0, angle=90, pen=pg.mkPen(_LINE_COLOUR, width=2))
        for item in (self._doubts, self._states, self._line):
            self.addItem(item)
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # as wide as the panel
        self.setMenuEnabled(False)
        self.setMouseEnabled(x=False, y=False)
        self.hideButtons()
        self.hideAxis("left")
        self.getAxis("bottom").setHeight(18)
        self.setToolTip(
            "Each bar is a slice, lowest on the left; the higher, the less sure the network is.\n"
            "Below: grey as the network has it, orange edited, green reviewed, purple flagged. Click to go there."
        )

    def show_slices(self, doubt: npt.NDArray[np.float64], states: npt.NDArray[np.uint8]) -> None:
        """Draw the (z,) doubts, nan for none, and the (z,) states."""
        self._slices = len(doubt)
        x = np.arange(self._slices)
        heights = np.nan_to_num(doubt)
        top = max(heights.max(initial=0), _LEAST_TOP)
        self._doubts.setOpts(x=x, height=heights)
        brushes = [pg.mkBrush(STATE_COLOURS[SliceState(state)]) for state in states]
        self._states.setOpts(x=x, y0=-_RIBBON * top, height=0.8 * _RIBBON * top, brushes=brushes)
        self.setXRange(-0.5, max(self._slices, 1) - 0.5, padding=0)
        self.setYRange(-_RIBBON * top, top, padding=0.02)

    def show_slice(self, z: int) -> None:
        """Put the line at a slice."""
        self._line.setValue(z)

    def mousePressEvent(self, event) -> None:  # noqa: N802 Qt's name
        self._choose(event)

    def mouseMoveEvent(self, event) -> None:  # noqa: N802
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._choose(event)

    def mouseReleaseEvent(self, event) -> None:  # noqa: N802
        event.accept()

    def wheelEvent(self, event) -> None:  # noqa: N802
        event.ignore()  # the panel scrolls

    def _choose(self, event) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton and self._slices:
            x = self.plotItem.vb.mapSceneToView(self.mapToScene(event.position().toPoint())).x()
            self.chosen.emit(int(np.clip(round(x), 0, self._slices - 1)))
        event.accept()
