"""What a hand does, on the disk a few seconds later, so that a crash of whatever kind loses next to nothing.

Every open case has a folder of its own in the journal, with a lock that its process holds for as long as it lives: a
folder whose lock is free was left behind. What a hand did is written whole each time, in turn to two files, so that
one of them is always good; a counter tells which is newer, since clocks go back. The probabilities change rarely and
are large: they are in a file of their own, the base, which the parts name.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from filelock import FileLock
from platformdirs import user_state_path

from napari_resunet.editing.journal_folder import (
    BASES,
    HAND,
    UNFINISHED,
    folders,
    last_change,
    lock_of,
    new_folder,
    read_owner,
    remove,
    remove_files,
)
from napari_resunet.errors import InputError, NewerFormatError, OutputError
from napari_resunet.io.case_file import StoredCase, read_stored_case, write_case
from napari_resunet.io.case_text import JournalPart
from napari_resunet.record import CaseRecord, CtReference, SliceEdits

_DAY_S = 86_400.0


def journal_root() -> Path:
    """Return the folder of all journals: in NAPARI_RESUNET_STATE if that is set, else where the system keeps such."""
    state = os.environ.get("NAPARI_RESUNET_STATE")
    return (Path(state) if state else user_state_path("napari-resunet", appauthor=False)) / "journal"


class Journal:
    """The journal of one open case. It may be written to from any thread; one write waits for the other.

    Nothing is on the disk before the first write.

    Parameters
    ----------
    root : Path
        The folder of all journals.
    ct : CtReference
        The CT of the case.
    ct_path : Path, optional
        Where the CT lies, if it is a file or a folder.
    """

    def __init__(self, root: Path, ct: CtReference, ct_path: Path | None) -> None:
        self._root, self._ct, self._ct_path = root, ct, ct_path
        self._turn = threading.Lock()
        self._place: tuple[Path, FileLock] | None = None
        self._is_closed = False
        self._counter = self._bases = 0
        self._base: str | None = None
        self._named_by: dict[str, str | None] = {}  # the base that each hand part names

    def write(self, record: CaseRecord) -> None:
        """Write what a hand did: edits, those set aside, ticks and flags; and the settings. The rest is left out.

        Parameters
        ----------
        record : CaseRecord
            Not changed by anybody meanwhile.

        Raises
        ------
        OutputError
            If it cannot be written; what was written before is still there, and it can be tried again.
        """
        with self._turn:
            counter = self._counter + 1
            name = HAND[counter % 2]
            hand = replace(record, probability=None, adopted=None)
            write_case(hand, self._folder() / name, journal=JournalPart(counter, self._base))
            self._counter, self._named_by[name] = counter, self._base
            self._drop_old_bases()

    def write_base(self, record: CaseRecord) -> None:
        """Write the probabilities, and the mask that the case began from; parts written from now on name them.

        Parameters
        ----------
        record : CaseRecord
            With its probabilities; not changed by anybody meanwhile.

        Raises
        ------
        OutputError
            As `write`.
        """
        with self._turn:
            number = self._bases + 1
            name = f"base-{number}.nru"
            base = replace(record, edits=_no_edits(record), banked=())
            write_case(base, self._folder() / name, journal=JournalPart(self._counter, None))
            self._bases, self._base = number, name
            self._drop_old_bases()

    @property
    def is_gone(self) -> bool:
        """Whether somebody has removed its folder: what is written next begins another journal."""
        return self._place is not None and not self._place[0].is_dir()

    def close(self, *, keep: bool = False) -> None:
        """Let go of the folder, and remove it unless it is to be found at the next start. No write comes after that."""
        with self._turn:
            self._is_closed = True
            if self._place is None:
                return
            folder, lock = self._place
            self._place = None
            if keep:
                lock.release()
            else:
                remove(folder, lock)

    def _drop_old_bases(self) -> None:
        """Remove the bases that no part names any more."""
        named = {self._base, *self._named_by.values()}
        for base in self._folder().glob(BASES):
            if base.name not in named:
                remove_files(base.parent, base.name)

    def _folder(self) -> Path:
        """Return the folder, made and locked if it is not there yet."""
        if self._is_closed:
            raise OutputError(f"the journal of {self._ct.name} is closed; open the CT again")
        if self._place is None:
            try:
                self._place = new_folder(self._root, self._ct, self._ct_path)
            except (OSError, OutputError) as error:  # a lock that cannot be had is an OSError too
                raise OutputError(
                    f"edits cannot be kept in {self._root} ({getattr(error, 'strerror', None) or error}); "
                    "make room there, or name another folder in NAPARI_RESUNET_STATE"
                ) from error
        return self._place[0]


class Abandoned:
    """Work that a process left behind: what a hand did, and is in no other file.

    It is locked until it is released or discarded, so that no other window offers it too.

    Attributes
    ----------
    ct_name, ct_sha256 : str
        The CT it was done on.
    ct_path : Path, optional
        Where that was.
    when : datetime
        When it was written last, in local time.
    edited_slices, voxels : int
        How many slices have edits, and how many voxels they set.
    lost : tuple of str
        What is not there any more, in plain words; `record` may add to it.
    refusal : str
        Why it cannot be read, where a later version wrote it; else empty.
    """

    def __init__(self, folder: Path, lock: FileLock, parts: list[StoredCase], refusal: str = "") -> None:
        self._folder, self._lock, self._parts = folder, lock, parts
        owner = read_owner(folder)
        self.ct_name, self.ct_sha256 = owner["ct_name"], owner["ct_sha256"]
        self.ct_path = Path(owner["ct_path"]) if owner["ct_path"] else None
        self.when = datetime.fromtimestamp(last_change(folder)).astimezone()
        self.edited_slices = self.voxels = 0
        self.lost: tuple[str, ...] = ()
        self.refusal = refusal
        if parts:
            self._tell_of(parts[0])

    def _tell_of(self, newest: StoredCase) -> None:
        record = newest.record
        self.ct_name, self.ct_sha256 = record.ct.name, record.ct.sha256
        self.when = datetime.fromisoformat(newest.created).astimezone()
        self.edited_slices, self.voxels = len(record.edits.slices), record.edits.voxels()
        self.lost = _lost_parts(self._parts)

    def record(self) -> CaseRecord:
        """Return what was done, with the probabilities if they were kept; `lost` says what is missing.

        Raises
        ------
        InputError
            If a later version wrote it.
        """
        if not self._parts:
            raise InputError(self.refusal)
        hand = self._parts[0].record
        record = _with_base(hand, self._read_base())
        self.lost = (*_lost_parts(self._parts), *_lost_slices(hand, record))
        return record

    def _read_base(self) -> CaseRecord | None:
        part = self._parts[0].journal
        if part is None or part.base is None:
            return None
        try:
            return read_stored_case(self._folder / part.base).record
        except InputError:  # damaged, or gone: the edits are what counts
            return None

    def discard(self) -> None:
        """Remove it from the disk, for good."""
        remove(self._folder, self._lock)

    def release(self) -> None:
        """Leave it where it is, to be offered again."""
        self._lock.release()


def abandoned(root: Path) -> list[Abandoned]:
    """Return what was left behind in the journal, the newest first; and sweep away what holds nothing.

    Work of a later version is among it, with a `refusal`; it is left alone.

    Parameters
    ----------
    root : Path
        The folder of all journals.
    """
    found = [_look_into(folder) for folder in folders(root)]
    return sorted((each for each in found if each), key=lambda each: each.when, reverse=True)


def _look_into(folder: Path) -> Abandoned | None:
    """Return the work in a folder, locked, if it was left behind; None if there is none, or its process lives."""
    lock = lock_of(folder)
    try:
        lock.acquire(timeout=0)
        is_old = time.time() - last_change(folder) > _DAY_S
    except OSError:  # held by somebody, or just removed
        lock.release()
        return None
    remove_files(folder, UNFINISHED)
    try:
        parts = _read_parts(folder)
    except NewerFormatError as error:
        return Abandoned(folder, lock, [], str(error))
    if parts and _holds_work(parts[0].record):
        return Abandoned(folder, lock, parts)
    if is_old and _is_readable(folder):
        remove(folder, lock)
    lock.release()
    return None


def _is_readable(folder: Path) -> bool:
    """Whether the disk gives the hand parts that are there, damaged or not: one that fails now may not later."""
    try:
        for part in filter(Path.exists, (folder / name for name in HAND)):
            part.read_bytes()
    except OSError:
        return False
    return True


def _read_parts(folder: Path) -> list[StoredCase]:
    """Return the hand parts that are whole, the newest first."""
    parts = []
    for name in HAND:
        try:
            parts.append(read_stored_case(folder / name))
        except NewerFormatError:
            raise
        except InputError:  # damaged, or not there yet: that is why there are two
            continue
    return sorted(parts, key=_counter, reverse=True)


def _counter(part: StoredCase) -> int:
    return 0 if part.journal is None else part.journal.counter


def _holds_work(record: CaseRecord) -> bool:
    return bool(record.edits.voxels() or record.banked or record.marks.any())


def _no_edits(record: CaseRecord) -> SliceEdits:
    return SliceEdits(np.empty(0, np.int64), np.empty((0, *record.shape[1:]), np.int8))


def _with_base(hand: CaseRecord, base: CaseRecord | None) -> CaseRecord:
    """Return what a hand did, with those probabilities that are of the same run, and the mask it began from."""
    none = np.zeros_like(hand.done)
    if base is None or base.ct.sha256 != hand.ct.sha256 or base.shape != hand.shape:
        return replace(hand, run=None, done=none, adopted_name=None)
    # what the case had forgotten when it ended, for another run or other HU, is not brought back
    is_same_run = base.run == hand.run and base.ct.answers == hand.ct.answers
    is_same_start = base.adopted is not None and base.adopted_name == hand.adopted_name
    unseen = np.zeros(hand.shape, np.uint8) if is_same_start else None
    return replace(
        hand,
        run=base.run if is_same_run else None,
        done=base.done if is_same_run else none,
        probability=base.probability if is_same_run else unseen,
        adopted=base.adopted if is_same_start else None,
        adopted_name=base.adopted_name if is_same_start else None,
    )


def _lost_parts(parts: list[StoredCase]) -> tuple[str, ...]:
    is_alone = len(parts) < len(HAND) and _counter(parts[0]) > 1
    return ("one of the two copies is damaged: the last strokes may be missing",) if is_alone else ()


def _lost_slices(hand: CaseRecord, record: CaseRecord) -> tuple[str, ...]:
    lost = []
    missing = int(np.count_nonzero(hand.done & ~record.done))
    if missing:
        lost.append(f"the result of the network on {missing} of {len(hand.done)} slices; run it again")
    if hand.adopted_name and not record.adopted_name:
        lost.append(f"the mask it began from, {hand.adopted_name}; choose it again")
    return tuple(lost)
