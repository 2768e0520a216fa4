"""The folder of one open case in the journal: its files, its lock, and how it goes.

Only files that the journal itself makes are ever removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
from pathlib import Path

from filelock import FileLock

from napari_resunet.io.atomic import replacing
from napari_resunet.io.case_text import FORMAT_VERSION
from napari_resunet.record import CtReference

HAND = ("hand-0.nru", "hand-1.nru")
BASES = "base-*.nru"
UNFINISHED = ".*.part.*"
_OWNER, _LOCK = "owner.json", "lock"
_FOLDER = "case-"
_PRIVATE = 0o700  # the owner file tells where a CT lies
_PATIENCE_S = 10.0  # another window may just be looking whether the folder was left behind


def folders(root: Path) -> list[Path]:
    """Return the folders of all cases, open ones and those left behind."""
    return [path for path in root.glob(_FOLDER + "*") if path.is_dir() and not path.is_symlink()]


def new_folder(root: Path, ct: CtReference, ct_path: Path | None) -> tuple[Path, FileLock]:
    """Make a folder of a random name for a case, and lock it.

    Raises
    ------
    OSError, OutputError
        If the system refuses; nothing is left behind then.
    """
    root.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    folder = root / (_FOLDER + secrets.token_hex(8))
    folder.mkdir(mode=_PRIVATE)
    lock = lock_of(folder)
    try:
        lock.acquire(timeout=_PATIENCE_S)
        _write_owner(folder, ct, ct_path)
    except BaseException:
        remove(folder, lock)
        raise
    return folder, lock


def lock_of(folder: Path) -> FileLock:
    """Return the lock that says that a folder is in use; the system frees it when its process ends, however."""
    return FileLock(folder / _LOCK, thread_local=False)  # taken in one thread, released in another


def _write_owner(folder: Path, ct: CtReference, ct_path: Path | None) -> None:
    owner = {
        "format_version": FORMAT_VERSION,
        "ct_name": ct.name,
        "ct_sha256": ct.sha256,
        "ct_path": "" if ct_path is None else str(ct_path.absolute()),
        "pid": os.getpid(),
        "host": socket.gethostname(),
    }
    with replacing(folder / _OWNER) as temporary:
        temporary.write_text(json.dumps(owner, indent=2), encoding="utf-8")


def read_owner(folder: Path) -> dict[str, str]:
    """Return what is known of the CT that a folder is of: ct_name, ct_sha256, ct_path; empty where it is not known."""
    try:
        owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        owner = {}
    known = owner if isinstance(owner, dict) else {}
    return {name: str(known.get(name) or "") for name in ("ct_name", "ct_sha256", "ct_path")}


def last_change(folder: Path) -> float:
    """Return when something was last written into a folder, in seconds since 1970."""
    # the lock is no such thing: whoever looks into the folder may touch it
    times = [path.stat().st_mtime for path in folder.iterdir() if path.name != _LOCK]
    return max(times, default=folder.stat().st_mtime)


def remove_files(folder: Path, pattern: str) -> None:
    """Remove files of the journal, as far as the system lets us."""
    for path in list(folder.glob(pattern)):
        with contextlib.suppress(OSError):
            path.unlink()


def remove(folder: Path, lock: FileLock) -> None:
    """Remove a folder that is locked; what is left when this is cut short is swept away one day."""
    for pattern in (*HAND, BASES, UNFINISHED, _OWNER):
        remove_files(folder, pattern)
    lock.release()
    remove_files(folder, _LOCK)
    with contextlib.suppress(OSError):  # somebody has put a file of his own there
        folder.rmdir()
