"""The section Review: the slices the network is least sure of first, and ticks for those looked at."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from magicgui.widgets import CheckBox, Container, PushButton
from qtpy.QtCore import QTimer

from napari_resunet.editing.review import SliceState
from napari_resunet.plugin.panels.enabling import OPEN_CT_FIRST, enable
from napari_resunet.plugin.panels.rows import row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.reviewing import Reviewing
from napari_resunet.plugin.session import Session

if TYPE_CHECKING:
    from napari_resunet.plugin.panels.strip import DoubtStrip

_REST_MS = 400  # after the mask has changed
_MARKS = {SliceState.EDITED: ", edited", SliceState.REVIEWED: ", reviewed", SliceState.FLAGGED: ", flagged"}
NEXT, BACK, TICK, FLAG = "N", "Shift-N", "R", "Shift-R"


class ReviewPanel(Container):
    """Goes to the most doubtful slice, the next one, and back; ticks and flags slices.

    Parameters
    ----------
    session : Session
        Whose slices are reviewed.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.reviewing = Reviewing(session)
        self.back = PushButton(text="Back", tooltip="The slice before, in the order of doubt (Shift+N).")
        self.next = PushButton(text="Next doubtful", tooltip="The next slice in the order of doubt (N).")
        self.tick = PushButton(
            text="Reviewed", tooltip="You have looked at this slice and its mask is right; go on (R)."
        )
        self.flag = PushButton(
            text="Flag", tooltip="To be looked at again; once more takes the flag away (Shift+R)."
        )
        self.clear = PushButton(text="Clear", tooltip="Take tick or flag away from this slice.")
        self.only_open = CheckBox(
            text="Only slices not reviewed yet", value=True, tooltip="Skip slices you have ticked."
        )
        self.place, self.progress = text(tooltip="Doubt goes from 0, sure, to 1."), text()
        widgets = [
            row(self.back, self.next),
            row(self.tick, self.flag, self.clear),
            self.only_open,
            self.place,
            self.progress,
        ]
        super().__init__(widgets=widgets, labels=False)
        self._rest = QTimer()  # no child of a widget, which may be gone before it is stopped
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self.reviewing.refresh)
        self._keys = {NEXT: self._on_next, BACK: self._on_back, TICK: self._on_tick, FLAG: self._on_flag}
        self._listen()
        self._show()
        self.reviewing.refresh()  # a CT may be open already

    @cached_property
    def strip(self) -> DoubtStrip:
        """The strip, made when there is a CT: the library that draws it takes a moment to import."""
        from napari_resunet.plugin.panels.strip import DoubtStrip

        strip = DoubtStrip()
        strip.chosen.connect(self.session.show_slice)
        self.native.layout().insertWidget(0, strip)
        return strip

    def _listen(self) -> None:
        session = self.session
        self.next.changed.connect(self.go_on)
        self.back.changed.connect(self.go_back)
        self.tick.changed.connect(self._tick)
        self.flag.changed.connect(self.reviewing.flag)
        self.clear.changed.connect(self.reviewing.clear)
        self.only_open.changed.connect(self._show_place)
        self.reviewing.events.changed.connect(self._show)
        session.events.mask.connect(self._refresh_soon)
        session.events.hand.connect(self._refresh_soon)
        session.events.ran.connect(self._refresh_soon)
        session.viewer.dims.events.current_step.connect(self._show_place)
        for key, do in self._keys.items():
            session.viewer.bind_key(key, do, overwrite=True)
        session.on_close.append(self._let_go)

    def _let_go(self) -> None:
        self._rest.stop()
        self.session.viewer.dims.events.current_step.disconnect(self._show_place)
        for key in self._keys:
            self.session.viewer.bind_key(key, None, overwrite=True)

    def go_on(self) -> None:
        """Show the next slice in the order of doubt."""
        self.reviewing.go(1, only_open=self.only_open.value)

    def go_back(self) -> None:
        """Show the slice before in the order of doubt."""
        self.reviewing.go(-1, only_open=self.only_open.value)

    def _tick(self) -> None:
        self.reviewing.tick(only_open=self.only_open.value)

    def _on_next(self, _viewer: object) -> None:
        self.go_on()

    def _on_back(self, _viewer: object) -> None:
        self.go_back()

    def _on_tick(self, _viewer: object) -> None:
        self._tick()

    def _on_flag(self, _viewer: object) -> None:
        self.reviewing.flag()

    def _refresh_soon(self, _said: str = "") -> None:
        self._rest.start()

    def _show(self) -> None:
        has_case = self.session.case is not None
        if has_case or "strip" in vars(self):
            self.strip.show_slices(self.reviewing.doubt, self.reviewing.states)
        for button in (self.next, self.back, self.tick, self.flag, self.clear):
            enable(button, "" if has_case else OPEN_CT_FIRST)
        self.progress.value = self.reviewing.progress
        self._show_place()

    def _show_place(self, _event: object = None) -> None:
        case = self.session.case
        if case is None or not case.done.any():
            self.place.value = "Run the network first: only then it has a doubt."
            return
        z = self.session.slice_in_view
        self.strip.show_slice(z)
        order = self.reviewing.order(only_open=self.only_open.value)
        place = self.reviewing.place_in(order)
        words = f"Slice {z}{_MARKS.get(SliceState(self.reviewing.states[z]), '')}"
        if not np.isnan(self.reviewing.doubt[z]):
            words += f", doubt {self.reviewing.doubt[z]:.2f}"
        elif not self.reviewing.is_idle:
            words += ", its doubt is being worked out"
        if place is not None:
            words += f", {place + 1} of {len(order)} by doubt"
        elif not order and self.reviewing.matters.any():
            words += "; no slice is left to look at"
        self.place.value = words
