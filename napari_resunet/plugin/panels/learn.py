"""The section Learn: a model learns from its corrections."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, PushButton, Select
from qtpy.QtWidgets import QComboBox

from napari_resunet.plugin.forms import field_widget
from napari_resunet.plugin.learning import AT_RANDOM, Learning
from napari_resunet.plugin.panels.enabling import enable
from napari_resunet.plugin.panels.rows import fields, row
from napari_resunet.plugin.panels.segment import OTHER_FILE
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session
from napari_resunet.settings import LearnSettings, PredictSettings

if TYPE_CHECKING:
    from napari_resunet.plugin.panels.curves import LearningCurves

_LIST_HEIGHT = 66
_SHOWN = ("steps", "edited_weight", "replay", "learning_rate")


class LearnPanel(Container):
    """Chooses cases and recipe; starts, stops and resumes; shows curves, and what has come of it.

    Parameters
    ----------
    session : Session
        Whose open case may be learnt from.
    models : ComboBox
        Where models are chosen to run.
    ask_cases : callable
        Asks for case files.
    ask_model : callable
        Asks where a new model goes; is given the proposed name.
    """

    def __init__(
        self,
        session: Session,
        models: ComboBox,
        *,
        ask_cases: Callable[[], list[Path]],
        ask_model: Callable[[str], Path | None],
    ) -> None:
        self.learning = Learning(session)
        self._models, self._ask_cases, self._ask_model = models, ask_cases, ask_model
        self.open_case = CheckBox(
            text="The open case", tooltip="As it is corrected and ticked when you press Start."
        )
        self.cases = Select(choices=[], tooltip="Corrected cases to learn from; choose some to remove them.")
        self.cases.native.setFixedHeight(_LIST_HEIGHT)
        self.add = PushButton(
            text="Add case files…", tooltip="Case files (.nru) that you saved; their CT lies beside them."
        )
        self.remove = PushButton(text="Remove", tooltip="Take the chosen cases off the list.")
        self.parent_model = ComboBox(
            label="Start from", choices=self._parents, tooltip="The model that learns; it stays as it is."
        )
        self.recipe = {name: field_widget(LearnSettings, name) for name in _SHOWN}
        self.recipe["learning_rate"].native.setDecimals(6)
        self.held_out = ComboBox(
            label="Hold out",
            choices=self._held_outs,
            tooltip="A case that is not learnt from, on which old and new model are compared. "
            "By lot, one of three or more.",
        )
        for box in (self.parent_model, self.held_out):  # the name of a file must not widen the window
            box.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.device = field_widget(PredictSettings, "device")
        self.start = PushButton(
            text="Start…", tooltip="Asks where the new model goes, and lets it learn beside the window."
        )
        self.stop = PushButton(text="Stop", tooltip="Stop after this step; what was learnt so far is kept.")
        self.resume = PushButton(
            text="Resume", tooltip="Go on where it was stopped, with the same cases and choices."
        )
        self.state = text()
        self.curves: LearningCurves | None = None  # made when there is something to draw
        self.legend = text(tooltip="Step 0 is the old model.")
        self.figures = text(
            tooltip="Dice on the native grid at threshold 0.5, nothing cleaned up, on what was not learnt from."
        )
        self.use = PushButton(text="Use this model", tooltip="Choose the new model under Segment.")
        self.forget = PushButton(text="Keep the old one", tooltip="Go on with the model that is chosen now.")
        self._answer = row(self.use, self.forget)
        super().__init__(
            widgets=[
                self.open_case,
                self.cases,
                row(self.add, self.remove),
                fields(self.parent_model, *self.recipe.values(), self.held_out, self.device),
                row(self.start, self.stop, self.resume),
                self.state,
                self.legend,
                self.figures,
                self._answer,
            ],
            labels=False,
        )
        self._listen()
        self._show_cases()
        self._show_curves()

    def _listen(self) -> None:
        learning = self.learning
        self.open_case.changed.connect(learning.take_open)
        self.cases.changed.connect(self._show_state)
        self.add.changed.connect(self._add)
        self.remove.changed.connect(self._remove)
        self.start.changed.connect(self._start)
        self.stop.changed.connect(learning.stop)
        self.resume.changed.connect(learning.resume)
        self.use.changed.connect(self._use)
        self.forget.changed.connect(learning.forget)
        self._models.changed.connect(self._show_parents)
        learning.events.cases.connect(self._show_cases)
        learning.events.state.connect(self._show_state)
        learning.events.told.connect(self._say)
        learning.events.curve.connect(self._show_curves)

    # ---- choices

    @property
    def settings(self) -> LearnSettings:
        return LearnSettings(
            parent=str(self.parent_model.value),
            **{name: widget.value for name, widget in self.recipe.items()},
        )

    def _parents(self, _widget: object) -> list[tuple[str, str]]:
        known = [name for name in self._models.choices if name != OTHER_FILE]
        return [(Path(name).name, name) for name in known]

    def _held_outs(self, _widget: object) -> list[str]:
        return [AT_RANDOM, *self.learning.names]

    def _show_parents(self) -> None:
        self.parent_model.reset_choices()

    def _add(self) -> None:
        self.learning.add_files(self._ask_cases())

    def _remove(self) -> None:
        self.learning.remove(list(self.cases.value))

    def _start(self) -> None:
        path = self._ask_model(f"{Path(str(self.parent_model.value)).stem}-learnt.safetensors")
        if path is not None:
            held_out, device = str(self.held_out.value), self.device.value
            self.learning.start(self.settings, held_out=held_out, device=device, model_path=path)

    def _use(self) -> None:
        path = self.learning.use()
        if path is None:
            return
        others = [name for name in self._models.choices if name not in (OTHER_FILE, str(path))]
        self._models.choices = [*others, str(path), OTHER_FILE]
        self._models.value = str(path)

    # ---- what is shown

    def _show_cases(self) -> None:
        learning, name = self.learning, self.learning.open_name
        self.open_case.text = "The open case" if name is None else f"The open case, {name}"
        enable(self.open_case, "Open a CT and correct its mask first." if name is None else "")
        with self.open_case.changed.blocked():
            self.open_case.value = learning.with_open
        self.cases.choices = learning.names
        self.held_out.reset_choices()
        self._show_state()

    def _show_state(self) -> None:
        learning = self.learning
        running, has_cases = learning.is_running, bool(learning.names)
        enable(self.remove, "" if self.cases.value else "Choose cases in the list first.")
        lacks = "" if has_cases else "Add a corrected case first."
        enable(self.start, "It is at work: stop it first." if running else lacks)
        enable(self.stop, "" if running and not learning.is_stopping else _why_no_stop(running))
        enable(self.resume, "" if learning.can_resume else "Nothing was stopped.")
        if not has_cases and not running and not self.state.value:
            self._say("Add cases that you have corrected and ticked; three or more let one be held out.")
        self._answer.visible = self.figures.visible = learning.learnt is not None
        if learning.learnt is not None:
            self.figures.value = _table(learning.learnt)

    def _show_curves(self) -> None:
        learning = self.learning
        is_drawn = bool(learning.lines or learning.losses)
        self.legend.visible = is_drawn
        if is_drawn and self.curves is None:
            self._add_curves()
        if self.curves is not None:
            self.curves.setVisible(is_drawn)
            self.curves.show_losses(learning.losses)
            self.curves.show_lines(learning.lines)

    def _add_curves(self) -> None:
        from napari_resunet.plugin.panels.curves import LEGEND, LearningCurves  # pyqtgraph is slow to import

        self.curves = LearningCurves()
        self.legend.value = LEGEND
        self.native.layout().insertWidget(6, self.curves)

    def _say(self, words: str) -> None:
        self.state.value = words


def _why_no_stop(running: bool) -> str:
    return "It is stopping." if running else "Nothing is at work."


def _table(learnt: Any) -> str:
    """Return the figures of the old and the new model, side by side."""
    rows = []
    if not math.isnan(learnt.before.dice):
        rows.append((f"Held out: {', '.join(learnt.held_out)}", learnt.before.dice, learnt.after.dice))
    rows.append(("Made-up chests", learnt.before.replay, learnt.after.replay))
    lines = [f"<tr><td>{name}</td><td>{was:.4f}</td><td>{now:.4f}</td></tr>" for name, was, now in rows]
    head = "<tr><th align=left>Dice</th><th>before</th><th>after</th></tr>"
    return f"<table cellpadding=2>{head}{''.join(lines)}</table>"
