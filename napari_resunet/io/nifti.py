"""NIfTI, with nibabel: .nii, .nii.gz, and .hdr with .img; NIfTI-1 and NIfTI-2; both byte orders."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import array_from_file

from napari_resunet.errors import GeometryError, InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.hounsfield import as_hu, as_labels, require_real
from napari_resunet.io.regular_file import (
    first_bytes,
    is_gzip,
    one_line,
    require_regular,
    require_room,
    sha256_of,
)
from napari_resunet.volume import Mask, Source, Volume

_Nifti1Header: Any = Nifti1Header  # nibabel is typed in part only
_Nifti2Header: Any = Nifti2Header
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # unknown (taken as mm), metre, mm, micron
# What of a header places the voxels; an export repeats these to the bit.
PLACING_FIELDS = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


@dataclass(frozen=True)
class _Stored:
    """The voxels of a NIfTI file as they are stored, and its header."""

    array: npt.NDArray[Any]  # (z, y, x)
    header: Any
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def read_nifti(path: Path, *, spacing_mm: Sequence[float] | None = None) -> Volume:
    """Read a CT from a NIfTI file.

    Parameters
    ----------
    path : Path
        The file; of a pair either .hdr or .img. Gzip is known by content, not by name.
    spacing_mm : (z, y, x) floats, optional
        Used only if the file has neither affine nor voxel size.

    Returns
    -------
    Volume
        HU as (z, y, x), which is the file's array transposed.

    Raises
    ------
    InputError
        If the file is damaged or does not hold one 3-D image of real numbers.
    GeometryError
        If its affine is not finite or flattens the volume.
    """
    stored = _read_stored(path)
    slope, intercept, scale_notes = _scaling(stored.header)
    geometry, place_notes = _geometry(stored.header, stored.array.shape, path, spacing_mm)
    source = Source(
        path=path,
        format="NIfTI",
        sha256=sha256_of(*stored.files),
        files=stored.files,
        nifti_header=stored.header.binaryblock if _has_voxel_size(stored.header) else None,
    )
    notes = (*stored.notes, *scale_notes, *place_notes)
    return Volume(as_hu(stored.array, slope, intercept), geometry, notes, source)


def read_nifti_mask(path: Path, *, spacing_mm: Sequence[float] | None = None) -> Mask:
    """Read a lung mask from a NIfTI file; raises as `read_nifti` does, and for labels other than 0, 1, 2."""
    stored = _read_stored(path)
    slope, intercept, _ = _scaling(stored.header)
    geometry, _ = _geometry(stored.header, stored.array.shape, path, spacing_mm)
    return Mask(as_labels(stored.array, path, slope, intercept), geometry)


def read_back_nifti(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Return the stored numbers and their geometry, to check what was written."""
    stored = _read_stored(path)
    return stored.array, _geometry(stored.header, stored.array.shape, path, None)[0]


def repeats_place(path: Path, source: Source, geometry: Geometry) -> bool:
    """Whether a file's sform, qform, codes, pixdim and units are to the bit those of a source of this geometry.

    True too if the source is no NIfTI file, or its own geometry is another one: there is nothing to repeat.
    """
    wanted = _header_like(source, geometry)
    if wanted is None:
        return True
    found = read_nifti_header(path)
    return all(
        np.asarray(found[name]).astype(np.asarray(wanted[name]).dtype).tobytes() == wanted[name].tobytes()
        for name in PLACING_FIELDS
    )


def read_nifti_header(path: Path) -> Any:
    """Return the header of a NIfTI file as nibabel's object, unchanged.

    Raises
    ------
    InputError
        If the file does not start with a NIfTI header.
    """
    require_regular(path)
    header = parse_nifti_header(first_bytes(path, 540))
    if header is None:
        raise InputError(f"{path} does not start with a NIfTI header; it is damaged or of another kind")
    return header


def parse_nifti_header(block: bytes) -> Any | None:
    """Return nibabel's header of the first bytes of a file, or None if they are no NIfTI header."""
    if block[344:347] in (b"n+1", b"ni1") and len(block) >= 348:
        return _Nifti1Header(block[:348], check=False)
    if block[4:7] in (b"n+2", b"ni2") and len(block) >= 540:
        return _Nifti2Header(block[:540], check=False)
    return None


def write_nifti(
    array_zyx: npt.NDArray[np.uint8],
    geometry: Geometry,
    source: Source | None,
    path: Path,
    *,
    slope: float = 1.0,
) -> None:
    """Write a mask or a probability map as NIfTI (not atomically: see `replacing`).

    If `source` is the NIfTI file whose geometry this is, its sform, qform, codes, pixdim and units are
    repeated to the bit. Otherwise the sform is the geometry's, with code 1 (scanner), and so is the qform
    unless the geometry is sheared.

    Parameters
    ----------
    array_zyx : (z, y, x) array of uint8
        The voxels.
    geometry : Geometry
        Where they lie.
    source : Source, optional
        The CT.
    path : Path
        Ends in .nii or .nii.gz.
    slope : float
        Other programs show the stored numbers times this.
    """
    header = _header_like(source, geometry) or _header_of(geometry)
    header.set_data_shape(array_zyx.shape[::-1])
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(slope, 0)
    header["magic"] = b"n+1" if header.sizeof_hdr == 348 else b"n+2"
    offset = header.single_vox_offset
    header["vox_offset"] = offset
    block = header.binaryblock.ljust(offset, b"\0")
    # mtime=0 and no file name inside: the same mask gives the same bytes
    with path.open("wb") as raw:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", mode="wb", compresslevel=4, fileobj=raw, mtime=0) as packed:
                packed.write(block)
                packed.write(np.ascontiguousarray(array_zyx).data)
        else:
            raw.write(block)
            raw.write(np.ascontiguousarray(array_zyx).data)


