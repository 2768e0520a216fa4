"""A CT from DICOM: a folder, or a single file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_resunet.errors import InputError
from napari_resunet.io.dicom_headers import SliceHeader, choose_series, ct_slices, same_size, scan
from napari_resunet.io.dicom_pixels import read_pixels, read_slice
from napari_resunet.io.dicom_place import SAME_MM, heights, series_geometry, slice_geometry, sort_slices
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.regular_file import require_memory
from napari_resunet.track import Track, silent
from napari_resunet.volume import Source, Volume

__all__ = ["read_dicom", "write_ct_series"]


def read_dicom(
    path: Path,
    *,
    series: str | None = None,
    spacing_mm: Sequence[float] | None = None,
    track: Track | None = None,
) -> Volume:
    """Read a CT series, or a single slice.

    Parameters
    ----------
    path : Path
        A file, or a folder; its subfolders are searched only if it has no DICOM files itself.
    series : str, optional
        SeriesInstanceUID, or its unique ending, when there are several.
    spacing_mm : (z, y, x) floats, optional
        Used only for a single slice that does not state its own.
    track : Track, optional
        Is given the slice numbers.

    Returns
    -------
    Volume
        HU as (z, y, x), the slices ascending along their normal.

    Raises
    ------
    InputError
        If there is no CT, more than one series, or something damaged.
    GeometryError
        If the slices do not make up one evenly spaced volume.
    SpacingUnknownError
        If a single slice does not state where it lies and how large its pixels are.
    """
    headers, notes = scan(path)
    slices, left_out = ct_slices(headers, path)
    chosen = choose_series(slices, series, path)
    size = same_size(chosen, path)
    if len(chosen) > 1:
        chosen, dropped = _without_duplicates(sort_slices(chosen, path), path)
        left_out += dropped
    if len(chosen) > 1:
        geometry, placed = series_geometry(chosen, path)
    else:
        geometry, placed = slice_geometry(chosen[0], chosen[0].path, spacing_mm)
    files = tuple(header.path for header in chosen)
    require_memory(2 * len(files) * size[0] * size[1], path)
    array, sha256, said = read_pixels(files, geometry.shape, track or silent)
    source = Source(path, "DICOM", sha256, files)
    return Volume(array, geometry, (*notes, *left_out, *placed, *said), source)


def _without_duplicates(headers: list[SliceHeader], where: Path) -> tuple[list[SliceHeader], list[str]]:
    """Return sorted slices without those whose position and pixels another one has."""
    steps = np.diff(heights(headers))
    kept = [headers[0]]
    for (before, header), step in zip(itertools.pairwise(headers), steps, strict=True):
        if step > SAME_MM:
            kept.append(header)
        elif not np.array_equal(read_slice(before.path).hu, read_slice(header.path).hu):
            raise InputError(
                f"{where} holds two different slices at one position ({before.path.name} and "
                f"{header.path.name}), as with two phases; export one of them only"
            )
    dropped = len(headers) - len(kept)
    return kept, [f"left out: {dropped} slices that are there twice"] if dropped else []
