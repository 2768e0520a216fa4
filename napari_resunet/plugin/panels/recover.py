"""Above the sections: work that a crash has left, to be recovered or let go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from magicgui.widgets import Container, PushButton

from napari_resunet.editing.journal import Abandoned, abandoned
from napari_resunet.plugin.panels.enabling import enable
from napari_resunet.plugin.panels.rows import row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.session import Session

_REFUSED = "This work cannot be read here."
_AT_WORK = "Something is read or run: wait for its end."


class RecoverPanel(Container):
    """Offers what was found in the journal, one piece of work after the other; not there if there is none.

    Parameters
    ----------
    session : Session
        Takes the work in.
    root : Path
        The folder of all journals.
    confirm : callable
        Asks a question and returns whether the user said yes.
    """

    def __init__(self, session: Session, root: Path, *, confirm: Callable[[str], bool]) -> None:
        self.session = session
        self._confirm = confirm
        # what a later version wrote can only be told of: it must not stand before what can be recovered
        self._offers: list[Abandoned] = sorted(abandoned(root), key=_is_refused)
        self._at_work: Abandoned | None = None
        self.words = text()
        self.recover = PushButton(text="Recover", tooltip="Open the CT and go on where it ended.")
        self.discard = PushButton(text="Discard…", tooltip="Let this work go; asks first.")
        super().__init__(widgets=[self.words, row(self.recover, self.discard)], labels=False)
        self.recover.changed.connect(self._recover)
        self.discard.changed.connect(self._discard)
        session.events.recovered.connect(self._note_recovered)
        session.events.running.connect(self._note_running)
        session.on_close.append(self._let_go)
        self._show()

    def _show(self) -> None:
        self.visible = bool(self._offers)
        if self._offers:
            found = self._offers[0]
            when = found.when.strftime("%H:%M on %d %b %Y")
            what = found.refusal or f"{_words_for(found.edited_slices)} of {found.ct_name}, {when}"
            self.words.value = f"Unsaved work was found: {what}."
            for button in (self.recover, self.discard):
                enable(button, _REFUSED if found.refusal else "")

    def _recover(self) -> None:
        self._at_work = self._offers[0]
        self.session.opening.recover(self._at_work)

    def _note_recovered(self, found: Abandoned) -> None:
        """The journal of this window holds that work now."""
        self._offers.remove(found)
        self._show()

    def _note_running(self, is_running: bool) -> None:
        for button in (self.recover, self.discard):
            enable(button, _AT_WORK if is_running else "")
        if not is_running:
            self._at_work = None
            self._show()

    def _discard(self) -> None:
        found = self._offers[0]
        is_meant = self._confirm(f"Discard these edits of {found.ct_name} for good?")
        if is_meant and found in self._offers and found is not self._at_work:
            self._offers.remove(found)
            found.discard()
            self._show()

    def _let_go(self) -> None:
        for found in self._offers:
            found.release()
        self._offers = []


def _is_refused(found: Abandoned) -> bool:
    return bool(found.refusal)


def _words_for(edited_slices: int) -> str:
    if not edited_slices:
        return "ticks, flags or forgotten edits"
    return "1 edited slice" if edited_slices == 1 else f"{edited_slices} edited slices"
