"""Section 6: how large and how dense the lungs are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pandas as pd
from magicgui.widgets import Container, PushButton

from napari_resunet.case import Case
from napari_resunet.errors import ResUNetError
from napari_resunet.measure.lungs import LungFigures, lung_figures
from napari_resunet.plugin.jobs import Job
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session
from napari_resunet.volume import Mask, Volume

# rows of napari's table of features, by the label they belong to; both lungs together stand at 0
_LABEL_OF = {"both": 0, "right": 1, "left": 2}
_ASK = "Measures the mask as it is shown, right and left."


class MeasurePanel(Container):
    """Measures the mask as it is shown, and puts the figures into napari's table of features.

    Parameters
    ----------
    session : Session
        Whose mask is measured.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._job: Job | None = None
        self.measure = PushButton(text="Measure", tooltip="ml, HU and the share of voxels below -950 HU.")
        self.figures = text(_ASK)
        super().__init__(widgets=[self.measure, self.figures], labels=False)
        self.measure.changed.connect(self._measure)
        session.events.case.connect(self._show_case)
        self._show_case()

    def _measure(self) -> None:
        case = self.session.case
        if case is None or self._job is not None:
            return
        self.session.sync()
        try:
            mask = case.finished_mask(split=True)
        except ResUNetError as error:
            self.session.events.failed.emit(error)
            return
        failed = self.session.events.failed.emit
        work = (case.volume, mask)
        self._job = Job(
            _measuring, *work, on_value=self._show, on_error=failed, on_end=self._end, label="measuring"
        )
        self._job.start()

    def _end(self) -> None:
        self._job = None

    def _show(self, figures: list[LungFigures]) -> None:
        self.figures.value = "\n".join(f"{lung.name}: {lung}" for lung in figures)
        if self.session.mask_layer is not None:
            rows = [{"index": _LABEL_OF[lung.name], **asdict(lung)} for lung in figures]
            self.session.mask_layer.features = pd.DataFrame(rows)

    def _show_case(self) -> None:
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self.measure.enabled = isinstance(self.session.case, Case)
        self.figures.value = _ASK


def _measuring(volume: Volume, mask: Mask) -> Iterator[list[LungFigures]]:
    yield lung_figures(volume, mask)
