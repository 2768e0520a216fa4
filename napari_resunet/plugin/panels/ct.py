"""The section CT: which CT is open, and what was found in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox, Container, ProgressBar, PushButton

from napari_resunet.facts import describe
from napari_resunet.io.orientation import is_assumed
from napari_resunet.plugin.layers import can_be_ct
from napari_resunet.plugin.panels.checks import check_lines
from napari_resunet.plugin.panels.enabling import enable
from napari_resunet.plugin.panels.rows import fields, row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session

if TYPE_CHECKING:
    from napari.layers import Layer

_OFFSET = -1024
_AT_WORK, _STOPPING = "Something is read or run: wait for its end, or cancel it.", "It is stopping."
_NO_CT = (
    "Drop a CT into the window: a DICOM folder, NIfTI, TIFF, MetaImage or NRRD. Or open one here. "
    "None at hand? File > Open Sample > Made-up chest CT."
)


class CtPanel(Container):
    """Opens a CT, shows which layer it is, what was found in it, and what only the user can say of it.

    Parameters
    ----------
    session : Session
        Does the work.
    ask_folder, ask_file : callable
        Open a dialog, and the CT that is chosen there.
    ask_place : callable
        Opens a dialog for voxel size and orientation, and the CT once more with what is said there.
    """

    def __init__(
        self,
        session: Session,
        *,
        ask_folder: Callable[[], None],
        ask_file: Callable[[], None],
        ask_place: Callable[[], None],
    ) -> None:
        self.session = session
        self.open_folder = PushButton(text="Open folder…", tooltip="Open a folder with a DICOM series.")
        self.open_file = PushButton(
            text="Open file…", tooltip="Open NIfTI, TIFF, MetaImage, NRRD or a DICOM file."
        )
        self.reading = text(visible=False)
        self.bar = ProgressBar(value=0, max=1, visible=False, tooltip="How much of the file is read.")
        self.stop = PushButton(
            text="Cancel", tooltip="Read no further; what is open stays as it is.", visible=False
        )
        self.layer = ComboBox(
            label="Layer", choices=self._ct_layers, nullable=True, tooltip="The layer of the CT."
        )
        self.card = text(_NO_CT)
        self.checks = text(tooltip="What was looked at in this CT; what needs an answer stands first.")
        self.subtract = PushButton(
            text="Subtract 1024", tooltip="The values are HU + 1024; this is noted.", visible=False
        )
        self.are_hu = PushButton(
            text="They are HU", tooltip="The values are right as they are; this is noted.", visible=False
        )
        self.place = PushButton(
            text="Say how it lies…",
            tooltip="Say how the slices lie, or how large the voxels are, where the file does not; reads it again.",
            visible=False,
        )
        super().__init__(
            widgets=[
                row(self.open_folder, self.open_file),
                self.reading,
                row(self.bar, self.stop),
                fields(self.layer),
                self.card,
                self.checks,
                row(self.subtract, self.are_hu),
                row(self.place),
            ],
            labels=False,
        )
        self.open_folder.changed.connect(ask_folder)
        self.open_file.changed.connect(ask_file)
        self.stop.changed.connect(self._cancel)
        self.layer.changed.connect(self._choose)
        self.subtract.changed.connect(self._subtract)
        self.are_hu.changed.connect(self._confirm)
        self.place.changed.connect(ask_place)
        session.events.layers.connect(self._show_layers)
        session.events.case.connect(self._show_case)
        session.events.reading.connect(self._show_reading)
        session.events.running.connect(self._show_running)
        self._show_case()

    def _ct_layers(self, _widget: object) -> list[Layer]:
        return [layer for layer in self.session.viewer.layers if can_be_ct(layer)]

    def _choose(self, layer: Layer | None) -> None:
        self.session.choose(layer)
        self._show_layers()  # which may not be the one chosen, if that one cannot be used

    def _subtract(self) -> None:
        self.session.answer_hu(_OFFSET)

    def _confirm(self) -> None:
        self.session.answer_hu(0)

    def _show_running(self, running: bool) -> None:
        is_reading = running and self.session.opening.is_reading
        for button in (self.open_folder, self.open_file, self.place):
            enable(button, _AT_WORK if running else "")
        for widget in (self.reading, self.bar, self.stop):
            widget.visible = is_reading
        enable(self.stop, "" if is_reading else _STOPPING)

    def _show_reading(self, words: str, done: int, total: int) -> None:
        self.reading.value = words
        self.bar.max, self.bar.value = max(total, 1), done

    def _cancel(self) -> None:
        enable(self.stop, _STOPPING)
        self.reading.value = "stopping …"
        self.session.cancel()

    def _show_case(self) -> None:
        case = self.session.case
        self._show_layers()
        self.card.value = _NO_CT if case is None else describe(case.volume)
        self._show_checks()

    def _show_layers(self) -> None:
        # magicgui keeps a choice by its text, which a new name changes: ask the session instead
        with self.layer.changed.blocked():
            self.layer.reset_choices()
            self.layer.value = self.session.ct_layer

    def _notes(self) -> list[str]:
        """Return what the reader noted, but for questions: the checks ask them, as long as they are open."""
        case = self.session.case
        notes = () if case is None else case.volume.notes
        return [note for note in notes if not is_assumed([note])]

    def _show_checks(self) -> None:
        checks, case = self.session.checks, self.session.case
        told = " ".join(check.text for check in checks)
        self.checks.value = check_lines(checks, [note for note in self._notes() if note not in told])
        asks = {name for check in checks if check.level == "ask" for name in check.answers}
        self.checks.visible = bool(checks)
        self.are_hu.visible = "hu_offset" in asks
        self.subtract.visible = any(check.hu_offset == _OFFSET for check in checks)
        said = None if case is None else case.volume.answers
        was_said = said is not None and bool(said.spacing_mm or said.orientation)
        self.place.visible = "orientation" in asks or was_said
