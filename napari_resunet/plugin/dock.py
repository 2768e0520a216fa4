"""The dock widget: sections that fold, one session."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import napari.viewer
from napari.utils.notifications import show_error, show_warning
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QApplication, QScrollArea, QVBoxLayout, QWidget

from napari_resunet.editing.journal import journal_root
from napari_resunet.errors import CtMissingError
from napari_resunet.io.case_file import is_case_file
from napari_resunet.model.card import RESEARCH_ONLY
from napari_resunet.plugin.asked import Asked, for_a_notification
from napari_resunet.plugin.autosave import Autosave
from napari_resunet.plugin.dialogs import Dialogs
from napari_resunet.plugin.drops import Drops
from napari_resunet.plugin.farewell import Farewell
from napari_resunet.plugin.next_step import NextStep
from napari_resunet.plugin.panels.correct import CorrectPanel
from napari_resunet.plugin.panels.ct import CtPanel
from napari_resunet.plugin.panels.export import ExportPanel
from napari_resunet.plugin.panels.learn import LearnPanel
from napari_resunet.plugin.panels.mask import MaskPanel
from napari_resunet.plugin.panels.measure import MeasurePanel
from napari_resunet.plugin.panels.recover import RecoverPanel
from napari_resunet.plugin.panels.review import ReviewPanel
from napari_resunet.plugin.panels.segment import SegmentPanel
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.panels.view import ViewPanel
from napari_resunet.plugin.proposed import stem_of
from napari_resunet.plugin.questions import ask, ask_place
from napari_resunet.plugin.section import Section
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.software_gl import spare_programs
from napari_resunet.plugin.warm_up import warm_up
from napari_resunet.settings import InputAnswers


class LungSegmentation(QScrollArea):
    """Lung segmentation in CT with a Residual U-Net.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        napari passes it in.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        spare_programs()
        # napari hands in a proxy, which gives a new proxy of a layer each time: identity would be lost
        self.session = Session(getattr(viewer, "__wrapped__", viewer))
        self._dialogs = dialogs = Dialogs(self)
        self.ct = CtPanel(
            self.session, ask_folder=self.ask_folder, ask_file=self.ask_file, ask_place=self.ask_place
        )
        self.view = ViewPanel(self.session)
        self.segment = SegmentPanel(self.session, ask_weights=dialogs.weights, confirm=dialogs.confirm)
        self.mask = MaskPanel(self.session)
        self.correct = CorrectPanel(self.session, confirm=dialogs.confirm)
        self.review = ReviewPanel(self.session)
        self.measure = MeasurePanel(
            self.session, ask_reference=dialogs.reference, ask_figures=dialogs.table_to_write
        )
        self.export = ExportPanel(
            self.session, ask_output=dialogs.mask_to_write, ask_case=dialogs.case_to_write
        )
        self.learn = LearnPanel(
            self.session, self.segment.model, ask_cases=dialogs.cases, ask_model=dialogs.model_to_write
        )
        self.autosave = Autosave(self.session, journal_root())
        self.recover = RecoverPanel(self.session, journal_root(), confirm=dialogs.confirm)
        self._sections: dict[str, Section] = {}
        self._lay_out()
        self._next_step = NextStep(
            self.session,
            self,
            opens=(self.ct.open_folder, self.ct.open_file),
            runs=(self.segment.start,),
            exports=(self.export.export,),
        )
        self._watch_window()
        for opened in (self.session.events.reading, self.session.events.case):
            opened.connect(self._warm_up)
        self.session.events.case.connect(self._begin_dialogs_beside_ct)
        self.session.events.asks.connect(self._ask)
        self.export.written.connect(self._show_receipt)
        self.session.events.failed.connect(self._show_error)
        QApplication.instance().aboutToQuit.connect(self.session.close)
        self.destroyed.connect(self.session.close)

    def _warm_up(self) -> None:
        warm_up(self.segment.settings)

    def _begin_dialogs_beside_ct(self) -> None:
        source = None if self.session.case is None else self.session.case.volume.source
        if source is not None and source.path.parent.is_dir():
            self._dialogs.begin_in(source.path.parent)

    def _show_receipt(self) -> None:
        QTimer.singleShot(0, partial(self.ensureWidgetVisible, self.export.receipt.native))

    def event(self, event: QEvent) -> bool:
        # napari takes a widget out of its dock when that is closed, and keeps it alive
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.view.side_mark.hide()
            self.session.close()
        return super().event(event)

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
            ("Learn", self.learn, False),
        ):
            section = self._sections[title] = Section(title, panel.native)
            if is_open:
                section.expand(animate=False)
            column.addWidget(section)
        column.addWidget(text(RESEARCH_ONLY).native)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(330)

    def unfold(self, *titles: str) -> None:
        """Unfold sections, and scroll to the first of them."""
        for title in titles:
            self._sections[title].expand(animate=False)
        QTimer.singleShot(0, partial(self.ensureWidgetVisible, self._sections[titles[0]]))

    @property
    def main_window(self) -> QWidget | None:
        """The window that the widget is for; a viewer need not have one."""
        window = getattr(self.session.viewer, "window", None)
        return None if window is None else window._qt_window

    def _watch_window(self) -> None:
        window = self.main_window
        self._drops = Drops(self, None if window is None else window._qt_viewer)
        self.session.on_close.append(self._drops.let_go)
        if window is not None:
            self._farewell = Farewell(
                window, unsaved=self._unsaved, save=self._save_all, discard=self.autosave.discard
            )
            self.session.on_close.append(self._farewell.let_go)

    def _show_error(self, error: Exception) -> None:
        show_error(for_a_notification(error))

    def _unsaved(self) -> list[str]:
        return [case.reference.name for case in self.session.saving.unsaved_cases()]

    def _save_all(self) -> bool:
        """Ask for a case file for each CT with unsaved work; return whether all of them are saved."""
        for case in self.session.saving.unsaved_cases():
            path = self._dialogs.case_to_write(f"{stem_of(case.reference.name)}.nru")
            if path is None or not self.session.saving.save_case(path, case):
                return False
        return True

    def ask_folder(self) -> None:
        """Ask for a DICOM folder and open it."""
        folder = self._dialogs.ct_folder()
        if folder is not None:
            self.open(folder)

    def ask_file(self) -> None:
        """Ask for a CT or a case file and open it."""
        file = self._dialogs.ct_file()
        if file is not None:
            self.open(file)

    def ask_place(self) -> None:
        """Ask how the open CT lies, and open it so."""
        case = self.session.case
        answers = None if case is None else ask_place(case.volume, self)
        if answers is not None:
            self.session.opening.open_anew(answers)

    def open(self, path: Path, answers: InputAnswers | None = None) -> None:
        """Open a CT or a case; what its file leaves open is asked."""
        if is_case_file(path):
            self.session.opening.open_case(path)
        else:
            self.session.opening.open(path, answers)

    def _ask(self, asked: Asked) -> None:
        error = asked.error
        if isinstance(error, CtMissingError):
            show_warning(for_a_notification(error))
            answer: Any = self._dialogs.ct_folder() if error.is_folder else self._dialogs.ct_file()
        else:
            answer = ask(error, asked.answers, self)
        if answer is not None:
            asked.take(answer)
