"""The questions that a CT can leave open, each as a dialog of its own.

A file is opened, a reader says what it cannot know, the user answers, and the file is opened again with the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from magicgui.widgets import ComboBox, Dialog, FloatSpinBox, LineEdit, SpinBox, Table, Widget
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialogButtonBox,
    QHeaderView,
    QLabel,
    QLayout,
    QSizePolicy,
    QWidget,
)

from napari_resunet.errors import (
    FrameChoiceError,
    GeometryError,
    ResUNetError,
    SpacingUnknownError,
    UnevenSlicesError,
    without_options,
)
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_choice import SeriesChoiceError
from napari_resunet.io.dicom_list import SeriesInfo
from napari_resunet.io.orientation import is_assumed
from napari_resunet.plugin.panels.rows import fields
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.preview import Preview
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Volume

# where the array axes (z, y, x) run towards
ORIENTATIONS = {
    "axial, lowest slice first": "SPL",
    "axial, highest slice first": "IPL",
    "axial, lowest slice first, mirrored": "SPR",
    "axial, highest slice first, mirrored": "IPR",
    "coronal, front first": "PIL",
    "coronal, back first": "AIL",
    "sagittal, right first": "LIP",
    "sagittal, left first": "RIP",
}
_LENGTHS = (
    ("Slices (mm)", "from one slice to the next"),
    ("Rows (mm)", "from one row of pixels to the next"),
    ("Columns (mm)", "from one pixel to the next in a row"),
)
_SPACING_AGAIN = (
    "How large are the voxels, and how do the slices lie in the patient? The CT is read again as you say, without a "
    "mask; what was painted stays with the layers of before."
)
_WIDTH = 520
STATED, OTHER = "as the file says, or else axial, lowest first", "another, in letters"


def ask(error: ResUNetError, answers: InputAnswers, parent: QWidget | None = None) -> InputAnswers | None:
    """Ask what an error leaves open.

    Parameters
    ----------
    error : ResUNetError
        One of those that an answer mends.
    answers : InputAnswers
        What was said before.
    parent : QWidget, optional
        Over which the dialog opens.

    Returns
    -------
    InputAnswers or None
        With the new answer in them; None if the user would rather not open the CT.
    """
    kind = next(kind for errors, kind in _QUESTIONS.items() if isinstance(error, errors))
    question = kind(error, parent)
    return replace(answers, **question.said) if question.exec() else None


def ask_place(volume: Volume, parent: QWidget | None = None) -> InputAnswers | None:
    """Ask how the slices of an open CT lie, and how large its voxels are if the user has said so before.

    Returns
    -------
    InputAnswers or None
        With the new answer in them; None if all is to stay as it is.
    """
    answers = volume.answers
    if answers.spacing_mm is None:
        question: Question = PlaceQuestion(volume, parent)
    else:
        question = VoxelQuestion(_SPACING_AGAIN, parent, volume)
    return replace(answers, **question.said) if question.exec() else None


class Question(Dialog):  # type: ignore[misc]
    """A dialog that says what is open, has a field for the answer, and a button that takes it.

    Parameters
    ----------
    title, words : str
        What it is about, and the question.
    widgets : list of Widget
        For the answer.
    accept : str
        What the button says.
    parent : QWidget, optional
        Over which it opens.
    """

    def __init__(
        self, title: str, words: str, widgets: list[Widget], *, accept: str, parent: QWidget | None
    ) -> None:
        self.words = text(words)
        super().__init__(widgets=[self.words, *widgets], labels=False, parent=parent)
        self.native.setWindowTitle(title)
        self.native.layout().setSizeConstraint(QLayout.SizeConstraint.SetDefaultConstraint)
        for label in self.native.findChildren(QLabel):
            policy = label.sizePolicy()
            policy.setVerticalPolicy(QSizePolicy.Policy.Minimum)  # as high as its words, and no higher
            label.setSizePolicy(policy)
        self.native.layout().insertStretch(len(self), 1)
        self.native.layout().invalidate()
        self.native.resize(_WIDTH, self.native.layout().totalHeightForWidth(_WIDTH))
        buttons = self.native.findChild(QDialogButtonBox)
        self.accept = buttons.button(QDialogButtonBox.StandardButton.Ok)
        self.accept.setText(accept)

    @property
    def said(self) -> dict[str, Any]:
        """The answer, as fields of `InputAnswers`."""
        raise NotImplementedError


class SeriesQuestion(Question):
    """Which of several DICOM series; none is chosen until the user chooses."""

    def __init__(self, error: SeriesChoiceError, parent: QWidget | None = None) -> None:
        self.series = error.series
        self.table = Table(
            value=([_row(info) for info in self.series], [], list(_COLUMNS)),
            tooltip="Choose a line; a double click opens it.",
        )
        words = "There is more than one CT here. Which one is to be opened?"
        super().__init__("Several series", words, [self.table], accept="Open", parent=parent)
        table = self.table.native
        table.verticalHeader().hide()
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setTextElideMode(Qt.TextElideMode.ElideNone)
        table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        table.horizontalHeader().setStretchLastSection(True)
        table.setMinimumHeight(200)
        table.itemSelectionChanged.connect(self._show_chosen)
        table.cellDoubleClicked.connect(self._open_at)
        self.native.resize(900, 320)
        self._show_chosen()

    @property
    def chosen(self) -> SeriesInfo | None:
        rows = self.table.native.selectionModel().selectedRows()
        return self.series[rows[0].row()] if rows else None

    @property
    def said(self) -> dict[str, Any]:
        return {} if self.chosen is None else {"series": self.chosen.key}

    def _show_chosen(self) -> None:
        self.accept.setEnabled(self.chosen is not None)

    def _open_at(self, _row: int, _column: int) -> None:
        self.accept.click()


_COLUMNS: dict[str, Callable[[SeriesInfo], str]] = {
    "Modality": lambda info: info.modality,
    "Description": lambda info: ", ".join(filter(None, [info.description, info.stack])),
    "Slices": lambda info: f"{info.slices}, {info.plane}",
    "Pixels": lambda info: "{} × {}".format(*info.size),
    "Voxel (mm)": lambda info: _voxel(info),
    "Kernel": lambda info: info.kernel,
    "Date": lambda info: info.date,
    "Worth knowing": lambda info: "; ".join(info.odd),
}


def _row(info: SeriesInfo) -> list[str]:
    return [words(info) for words in _COLUMNS.values()]


def _voxel(info: SeriesInfo) -> str:
    if info.spacing_mm is None:
        return "not stated"
    z, y, x = info.spacing_mm
    return f"{x:.3g} × {y:.3g} × {z:.3g}"


class GapsQuestion(Question):
    """Whether to go on though slices are missing or unevenly spaced."""

    def __init__(self, error: UnevenSlicesError, parent: QWidget | None = None) -> None:
        why = (
            "Opened all the same, every slice that is there can be segmented, but not every slice lies in its true "
            "place, and volumes in ml are off by what is missing. This is noted with the CT and in every export."
        )
        words = without_options(error)
        super().__init__("Uneven slices", words, [text(why)], accept="Open all the same", parent=parent)

    @property
    def said(self) -> dict[str, Any]:
        return {"accept_gaps": True}


class FrameQuestion(Question):
    """Which of the volumes in one file."""

    def __init__(self, error: FrameChoiceError, parent: QWidget | None = None) -> None:
        self.frame = SpinBox(
            label="Volume, counted from 0",
            min=0,
            max=error.frames - 1,
            tooltip="Which volume of the file to open; the first is 0.",
        )
        words = without_options(error)
        super().__init__("Several volumes", words, [fields(self.frame)], accept="Open", parent=parent)

    @property
    def said(self) -> dict[str, Any]:
        return {"frame": self.frame.value}


class VoxelQuestion(Question):
    """How large the voxels are, and how the slices lie in the patient."""

    def __init__(
        self,
        error: SpacingUnknownError | str,
        parent: QWidget | None = None,
        volume: Volume | None = None,
    ) -> None:
        answers = InputAnswers() if volume is None else volume.answers
        self.preview = None if volume is None else Preview(volume.array)
        self.lengths = [
            FloatSpinBox(label=label, value=mm, min=0, max=100, step=0.1, tooltip=f"In mm, {where}.")
            for (label, where), mm in zip(_LENGTHS, answers.spacing_mm or (0, 0, 0), strict=True)
        ]
        is_open = volume is not None and is_assumed(volume.notes)  # whoever is asked says something
        self.lie = _Orientation(answers.orientation or ("SPL" if is_open else None))
        shown = [] if self.preview is None else [self.preview]
        widgets = [fields(*self.lengths, *self.lie.widgets), self.lie.fault, *shown]
        words = without_options(error)
        accept = "Open" if volume is None else "Read again"
        super().__init__("Voxel size", words, widgets, accept=accept, parent=parent)
        for length in self.lengths:
            length.native.setDecimals(4)
            length.native.setSpecialValueText("?")  # no size is proposed: it would be taken unread
            length.changed.connect(self._check)
        self.lie.connect(self._check)
        self._check()

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        return tuple(length.value for length in self.lengths)

    @property
    def said(self) -> dict[str, Any]:
        return {"spacing_mm": self.spacing_mm, "orientation": self.lie.axes}

    def _check(self) -> None:
        is_sound = self.lie.is_sound()
        self.accept.setEnabled(is_sound and min(self.spacing_mm) > 0)
        if is_sound and self.preview is not None:
            self.preview.show_as(self.lie.axes, self.spacing_mm)


class PlaceQuestion(Question):
    """How the slices lie in the patient, of a CT that is open."""

    def __init__(self, volume: Volume, parent: QWidget | None = None) -> None:
        self._spacing_mm = volume.geometry.spacing_mm
        self.preview = Preview(volume.array)
        self.lie = _Orientation(volume.answers.orientation or "SPL")
        words = (
            "How do the slices lie in the patient? The CT is read again as you say, without a mask; what was painted "
            "stays with the layers of before."
        )
        widgets = [fields(*self.lie.widgets), self.lie.fault, self.preview]
        super().__init__("Orientation", words, widgets, accept="Read again", parent=parent)
        self.lie.connect(self._check)
        self._check()

    @property
    def said(self) -> dict[str, Any]:
        return {"orientation": self.lie.axes}

    def _check(self) -> None:
        is_sound = self.lie.is_sound()
        self.accept.setEnabled(is_sound)
        if is_sound:
            self.preview.show_as(self.lie.axes, self._spacing_mm)


class _Orientation:
    """The fields for how slices lie in the patient: in plain words, or as letters."""

    def __init__(self, axes: str | None = None) -> None:
        words = {letters: words for words, letters in ORIENTATIONS.items()}
        self.choice = ComboBox(
            label="Orientation",
            choices=[STATED, *ORIENTATIONS, OTHER],
            value=STATED if axes is None else words.get(axes, OTHER),
            tooltip="How the slices lie in the patient.",
        )
        self.letters = LineEdit(
            label="Letters",
            value=axes or "SPL",
            tooltip="Where slices, rows and columns run towards: one each of S or I, A or P, L or R.",
        )
        self.widgets = [self.choice, self.letters]
        self.fault = text()

    def connect(self, check: Callable[[], None]) -> None:
        for widget in self.widgets:
            widget.changed.connect(check)

    @property
    def axes(self) -> str | None:
        """Where the array axes run towards, as three letters; None where the user leaves it to the file."""
        if self.choice.value == STATED:
            return None
        known = ORIENTATIONS.get(self.choice.value)
        return known or str(self.letters.value).strip().upper()

    def is_sound(self) -> bool:
        """Show the field for letters if it is needed, and what is wrong with them; return whether nothing is."""
        self.letters.visible = self.choice.value == OTHER
        try:
            Geometry.from_spacing((1, 1, 1), (1, 1, 1), self.axes)
        except GeometryError as error:
            self.fault.value = str(error)
        else:
            self.fault.value = ""
        return not self.fault.value


_QUESTIONS: dict[type[ResUNetError], Callable[..., Question]] = {
    SeriesChoiceError: SeriesQuestion,
    UnevenSlicesError: GapsQuestion,
    FrameChoiceError: FrameQuestion,
    SpacingUnknownError: VoxelQuestion,
}
