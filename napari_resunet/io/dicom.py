"""A CT from DICOM: a folder, a DICOMDIR, or a single file."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from napari_resunet.errors import InputError, UnevenSlicesError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_choice import choose_stack
from napari_resunet.io.dicom_files import count_neighbours, counted, scan
from napari_resunet.io.dicom_headers import SliceHeader
from napari_resunet.io.dicom_kinds import ct_slices, oddities
from napari_resunet.io.dicom_list import SeriesInfo, list_series
from napari_resunet.io.dicom_pixels import read_pixels, read_slices
from napari_resunet.io.dicom_place import (
    heights,
    series_geometry,
    slice_geometry,
    sort_slices,
)
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.dicom_stacks import Stack, find_stacks
from napari_resunet.io.dicom_steps import SAME_MM
from napari_resunet.io.dicom_unplaced import place_by_user
from napari_resunet.io.regular_file import require_memory
from napari_resunet.track import Track, silent
from napari_resunet.volume import Source, Volume

__all__ = [
    "SeriesInfo",
    "list_series",
    "read_dicom",
    "write_ct_series",
]


def read_dicom(
    path: Path,
    *,
    series: str | None = None,
    spacing_mm: Sequence[float] | None = None,
    accept_gaps: bool = False,
    orientation: str | None = None,
    track: Track = silent,
) -> Volume:
    """Read a CT series, or a single slice.

    Parameters
    ----------
    path : Path
        A file, a DICOMDIR, or a folder; its subfolders are searched only if it has no DICOM files itself.
    series : str, optional
        SeriesInstanceUID, or its unique ending, when there are several; `list_series` tells which there are.
    spacing_mm : (z, y, x) floats, optional
        Used only where no slice states its own.
    accept_gaps : bool
        Whether to read slices that are not evenly spaced, or of which some are missing: each is there, but not
        all lie in their true place.
    orientation : str, optional
        Where slices, rows and columns run towards, such as ``"SPL"``; used only where no slice states its own.
    track : Track, optional
        Is given the files that are looked at, then the numbers of the slices that are read.

    Returns
    -------
    Volume
        HU as (z, y, x), the slices ascending along their normal.

    Raises
    ------
    SeriesChoiceError
        If there is more than one series, or a series is more than one volume.
    UnevenSlicesError
        If slices are missing or unevenly spaced, and that is not accepted.
    SpacingUnknownError
        If no slice states where it lies or how large its pixels are.
    GeometryError
        If the slices do not make up one volume otherwise.
    InputError
        If there is no CT, or something damaged.
    """
    track = track
    headers, notes = scan(path, track)
    slices, left_out = ct_slices(headers, path)
    notes += left_out
    if not path.is_dir() and len(headers) == 1 and (more := count_neighbours(headers[0])):
        notes.append(f"read alone: its folder holds {more} of the same series; open the folder for all")
    stack = choose_stack(find_stacks(slices), series, path)
    notes += oddities(stack.slices)
    try:
        chosen, geometry, placed = _place(
            stack, path, spacing_mm, accept_gaps=accept_gaps, orientation=orientation
        )
    except UnevenSlicesError as error:  # a slice may be missing because its file was left out
        raise UnevenSlicesError("; ".join([str(error), *notes])) from error
    require_memory(2 * math.prod(geometry.shape), path)
    array, sha256, said = read_pixels(chosen, track)
    files = tuple(dict.fromkeys(header.path for header in chosen))
    return Volume(array, geometry, (*notes, *placed, *said), Source(path, "DICOM", sha256, files))


def _place(
    stack: Stack,
    where: Path,
    spacing_mm: Sequence[float] | None,
    *,
    accept_gaps: bool,
    orientation: str | None,
) -> tuple[list[SliceHeader], Geometry, list[str]]:
    """Return slices in their order, one a position, with their geometry, and notes."""
    slices, notes = place_by_user(stack.slices, where, spacing_mm, orientation)
    if len(slices) > 1:
        slices, dropped = _without_duplicates(sort_slices(slices, where), where)
        notes += dropped
    if len(slices) > 1:
        geometry, placed = series_geometry(slices, where, accept_gaps=accept_gaps)
    else:
        geometry, placed = slice_geometry(slices[0], spacing_mm)
    return slices, geometry, notes + placed


def _without_duplicates(headers: list[SliceHeader], where: Path) -> tuple[list[SliceHeader], list[str]]:
    """Return sorted slices without those whose position and pixels another one has.

    Raises
    ------
    InputError
        If pixels differ at one position.
    """
    steps = np.diff(heights(headers))
    pairs = [pair for pair, step in zip(itertools.pairwise(headers), steps, strict=True) if step <= SAME_MM]
    with closing(read_slices([header for pair in pairs for header in pair])) as decoded:
        for one, other in pairs:
            if not np.array_equal(next(decoded).hu, next(decoded).hu):
                raise InputError(
                    f"{where} holds two different slices at one position ({one.name} and {other.name}), as with "
                    "two phases, and no header tells them apart; export one of them only"
                )
    dropped = {id(other) for _, other in pairs}
    kept = [header for header in headers if id(header) not in dropped]
    return kept, [f"left out: {counted(len(pairs), 'slice')} that another one repeats"] if pairs else []
