"""Section 5: the slices the network is least sure of, the most doubtful first."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from magicgui.widgets import Container, PushButton

from napari_resunet.measure.doubt import slice_doubt
from napari_resunet.plugin.panels.text import row, text
from napari_resunet.plugin.session import Session

_HINT = "Goes through the slices in the order of the network's own doubt."


class ReviewPanel(Container):
    """Goes to the most doubtful slice, the next one, and back.

    Parameters
    ----------
    session : Session
        Whose slices are reviewed.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.back = PushButton(text="Back", tooltip="The slice before in the order of doubt.")
        self.next = PushButton(text="Next doubtful slice", tooltip="The next slice in the order of doubt.")
        self.place = text(_HINT)
        super().__init__(widgets=[row(self.back, self.next), self.place], labels=False)
        self._order: list[int] = []
        self._doubt: npt.NDArray[np.float64] = np.zeros(0)
        self._position = -1
        self.back.changed.connect(self._go_back)
        self.next.changed.connect(self._go_on)
        session.events.case.connect(self._start_anew)
        session.events.ran.connect(self._start_anew)
        self._start_anew()

    def _go_on(self) -> None:
        self._go(self._position + 1)

    def _go_back(self) -> None:
        self._go(self._position - 1)

    def _go(self, position: int) -> None:
        if not self._order:
            self._rank()
        if not self._order:
            self.place.value = "Run the network first: only then it has a doubt."
            return
        self._position = min(max(position, 0), len(self._order) - 1)
        z = self._order[self._position]
        self.session.show_slice(z)
        self.place.value = (
            f"{self._position + 1} of {len(self._order)}: slice {z}, doubt {self._doubt[z]:.2f}"
        )

    def _rank(self) -> None:
        """Order the slices that hold lung in the mask, or lie between two that do, by doubt."""
        case = self.session.case
        if case is None or not case.done.any():
            return
        spacing, threshold = case.volume.axial_geometry.spacing_mm, case.settings.threshold
        doubt = slice_doubt(case.probability, threshold=threshold, spacing_mm=spacing, done=case.done)
        holds_lung = case.mask.any(axis=(1, 2))
        # gas in the bowel, which clean-up has removed, would stand first in line
        near_lung = holds_lung | np.roll(holds_lung, 1) & np.roll(holds_lung, -1)
        self._doubt = np.where(near_lung, np.nan_to_num(doubt.total), 0)
        self._order = [int(z) for z in np.argsort(-self._doubt, kind="stable") if self._doubt[z] > 0]

    def _start_anew(self, _said: str = "") -> None:
        self._order, self._position = [], -1
        self.place.value = _HINT
        self.next.enabled = self.back.enabled = self.session.case is not None
