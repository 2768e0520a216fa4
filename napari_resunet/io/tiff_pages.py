"""How many pages a TIFF has, counted by following its chain from page to page.

A library stops without a word where the chain of a cut file ends; here that is an error.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from napari_resunet.errors import InputError

_MOST_PAGES = 100_000


def count_pages(path: Path) -> int:
    """Return the number of pages of a TIFF or BigTIFF.

    Raises
    ------
    InputError
        If the chain leaves the file, goes in a circle, or does not end.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            order, big, offset = _start(file)
            seen: set[int] = set()
            while offset != 0:
                if offset in seen or len(seen) >= _MOST_PAGES:
                    raise InputError(f"{path} is damaged: its chain of pages does not end; export it again")
                seen.add(offset)
                offset = _next_page(file, offset, order, big=big)
                if offset >= size:
                    raise InputError(
                        f"{path} is truncated: it ends after page {len(seen)}, though more should follow; "
                        "copy or export it again"
                    )
        # an offset that no file can have is a ValueError
        except (struct.error, OSError, ValueError) as error:
            raise InputError(f"{path} is truncated or damaged; copy or export it again") from error
    if not seen:
        raise InputError(f"{path} holds no image; export it again")
    return len(seen)


def _start(file: BinaryIO) -> tuple[str, bool, int]:
    """Return byte order, whether it is a BigTIFF, and where the first page is."""
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    (offset,) = struct.unpack_from(f"{order}Q", head, 8) if big else struct.unpack_from(f"{order}I", head, 4)
    return order, big, offset


def _next_page(file: BinaryIO, offset: int, order: str, *, big: bool) -> int:
    """Return the offset of the page after the one at `offset`, 0 after the last one."""
    count_format, tag_bytes, offset_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    file.seek(offset)
    (tags,) = struct.unpack(order + count_format, file.read(struct.calcsize(count_format)))
    if tags > 4096:
        raise struct.error("too many tags")
    file.seek(tags * tag_bytes, 1)
    following: int = struct.unpack(order + offset_format, file.read(struct.calcsize(offset_format)))[0]
    return following
