"""Where the slices of a DICOM series lie, from position, orientation and pixel spacing and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import GeometryError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_headers import SliceHeader, same_size
from napari_resunet.io.regular_file import one_line

SAME_MM = 1e-3  # slices nearer than this lie at one position
_REMEDY = "export the whole series again"


def sort_slices(headers: Sequence[SliceHeader], where: Path) -> list[SliceHeader]:
    """Return the slices ascending along their normal, the cross product of row and column direction.

    Raises
    ------
    GeometryError
        If one does not say where it lies, or they do not have one orientation and one pixel spacing.
    """
    for name in ("position", "orientation", "pixel_spacing_mm"):
        lacking = [header for header in headers if getattr(header, name) is None]
        if lacking:
            what = name.removesuffix("_mm").replace("_", " ")
            raise GeometryError(
                f"{where}: {len(lacking)} of {len(headers)} slices have no valid {what} "
                f"(the first is {lacking[0].path.name}); {_REMEDY}"
            )
    _require_alike(headers, "orientation", 1e-3, where)
    _require_alike(headers, "pixel_spacing_mm", 1e-3, where)
    normal = _normal(headers[0])
    return sorted(headers, key=lambda header: float(_position(header) @ normal))


def heights(headers: Sequence[SliceHeader]) -> npt.NDArray[np.float64]:
    """Return how far in mm each slice lies along the normal."""
    return np.array([_position(header) for header in headers]) @ _normal(headers[0])


def series_geometry(headers: Sequence[SliceHeader], where: Path) -> tuple[Geometry, list[str]]:
    """Return the geometry of two or more sorted slices at different positions, and notes.

    The step from slice to slice is (last position - first position) / (n - 1), so that gantry tilt is kept.

    Raises
    ------
    GeometryError
        If slices are missing, not evenly spaced, or shifted against each other.
    """
    positions = np.array([_position(header) for header in headers])
    _require_even(headers, where)
    step = (positions[-1] - positions[0]) / (len(headers) - 1)
    apart = np.linalg.norm(positions - (positions[0] + np.arange(len(headers))[:, None] * step), axis=1)
    limit = max(0.5, 0.1 * float(np.linalg.norm(step)))
    if apart.max() > limit:
        raise GeometryError(
            f"{where}: slices are shifted against each other by up to {apart.max():.2f} mm "
            f"({headers[int(apart.argmax())].path.name}); {_REMEDY}"
        )
    notes = []
    if apart.max() > 0.05:
        notes.append(f"slice positions differ from an even grid by up to {apart.max():.2f} mm")
    geometry = _geometry(headers, step, where)
    if geometry.is_sheared:
        cosine = abs(float(step @ _normal(headers[0]))) / float(np.linalg.norm(step))
        tilt = math.degrees(math.acos(min(1.0, cosine)))
        notes.append(f"the gantry was tilted by {tilt:.1f} degrees: the volume is sheared, and kept so")
    return geometry, notes


def slice_geometry(
    header: SliceHeader, where: Path, spacing_mm: Sequence[float] | None
) -> tuple[Geometry, list[str]]:
    """Return the geometry of a single slice, and notes.

    Raises
    ------
    SpacingUnknownError
        If it does not say where it lies and how large its pixels are, and `spacing_mm` is None.
    """
    rows, columns = same_size([header], where)
    missing = [
        name.removesuffix("_mm").replace("_", " ")
        for name in ("position", "orientation", "pixel_spacing_mm")
        if getattr(header, name) is None
    ]
    if missing and spacing_mm is None:
        raise SpacingUnknownError(
            f"{where} has no valid {' and no valid '.join(missing)}; give the voxel size in mm "
            "(--spacing Z,Y,X or spacing_mm=), and it is taken as an axial slice"
        )
    if missing and spacing_mm is not None:
        note = f"the slice has no valid {' and no valid '.join(missing)}: taken as axial, front up"
        return Geometry.from_spacing((1, rows, columns), spacing_mm), [note]
    thickness = header.length_mm("SliceThickness") or header.length_mm("SpacingBetweenSlices")
    notes = []
    if thickness is None:
        thickness = 1.0 if spacing_mm is None else float(spacing_mm[0])
        notes.append(f"a single slice without a thickness: taken as {thickness:g} mm")
    return _geometry([header], thickness * _normal(header), where), notes


def _geometry(headers: Sequence[SliceHeader], step: npt.NDArray[np.float64], where: Path) -> Geometry:
    first, (rows, columns) = headers[0], same_size(headers, where)
    along_x, along_y = first.orientation if first.orientation is not None else (np.zeros(3), np.zeros(3))
    dy, dx = first.pixel_spacing_mm if first.pixel_spacing_mm is not None else (0.0, 0.0)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([step, along_y * dy, along_x * dx, _position(first)])
    try:
        return Geometry((len(headers), rows, columns), matrix)
    except GeometryError as error:
        raise GeometryError(f"{where}: {one_line(error)}; {_REMEDY}") from error


def _require_even(headers: Sequence[SliceHeader], where: Path) -> None:
    steps = np.diff(heights(headers))
    usual = float(np.median(steps))
    gaps = np.flatnonzero(steps > 1.5 * usual)
    if 0 < len(gaps) <= max(2, len(steps) // 10):
        missing = int(np.rint(steps[gaps] / usual - 1).sum())
        axis = int(np.abs(_normal(headers[0])).argmax())
        low, high = (_position(headers[int(gaps[0]) + i])[axis] for i in (0, 1))
        elsewhere = f", and in {len(gaps) - 1} more places" if len(gaps) > 1 else ""
        raise GeometryError(
            f"{where}: {missing} of {len(headers) + missing} slices are missing between "
            f"{'xyz'[axis]} = {low:.1f} mm and {'xyz'[axis]} = {high:.1f} mm{elsewhere}; {_REMEDY}"
        )
    if np.abs(steps - usual).max() > max(0.1 * usual, 0.15):  # 0.15: positions are often rounded to 0.1 mm
        raise GeometryError(
            f"{where}: the slices are not evenly spaced ({steps.min():.2f} to {steps.max():.2f} mm apart); "
            "export a series with one spacing"
        )


def _require_alike(headers: Sequence[SliceHeader], name: str, within: float, where: Path) -> None:
    values = np.array([getattr(header, name) for header in headers])
    apart = np.abs(values - values[0]).reshape(len(values), -1).max(axis=1)
    if apart.max() > within:
        odd = headers[int(apart.argmax())].path.name
        what = name.removesuffix("_mm").replace("_", " ")
        raise GeometryError(
            f"{where} mixes slices of different {what} ({headers[0].path.name} and {odd}); "
            "export one series only"
        )


def _normal(header: SliceHeader) -> npt.NDArray[np.float64]:
    if header.orientation is None:  # never for checked slices
        raise GeometryError(f"{header.path} has no orientation; {_REMEDY}")
    normal = np.cross(header.orientation[0], header.orientation[1])
    return np.asarray(normal / np.linalg.norm(normal))


def _position(header: SliceHeader) -> npt.NDArray[np.float64]:
    if header.position is None:  # never for checked slices
        raise GeometryError(f"{header.path} has no position; {_REMEDY}")
    return header.position
