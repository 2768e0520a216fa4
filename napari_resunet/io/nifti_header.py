"""What a NIfTI header says of the place, shape and scale of its voxels, and headers that say the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from napari_resunet.errors import GeometryError, InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.orientation import orientation_note
from napari_resunet.io.regular_file import one_line
from napari_resunet.volume import Source

_Nifti1Header: Any = Nifti1Header  # nibabel is typed in part only
_Nifti2Header: Any = Nifti2Header
_HIGHEST_CODE = 5
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown (taken as mm), metre, mm, micron
# What of a header places the voxels; an export repeats these to the bit.
PLACING_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def parse_nifti_header(block: bytes) -> Any | None:
    """Return nibabel's header of the first bytes of a file, or None if they are no NIfTI header."""
    if block[344:347] in (b"n+1", b"ni1") and len(block) >= 348:
        return _Nifti1Header(block[:348], check=False)
    if block[4:7] in (b"n+2", b"ni2") and len(block) >= 540:
        return _Nifti2Header(block[:540], check=False)
    return None


def shape_and_frames(header: Any, path: Path) -> tuple[tuple[int, int, int], int, list[str]]:
    """Return the shape (x, y, z), how many volumes of it there are, and a note if a single frame was taken off."""
    try:
        declared = tuple(int(n) for n in header.get_data_shape())
    except HeaderDataError as error:
        raise InputError(f"{path} has a damaged header ({one_line(error)}); export it again") from error
    if not declared or min(declared) < 1:
        raise InputError(f"{path} declares a shape of {declared}; it holds no voxels; export it again")
    if any(n > 1 for n in declared[4:]):
        shown = " x ".join(map(str, declared))
        raise InputError(
            f"{path} is {len(declared)}-D ({shown}), such as a field of vectors; save one grey volume as a 3-D file"
        )
    x, y, z, frames = (*declared, 1, 1, 1)[:4]
    is_single = len(declared) > 3 and frames == 1
    notes = [f"the file is {len(declared)}-D with one frame; read as 3-D"] if is_single else []
    return (x, y, z), frames, notes


def stored_dtype(header: Any, path: Path) -> np.dtype[Any]:
    """Return the type of the stored numbers."""
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (KeyError, HeaderDataError) as error:
        raise InputError(
            f"{path} has a datatype of {int(header['datatype'])}, which NIfTI does not know; export it again"
        ) from error
    return dtype


def voxel_offset(header: Any, path: Path, *, is_single: bool) -> int:
    """Return where the voxels begin; in a single file that is behind the header."""
    offset = float(header["vox_offset"])
    least = int(header.single_vox_offset) if is_single else 0
    if not (np.isfinite(offset) and offset >= least):
        raise InputError(
            f"{path} says that its voxels begin at byte {offset:g}, within its header of {least} bytes; export it again"
        )
    return int(offset)


