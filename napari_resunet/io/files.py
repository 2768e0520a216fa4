"""The front door: files to volumes and masks, and back. The kind of a file is known by its content."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from napari_resunet.errors import InputError
from napari_resunet.io.export import Receipt, write_mask, write_probability
from napari_resunet.io.hounsfield import notes_on_hu
from napari_resunet.io.kind import READABLE, can_read, kind_of
from napari_resunet.track import Track
from napari_resunet.volume import Mask, Volume

__all__ = ["Receipt", "can_read", "read_mask", "read_volume", "write_mask", "write_probability"]


def read_volume(
    path: str | Path,
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    series: str | None = None,
    accept_gaps: bool = False,
    track: Track | None = None,
) -> Volume:
    """Read a CT from a file or a DICOM folder.

    Parameters
    ----------
    path : str or Path
        The kind of file is known by its content, not by its name.
    spacing_mm : (z, y, x) floats, optional
        Voxel size in mm, for a file that does not state it.
    series : str, optional
        Of a folder with several DICOM series: the SeriesInstanceUID wanted, or its unique ending.
    accept_gaps : bool
        Whether to read a DICOM series whose slices are missing or unevenly spaced.
    track : Track, optional
        Is given the slices of a DICOM series.

    Returns
    -------
    Volume
        HU as (z, y, x) in the order of the file, where the voxels lie, and notes on what the reader decided.

    Raises
    ------
    InputError
        If there is no such file, it is no CT, or damaged, or states another spacing than `spacing_mm`.
    GeometryError
        If the voxels cannot lie as the file says.
    SpacingUnknownError
        If the file does not state the voxel size and `spacing_mm` is None.
    """
    path = Path(path)
    kind = _known_kind(path)
    if kind == "DICOM":
        from napari_resunet.io.dicom import read_dicom

        volume = read_dicom(path, series=series, spacing_mm=spacing_mm, accept_gaps=accept_gaps, track=track)
    elif kind == "NIfTI":
        from napari_resunet.io.nifti import read_nifti

        volume = read_nifti(path, spacing_mm=spacing_mm)
    elif kind == "TIFF":
        from napari_resunet.io.tiff import read_tiff

        volume = read_tiff(path, spacing_mm=spacing_mm)
    else:
        from napari_resunet.io.itk import read_itk

        volume = read_itk(path, spacing_mm=spacing_mm)
    _require_spacing(volume, spacing_mm, path)
    return dataclasses.replace(volume, notes=(*volume.notes, *notes_on_hu(volume.array)))


def read_mask(path: str | Path, *, spacing_mm: tuple[float, float, float] | None = None) -> Mask:
    """Read a lung mask: 0 outside, 1 lung (or right lung), 2 left lung; 0 and 255 are taken as 0 and 1.

    Parameters
    ----------
    path : str or Path
        NIfTI, TIFF, NRRD or MetaImage.
    spacing_mm : (z, y, x) floats, optional
        Voxel size in mm, for a file that does not state it.

    Raises
    ------
    InputError
        As `read_volume`, and for other labels, which it names.
    """
    path = Path(path)
    kind = _known_kind(path)
    if kind == "DICOM":
        raise InputError(f"{path} is DICOM; give the mask as NIfTI, TIFF, NRRD or MetaImage")
    if kind == "NIfTI":
        from napari_resunet.io.nifti import read_nifti_mask

        return read_nifti_mask(path, spacing_mm=spacing_mm)
    if kind == "TIFF":
        from napari_resunet.io.tiff import read_tiff_mask

        return read_tiff_mask(path, spacing_mm=spacing_mm)
    from napari_resunet.io.itk import read_itk_mask

    return read_itk_mask(path, spacing_mm=spacing_mm)


def _known_kind(path: Path) -> str:
    kind = kind_of(path)
    if kind is None:
        raise InputError(f"{path} is of an unknown kind; give {READABLE}")
    return kind


def _require_spacing(volume: Volume, spacing_mm: tuple[float, float, float] | None, path: Path) -> None:
    """Refuse a spacing that contradicts the file's own."""
    if spacing_mm is None or np.allclose(volume.geometry.spacing_mm, spacing_mm, rtol=1e-3, atol=0):
        return
    states, given = (" x ".join(f"{s:g}" for s in mm) for mm in (volume.geometry.spacing_mm, spacing_mm))
    raise InputError(f"{path} states a spacing of {states} mm, {given} mm was given; leave it out")
