"""What is checked of a file before any library opens it."""

from __future__ import annotations

import gzip
import hashlib
import stat
import zlib
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from napari_resunet.errors import InputError

# DEFLATE packs at most about 1032 bytes into one: a header that declares more than that lies.
MOST_DEFLATE_PACKS = 1032


def require_regular(path: Path) -> None:
    """Refuse what is missing, empty or not a plain file, such as a pipe, which would block for ever.

    Raises
    ------
    InputError
        Naming the path and what is wrong with it.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened ({error.strerror or error}); check the path and the permissions"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not a regular file; give a CT file, or the folder of a DICOM series")
    if status.st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); copy or export it again")


def sha256_of(*paths: Path) -> str:
    """Return the SHA-256 of the bytes of `paths`, one after the other, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def is_gzip(path: Path) -> bool:
    """Whether the file starts as a gzip file does, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def first_bytes(path: Path, count: int) -> bytes:
    """Return the first `count` bytes of a file, unpacked if it is gzip; fewer if damaged or short."""
    if not is_gzip(path):
        with path.open("rb") as file:
            return file.read(count)
    try:
        with gzip.open(path) as packed:
            return packed.read(count)
    except (OSError, EOFError, zlib.error):
        return b""


def one_line(error: Exception) -> str:
    """Return the first line of an error, without a colon that announced more."""
    return str(error).strip().partition("\n")[0].rstrip(" :")


def require_room(declared: int, path: Path, *, packed: bool, loaded: int | None = None) -> None:
    """Refuse a file whose header declares more data than it can hold, or than the memory can.

    Parameters
    ----------
    declared : int
        Bytes of image data the header declares.
    path : Path
        The file that holds them.
    packed : bool
        Whether the data are compressed.
    loaded : int, optional
        Bytes of it that are to be read; all by default.

    Raises
    ------
    InputError
        If they cannot be in there, or do not fit into the memory of this machine.
    """
    size = path.stat().st_size
    if declared > size * (MOST_DEFLATE_PACKS if packed else 1):
        raise InputError(
            f"{path} is truncated or damaged: its header declares {declared:,} bytes of image data, "
            f"the whole file has {size:,}; copy or export it again"
        )
    require_memory(declared if loaded is None else loaded, path)


def require_memory(declared: int, path: Path) -> None:
    """Refuse a file or series of `declared` bytes of image data if this machine's memory is smaller.

    Raises
    ------
    InputError
        Naming both sizes.
    """
    memory = psutil.virtual_memory().total
    if declared > memory:
        raise InputError(
            f"{path} declares {declared / 2**30:.1f} GiB of image data, this machine has "
            f"{memory / 2**30:.1f} GiB of memory; crop it or use a larger machine"
        )