def scaling(header: Any) -> tuple[float, float, list[str]]:
    """Return slope, intercept and a note if they were there but make no sense."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isfinite(slope) and slope != 0 and np.isfinite(intercept):
        return slope, intercept, []
    if (slope == 0 or np.isnan(slope)) and (intercept == 0 or np.isnan(intercept)):
        return 1.0, 0.0, []
    return 1.0, 0.0, [f"scl_slope {slope:g} with scl_inter {intercept:g} makes no sense; not applied"]


def has_voxel_size(header: Any) -> bool:
    """Whether the header by itself places the voxels, so that repeating it says where they lie."""
    size = header["pixdim"][1:4]
    has_size = np.isfinite(size).all() and (size > 0).all()
    return has_codes(header) or bool(has_size)


def has_codes(header: Any) -> bool:
    """Whether the header says how the voxels lie in the patient."""
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0)


def header_geometry(
    header: Any,
    shape_zyx: Sequence[int],
    path: Path,
    spacing_mm: Sequence[float] | None = None,
    orientation: str | None = None,
) -> tuple[Geometry, list[str]]:
    """Return where the voxels lie: by sform, else qform, else voxel size and the user's word; and notes."""
    _refuse_unknown_codes(header, path)
    if not has_voxel_size(header):
        if spacing_mm is None:
            raise SpacingUnknownError(
                f"{path} says neither how large its voxels are nor how they lie; give the voxel size in mm "
                "(--spacing Z,Y,X or spacing_mm=)"
            )
        return _by_user(shape_zyx, spacing_mm, orientation)
    unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    if orientation is not None and not has_codes(header):
        return _by_user(shape_zyx, header["pixdim"][3:0:-1].astype(np.float64) * unit, orientation)
    affine, notes = _affine(header, path)
    if not np.isfinite(affine).all():
        raise GeometryError(f"{path} has an affine that is not finite; mend it or export the CT again")
    if unit != 1:
        affine = np.diag([unit, unit, unit, 1.0]) @ affine
        notes.append(f"the file's unit of length is {unit:g} mm; converted")
    try:
        geometry = Geometry.from_ras_affine(tuple(shape_zyx)[::-1], affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {one_line(error)}; mend the affine or export the CT again") from error
    if not has_codes(header):
        notes.append(orientation_note(geometry.axis_codes, None))
    if geometry.is_sheared:
        notes.append("the axes are not at right angles (gantry tilt?); kept as they are")
    return geometry, notes


def _refuse_unknown_codes(header: Any, path: Path) -> None:
    """Refuse a code that is none: some programs ignore the affine then, others do not."""
    for name in ("sform", "qform"):
        code = int(header[f"{name}_code"])
        if not 0 <= code <= _HIGHEST_CODE:
            raise GeometryError(
                f"{path} has {name} code {code}, which NIfTI does not know (0 to {_HIGHEST_CODE} are known); mend it "
                "or export the CT again"
            )


def _affine(header: Any, path: Path) -> tuple[npt.NDArray[np.float64], list[str]]:
    """Return the (4, 4) affine to RAS in the file's unit, and notes."""
    sform = header.get_sform() if header["sform_code"] > 0 else None
    qform = _qform(header, path, needed=sform is None) if header["qform_code"] > 0 else None
    if sform is not None and qform is not None and np.isfinite(sform).all():
        shape = np.array([*header.get_data_shape()[:3], 1, 1, 1][:3])
        difference = (sform - qform)[:3]
        apart = max(float(np.linalg.norm(difference @ [*corner, 1])) for corner in (0 * shape, shape - 1))
        if apart > 0.1:
            return sform, [f"sform and qform place the voxels up to {apart:.1f} mm apart; the sform is used"]
    if sform is not None:
        return sform, []
    if qform is not None:
        return qform, []
    return np.asarray(header.get_base_affine(), dtype=np.float64), []


def _by_user(
    shape_zyx: Sequence[int], spacing_mm: Sequence[float], orientation: str | None
) -> tuple[Geometry, list[str]]:
    geometry = Geometry.from_spacing(shape_zyx, spacing_mm, orientation)
    return geometry, [orientation_note(geometry.axis_codes, orientation)]


def _qform(header: Any, path: Path, *, needed: bool) -> npt.NDArray[np.float64] | None:
    copy = header.copy()
    if copy["pixdim"][0] not in (-1, 1):  # the standard takes 0 as 1
        copy["pixdim"][0] = 1
    try:
        return np.asarray(copy.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        if not needed:
            return None
        raise GeometryError(f"{path} has an impossible qform ({one_line(error)}); export it again") from error


def header_like(source: Source | None, geometry: Geometry) -> Any | None:
    """Return a header that repeats the source's placing fields, if they are those of `geometry`."""
    if source is None or source.nifti_header is None:
        return None
    original = parse_nifti_header(source.nifti_header)
    if original is None:
        return None
    place, _ = header_geometry(original, geometry.shape, source.path)
    if not place.matches(geometry, within_mm=1e-3):
        return None
    header = type(original)()
    header.set_data_shape(geometry.shape[::-1])  # before: it also sets the pixdim of axes that there are not
    for name in PLACING_FIELDS:
        header[name] = original[name]
    return header


def header_of(geometry: Geometry) -> Any:
    header = _Nifti1Header()
    header.set_data_shape(geometry.shape[::-1])
    header.set_xyzt_units("mm")
    affine = geometry.ras_affine
    header["pixdim"][1:4] = geometry.spacing_mm[::-1]
    if not geometry.is_sheared:
        header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    return header
