"""The section Segment: run the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from magicgui.widgets import ComboBox, Container, ProgressBar, PushButton, SpinBox

from napari_resunet.errors import ResUNetError
from napari_resunet.model.card import builtin_models, read_card
from napari_resunet.plugin.forms import field_widget
from napari_resunet.plugin.panels.enabling import OPEN_CT_FIRST, enable
from napari_resunet.plugin.panels.rows import fields, row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.preferences import preferred_network
from napari_resunet.plugin.session import Session
from napari_resunet.settings import KEEP_EDITS, KEEP_TICKED, PredictSettings, RunSettings

OTHER_FILE = "weights file…"
ALL, IN_VIEW, RANGE = "all", "the one in view", "from … to …"


class SegmentPanel(Container):
    """Chooses model, device, grid and slices; runs and cancels.

    Parameters
    ----------
    session : Session
        Does the work.
    ask_weights : callable
        Opens a dialog and returns the weights file chosen there, or None.
    confirm : callable
        Asks a question and returns whether the user said yes.
    """

    def __init__(
        self,
        session: Session,
        *,
        ask_weights: Callable[[], Path | None],
        confirm: Callable[[str], bool],
    ) -> None:
        self.session = session
        self._ask_weights, self._confirm = ask_weights, confirm
        self._refusal = ""  # why the chosen model cannot be used
        preferred = preferred_network()
        self._last_model = preferred.model
        tip = "A built-in model, or weights of your own. What the model has learnt stands below."
        self.model = ComboBox(
            name="model",
            label="Model",
            choices=_choices(preferred.model),
            value=preferred.model,
            tooltip=tip,
        )
        self.model_card = text()
        self.device = field_widget(PredictSettings, "device", value=preferred.device)
        self.grid = field_widget(PredictSettings, "grid", value=preferred.grid)
        self.slices = ComboBox(
            label="Slices", choices=[ALL, IN_VIEW, RANGE], tooltip="Which axial slices to run."
        )
        self.first = SpinBox(
            label="from", min=0, max=0, tooltip="First axial slice, counted from the lowest."
        )
        self.last = SpinBox(label="to", min=0, max=0, tooltip="Last axial slice.")
        self.edits = field_widget(RunSettings, "edits")
        self.start = PushButton(text="Run", tooltip="Find the lungs, beginning at the slice in view.")
        self.stop = PushButton(
            text="Cancel", tooltip="Stop; finished slices stay, and the next run goes on from there."
        )
        self.bar = ProgressBar(value=0, max=1, visible=False, tooltip="Slices done in this run.")
        self.status = text()
        super().__init__(
            widgets=[
                fields(self.model, self.grid, self.device, self.slices, self.first, self.last, self.edits),
                self.model_card,
                row(self.start, self.stop),
                self.bar,
                self.status,
            ],
            labels=False,
        )
        self.model.changed.connect(self._choose_model)
        self.slices.changed.connect(self._show_range)
        self.start.changed.connect(self._run)
        self.stop.changed.connect(self._cancel)
        session.events.case.connect(self._show_case)
        session.events.running.connect(self._show_running)
        session.events.progress.connect(self._show_progress)
        session.events.ran.connect(self._say)
        session.events.hand.connect(self._show_edits)
        self._show_card()
        self._show_range()
        self._show_case()

    @property
    def settings(self) -> PredictSettings:
        return PredictSettings(
            model=str(self.model.value), device=self.device.value, grid=int(self.grid.value)
        )

    @property
    def chosen_slices(self) -> tuple[int, int] | None:
        """The axial slices to run, (first, one after the last), or None for all."""
        if self.slices.value == IN_VIEW:
            return self.session.slice_in_view, self.session.slice_in_view + 1
        if self.slices.value == RANGE:
            first, last = sorted((self.first.value, self.last.value))
            return first, last + 1
        return None

    def _run(self) -> None:
        edits = self.edits.value
        if edits != KEEP_EDITS and not self._confirm(self._question(edits)):
            return
        self.edits.value = KEEP_EDITS  # whoever forgets edits says so each time
        self.session.run(self.settings, self.chosen_slices, edits=edits)

    def _cancel(self) -> None:
        enable(self.stop, "It is stopping.")
        self._say("stopping after the slices at work …")
        self.session.cancel()

    def _question(self, edits: str) -> str:
        which = "on slices you have not ticked " if edits == KEEP_TICKED else ""
        return f"Forget the voxels set by hand {which}and run? “Bring back” under Correct gives them back."

    def _choose_model(self, name: str) -> None:
        if name == OTHER_FILE:
            path = self._ask_weights()
            if path is not None:
                self.model.choices = _choices(str(path))
            self.model.value = self._last_model if path is None else str(path)
            return
        self._last_model = name
        self._show_card()

    def _show_card(self) -> None:
        try:
            card = read_card(self.model.value)
            card.require_window_hu()
        except ResUNetError as error:
            self.model_card.value = self._refusal = str(error)
            self.model_card.tooltip = ""
            self._show_buttons(running=self.session.is_running)
            return
        self._refusal = ""
        self._show_buttons(running=self.session.is_running)
        built = f"{card.preset}, width {card.network.width}"
        self.model_card.value = f"{card.name} {card.version}: {built}, grid {card.grid}"
        self.model_card.tooltip = "\n\n".join(
            words for words in (card.definition, card.training_data) if words
        )

    def _show_range(self) -> None:
        self.first.visible = self.last.visible = self.slices.value == RANGE

    def _show_case(self) -> None:
        case = self.session.case
        self.edits.value = KEEP_EDITS
        self._show_buttons(running=False)
        self._say(self._done())
        if case is not None:
            self.first.max = self.last.max = len(case.done) - 1
            self.last.value = len(case.done) - 1
        self._show_edits()

    def _show_edits(self) -> None:
        case = self.session.case
        has_edits = case is not None and bool(case.edited.any())
        enable(self.edits, "" if has_edits else "Nothing is set by hand.")
        if not has_edits:
            self.edits.value = KEEP_EDITS

    def _show_running(self, running: bool) -> None:
        running = running and not self.session.opening.is_reading  # which the section of the CT shows
        self._show_buttons(running=running)
        self.bar.visible = running
        self.bar.value = 0
        self._say("starting …" if running else self._done())

    def _done(self) -> str:
        case = self.session.case
        done = 0 if case is None else int(case.done.sum())
        return f"{done} of {len(case.done)} slices segmented" if done else ""

    def _show_buttons(self, *, running: bool) -> None:
        lacks = OPEN_CT_FIRST if self.session.case is None else self._refusal
        enable(self.start, "The network is at work: wait, or cancel it." if running else lacks)
        enable(self.stop, "" if running else "Nothing is at work.")

    def _show_progress(self, seen: int, wanted: int, seconds_left: float) -> None:
        self.bar.max, self.bar.value = wanted, seen
        self._say(f"{seen} of {wanted} slices, {seconds_left:.0f} s left")

    def _say(self, line: str) -> None:
        self.status.value = line


def _choices(model: str) -> list[str]:
    """Return the models to choose from: those built in, this one, and another file."""
    return [*dict.fromkeys([*builtin_models(), model]), OTHER_FILE]
