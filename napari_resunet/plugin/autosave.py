"""Keeps what a hand did in the journal, beside the window, so that a crash loses nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qtpy.QtCore import QTimer

from napari_resunet.case import Case
from napari_resunet.editing.journal import Abandoned, Journal
from napari_resunet.errors import OutputError
from napari_resunet.plugin.jobs import Job
from napari_resunet.record import CaseRecord
from napari_resunet.settings import MaskSettings

if TYPE_CHECKING:
    from napari_resunet.plugin.session import Session

_AFTER_MS = 2_000  # after the first stroke that is not written yet
_RETRY_MS, _RETRY_MOST_MS = 10_000, 300_000

HandVersion = tuple[int, MaskSettings]


def _hand_version(case: Case) -> HandVersion:
    return case.hand_version, case.settings


class _Page:
    """The journal of one case, and what is in it."""

    def __init__(self, case: Case, root: Path) -> None:
        source = case.volume.source
        self.journal = Journal(root, case.reference, None if source is None else source.path)
        self.hand: HandVersion | None = None
        self.base = 0  # the version of a case in which nothing was found
        self.goes_on_from: list[Abandoned] = []  # until this page holds all of it
        self.is_dropped = False
        self.is_waiting = False
        self.retry_ms = _RETRY_MS
        self._turn = Lock()
        self._is_at_its_end = False

    def write(self, record: CaseRecord, *, is_base: bool) -> None:
        """Write a record that was taken earlier, unless the last one is written by now."""
        with self._turn:
            if self._is_at_its_end:
                return
            if is_base:
                self.journal.write_base(record)
            else:
                self.journal.write(record)

    def end(self) -> None:
        """Let nothing be written after what is written now, however long a write in a thread has waited."""
        with self._turn:
            self._is_at_its_end = True

    def close(self) -> None:
        """Remove the journal: what it holds is in a file, or not wanted."""
        self.journal.close()
        self.let_go_of(self.goes_on_from)

    def let_go_of(self, recovered: list[Abandoned]) -> None:
        """Remove journals that this one goes on from, and whose work it holds."""
        for found in list(recovered):
            found.discard()
            self.goes_on_from.remove(found)


class Autosave:
    """Writes edits, ticks and flags of the open cases to the journal, a few seconds after they are made.

    Parameters
    ----------
    session : Session
        Whose cases are kept.
    root : Path
        The folder of all journals.
    """

    def __init__(self, session: Session, root: Path) -> None:
        self.session = session
        self._root = root
        self._pages: WeakKeyDictionary[Case, _Page] = WeakKeyDictionary()
        self._discarded: WeakKeyDictionary[Case, HandVersion] = WeakKeyDictionary()
        self._job: Job | None = None
        self._at_work: _Page | None = None
        self._covers: list[Abandoned] = []  # what is in the part that is being written
        self._error: Exception | None = None
        self._soon, self._later = QTimer(), QTimer()
        for timer, then in ((self._soon, self.write), (self._later, self._try_again)):
            timer.setSingleShot(True)
            timer.timeout.connect(then)
        events = session.events
        for signal in (events.hand, events.mask, events.case, events.ran, events.running):
            signal.connect(self._write_soon)
        events.kept.connect(self._drop_kept)
        events.recovered.connect(self._go_on_from)
        session.on_close.append(self.close)
        self._write_soon()  # a widget that was closed may have left work in the viewer

    @property
    def is_idle(self) -> bool:
        """Whether all that a hand did is written."""
        return self._job is None and not self._soon.isActive() and not self._later.isActive()

    def _write_soon(self, _said: object = None) -> None:
        if not self._soon.isActive():
            self._soon.start(_AFTER_MS)

    def write(self) -> None:
        """Write what is not in the journal yet, beside the window, one part after the other."""
        if self._job is not None:
            return
        for case in self._unwritten_cases():
            page = self._page(case)
            if page.is_waiting:
                continue
            if page.base != case.base_version and not self.session.is_running:
                self._start(page, case.record(), base=case.base_version)
                return
            if page.hand != _hand_version(case):
                self._start(page, case.record(whole=False), hand=_hand_version(case))
                return

    def _unwritten_cases(self) -> list[Case]:
        """Return the cases with work that is in no file, and that the user has not let go."""
        return [
            case
            for case in self.session.saving.unsaved_cases()
            if self._discarded.get(case) != _hand_version(case)
        ]

    def _page(self, case: Case) -> _Page:
        page = self._pages.get(case)
        if page is None or page.is_dropped or page.journal.is_gone:
            page = self._pages[case] = _Page(case, self._root)
        return page

    def _start(
        self, page: _Page, record: CaseRecord, *, hand: HandVersion | None = None, base: int | None = None
    ) -> None:
        self._at_work, self._covers = page, list(page.goes_on_from)
        ears = {"on_value": self._note_written, "on_error": self._note_error, "on_end": self._end}
        self._job = Job(_writing, page, record, hand, base, **ears)
        self._job.start()

    def _note_written(self, written: tuple[HandVersion | None, int | None]) -> None:
        page, (hand, base) = self._at_work, written
        page.hand = hand  # None after a base: the part that names it is still to be written
        page.base = page.base if base is None else base
        page.retry_ms = _RETRY_MS
        if hand is not None:
            page.let_go_of(self._covers)

    def _note_error(self, error: Exception) -> None:
        self._error = error

    def _end(self) -> None:
        page, error = self._at_work, self._error
        self._job = self._at_work = self._error = None
        if page.is_dropped:
            page.close()
        elif error is not None and not page.journal.is_gone:
            self._wait(page, error)
        self.write()

    def _wait(self, page: _Page, error: Exception) -> None:
        """Warn once, and try again later and later; painting goes on."""
        page.is_waiting = True
        self._later.start(page.retry_ms)
        is_news = page.retry_ms == _RETRY_MS
        page.retry_ms = min(2 * page.retry_ms, _RETRY_MOST_MS)
        if is_news:
            self.session.events.failed.emit(error)

    def _try_again(self) -> None:
        for page in self._pages.values():
            page.is_waiting = False
        self.write()

    def _go_on_from(self, found: Abandoned) -> None:
        """Write what was recovered, and only then let go of where it was."""
        self._page(self.session.case).goes_on_from.append(found)
        self.write()

    def _drop_kept(self) -> None:
        for case in list(self._pages):
            if not case.has_unsaved_work:
                self._drop(case)

    def discard(self) -> None:
        """Let go of all that was kept when the window closes, by the user's word; what is done after that is kept."""
        for case in self.session.saving.unsaved_cases():
            self._discarded[case] = _hand_version(case)

    def _drop(self, case: Case) -> None:
        page = self._pages.pop(case)
        page.is_dropped = True
        if page is not self._at_work:  # else it would have to be waited for
            page.close()

    def close(self) -> None:
        """Write what is left, and leave what is in no file to be found at the next start."""
        self._soon.stop()
        self._later.stop()
        if self._job is not None:
            self._job.abandon()
        for case in self._unwritten_cases():
            self._write_last(case, self._page(case))
        for page in self._pages.values():
            page.close()
        if self._at_work is not None and self._at_work.is_dropped:
            self._at_work.close()
        self._pages.clear()
        self._job = self._at_work = None

    def _write_last(self, case: Case, page: _Page) -> None:
        page.end()
        with contextlib.suppress(OutputError):  # what was written before is there, and nobody to be told
            if page.base != case.base_version:
                page.journal.write_base(case.record())
                page.hand = None
            if page.hand != _hand_version(case):
                page.journal.write(case.record(whole=False))
            page.let_go_of(page.goes_on_from)
        page.journal.close(keep=True)
        for found in page.goes_on_from:
            found.release()
        del self._pages[case]


def _writing(
    page: _Page, record: CaseRecord, hand: HandVersion | None, base: int | None
) -> Iterator[tuple[HandVersion | None, int | None]]:
    page.write(record, is_base=base is not None)
    yield hand, base