def _header_like(source: Source | None, geometry: Geometry) -> Any | None:
    """Return a header that repeats the source's placing fields, if they are those of `geometry`."""
    if source is None or source.nifti_header is None:
        return None
    original = parse_nifti_header(source.nifti_header)
    if original is None:
        return None
    place, _ = _geometry(original, geometry.shape, source.path, None)
    if not place.matches(geometry, within_mm=1e-3):
        return None
    header = type(original)()
    for name in PLACING_FIELDS:
        header[name] = original[name]
    return header


def _header_of(geometry: Geometry) -> Any:
    header = _Nifti1Header()
    header.set_data_shape(geometry.shape[::-1])
    header.set_xyzt_units("mm")
    affine = geometry.ras_affine
    header["pixdim"][1:4] = geometry.spacing_mm[::-1]
    if not geometry.is_sheared:
        header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    return header


def _read_stored(path: Path) -> _Stored:
    header_path, data_path = _pair(path)
    header = read_nifti_header(header_path)
    shape, notes = _three_dimensions(header, path)
    require_regular(data_path)
    dtype = header.get_data_dtype()
    require_real(dtype, path)
    packed = is_gzip(data_path)
    require_room(int(np.prod(shape, dtype=object)) * dtype.itemsize, data_path, packed=packed)
    offset = max(int(header["vox_offset"]), int(header.sizeof_hdr) if data_path == header_path else 0)
    try:
        with gzip.open(data_path) if packed else data_path.open("rb") as file:
            array = array_from_file(shape, dtype, cast("IOBase", file), offset, mmap=False)
            file.read(1 << 20)  # to the end, where gzip checks its checksum
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"{data_path} is truncated or damaged ({one_line(error)}); copy or export it again") from error
    if data_path.name.lower().endswith(".gz") != packed:
        notes.append(f"{data_path.name} is {'' if packed else 'not '}a gzip file, whatever its name says")
    return _Stored(array.T, header, tuple(dict.fromkeys((header_path, data_path))), tuple(notes))


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the file with the header and the file with the data; mostly these are one."""
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    header, data = (path.with_suffix(s.upper() if path.suffix.isupper() else s) for s in (".hdr", ".img"))
    if not header.exists() or not data.exists():
        missing = header if not header.exists() else data
        raise InputError(f"{path.name} needs {missing.name} beside it, which is not there; copy both files")
    return header, data


def _three_dimensions(header: Any, path: Path) -> tuple[tuple[int, int, int], list[str]]:
    """Return the shape (x, y, z), and a note if single frames were taken off."""
    try:
        declared = tuple(int(n) for n in header.get_data_shape())
    except HeaderDataError as error:
        raise InputError(f"{path} has a damaged header ({one_line(error)}); export it again") from error
    if not declared or min(declared) < 1:
        raise InputError(f"{path} declares a shape of {declared}; it holds no voxels; export it again")
    if any(n > 1 for n in declared[3:]):
        shown = " x ".join(map(str, declared))
        raise InputError(f"{path} holds more than one volume ({shown}); save one of them as a 3-D file")
    x, y, z = (*declared, 1, 1)[:3] if len(declared) < 3 else declared[:3]
    notes = [f"the file is {len(declared)}-D with one frame; read as 3-D"] if len(declared) > 3 else []
    return (x, y, z), notes


def _scaling(header: Any) -> tuple[float, float, list[str]]:
    """Return slope, intercept and a note if they were there but make no sense."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isfinite(slope) and slope != 0 and np.isfinite(intercept):
        return slope, intercept, []
    if (slope == 0 or np.isnan(slope)) and (intercept == 0 or np.isnan(intercept)):
        return 1.0, 0.0, []
    return 1.0, 0.0, [f"scl_slope {slope:g} with scl_inter {intercept:g} makes no sense; not applied"]


def _has_voxel_size(header: Any) -> bool:
    """Whether the header by itself places the voxels, so that repeating it says where they lie."""
    size = header["pixdim"][1:4]
    has_size = np.isfinite(size).all() and (size > 0).all()
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0 or has_size)


def _geometry(
    header: Any, shape_zyx: Sequence[int], path: Path, spacing_mm: Sequence[float] | None
) -> tuple[Geometry, list[str]]:
    """Return where the voxels lie: by sform, else qform, else voxel size; and notes."""
    if not _has_voxel_size(header):
        if spacing_mm is None:
            raise SpacingUnknownError(
                f"{path} says neither how large its voxels are nor how they lie; give the voxel size in mm "
                "(--spacing Z,Y,X or spacing_mm=)"
            )
        note = "the file does not say how the voxels lie; taken as axial slices, lowest first, front up"
        return Geometry.from_spacing(shape_zyx, spacing_mm), [note]
    affine, notes = _affine(header, path)
    if not np.isfinite(affine).all():
        raise GeometryError(f"{path} has an affine that is not finite; mend it or export the CT again")
    unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    if unit != 1:
        affine = np.diag([unit, unit, unit, 1.0]) @ affine
        notes.append(f"the file's unit of length is {unit:g} mm; converted")
    try:
        geometry = Geometry.from_ras_affine(tuple(shape_zyx)[::-1], affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {one_line(error)}; mend the affine or export the CT again") from error
    if geometry.is_sheared:
        notes.append("the axes are not at right angles (gantry tilt?); kept as they are")
    return geometry, notes


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
    note = (
        "ORIENTATION UNKNOWN: sform and qform codes are 0; assumed that x runs to the patient's left, y to "
        "the front and z to the head: check that right and left are not exchanged"
    )
    return np.asarray(header.get_base_affine(), dtype=np.float64), [note]


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
