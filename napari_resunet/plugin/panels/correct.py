"""Section 4: tools that correct the mask, each shown before it is applied."""

from __future__ import annotations

from dataclasses import fields as fields_of

from magicgui.widgets import ComboBox, Container, PushButton

from napari_resunet.plugin.correcting import TOOLS
from napari_resunet.plugin.forms import field_widget
from napari_resunet.plugin.panels.text import fields, row, text
from napari_resunet.plugin.session import Session
from napari_resunet.settings import ToolSettings


class CorrectPanel(Container):
    """Chooses a tool, shows what it would change, applies it or lets it go.

    Parameters
    ----------
    session : Session
        Does the work.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.tool = ComboBox(label="Tool", choices=list(TOOLS), tooltip="What to do to the mask.")
        self.tip = text()
        self.choices = {
            known.name: field_widget(ToolSettings, known.name) for known in fields_of(ToolSettings)
        }
        self.look = PushButton(
            text="Show", tooltip="Show what the tool would change; nothing is changed yet."
        )
        self.apply = PushButton(text="Apply", tooltip="Change the mask so; one Ctrl+Z takes it back.")
        self.discard = PushButton(text="Discard", tooltip="Leave the mask as it is.")
        self.state = text()
        super().__init__(
            widgets=[
                fields(self.tool),
                self.tip,
                fields(*self.choices.values()),
                row(self.look, self.apply, self.discard),
                self.state,
            ],
            labels=False,
        )
        self.tool.changed.connect(self._choose)
        self.look.changed.connect(self._use)
        self.apply.changed.connect(session.correcting.apply)
        self.discard.changed.connect(session.correcting.discard)
        session.correcting.events.state.connect(self._show_state)
        session.events.case.connect(self._show_state)
        self._choose(self.tool.value)

    @property
    def settings(self) -> ToolSettings:
        return ToolSettings(**{name: widget.value for name, widget in self.choices.items()})

    def _choose(self, name: str) -> None:
        self.session.correcting.discard()
        self.tip.value = TOOLS[name].tip
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
        self.look.enabled = self.session.case is not None
        self.apply.enabled = has_preview
        self.discard.enabled = bool(state)
