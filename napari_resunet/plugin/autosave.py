"""Keeps what a hand did in the journal, beside the window, so that a crash loses nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from qtpy.QtCore import QTimer

from napari_resunet.case import Case
from napari_resunet.editing.journal import Abandoned, Journal
from napari_resunet.errors import OutputError
from napari_resunet.plugin.jobs import Job
from napari_resunet.record import CaseRecord

if TYPE_CHECKING:
    from napari_resunet.plugin.session import Session

_AFTER_MS = 2_000  # after the first stroke that is not written yet
_RETRY_MS, _RETRY_MOST_MS = 10_000, 300_000


class _Page:
    """The journal of one case, and what is in it already."""

    def __init__(self, case: Case, root: Path) -> None:
        source = case.volume.source
        self.journal = Journal(root, case.reference, None if source is None else source.path)
        self.hand_version: int | None = None
        self.base = _base_of(None)
        self.goes_on_from: Abandoned | None = None  # until this page holds all of it


def _base_of(case: Case | None) -> tuple[object, ...]:
    """Return what tells one state of the large parts from another: run, slices seen, mask it began from."""
    return (None, 0, None) if case is None else (case.run, int(case.done.sum()), case.began_from)


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
        self._job: Job | None = None
        self._error: Exception | None = None
        self._retry_ms = _RETRY_MS
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.write)
        session.events.hand.connect(self._write_soon)
        session.events.ran.connect(self._write_soon)
        session.events.kept.connect(self._drop_kept)
        session.events.recovered.connect(self._go_on_from)
        session.on_close.append(self.close)

    @property
    def is_idle(self) -> bool:
        """Whether all that a hand did is written."""
        return self._job is None and not self._timer.isActive()

    def _write_soon(self, _said: str = "") -> None:
        if not self._timer.isActive():
            self._timer.start(_AFTER_MS)

    def write(self) -> None:
        """Write what is not in the journal yet, beside the window, one part after the other."""
        if self._job is not None:
            return
        for case in self.session.unsaved_cases():
            page = self._page(case)
            base, hand_version = _base_of(case), case.hand_version
            if base != page.base and not self.session.is_running:
                page.base = base
                self._start(page, case.record(), is_base=True)
                return
            if page.hand_version != hand_version:
                page.hand_version = hand_version
                self._start(page, case.record(whole=False), is_base=False)
                return

    def _page(self, case: Case) -> _Page:
        if case not in self._pages:
            self._pages[case] = _Page(case, self._root)
        return self._pages[case]

    def _start(self, page: _Page, record: CaseRecord, *, is_base: bool) -> None:
        ears = {"on_value": self._note_written, "on_error": self._note_error, "on_end": self._end}
        self._job = Job(_writing, page, record, is_base, **ears)
        self._job.start()

    def _note_written(self, page: _Page) -> None:
        self._retry_ms = _RETRY_MS
        if page.goes_on_from is not None and page.hand_version is not None:
            page.goes_on_from.discard()
            page.goes_on_from = None

    def _note_error(self, error: Exception) -> None:
        self._error = error

    def _end(self) -> None:
        self._job, error, self._error = None, self._error, None
        if error is not None:
            self._try_again(error)
        elif not self._timer.isActive():
            self.write()

    def _try_again(self, error: Exception) -> None:
        """Warn once, and try again later and later; painting goes on."""
        for page in self._pages.values():
            page.hand_version, page.base = None, _base_of(None)
        self._timer.start(self._retry_ms)
        is_news = self._retry_ms == _RETRY_MS
        self._retry_ms = min(2 * self._retry_ms, _RETRY_MOST_MS)
        if is_news:
            self.session.events.failed.emit(error)

    def _go_on_from(self, found: Abandoned) -> None:
        """Write what was recovered, and only then let go of where it was."""
        self._page(self.session.case).goes_on_from = found
        self.write()

    def _drop_kept(self) -> None:
        for case, page in list(self._pages.items()):
            if not case.has_unsaved_work:
                self._drop(page)
                del self._pages[case]

    def discard(self) -> None:
        """Let go of all that was kept, by the user's word."""
        for page in self._pages.values():
            self._drop(page)
        self._pages.clear()

    def _drop(self, page: _Page) -> None:
        page.journal.close()
        if page.goes_on_from is not None:
            page.goes_on_from.discard()

    def close(self) -> None:
        """Write what is left, and leave what is in no file to be found at the next start."""
        self._timer.stop()
        if self._job is not None:
            self._job.abandon()
            self._job = None
        for case, page in list(self._pages.items()):
            is_unsaved = case.has_unsaved_work
            if is_unsaved and page.hand_version != case.hand_version:
                with contextlib.suppress(
                    OutputError
                ):  # what was written before is there, and nobody to be told
                    page.journal.write(case.record(whole=False))
            page.journal.close(keep=is_unsaved)
            if page.goes_on_from is not None:
                page.goes_on_from.release()
        self._pages.clear()


def _writing(page: _Page, record: CaseRecord, is_base: bool) -> Iterator[_Page]:
    if is_base:
        page.journal.write_base(record)
    else:
        page.journal.write(record)
    yield page
