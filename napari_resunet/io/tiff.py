"""TIFF with tifffile: ImageJ, OME and plain stacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.hounsfield import as_hu, as_labels, require_real
from napari_resunet.io.orientation import orientation_note
from napari_resunet.io.regular_file import one_line, require_regular, require_room, sha256_of
from napari_resunet.io.tiff_pages import count_pages
from napari_resunet.io.tiff_spacing import (
    Spacing,
    imagej_spacing,
    ome_pages,
    ome_spacing,
    place_as_text,
    place_from_text,
)
from napari_resunet.volume import Mask, Source, Volume


@dataclass(frozen=True)
class _Stored:
    """The voxels of a TIFF as they are stored, and what it says of them."""

    array: npt.NDArray[Any]  # (z, y, x)
    slope: float
    intercept: float
    spacing: Spacing | None
    place: Geometry | None
    notes: tuple[str, ...]


def read_tiff(
    path: Path, *, spacing_mm: Sequence[float] | None = None, orientation: str | None = None
) -> Volume:
    """Read a CT from a TIFF stack.

    Parameters
    ----------
    path : Path
        The file. ImageJ's calibration of signed 16-bit images is applied.
    spacing_mm : (z, y, x) floats, optional
        Used only if the file does not state its voxel size.
    orientation : str, optional
        Where the array axes (z, y, x) run towards; used only if this package did not write the file.

    Returns
    -------
    Volume
        HU as (z, y, x). It lies as the geometry that this package wrote into the file says; without one
        as the user says, and else it is taken to be axial, lowest slice first.

    Raises
    ------
    InputError
        If the file is truncated, in colour, or not one stack.
    SpacingUnknownError
        If neither the file nor `spacing_mm` says how large the voxels are.
    """
    stored = _read_stored(path)
    geometry, placed = _geometry(stored, path, spacing_mm, orientation)
    source = Source(path, "TIFF", sha256_of(path), (path,))
    hu = as_hu(stored.array, stored.slope, stored.intercept)
    before = stored.array.dtype
    changed = [f"stored as {before}, kept as {hu.dtype}"] if hu.dtype != before else []
    return Volume(hu, geometry, (*stored.notes, *changed, *placed), source)


def read_tiff_mask(
    path: Path, *, spacing_mm: Sequence[float] | None = None, orientation: str | None = None
) -> Mask:
    """Read a lung mask from a TIFF stack; raises as `read_tiff` does, and for labels other than 0, 1, 2."""
    stored = _read_stored(path)
    geometry, _ = _geometry(stored, path, spacing_mm, orientation)
    return Mask(as_labels(stored.array, path, stored.slope, stored.intercept), geometry)


def read_back_tiff(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Return the stored numbers and their geometry, to check what was written."""
    stored = _read_stored(path)
    return stored.array, _geometry(stored, path)[0]


def write_tiff(array_zyx: npt.NDArray[np.uint8], geometry: Geometry, path: Path) -> None:
    """Write a mask or a probability map as an ImageJ stack (not atomically: see `replacing`).

    Fiji shows its voxel size in mm; where it lies is in the Info, which `read_tiff` reads back to the bit.
    """
    z, y, x = geometry.spacing_mm
    tifffile.imwrite(
        path,
        np.ascontiguousarray(array_zyx),
        imagej=True,
        resolution=(1 / x, 1 / y),
        metadata={"axes": "ZYX", "spacing": z, "unit": "mm", "Info": place_as_text(geometry)},
        photometric="minisblack",
        software=False,
    )


def _read_stored(path: Path) -> _Stored:
    require_regular(path)
    pages = count_pages(path)
    try:
        with tifffile.TiffFile(path) as tif:
            series = _only_series(tif, path)
            _require_complete(tif, series, pages, path)
            array, notes = _as_slices(series, path)
            slope, intercept, calibrated = _calibration(tif)
            spacing, place = _stated(tif)
    except InputError:
        raise
    except Exception as error:  # tifffile and its decoders let through whatever the damage leads to
        raise InputError(
            f"{path} is damaged or not readable as TIFF ({one_line(error)}); export it again"
        ) from error
    return _Stored(array, slope, intercept, spacing, place, (*notes, *calibrated))


def _only_series(tif: Any, path: Path) -> Any:
    """Return the one stack of grey values in the file."""
    if len(tif.series) != 1:
        raise InputError(f"{path} holds {len(tif.series)} separate images; save the CT as one stack")
    series = tif.series[0]
    page = series.keyframe
    grey = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
    if page.photometric not in grey or page.samplesperpixel > 1:
        raise InputError(f"{path} is in colour ({page.photometric.name}); export the CT in grey values")
    require_real(series.dtype, path)
    return series


