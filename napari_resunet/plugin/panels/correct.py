"""The section Correct: tools that correct the mask, each shown before it is applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields as fields_of

from magicgui.widgets import ComboBox, Container, PushButton

from napari_resunet.plugin.forms import field_widget
from napari_resunet.plugin.panels.enabling import OPEN_CT_FIRST, enable
from napari_resunet.plugin.panels.rows import fields, row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.tools import TOOLS
from napari_resunet.settings import ToolSettings


class CorrectPanel(Container):
    """Chooses a tool, shows what it would change, applies it or lets it go.

    Parameters
    ----------
    session : Session
        Does the work.
    confirm : callable
        Asks a question and returns whether the user said yes.
    """

    def __init__(self, session: Session, *, confirm: Callable[[str], bool]) -> None:
        self.session = session
        self._confirm = confirm
        self.tool = ComboBox(label="Tool", choices=list(TOOLS), tooltip="What to do to the mask.")
        self.tip = text()
        self.choices = {
            known.name: field_widget(ToolSettings, known.name) for known in fields_of(ToolSettings)
        }
        self.look = PushButton(
            text="Show",
            tooltip="Show what the tool would change, some after a click in the picture; nothing is changed yet.",
        )
        self.apply = PushButton(text="Apply", tooltip="Change the mask so; one Ctrl+Z takes it back.")
        self.discard = PushButton(text="Discard", tooltip="Leave the mask as it is.")
        self.state = text()
        self.count = text(tooltip="What you set by hand is kept: no threshold and no run changes it.")
        self.forget = PushButton(
            text="Forget my edits…", tooltip="Show the mask as the network has it; asks first."
        )
        self.bring_back = PushButton(
            text="Bring back", tooltip="Give back the edits that were forgotten last; newer ones stay."
        )
        super().__init__(
            widgets=[
                fields(self.tool),
                self.tip,
                fields(*self.choices.values()),
                row(self.look, self.apply, self.discard),
                self.state,
                self.count,
                row(self.forget, self.bring_back),
            ],
            labels=False,
        )
        self.tool.changed.connect(self._choose)
        self.look.changed.connect(self._use)
        self.apply.changed.connect(session.correcting.apply)
        self.discard.changed.connect(session.correcting.discard)
        session.correcting.events.state.connect(self._show_state)
        session.events.case.connect(self._show_case)
        session.events.hand.connect(self._show_count)
        self.forget.changed.connect(self._forget)
        self.bring_back.changed.connect(session.hand.bring_back)
        self._choose(self.tool.value)
        self._show_count()

    @property
    def settings(self) -> ToolSettings:
        return ToolSettings(**{name: widget.value for name, widget in self.choices.items()})

    def _choose(self, name: str) -> None:
        self.session.correcting.discard()
        self.tip.value = TOOLS[name].tip
        self.look.text = "Click in picture" if TOOLS[name].needs_click else "Show"
        for option, widget in self.choices.items():
            widget.visible = option in TOOLS[name].uses
        self._show_state()

    def _use(self) -> None:
        try:
            settings = self.settings
        except ValueError as error:
            self.state.value = str(error)
            return
        self.session.correcting.use(self.tool.value, settings)

    def _show_state(self, state: str = "") -> None:
        self.state.value = state
        has_preview = self.session.correcting.preview_layer is not None
        enable(self.look, OPEN_CT_FIRST if self.session.case is None else "")
        enable(self.apply, "" if has_preview else "Let the tool show first what it would change.")
        enable(
            self.discard,
            "" if self.session.correcting.has_begun else "Nothing is shown that could be discarded.",
        )

    def _show_case(self) -> None:
        self._show_state()
        self._show_count()

    def _show_count(self) -> None:
        case = self.session.case
        added, removed = (0, 0) if case is None else (case.voxels_added, case.voxels_removed)
        self.count.value = f"Set by hand: {added:,} voxels added, {removed:,} removed"
        has_banked = case is not None and bool(case.banked)
        enable(self.forget, "" if added or removed else "No voxel is set by hand.")
        enable(self.bring_back, "" if has_banked else "No edits were forgotten.")

    def _forget(self) -> None:
        if self._confirm("Forget all voxels set by hand? “Bring back” gives them back."):
            self.session.hand.forget_edits()
