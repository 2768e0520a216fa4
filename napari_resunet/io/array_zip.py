"""A zip of one text and some arrays: what a case file is on disk.

Nothing in such a file is believed before it is checked: which members there are, how large they are, of which kind.
Arrays are never unpickled, and nothing is unpacked to the disk.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from napari_resunet.errors import InputError
from napari_resunet.io.regular_file import one_line, require_regular, require_room

TEXT = "case.json"
_ENDING = ".npy"
_FAST = 1  # the usual level takes twice the time for a file smaller by a sixth
_MOST_TEXT = 1 << 24  # bytes
_MOST_HEADER = 256  # bytes; of an array, what NumPy writes has half of it
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LOCAL_HEADER = 30  # bytes; the name of the first member comes next
# What zipfile raises on damage, on a password and on ways of packing that it does not know; and NumPy on odd headers.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError),
    *(NotImplementedError, RuntimeError, TokenError, TypeError),
)

Arrays = Mapping[str, npt.NDArray[Any]]
Layout = Mapping[str, tuple[type[np.generic], tuple[int, ...]]]


def write_zip(path: Path, text: bytes, arrays: Arrays) -> None:
    """Write a text and named arrays (not atomically: see `replacing`)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_FAST) as archive:
        # opened by name alone, so that a member has no date
        with archive.open(TEXT, "w") as member:
            member.write(text)
        for name, array in arrays.items():
            with archive.open(name + _ENDING, "w", force_zip64=True) as member:
                npy.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def starts_as_ours(path: Path) -> bool:
    """Whether a file is a zip whose first member is the text of a case."""
    try:
        with path.open("rb") as file:
            start = file.read(_LOCAL_HEADER + len(TEXT))
    except OSError:
        return False
    return start.startswith(b"PK\x03\x04") and start.endswith(TEXT.encode())


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open such a file; whatever is wrong with it, now or while it is read, is an `InputError`."""
    require_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except PermissionError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the permissions") from error
    except _DAMAGE as error:
        why = one_line(error) or "it ends too early"
        raise InputError(f"{path} is truncated or damaged ({why}); take another copy") from error


def read_text(archive: zipfile.ZipFile, path: Path) -> bytes:
    """Return the text, unless it is missing or far too long."""
    if TEXT not in archive.namelist():
        raise InputError(f"{path} holds no {TEXT}, so it is no case file; choose another")
    member = archive.getinfo(TEXT)
    _require_plain(member, path)
    if member.file_size > _MOST_TEXT:
        raise InputError(f"{path} declares {member.file_size:,} bytes of {TEXT}; it is damaged or not ours")
    return archive.read(member)


def read_arrays(archive: zipfile.ZipFile, path: Path, layout: Layout) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays, which have to be those of `layout`, each of its type and shape, and nothing beside them.

    Raises
    ------
    InputError
        If they are not; before room is made for what a header merely declares.
    """
    _require_members(archive, path, layout)
    declared = sum(_bytes(dtype, shape) for dtype, shape in layout.values())
    require_room(declared, path, packed=True)
    return {name: _read_array(archive, path, name, *wanted) for name, wanted in layout.items()}


def _require_members(archive: zipfile.ZipFile, path: Path, layout: Layout) -> None:
    found, wanted = sorted(archive.namelist()), sorted([TEXT, *(name + _ENDING for name in layout)])
    if found == wanted:
        return
    missing, strange = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing:
        raise InputError(f"{path} lacks {missing[0]!r}; it is damaged, take another copy")
    what = f"{strange[0][:80]!r}, which a case file does not have" if strange else "a member twice"
    raise InputError(f"{path} holds {what}; it is damaged or not ours")


def _require_plain(member: zipfile.ZipInfo, path: Path) -> None:
    if member.flag_bits & 1 or member.compress_type not in _PACKINGS:
        raise InputError(f"{path} holds {member.filename!r} encrypted or packed in a way that is not ours")


def _read_array(
    archive: zipfile.ZipFile, path: Path, name: str, dtype: type[np.generic], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    member = archive.getinfo(name + _ENDING)
    _require_plain(member, path)
    with archive.open(member) as file:
        header = _header(file)
        data = member.file_size - file.tell()
    if header != (shape, False, np.dtype(dtype)) or data != _bytes(dtype, shape):
        kind = f"{np.dtype(dtype)} of shape {shape}"
        raise InputError(
            f"{path} holds {member.filename} of {data:,} bytes that is not {kind}; it is damaged"
        )
    with archive.open(member) as file:
        array: npt.NDArray[Any] = npy.read_array(file, allow_pickle=False, max_header_size=_MOST_HEADER)
        file.read(1)  # to the end, where the checksum is compared
    return array


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether it is in Fortran order, and type."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(file, max_header_size=_MOST_HEADER)


def _bytes(dtype: type[np.generic], shape: tuple[int, ...]) -> int:
    size = np.dtype(dtype).itemsize
    for n in shape:
        size *= n
    return size