def _require_complete(tif: Any, series: Any, pages: int, path: Path) -> None:
    """Refuse a file that declares more pages than it has, or data beyond its end."""
    page = series.keyframe
    require_room(int(series.nbytes), path, packed=page.compression != 1)
    found, declared = (int(np.prod(each)) for each in ((pages, *page.shape[:-2]), series.shape[:-2]))
    # more planes may hang on one page only, as ImageJ does with a large stack: then they must be in the file
    if found < declared and pages == 1 and series.dataoffset is not None:
        found = declared
    # tifffile drops metadata that do not fit to the file, so these are asked too
    if tif.is_ome:
        declared = max(declared, ome_pages(tif.ome_metadata) or 0)
    declared = max(declared, int((tif.imagej_metadata or {}).get("images", 0)))
    if found < declared:
        raise _truncated(path, found, declared)
    ends = [start + count for each in tif.pages for start, count in _extents(each)]
    if series.dataoffset is not None:
        ends.append(series.dataoffset + series.nbytes)
    if len(tif.pages) != pages or max(ends) > path.stat().st_size:
        raise InputError(f"{path} is truncated: pixels lie beyond its end; copy or export it again")


def _extents(page: Any) -> Iterator[tuple[int, int]]:
    """Yield where the pieces of a page start, and their lengths in bytes."""
    return zip(page.dataoffsets, page.databytecounts, strict=False)


def _truncated(path: Path, found: int, declared: int) -> InputError:
    return InputError(
        f"{path} is truncated: {found} of the {declared} pages it declares are there; copy or export it again"
    )


def _as_slices(series: Any, path: Path) -> tuple[npt.NDArray[Any], list[str]]:
    """Return the array as (z, y, x), and a note if the file does not call its pages slices."""
    long = [axis for axis, n in zip(series.axes, series.shape, strict=True) if n > 1 and axis not in "YX"]
    if len(long) > 1:
        raise InputError(f"{path} has axes {series.axes} {series.shape}; save one 3-D stack of slices")
    height, width = series.shape[-2:]
    array = series.asarray().reshape(-1, height, width)
    if not long or long == ["Z"]:
        return array, []
    called = {"T": "time points", "C": "channels"}.get(long[0], "pages")
    return array, [f"the {len(array)} {called} of the file are taken as slices"]


def _calibration(tif: Any) -> tuple[float, float, list[str]]:
    """Return slope and intercept of ImageJ's straight-line calibration: it stores int16 so."""
    metadata = tif.imagej_metadata or {}
    try:
        if int(metadata.get("cf", -1)) != 0:
            return 1.0, 0.0, []
        slope, intercept = float(metadata["c1"]), float(metadata["c0"])
    except (KeyError, TypeError, ValueError):
        return 1.0, 0.0, []
    return slope, intercept, [f"ImageJ's calibration was applied (x {slope:g}, {intercept:+g})"]


def _stated(tif: Any) -> tuple[Spacing | None, Geometry | None]:
    """Return the spacing in mm and our own geometry, as far as the file states them."""
    if tif.is_ome:
        return ome_spacing(tif.ome_metadata), None
    metadata = tif.imagej_metadata
    if metadata is None:
        return None, None
    tags = tif.pages[0].tags
    names = ("XResolution", "YResolution")
    resolution = [_ratio(tags[name].value) if name in tags else 0.0 for name in names]
    return imagej_spacing(metadata, resolution), place_from_text(str(metadata.get("Info", "")))


def _ratio(value: tuple[int, int]) -> float:
    return value[0] / value[1] if value[1] else 0.0


def _geometry(
    stored: _Stored, path: Path, spacing_mm: Sequence[float] | None = None, orientation: str | None = None
) -> tuple[Geometry, list[str]]:
    place, spacing, notes = stored.place, stored.spacing, []
    if place is not None and spacing is not None:
        if place.shape == stored.array.shape and np.allclose(place.spacing_mm, spacing, rtol=1e-4):
            return place, []
        notes.append("the file was cropped or rescaled after it was exported: where it lay is lost")
    if spacing is None and spacing_mm is None:
        raise SpacingUnknownError(
            f"{path} does not say how large its voxels are; give the voxel size in mm "
            "(--spacing Z,Y,X or spacing_mm=)"
        )
    geometry = Geometry.from_spacing(stored.array.shape, spacing or spacing_mm or (), orientation)
    return geometry, [*notes, orientation_note(geometry.axis_codes, orientation)]
