"""Writing a file so that there is the old one or the whole new one, and never half of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_resunet.errors import OutputError

_LONG_ENDINGS = (".nii.gz",)
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_ROOM = 1 << 16  # bytes; some writers say nothing of a full disk, or give the error no number
_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
_DAY_S = 86_400.0
_TEMPORARY = re.compile(r"\..{0,40}\.[0-9a-f]{8}-[0-9a-f]{8}\.part(\.\w+)*", re.DOTALL)


@contextmanager
def replacing(
    path: Path, *, needed: int = 0, outdated: Path | None = None, keep: bool = False
) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` when all went well.

    The temporary name starts with a dot and has ``.part`` before the ending. The file is forced to the disk
    before it takes the place, and removed if anything goes wrong.

    Parameters
    ----------
    path : Path
        The file to be.
    needed : int
        How many bytes it can come to, for what is said of a full disk.
    outdated : Path, optional
        A file that tells of the old one, and goes with it.
    keep : bool
        Whether a file that is whole is kept under another name where another program does not give up its place.

    Raises
    ------
    OutputError
        If the system refuses to write: no folder, no permission, no space.
    """
    temporary = _temporary(path)
    try:
        temporary.touch()  # so that every writer fails alike where nothing can be written
        yield temporary
        _to_disk(temporary)
        try:
            _take_place(temporary, path, outdated)
        except PermissionError as error:
            if not keep or path.is_dir():
                raise
            raise _InUseError(_keep(temporary, path)) from error
        with contextlib.suppress(OSError):  # not every system can do this to a folder
            _to_disk(path.parent)
    except _InUseError:
        raise
    except (OSError, OutputError) as error:
        is_full = _is_full(error, path.parent)
        _remove(temporary)
        if is_full:
            raise OutputError(f"{path} could not be written: {_full(path.parent, needed)}") from error
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{path} could not be written: {_explain(error, path)}") from error
    finally:
        _remove(temporary)


def leftovers(path: Path) -> list[Path]:
    """Return temporary files that programs left which were killed while they wrote `path`.

    Those of other files in the folder are among them once they are a day old. Nobody may be writing `path`.
    """
    own = _key(path)
    return [
        found
        for found in path.parent.glob(".*.part*")
        if _TEMPORARY.fullmatch(found.name) and (own in found.name or _age_s(found) > _DAY_S)
    ]


def hidden_beside(path: Path, ending: str) -> Path:
    """Return a hidden name beside `path` that belongs to it alone."""
    return path.with_name(f".{path.name[:40]}.{_key(path)}{ending}")


class _InUseError(OutputError):
    """The file is whole, but cannot have its place."""


def _temporary(path: Path) -> Path:
    stem, ending = _split(path)
    # random: two programs may write the same file; cut: a name has at most 255 bytes;
    # lower case: ITK writes .MHA to a file of another name
    return path.with_name(f".{stem[:40]}.{_key(path)}-{secrets.token_hex(4)}.part{ending.lower()}")


def _split(path: Path) -> tuple[str, str]:
    ending = next((end for end in _LONG_ENDINGS if path.name.lower().endswith(end)), path.suffix)
    return path.name[: len(path.name) - len(ending)], path.name[len(path.name) - len(ending) :]


def _key(path: Path) -> str:
    """Return eight digits that tell files apart whose names begin alike."""
    return hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()[:8]


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:  # just removed
        return 0.0


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_place(temporary: Path, path: Path, outdated: Path | None) -> None:
    aside = None
    if outdated is not None and outdated.exists():
        aside = _temporary(outdated)
        outdated.replace(aside)
    try:
        _replace(temporary, path)
    except BaseException:
        if aside is not None and outdated is not None:
            aside.replace(outdated)
        raise
    if aside is not None:
        _remove(aside)


def _replace(temporary: Path, path: Path) -> None:
    # Windows refuses while another program has the file open: a virus scanner does so for a moment
    for pause_s in _PAUSES_S:
        try:
            temporary.replace(path)
        except PermissionError:
            time.sleep(pause_s)
        else:
            return
    temporary.replace(path)


def _keep(temporary: Path, path: Path) -> str:
    """Give the file a name that can be seen, and return what is said of it."""
    stem, ending = _split(path)
    kept = path.with_name(f"{stem[:40]}.new-{secrets.token_hex(4)}{ending}")
    temporary.replace(kept)
    return (
        f"{path} is in use by another program, or protected; what was to be written is whole in {kept.name}: "
        "close that program and rename it, or write to another name"
    )


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _is_full(error: Exception, folder: Path) -> bool:
    """Whether there was no room; asked while the temporary file is still there."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _FULL
    try:
        return shutil.disk_usage(folder).free < _NO_ROOM
    except OSError:
        return False


def _full(folder: Path, needed: int) -> str:
    free = f"{shutil.disk_usage(folder).free / 1e6:,.1f} MB free"
    room = f"{free}, at most {needed / 1e6:,.1f} MB needed" if needed else free
    return f"the disk is full ({room}); make room, or choose another folder"


def _explain(error: OSError, path: Path) -> str:
    """Return the fact and the remedy."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; make it, or choose another one"
    if path.is_dir():
        return "it is a folder; choose another name"
    if error.errno in _FORBIDDEN:
        return "not permitted, or another program has it open; close that, or choose another folder"
    return f"{error.strerror or error}; choose another folder or name"
