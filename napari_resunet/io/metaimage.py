"""What ITK does not check of a MetaImage: it returns half-filled voxels where the packed ones are damaged."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from napari_resunet.errors import InputError
from napari_resunet.io.regular_file import one_line

_MOST_DIMENSIONS = 10
_HEADER_END = re.compile(rb"ElementDataFile[ \t]*=[ \t]*LOCAL[ \t\r]*\n", re.IGNORECASE)
_MOST_HEADER_BYTES = 1 << 16
_BLOCK = 1 << 20


def require_sane_size(fields: dict[str, str], path: Path) -> None:
    """Refuse a header whose number of dimensions is none, which ITK does not survive.

    Raises
    ------
    InputError
        If NDims is no small number, or DimSize does not have so many.
    """
    dimensions, sizes = fields.get("ndims", ""), fields.get("dimsize", "").split()
    is_number = re.fullmatch(r"\d{1,2}", dimensions) is not None
    if not (is_number and 0 < int(dimensions) <= _MOST_DIMENSIONS):
        raise InputError(
            f"{path} declares {dimensions[:20] or 'no'} dimensions (NDims); it is damaged, export it again"
        )
    if len(sizes) != int(dimensions) or not all(re.fullmatch(r"\d{1,9}", size) for size in sizes):
        raise InputError(
            f"{path} is damaged: its DimSize ({' '.join(sizes)[:40]}) is not {dimensions} numbers; export it again"
        )


def require_whole(fields: dict[str, str], path: Path, data: Path, declared: int) -> None:
    """Unpack packed voxels once, keeping nothing, and refuse them if they are damaged or not `declared` bytes.

    Parameters
    ----------
    fields : dict
        Of the header.
    path, data : Path
        The header, and the file with the voxels, which may be the same.
    declared : int
        Bytes of voxels by the header.

    Raises
    ------
    InputError
        If they are not what the header declares.
    """
    if fields.get("compresseddata", "").lower() != "true":
        return
    unpacking, count, packed = zlib.decompressobj(), 0, 0
    try:
        with data.open("rb") as file:
            file.seek(_header_bytes(path) if data == path else 0)
            while not unpacking.eof and count <= declared and (block := file.read(_BLOCK)):
                packed += len(block)
                while block and count <= declared:  # no more than a block at once: it may be a bomb
                    count += len(unpacking.decompress(block, _BLOCK))
                    block = unpacking.unconsumed_tail
    except zlib.error as error:
        raise InputError(
            f"{data} is truncated or damaged ({one_line(error)}); copy or export it again"
        ) from error
    if count != declared or not unpacking.eof:
        raise InputError(
            f"{data} is truncated or damaged: its voxels unpack to {count:,} bytes, {declared:,} are declared; "
            "copy or export it again"
        )
    _require_packed_size(fields, path, packed - len(unpacking.unused_data), is_local=data == path)


def _require_packed_size(fields: dict[str, str], path: Path, packed: int, *, is_local: bool) -> None:
    """Refuse a header that says another packed size: ITK unpacks so many bytes, and garbage if a .mha says none."""
    said = fields.get("compresseddatasize", "" if is_local else str(packed))
    if said != str(packed):
        raise InputError(
            f"{path} says that {said[:20] or 'an unknown number of'} bytes of packed voxels follow "
            f"(CompressedDataSize), {packed} do; export it again"
        )


def _header_bytes(path: Path) -> int:
    with path.open("rb") as file:
        found = _HEADER_END.search(file.read(_MOST_HEADER_BYTES))
    if found is None:
        raise InputError(f"{path} is damaged: its header does not end; copy or export it again")
    return found.end()
