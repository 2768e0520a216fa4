"""The dock widget: sections that fold, one session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import napari.viewer
from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QApplication,
    QFileDialog,
    QInputDialog,
    QMessageBox,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_resunet.editing.journal import journal_root
from napari_resunet.errors import SpacingUnknownError
from napari_resunet.model.card import RESEARCH_ONLY
from napari_resunet.plugin.autosave import Autosave
from napari_resunet.plugin.farewell import Farewell
from napari_resunet.plugin.panels.correct import CorrectPanel
from napari_resunet.plugin.panels.ct import CtPanel
from napari_resunet.plugin.panels.export import ExportPanel
from napari_resunet.plugin.panels.mask import MaskPanel
from napari_resunet.plugin.panels.measure import MeasurePanel
from napari_resunet.plugin.panels.recover import RecoverPanel
from napari_resunet.plugin.panels.review import ReviewPanel
from napari_resunet.plugin.panels.segment import SegmentPanel
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.panels.view import ViewPanel
from napari_resunet.plugin.section import Section
from napari_resunet.plugin.session import Session
from napari_resunet.settings import InputAnswers

_CT_FILES = "CT (*.nii *.nii.gz *.tif *.tiff *.mha *.mhd *.nrrd *.nhdr *.dcm *.hdr);;All files (*)"
_MASK_FILES = "NIfTI (*.nii.gz *.nii);;TIFF (*.tif *.tiff);;NRRD (*.nrrd);;MetaImage (*.mha)"
_CASE_FILES = "Case (*.nru)"
_HOME = str(Path.home())
Spacing = tuple[float, float, float]


class LungSegmentation(QScrollArea):
    """Lung segmentation in CT with a Residual U-Net.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        napari passes it in.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        # napari hands in a proxy, which gives a new proxy of a layer each time: identity would be lost
        self.session = Session(getattr(viewer, "__wrapped__", viewer))
        self.ct = CtPanel(
            self.session, choose_layer=self.choose_layer, ask_folder=self.ask_folder, ask_file=self.ask_file
        )
        self.view = ViewPanel(self.session)
        self.segment = SegmentPanel(self.session, ask_weights=self._ask_weights, confirm=self.confirm)
        self.mask = MaskPanel(self.session)
        self.correct = CorrectPanel(self.session, confirm=self.confirm)
        self.review = ReviewPanel(self.session)
        self.measure = MeasurePanel(self.session)
        self.export = ExportPanel(self.session, ask_output=self._ask_output, ask_case=self._ask_case)
        self.autosave = Autosave(self.session, journal_root())
        self.recover = RecoverPanel(self.session, journal_root(), confirm=self.confirm)
        self._lay_out()
        self._watch_window()
        self._with_spacing: Callable[[Spacing], None] | None = None
        self.session.events.failed.connect(self._show_error)
        QApplication.instance().aboutToQuit.connect(self.session.close)
        self.destroyed.connect(self.session.close)

    def _lay_out(self) -> None:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setAlignment(Qt.AlignmentFlag.AlignTop)
        column.setContentsMargins(4, 4, 4, 4)
        column.setSpacing(0)
        column.addWidget(self.recover.native)
        # the window is not high enough for all
        for title, panel, is_open in (
            ("CT", self.ct, True),
            ("View", self.view, False),
            ("Segment", self.segment, True),
            ("Mask", self.mask, True),
            ("Correct", self.correct, False),
            ("Review", self.review, False),
            ("Measure", self.measure, False),
            ("Export", self.export, True),
        ):
            section = Section(title, panel.native)
            if is_open:
                section.expand(animate=False)
            column.addWidget(section)
        column.addWidget(text(RESEARCH_ONLY).native)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(330)

    def _watch_window(self) -> None:
        window = getattr(self.session.viewer, "window", None)  # a viewer without one has nothing to close
        if window is not None:
            self._farewell = Farewell(
                window._qt_window, unsaved=self._unsaved, save=self._save_all, discard=self.autosave.discard
            )

    def _unsaved(self) -> list[str]:
        return [case.reference.name for case in self.session.unsaved_cases()]

    def _save_all(self) -> bool:
        """Ask for a case file for each CT with unsaved work; return whether all of them are saved."""
        for case in self.session.unsaved_cases():
            path = self._ask_case(f"{case.reference.name.partition('.')[0]}.nru")
            if path is None or not self.session.save_case(path, case):
                return False
        return True

    def confirm(self, question: str) -> bool:
        """Ask a question and return whether the user said yes."""
        answer = QMessageBox.question(self, "napari-resunet", question)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def ask_folder(self) -> None:
        """Ask for a DICOM folder and open it."""
        folder = QFileDialog.getExistingDirectory(self, "Open a folder with a DICOM series", _HOME)
        if folder:
            self.open(Path(folder))

    def ask_file(self) -> None:
        """Ask for a CT file and open it."""
        file, _ = QFileDialog.getOpenFileName(self, "Open a CT", _HOME, _CT_FILES)
        if file:
            self.open(Path(file))

    def open(self, path: Path, answers: InputAnswers | None = None) -> None:
        """Open a CT; if its file does not say how large its voxels are, ask."""
        self._with_spacing = lambda spacing: self.open(path, InputAnswers(spacing_mm=spacing))
        self.session.open(path, answers)

    def choose_layer(self, layer: Layer | None) -> None:
        """Make a layer the open CT; if it does not say how large its voxels are, ask."""
        self._with_spacing = lambda spacing: self.session.choose(layer, spacing_mm=spacing)
        self.session.choose(layer)

    def _ask_weights(self) -> Path | None:
        file, _ = QFileDialog.getOpenFileName(self, "Weights", _HOME, "Weights (*.safetensors)")
        return Path(file) if file else None

    def _ask_output(self, name: str) -> Path | None:
        file, _ = QFileDialog.getSaveFileName(self, "Export the mask", str(Path(_HOME) / name), _MASK_FILES)
        return Path(file) if file else None

    def _ask_case(self, name: str) -> Path | None:
        file, _ = QFileDialog.getSaveFileName(self, "Save the case", str(Path(_HOME) / name), _CASE_FILES)
        return Path(file) if file else None

    def _show_error(self, error: Exception) -> None:
        if isinstance(error, SpacingUnknownError):
            spacing = self._ask_spacing(str(error))
            if spacing is not None and self._with_spacing is not None:
                self._with_spacing(spacing)
            return
        show_error(str(error))

    def _ask_spacing(self, why: str) -> Spacing | None:
        question = f"{why}\n\nVoxel size in mm: between slices, between rows, between columns"
        answer, accepted = QInputDialog.getText(self, "Voxel size", question, text="1.0, 1.0, 1.0")
        if not accepted:
            return None
        try:
            z, y, x = (float(part) for part in answer.split(","))
        except ValueError:
            show_error(f"three numbers are needed, such as 2.5, 0.7, 0.7; got {answer}")
            return None
        return z, y, x
