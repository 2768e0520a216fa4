"""The section Export: write the mask, and show the receipt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from magicgui.widgets import CheckBox, Container, PushButton
from psygnal import Signal

from napari_resunet.case import Case
from napari_resunet.editing.review import SliceState
from napari_resunet.plugin.forms import field_widget
from napari_resunet.plugin.panels.enabling import OPEN_CT_FIRST, enable
from napari_resunet.plugin.panels.rows import row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.proposed import stem_of
from napari_resunet.plugin.session import Session
from napari_resunet.settings import MaskSettings


class ExportPanel(Container):
    """Writes the mask as it is shown, edits included, on the grid of the CT.

    Parameters
    ----------
    session : Session
        Does the work.
    ask_output, ask_case : callable
        Open a dialog with a proposed name and return the file chosen there, or None.

    Attributes
    ----------
    written : Signal
        Emitted when the receipt tells of a file.
    """

    written = Signal()

    def __init__(
        self,
        session: Session,
        *,
        ask_output: Callable[[str], Path | None],
        ask_case: Callable[[str], Path | None],
    ) -> None:
        self.session = session
        self._ask_output, self._ask_case = ask_output, ask_case
        self.split = field_widget(MaskSettings, "split")
        self.probability = CheckBox(text="Probability map too", tooltip="Writes it beside the mask, 0 to 1.")
        self.export = PushButton(
            text="Export mask…",
            tooltip="By the ending: NIfTI, TIFF, NRRD, MetaImage, .seg.nrrd for 3D Slicer, .dcm for DICOM SEG.",
        )
        self.save_case = PushButton(
            text="Save case…",
            tooltip="All but the CT in one .nru file: probabilities, edits, ticks. Drop it into napari to go on.",
        )
        self.receipt = text()
        widgets = [self.split, self.probability, row(self.export, self.save_case), self.receipt]
        super().__init__(widgets=widgets, labels=False)
        self.split.text = "Label right lung 1 and left lung 2"
        self.export.changed.connect(self._export)
        self.split.changed.connect(self._set_split)
        self.save_case.changed.connect(self.ask_and_save_case)
        session.events.case.connect(self._show_case)
        for changed in (session.events.mask, session.events.painted, session.events.ran):
            changed.connect(self._show_mask)
        self._show_case()

    def _export(self) -> None:
        if self.session.case is None:
            return
        path = self._ask_output(f"{self._stem()}_lung_mask.nii.gz")
        if path is None:
            return
        receipt = self.session.saving.export(path, split=self.split.value, probability=self.probability.value)
        self._tell("" if receipt is None else f"{receipt}{self._missing()}")

    def _missing(self) -> str:
        case = self.session.case
        if not case.slices_missing:
            return ""
        return f"; {case.slices_missing} of {len(case.done)} slices are not run yet, and empty there"

    def _tell(self, words: str) -> None:
        self.receipt.value = words
        self.written.emit()

    def ask_and_save_case(self) -> bool:
        """Ask for a name and save the case; return whether it was saved."""
        path = None if self.session.case is None else self._ask_case(f"{self._stem()}.nru")
        if path is None or not self.session.saving.save_case(path):
            return False
        self._tell(f"{path}: the case, with {_work_in(self.session.case)}")
        return True

    def _stem(self) -> str:
        layer = self.session.ct_layer
        return "ct" if layer is None else stem_of(layer.name)

    def _set_split(self, split: bool) -> None:
        if self.session.case is not None:
            self.session.case.set_split(split)

    def _show_case(self) -> None:
        if self.session.case is not None:
            with self.split.changed.blocked():
                self.split.value = self.session.case.settings.split
        enable(self.save_case, OPEN_CT_FIRST if self.session.case is None else "")
        self._show_mask()
        self.receipt.value = ""

    def _show_mask(self, _said: str = "") -> None:
        case = self.session.case
        has_mask = case is not None and bool(case.done.any() or case.mask.any())
        enable(
            self.export,
            "" if has_mask else OPEN_CT_FIRST if case is None else "There is no mask yet: press Run.",
        )


def _work_in(case: Case) -> str:
    """Return what a person has done on a case, in words."""
    marks = case.review.marks
    words = [f"{case.voxels_edited:,} voxels set by hand"]
    for state, name in ((SliceState.REVIEWED, "reviewed"), (SliceState.FLAGGED, "flagged")):
        count = int((marks == state).sum())
        words += [f"{count} {'slice' if count == 1 else 'slices'} {name}"] if count else []
    return ", ".join(words)
