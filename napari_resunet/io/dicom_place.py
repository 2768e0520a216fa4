"""Where the slices of a DICOM series lie, from position, orientation and pixel spacing and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import GeometryError, UnevenSlicesError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_headers import SliceHeader
from napari_resunet.io.dicom_steps import Steps
from napari_resunet.io.dicom_unplaced import PLACING
from napari_resunet.io.regular_file import one_line

_GAPS_TOLD = 5
_REMEDY = "export the whole series again"


def sort_slices(headers: Sequence[SliceHeader], where: Path) -> list[SliceHeader]:
    """Return the slices ascending along their normal, the cross product of row and column direction.

    Raises
    ------
    GeometryError
        If one does not say where it lies.
    """
    if unplaced := describe_unplaced(headers):
        raise GeometryError(f"{where}: {unplaced}; {_REMEDY}")
    normal = _normal(headers[0])
    return sorted(headers, key=lambda header: float(_position(header) @ normal))


def describe_unplaced(headers: Sequence[SliceHeader]) -> str:
    """Return which slices do not say where they lie, in words; "" if all do."""
    for name, words in PLACING.items():
        lacking = [header for header in headers if getattr(header, name) is None]
        if lacking:
            first = lacking[0].name
            return f"{len(lacking)} of {len(headers)} slices have no valid {words} (the first is {first})"
    return ""


def heights(headers: Sequence[SliceHeader]) -> npt.NDArray[np.float64]:
    """Return how far in mm each slice lies along the normal of the first."""
    return np.array([_position(header) for header in headers]) @ _normal(headers[0])


def series_geometry(
    headers: Sequence[SliceHeader], where: Path, *, accept_gaps: bool = False
) -> tuple[Geometry, list[str]]:
    """Return the geometry of two or more sorted slices at different positions, and notes.

    The step from slice to slice is (last position - first position) / (n - 1), so that gantry tilt is kept. Where
    slices are missing it is as long as the usual one, so that a voxel keeps its size.

    Raises
    ------
    UnevenSlicesError
        If slices are missing or not evenly spaced, and `accept_gaps` is False.
    GeometryError
        If they are shifted against each other.
    """
    steps = Steps(np.diff(heights(headers)))
    _refuse_shifted(headers, where)
    if not (steps.is_even or accept_gaps):
        raise UnevenSlicesError(
            f"{where}: {describe_unevenness(headers)}; {_REMEDY}, or accept that not every slice lies in its true "
            "place (--accept-gaps, accept_gaps=True)"
        )
    positions = np.array([_position(header) for header in headers])
    step = (positions[-1] - positions[0]) / (len(headers) - 1)
    if steps.gaps:
        step *= steps.usual_mm / float(steps.mm.mean())
    off = np.linalg.norm(positions - positions[0] - np.outer(np.arange(len(headers)), step), axis=1).max()
    notes = []
    if not steps.is_even:
        notes.append(_accepted(headers, float(off)))
    elif off > 0.05:
        notes.append(f"slice positions differ from an even grid by up to {off:.2f} mm")
    geometry = _geometry(headers, step, where)
    if geometry.is_sheared:
        tilt = tilt_degrees(headers)
        notes.append(f"the gantry was tilted by {tilt:.1f} degrees: the volume is sheared, and kept so")
    return geometry, notes


def slice_geometry(header: SliceHeader, spacing_mm: Sequence[float] | None) -> tuple[Geometry, list[str]]:
    """Return the geometry of a single slice, as thick as it says or, if it does not, as the user does; and notes."""
    thickness = header.length_mm("SliceThickness") or header.length_mm("SpacingBetweenSlices")
    notes = []
    if spacing_mm is not None and (thickness is None or header.by_user):
        thickness = float(spacing_mm[0])
        notes.append(f"a single slice: {thickness:g} mm thick by the user's word")
    elif thickness is None:
        thickness = 1.0
        notes.append("a single slice without a thickness: taken as 1 mm")
    return _geometry([header], thickness * _normal(header), header.path), notes


def describe_unevenness(headers: Sequence[SliceHeader]) -> str:
    """Return how sorted slices are not evenly spaced, in words; "" if they are."""
    steps = Steps(np.diff(heights(headers)))
    if steps.is_even:
        return ""
    if not steps.gaps:
        return f"the slices are not evenly spaced ({steps.mm.min():.2f} to {steps.mm.max():.2f} mm apart)"
    axis = int(np.abs(_normal(headers[0])).argmax())
    at = [float(_position(header)[axis]) for header in headers]
    letter = "xyz"[axis]
    places = [f"{letter} = {at[gap]:.1f} mm and {letter} = {at[gap + 1]:.1f} mm" for gap in steps.gaps]
    more = f", and in {len(places) - _GAPS_TOLD} more places" if len(places) > _GAPS_TOLD else ""
    told = ", between ".join(places[:_GAPS_TOLD])
    return f"{steps.missing} of {len(headers) + steps.missing} slices are missing between {told}{more}"


def tilt_degrees(headers: Sequence[SliceHeader]) -> float:
    """Return the angle between the line through the slices' first voxels and their normal."""
    line = _position(headers[-1]) - _position(headers[0])
    cosine = abs(float(line @ _normal(headers[0]))) / float(np.linalg.norm(line))
    return math.degrees(math.acos(min(1.0, cosine)))


def _accepted(headers: Sequence[SliceHeader], off_mm: float) -> str:
    steps = Steps(np.diff(heights(headers)))
    taken = f"{steps.usual_mm if steps.gaps else float(steps.mm.mean()):.4g} mm apart"
    cost = "what is missing is not in any ml" if steps.gaps else "ml are approximate"
    return (
        f"{describe_unevenness(headers)}: accepted by the user's word, and all taken as {taken}; "
        f"slices lie up to {off_mm:.1f} mm off their true place, and {cost}"
    )


def _geometry(headers: Sequence[SliceHeader], step: npt.NDArray[np.float64], where: Path) -> Geometry:
    first = headers[0]
    along_x, along_y = _known(first.orientation, first)
    dy, dx = _known(first.pixel_spacing_mm, first)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([step, along_y * dy, along_x * dx, _position(first)])
    try:
        return Geometry((len(headers), *first.size), matrix)
    except GeometryError as error:
        raise GeometryError(f"{where}: {one_line(error)}; {_REMEDY}") from error


def _refuse_shifted(headers: Sequence[SliceHeader], where: Path) -> None:
    """Refuse slices that do not lie on one line, however far apart they are on it."""
    positions, at = np.array([_position(header) for header in headers]), heights(headers)
    on_line = np.outer((at - at[0]) / (at[-1] - at[0]), positions[-1] - positions[0])
    apart = np.linalg.norm(positions - positions[0] - on_line, axis=1)
    if apart.max() > max(0.5, 0.1 * float(np.median(np.diff(at)))):
        raise GeometryError(
            f"{where}: slices are shifted against each other by up to {apart.max():.2f} mm "
            f"({headers[int(apart.argmax())].name}); {_REMEDY}"
        )


def _normal(header: SliceHeader) -> npt.NDArray[np.float64]:
    normal = np.cross(*_known(header.orientation, header))
    return np.asarray(normal / np.linalg.norm(normal))


def _position(header: SliceHeader) -> npt.NDArray[np.float64]:
    return _known(header.position, header)


def _known(value: npt.NDArray[np.float64] | None, header: SliceHeader) -> npt.NDArray[np.float64]:
    if value is None:  # never for sorted slices
        raise GeometryError(f"{header.path} does not say where it lies; {_REMEDY}")
    return value
