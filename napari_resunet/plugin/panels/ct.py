"""Section 1: which CT is open, and what was found in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, Container, PushButton

from napari_resunet.facts import describe
from napari_resunet.plugin.layers import can_be_ct
from napari_resunet.plugin.panels.text import fields, row, text
from napari_resunet.plugin.session import Session

if TYPE_CHECKING:
    from napari.layers import Layer

_NO_CT = "Drop a CT into the window: a DICOM folder, NIfTI, TIFF, MetaImage or NRRD. Or open one here."


class CtPanel(Container):
    """Opens a CT, shows which layer it is and what was found in it.

    Parameters
    ----------
    session : Session
        Does the work.
    choose_layer : callable
        Makes a layer the open CT.
    ask_folder, ask_file : callable
        Open a dialog, and the CT that is chosen there.
    """

    def __init__(
        self,
        session: Session,
        *,
        choose_layer: Callable[[Layer | None], None],
        ask_folder: Callable[[], None],
        ask_file: Callable[[], None],
    ) -> None:
        self.session = session
        self._choose_layer = choose_layer
        self.open_folder = PushButton(text="Open folder…", tooltip="Open a folder with a DICOM series.")
        self.open_file = PushButton(
            text="Open file…", tooltip="Open NIfTI, TIFF, MetaImage, NRRD or a DICOM file."
        )
        self.layer = ComboBox(
            label="Layer", choices=self._ct_layers, nullable=True, tooltip="The layer of the CT."
        )
        self.card = text(_NO_CT)
        self.question = text(visible=False)
        self.add_offset = PushButton(text="Subtract 1024", tooltip="The values are HU + 1024.", visible=False)
        self.are_hu = PushButton(
            text="They are HU", tooltip="The values are right as they are.", visible=False
        )
        super().__init__(
            widgets=[
                row(self.open_folder, self.open_file),
                fields(self.layer),
                self.card,
                self.question,
                row(self.add_offset, self.are_hu),
            ],
            labels=False,
        )
        self.open_folder.changed.connect(ask_folder)
        self.open_file.changed.connect(ask_file)
        self.layer.changed.connect(self._choose)
        self.add_offset.changed.connect(self._subtract)
        self.are_hu.changed.connect(self._confirm)
        session.events.layers.connect(self._show_layers)
        session.events.case.connect(self._show_case)
        self._show_case()

    def _ct_layers(self, _widget: object) -> list[Layer]:
        return [layer for layer in self.session.viewer.layers if can_be_ct(layer)]

    def _choose(self, layer: Layer | None) -> None:
        self._choose_layer(layer)
        self._show_layers()  # which may not be the one chosen, if that one cannot be used

    def _subtract(self) -> None:
        self.session.answer_hu(-1024)

    def _confirm(self) -> None:
        self.session.answer_hu(0)

    def _show_case(self) -> None:
        case = self.session.case
        self._show_layers()
        self.card.value = _NO_CT if case is None else "\n".join([describe(case.volume), *case.volume.notes])
        self._show_question()

    def _show_layers(self) -> None:
        # magicgui keeps a choice by its text, which a new name changes: ask the session instead
        with self.layer.changed.blocked():
            self.layer.reset_choices()
            self.layer.value = self.session.ct_layer

    def _show_question(self) -> None:
        question = self.session.question
        self.question.value = question
        for widget in (self.question, self.add_offset, self.are_hu):
            widget.visible = bool(question)
