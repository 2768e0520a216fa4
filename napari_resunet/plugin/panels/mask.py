"""The section Mask: from probabilities to a mask, and what a hand made of it."""

from __future__ import annotations

from magicgui.widgets import Container
from qtpy.QtCore import QTimer

from napari_resunet.plugin.forms import field_widget
from napari_resunet.plugin.panels.enabling import OPEN_CT_FIRST, enable
from napari_resunet.plugin.panels.rows import fields
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session
from napari_resunet.settings import MaskSettings

_HINT = (
    "To paint, choose the layer “lung mask”: keys 1 erase, 2 brush, 4 fill; Ctrl+Z undo. "
    "N shows the most doubtful slice."
)
_REST_MS = 350  # a slider that stands still for so long has come to rest


class MaskPanel(Container):
    """Threshold, live; clean-up; how large the mask is and how much of it was set by hand.

    Parameters
    ----------
    session : Session
        Does the work.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.threshold = field_widget(MaskSettings, "threshold", widget_type="FloatSlider")
        self.clean = field_widget(MaskSettings, "clean")
        self.figures = text(tooltip="What you set by hand is kept: no threshold and no run changes it.")
        hint = text(_HINT)
        super().__init__(widgets=[fields(self.threshold), self.clean, self.figures, hint], labels=False)
        self.clean.text = self.clean.label
        self._rest = QTimer(self.native)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(session.masking.settle)
        self._count = QTimer(self.native)
        self._count.setSingleShot(True)
        self._count.setInterval(_REST_MS)
        self._count.timeout.connect(self._show_figures)
        self.threshold.changed.connect(self._move)
        self.clean.changed.connect(session.masking.set_clean)
        session.events.mask.connect(self._count_soon)
        session.events.painted.connect(self._count_soon)
        session.events.case.connect(self._show_case)
        self._show_case()

    def _move(self, threshold: float) -> None:
        self.session.masking.set_threshold(threshold)
        self._rest.start()

    def _count_soon(self) -> None:
        self._count.start()

    def _show_figures(self) -> None:
        case = self.session.case
        if case is None:
            self.figures.value = ""
            return
        self.session.sync()
        if not case.done.any() and not case.mask.any():
            self.figures.value = "No mask yet: press Run."
            return
        where = (
            f" on {len(case.done) - case.slices_missing} of {len(case.done)} slices"
            if case.slices_missing
            else ""
        )
        self.figures.value = (
            f"Lungs {case.volume_ml:,.0f} ml{where}; {case.voxels_edited:,} voxels set by hand"
        )

    def _show_case(self) -> None:
        case = self.session.case
        for widget in (self.threshold, self.clean):
            enable(widget, "" if case is not None else OPEN_CT_FIRST)
        if case is not None:
            with self.threshold.changed.blocked(), self.clean.changed.blocked():
                self.threshold.value, self.clean.value = case.settings.threshold, case.settings.clean
        self._show_figures()
