"""Writing a file so that there is the old one or the whole new one, and never half of it."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_resunet.errors import OutputError

_LONG_ENDINGS = (".nii.gz",)
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; it takes the place of `path` when all went well.

    The temporary name starts with a dot and has ``.part`` before the ending. The file is forced to the disk
    before it takes the place, and removed if anything goes wrong.

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
        temporary.replace(path)
        with contextlib.suppress(OSError):  # not every system can do this to a folder
            _to_disk(path.parent)
    except OSError as error:
        raise OutputError(f"{path} could not be written: {_explain(error, path)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    ending = next((end for end in _LONG_ENDINGS if path.name.lower().endswith(end)), path.suffix)
    stem = path.name[: len(path.name) - len(ending)]
    # random: two programs may write the same file; cut: a name has at most 255 bytes;
    # lower case: ITK writes .MHA to a file of another name
    return path.with_name(f".{stem[:40]}.{secrets.token_hex(4)}.part{ending.lower()}")


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path) -> str:
    """Return the fact and the remedy."""
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; make it, or choose another one"
    if path.is_dir():
        return "it is a folder; choose another name"
    if error.errno in _FULL:
        free = shutil.disk_usage(path.parent).free
        return f"the disk is full ({free / 1e6:,.1f} MB free); make room, or choose another folder"
    if error.errno in _FORBIDDEN:
        return "not permitted, or another program has it open; close that, or choose another folder"
    return f"{error.strerror or error}; choose another folder or name"
