"""The front door: files to volumes and masks, and back. The kind of a file is known by its content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_resunet.errors import FrameChoiceError, InputError
from napari_resunet.geometry import Geometry
from napari_resunet.hu import judge_hu
from napari_resunet.io.export import Receipt, write_mask, write_probability
from napari_resunet.io.frames import choose_frame
from napari_resunet.io.kind import PICTURES, READABLE, can_read, kind_of
from napari_resunet.settings import InputAnswers
from napari_resunet.track import Track, silent
from napari_resunet.volume import Mask, Volume

__all__ = ["Receipt", "can_read", "read_mask", "read_volume", "write_mask", "write_probability"]


def read_volume(
    path: str | Path,
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    series: str | None = None,
    hu_offset: float | None = None,
    accept_gaps: bool = False,
    frame: int | None = None,
    orientation: str | None = None,
    track: Track = silent,
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
    hu_offset : float, optional
        Added to every value so that it is HU, such as -1024; giving one, 0 included, says that the result is HU.
    accept_gaps : bool
        Whether to read a DICOM series whose slices are missing or unevenly spaced.
    frame : int, optional
        Of a file that holds several volumes, such as a 4-D NIfTI: which one, the first is 0.
    orientation : str, optional
        Where the array axes (z, y, x) run towards, such as ``"SPL"``, for a file that does not say.
    track : Track, optional
        Is given the slices of a DICOM series.

    Returns
    -------
    Volume
        HU as (z, y, x) in the order of the file, where the voxels lie, and notes on what the reader decided.

    Raises
    ------
    InputError
        If there is no such file, it is no CT, or damaged, or states another spacing or orientation than is given.
    FrameChoiceError
        If it holds several volumes and `frame` is None.
    GeometryError
        If the voxels cannot lie as the file says.
    SpacingUnknownError
        If the file does not state the voxel size and `spacing_mm` is None.
    SeriesChoiceError
        If a folder holds several DICOM series and `series` is None; `list_series` tells which.
    UnevenSlicesError
        If slices of a series are missing or unevenly spaced and `accept_gaps` is not set.
    """
    path = Path(path)
    kind = _known_kind(path)
    _refuse_impossible(spacing_mm, orientation)
    if kind not in ("NIfTI", "NRRD", "MetaImage"):
        choose_frame(1, frame, path)
    if kind == "DICOM":
        from napari_resunet.io.dicom import read_dicom

        volume = read_dicom(
            path,
            series=series,
            spacing_mm=spacing_mm,
            accept_gaps=accept_gaps,
            orientation=orientation,
            track=track,
        )
    elif kind == "NIfTI":
        from napari_resunet.io.nifti import read_nifti

        volume = read_nifti(path, spacing_mm=spacing_mm, frame=frame, orientation=orientation)
    elif kind == "TIFF":
        from napari_resunet.io.tiff import read_tiff

        volume = read_tiff(path, spacing_mm=spacing_mm, orientation=orientation)
    elif kind in PICTURES:
        from napari_resunet.io.picture import read_picture

        volume = read_picture(path, spacing_mm=spacing_mm, orientation=orientation)
    else:
        from napari_resunet.io.itk import read_itk

        volume = read_itk(path, spacing_mm=spacing_mm, frame=frame, orientation=orientation)
    _require_spacing(volume, spacing_mm, path)
    # the slices of a series are always put in the order of their positions
    _require_orientation(volume.geometry, orientation, path, axes=(1, 2) if kind == "DICOM" else (0, 1, 2))
    answers = InputAnswers(spacing_mm, series, None, accept_gaps, frame, orientation)
    volume = replace(volume, notes=(*volume.notes, *_on_values(volume)), answers=answers)
    return volume if hu_offset is None else volume.with_hu_offset(hu_offset)


def _on_values(volume: Volume) -> list[str]:
    """Return what is odd about the values, but for padding that the reader has noted already."""
    is_noted = any("padding" in note for note in volume.notes)
    findings = judge_hu(volume.array)
    return [finding.text for finding in findings if not (is_noted and finding.subject == "padding")]


def read_mask(
    path: str | Path,
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    orientation: str | None = None,
) -> Mask:
    """Read a lung mask: 0 outside, 1 lung (or right lung), 2 left lung; 0 and 255 are taken as 0 and 1.

    Parameters
    ----------
    path : str or Path
        NIfTI, TIFF, NRRD or MetaImage; PNG or JPEG of a single slice.
    spacing_mm : (z, y, x) floats, optional
        Voxel size in mm, for a file that does not state it.
    orientation : str, optional
        Where the array axes (z, y, x) run towards, for a file that does not say.

    Returns
    -------
    Mask
        Its labels as (z, y, x) in the order of the file, and where the voxels lie.

    Raises
    ------
    InputError
        As `read_volume`, and for other labels, which it names.
    """
    path = Path(path)
    _refuse_impossible(spacing_mm, orientation)
    try:
        mask = _read_mask(path, spacing_mm, orientation)
    except FrameChoiceError as error:
        raise InputError(f"{path} holds {error.frames} volumes; save the mask as one 3-D volume") from error
    _require_orientation(mask.geometry, orientation, path)
    return mask


def _read_mask(path: Path, spacing_mm: tuple[float, float, float] | None, orientation: str | None) -> Mask:
    kind = _known_kind(path)
    if kind == "DICOM":
        raise InputError(f"{path} is DICOM; give the mask as NIfTI, TIFF, NRRD or MetaImage")
    if kind == "NIfTI":
        from napari_resunet.io.nifti import read_nifti_mask

        return read_nifti_mask(path, spacing_mm=spacing_mm, orientation=orientation)
    if kind == "TIFF":
        from napari_resunet.io.tiff import read_tiff_mask

        return read_tiff_mask(path, spacing_mm=spacing_mm, orientation=orientation)
    if kind in PICTURES:
        from napari_resunet.io.picture import read_picture_mask

        return read_picture_mask(path, spacing_mm=spacing_mm, orientation=orientation)
    from napari_resunet.io.itk import read_itk_mask

    return read_itk_mask(path, spacing_mm=spacing_mm, orientation=orientation)


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


def _refuse_impossible(spacing_mm: tuple[float, float, float] | None, orientation: str | None) -> None:
    """Refuse what is no spacing, or letters that are no orientation, whether or not the file has its own."""
    Geometry.from_spacing(
        (1, 1, 1),
        (1, 1, 1) if spacing_mm is None else spacing_mm,
        "SPL" if orientation is None else orientation or " ",
    )


def _require_orientation(
    geometry: Geometry, orientation: str | None, path: Path, axes: Sequence[int] = (0, 1, 2)
) -> None:
    """Refuse an orientation that contradicts the file's own along `axes`."""
    if orientation is None or all(geometry.axis_codes[axis] == orientation.upper()[axis] for axis in axes):
        return
    raise InputError(
        f"{path} says that its array axes (z, y, x) run to {geometry.axis_codes}, {orientation.upper()} was given; "
        "leave it out"
    )
