"""The dock widget: sections that fold, one session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import napari.viewer
from napari.layers import Layer
from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QFileDialog, QInputDialog, QScrollArea, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_resunet.errors import SpacingUnknownError
from napari_resunet.model.card import RESEARCH_ONLY
from napari_resunet.plugin.panels.correct import CorrectPanel
from napari_resunet.plugin.panels.ct import CtPanel
from napari_resunet.plugin.panels.export import ExportPanel
from napari_resunet.plugin.panels.mask import MaskPanel
from napari_resunet.plugin.panels.measure import MeasurePanel
from napari_resunet.plugin.panels.review import ReviewPanel
from napari_resunet.plugin.panels.segment import SegmentPanel
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session
from napari_resunet.settings import InputAnswers

_CT_FILES = "CT (*.nii *.nii.gz *.tif *.tiff *.mha *.mhd *.nrrd *.nhdr *.dcm *.hdr);;All files (*)"
_MASK_FILES = "NIfTI (*.nii.gz *.nii);;TIFF (*.tif *.tiff);;NRRD (*.nrrd);;MetaImage (*.mha)"
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
        self.segment = SegmentPanel(self.session, ask_weights=self._ask_weights)
        self.mask = MaskPanel(self.session)
        self.correct = CorrectPanel(self.session)
        self.review = ReviewPanel(self.session)
        self.measure = MeasurePanel(self.session)
        self.export = ExportPanel(self.session, ask_output=self._ask_output)
        self._lay_out()
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
        for title, panel in (
            ("1  CT", self.ct),
            ("2  Segment", self.segment),
            ("3  Mask", self.mask),
            ("4  Correct", self.correct),
            ("5  Review", self.review),
            ("6  Measure", self.measure),
            ("7  Export", self.export),
        ):
            section = QCollapsible(title, expandedIcon="▼", collapsedIcon="▶")
            section.content().layout().setContentsMargins(2, 0, 2, 0)
            section.addWidget(panel.native)
            if panel in (
                self.ct,
                self.segment,
                self.mask,
                self.export,
            ):  # the window is not high enough for all
                section.expand(animate=False)
            column.addWidget(section)
        column.addWidget(text(RESEARCH_ONLY).native)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(330)

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
