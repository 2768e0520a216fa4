"""DICOM slices none of which says where it lies or how large its pixels are, placed by the user's word."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_headers import SliceHeader
from napari_resunet.io.orientation import orientation_note

PLACING = {
    "position": "position",
    "orientation": "orientation",
    "pixel_spacing_mm": "pixel spacing",
}
_AXIAL = "SPL"


def place_by_user(
    headers: Sequence[SliceHeader],
    where: Path,
    spacing_mm: Sequence[float] | None,
    orientation: str | None = None,
) -> tuple[list[SliceHeader], list[str]]:
    """Complete what no slice says of its place by the user's voxel size and orientation (z, y, x), and return notes.

    Slices of which at least one says it are given back as they are.

    Raises
    ------
    SpacingUnknownError
        If something is to be completed, and `spacing_mm` is None.
    InputError
        If `spacing_mm` contradicts what the slices do say, or their order is unknown.
    """
    missing = [name for name in PLACING if all(getattr(header, name) is None for header in headers)]
    if not missing:
        return list(headers), []
    lacks = " and no valid ".join(PLACING[name] for name in missing)
    subject = f"{where} has" if len(headers) == 1 else f"the {len(headers)} slices of {where} have"
    if spacing_mm is None:
        raise SpacingUnknownError(
            f"{subject} no valid {lacks}; give the voxel size in mm (--spacing Z,Y,X or spacing_mm=)"
            + ("" if missing == ["pixel_spacing_mm"] else ", and they are taken as axial, from the feet up")
        )
    step, *pixel = map(float, spacing_mm)
    ordered = _in_order(headers, where) if "position" in missing else list(headers)
    for header in ordered:
        _refuse_contradiction(header, pixel)
    axes = _axes(ordered[0], orientation)
    completed = [
        _completed(header, missing, pixel, step * index, axes) for index, header in enumerate(ordered)
    ]
    notes = [_told(missing, len(headers))]
    if "orientation" in missing:
        notes.append(orientation_note((orientation or _AXIAL).upper(), orientation))
    return completed, notes


def _in_order(headers: Sequence[SliceHeader], where: Path) -> list[SliceHeader]:
    numbers = [header.number("InstanceNumber") for header in headers]
    if len(headers) > 1 and (None in numbers or len(set(numbers)) < len(numbers)):
        raise InputError(
            f"the {len(headers)} slices of {where} have no valid position, and their instance numbers "
            "do not say their order; export the whole series again"
        )
    ranked = sorted(zip(numbers, range(len(headers)), strict=True), key=lambda pair: pair[0] or 0)
    return [headers[index] for _, index in ranked]


def _refuse_contradiction(header: SliceHeader, pixel: Sequence[float]) -> None:
    stated = header.pixel_spacing_mm
    if stated is not None and not np.allclose(stated, pixel, rtol=1e-3, atol=0):
        shown, given = (",".join(f"{mm:g}" for mm in pair) for pair in (stated, pixel))
        raise InputError(
            f"{header.path} states pixels of {shown} mm (y,x), {given} mm was given; give what it states"
        )


def _completed(
    header: SliceHeader,
    missing: Sequence[str],
    pixel: Sequence[float],
    height: float,
    axes: npt.NDArray[np.float64],
) -> SliceHeader:
    said: dict[str, Sequence[float]] = {}
    if "pixel_spacing_mm" in missing:
        said["PixelSpacing"] = pixel
    if "orientation" in missing:
        said["ImageOrientationPatient"] = (*axes[:, 2], *axes[:, 1])
    if "position" in missing:
        said["ImagePositionPatient"] = tuple(height * axes[:, 0])
    return dataclasses.replace(header, by_user=said)


def _axes(header: SliceHeader, orientation: str | None) -> npt.NDArray[np.float64]:
    """Return unit vectors in LPS of the array axes (z, y, x), one a column: the slice's own, else the user's.

    Across a slice that says how it lies the axis runs up, back or left.
    """
    if header.orientation is None:
        return Geometry.from_spacing((1, 1, 1), (1, 1, 1), orientation or _AXIAL).directions
    along_x, along_y = header.orientation
    normal = np.cross(along_x, along_y)
    across = normal if normal[int(np.abs(normal).argmax())] > 0 else -normal
    return np.column_stack([across, along_y, along_x])


def _told(missing: Sequence[str], slices: int) -> str:
    subject = "the slice has" if slices == 1 else "the slices have"
    taken = []
    if "pixel_spacing_mm" in missing:
        taken.append("their size by the user's word")
    if "position" in missing and slices > 1:
        taken.append("in the order of their instance numbers, from the feet up, by the user's spacing")
    elif "position" in missing:
        taken.append("put at 0")
    lacks = " and no valid ".join(PLACING[name] for name in missing)
    return ": ".join([f"{subject} no valid {lacks}", *filter(None, [", ".join(taken)])])
