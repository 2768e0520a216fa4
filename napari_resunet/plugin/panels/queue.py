"""The bar below all else while a cohort is reviewed: which case it is, how many are done, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable

from magicgui.widgets import Container, PushButton, request_values
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_resunet.cohort.manifest import CaseEntry
from napari_resunet.plugin.panels.enabling import enable
from napari_resunet.plugin.panels.rows import row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.queue import ReviewQueue


class QueueBar(Container):
    """Accepts, skips and rejects the cases of a cohort.

    Parameters
    ----------
    queue : ReviewQueue
        Does the work.
    ask_reason : callable
        Asks why a case is rejected, and returns it, or None.
    """

    def __init__(self, queue: ReviewQueue, *, ask_reason: Callable[[str], str | None]) -> None:
        self.queue = queue
        self._ask_reason = ask_reason
        self.words = text(tooltip="The cases of a cohort, the most doubtful first.")
        self.accept = PushButton(
            text="Accept and next",
            tooltip="The mask as you see it is right: it is kept, as a new version if you changed it.",
        )
        self.skip = PushButton(text="Skip", tooltip="Decide later: this case comes again at the end.")
        self.reject = PushButton(text="Reject…", tooltip="This case cannot be used; asks for the reason.")
        super().__init__(widgets=[self.words, row(self.accept, self.skip, self.reject)], labels=False)
        self.native.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)  # slim
        self.accept.changed.connect(queue.accept)
        self.skip.changed.connect(queue.skip)
        self.reject.changed.connect(self._reject)
        queue.events.changed.connect(self._show)
        self._show()

    def _reject(self) -> None:
        entry = self.queue.entry
        reason = None if entry is None else self._ask_reason(entry.id)
        if reason and entry is self.queue.entry:
            self.queue.reject(reason)

    def _show(self) -> None:
        queue = self.queue
        self.words.value = _words(queue)
        busy = "" if queue.can_go_on else "There is no case to decide on, or it is being read or saved."
        enable(self.accept, "" if queue.can_accept else busy or "Choose the CT of this case first.")
        enable(self.skip, busy or ("" if queue.can_skip else "No other case is left to look at."))
        enable(self.reject, busy)


def ask_reason(parent: QWidget, case_id: str) -> str | None:
    """Ask why a case is rejected, and return it; None if the person thought better of it."""
    field = {
        "annotation": str,
        "label": "Reason",
        "options": {"tooltip": "In a few words; the table shows it."},
    }
    answer = request_values({"reason": field}, title=f"Reject {case_id}", parent=parent)
    return None if answer is None else str(answer["reason"]).strip() or None


def _words(queue: ReviewQueue) -> str:
    done = f"{queue.reviewed} of {queue.total} reviewed"
    if queue.reading:
        return f"{queue.reading}; {done}"
    if queue.entry is None:
        return f"{done}: no case is left. The page index.html shows them all."
    if queue.is_noting:
        return f"Saving {queue.entry.id} …"
    if queue.problem:
        return f"{queue.entry.id}, {done}. It cannot be shown: {queue.problem}"
    words = f"{queue.entry.id}, {done}. {_why(queue.entry, queue.doubtful_slice)}"
    return words if queue.is_in_view else f"{words} Another CT is open: choose this one under CT to go on."


def _why(entry: CaseEntry, z: int | None) -> str:
    """Return why a case is doubtful, and what has been said of it before."""
    said = []
    if entry.doubt_mean is not None and z is not None:
        said.append(f"Doubt {entry.doubt_mean:.2f}, most in slice {z} ({entry.doubt_slices[z]:.2f}).")
    if entry.rejected:
        said.append(f"Rejected: {entry.rejected}.")
    elif entry.reviewed:
        said.append(f"Accepted before, as version {entry.version}.")
    return " ".join(said)
