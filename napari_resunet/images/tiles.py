"""Where the tiles of a large image lie, and how much each counts where they overlap."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional


def tile_starts(length: int, tile: int) -> list[int]:
    """Return where tiles start that together cover ``range(length)``, each half over the one before.

    The last tile is pushed back to end exactly at `length`; an axis shorter than a tile has one tile.

    >>> tile_starts(11, tile=4)
    [0, 2, 4, 6, 7]
    """
    last = max(length - tile, 0)
    return sorted({*range(0, last, max(tile // 2, 1)), last})


def tiles_of(shape: tuple[int, int], tile: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of each tile of an image that is not smaller than one."""
    for y in tile_starts(shape[0], tile):
        for x in tile_starts(shape[1], tile):
            yield slice(y, y + tile), slice(x, x + tile)


def grown(image: Tensor, tile: int) -> Tensor:
    """Return images (n, c, y, x) whose last rows and columns are repeated until a tile fits in."""
    rows, columns = image.shape[2:]
    missing = (0, max(tile - columns, 0), 0, max(tile - rows, 0))
    return functional.pad(image, missing, mode="replicate") if any(missing) else image


def tile_weights(tile: int) -> Tensor:
    """Return how much the pixels of a tile (y, x) count: most in the middle, where the network sees all around."""
    line = 1 - ((torch.arange(tile) + 0.5) / tile * 2 - 1).abs()
    return line[:, None] * line[None]
