"""One program at a time writes a file: a lock beside it, which tells who holds it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from napari_resunet.errors import BeingWrittenError
from napari_resunet.io.atomic import hidden_beside, leftovers


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Hold the right to write `path` against other programs; sweep away what those left that were killed at it.

    The system frees the lock when its process ends, however. Where a folder cannot be locked, or not even written
    to, this does nothing: no two writers ever meet in one file, and `replacing` says what is wrong.

    Raises
    ------
    BeingWrittenError
        If another program is writing `path`, naming its process and its machine.
    """
    place = hidden_beside(path, ".lock")
    holder = _holder(place)
    lock = FileLock(place, thread_local=False)
    try:
        if path.parent.is_dir():  # else the lock would make it
            lock.acquire(timeout=0)
    except Timeout as error:
        told = f" ({holder})" if holder else ""
        raise BeingWrittenError(
            f"{path} is being written by another program{told}; wait until that is done, then write it again",
            holder=holder,
        ) from error
    except (OSError, NotImplementedError):
        yield
        return
    try:
        with contextlib.suppress(OSError):  # Windows lets nobody write to a locked file
            place.write_text(f"{os.getpid()}\n{socket.gethostname()}\n")
        for left in leftovers(path) if lock.is_locked else []:
            with contextlib.suppress(OSError):
                left.unlink()
        yield
    finally:
        if lock.is_locked:
            _let_go(lock, place)


def _holder(place: Path) -> str:
    """Return who holds a lock, in words; empty if that is not known. Read before it is tried, which may empty it."""
    try:
        pid, host = place.read_text().split()
    except (OSError, ValueError):
        return ""
    return f"process {pid} on {host}"


def _let_go(lock: FileLock, place: Path) -> None:
    with contextlib.suppress(OSError):  # Windows removes no file that is open
        place.unlink()
    lock.release()
    if os.name == "nt":
        with contextlib.suppress(OSError):
            place.unlink()
