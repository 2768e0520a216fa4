"""Keep or remove the piece of a mask that was clicked, and fill its holes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_resunet.editing.places import Bools, Box, Labels, box_around, named, voxel_in
from napari_resunet.errors import InputError
from napari_resunet.imaging import components


def keep_piece(mask: Labels, seed: Sequence[int], *, in_slice: bool) -> Bools:
    """Return the mask with nothing but the clicked piece: of the whole volume, or of the clicked slice.

    A piece is what hangs together face to face. With `in_slice` it is looked for in that axial slice alone, and all
    other slices stay as they are.

    Parameters
    ----------
    mask : (z, y, x) array of bool or int
        Whatever is above 0 is lung; right and left lung are one piece where they touch.
    seed : sequence of int
        The clicked voxel (z, y, x).
    in_slice : bool
        Whether to work in the clicked slice only.

    Returns
    -------
    (z, y, x) array of bool

    Raises
    ------
    InputError
        If the click is outside of the mask.
    """
    box, piece = _clicked_piece(mask, seed, in_slice=in_slice)
    kept = mask > 0
    kept[box] = piece
    return kept


def remove_piece(mask: Labels, seed: Sequence[int], *, in_slice: bool) -> Bools:
    """Return the mask without the clicked piece: the whole of it, or what of it hangs together in the clicked slice.

    Parameters, pieces and errors are those of `keep_piece`.
    """
    box, piece = _clicked_piece(mask, seed, in_slice=in_slice)
    left = mask > 0
    left[box] &= ~piece
    return left


def fill_holes(mask: Labels, *, in_slice: bool) -> Bools:
    """Return the mask with its holes filled.

    Parameters
    ----------
    mask : (z, y, x) array of bool or int
        Whatever is above 0 is lung.
    in_slice : bool
        Whether every axial slice is filled by itself, open tunnels (a vessel that runs along z) as well; else only
        what is enclosed on all sides.

    Returns
    -------
    (z, y, x) array of bool
    """
    filled = mask > 0
    if not in_slice:
        return components.fill_holes(filled)
    for z in np.flatnonzero(filled.any(axis=(1, 2))):
        filled[z : z + 1] = components.fill_holes(filled[z : z + 1])
    return filled


def _clicked_piece(mask: Labels, seed: Sequence[int], *, in_slice: bool) -> tuple[Box, Bools]:
    """Return a box that holds all of the mask, or all of it in the clicked slice, and the piece in that box."""
    z, y, x = voxel_in(mask.shape, seed)
    if not mask[z, y, x] > 0:
        raise InputError(f"{named((z, y, x))} is not in the mask; click on a coloured piece")
    slices = slice(z, z + 1) if in_slice else slice(0, len(mask))
    lung = mask[slices] > 0
    _, rows, columns = box_around(lung, margin=(0, 0, 0))
    labels, _ = components.label_pieces(lung[:, rows, columns])
    return (slices, rows, columns), labels == labels[z - slices.start, y - rows.start, x - columns.start]
