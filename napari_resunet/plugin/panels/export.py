"""Section 7: write the mask, and show the receipt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from magicgui.widgets import CheckBox, Container, PushButton

from napari_resunet.plugin.forms import field_widget
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session
from napari_resunet.settings import MaskSettings


class ExportPanel(Container):
    """Writes the mask as it is shown, edits included, on the grid of the CT.

    Parameters
    ----------
    session : Session
        Does the work.
    ask_output : callable
        Opens a dialog with a proposed name and returns the file chosen there, or None.
    """

    def __init__(self, session: Session, *, ask_output: Callable[[str], Path | None]) -> None:
        self.session = session
        self._ask_output = ask_output
        self.split = field_widget(MaskSettings, "split")
        self.probability = CheckBox(text="Probability map too", tooltip="Writes it beside the mask, 0 to 1.")
        self.export = PushButton(
            text="Export mask…", tooltip="NIfTI, TIFF, NRRD or MetaImage, by the ending you give."
        )
        self.receipt = text()
        super().__init__(widgets=[self.split, self.probability, self.export, self.receipt], labels=False)
        self.split.text = "Label right lung 1 and left lung 2"
        self.export.changed.connect(self._export)
        session.events.case.connect(self._show_case)
        self._show_case()

    def _export(self) -> None:
        if self.session.case is None:
            return
        path = self._ask_output(f"{self._stem()}_lung_mask.nii.gz")
        if path is None:
            return
        receipt = self.session.export(path, split=self.split.value, probability=self.probability.value)
        self.receipt.value = "" if receipt is None else str(receipt)

    def _stem(self) -> str:
        layer = self.session.ct_layer
        return "ct" if layer is None else layer.name.partition(".")[0].removesuffix("_ct").replace(" ", "_")

    def _show_case(self) -> None:
        self.export.enabled = self.session.case is not None
        self.receipt.value = ""
