"""NIfTI, with nibabel: .nii, .nii.gz, and .hdr with .img; NIfTI-1 and NIfTI-2; both byte orders."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import IOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from nibabel.volumeutils import array_from_file

from napari_resunet.errors import InputError
from napari_resunet.geometry import Geometry
from napari_resunet.io.frames import choose_frame
from napari_resunet.io.hounsfield import as_hu, as_labels, require_real
from napari_resunet.io.nifti_header import (
    PLACING_FIELDS,
    has_codes,
    has_voxel_size,
    header_geometry,
    header_like,
    header_of,
    parse_nifti_header,
    scaling,
    shape_and_frames,
    stored_dtype,
    voxel_offset,
)
from napari_resunet.io.regular_file import (
    first_bytes,
    is_gzip,
    one_line,
    require_regular,
    require_room,
    sha256_of,
)
from napari_resunet.volume import Mask, Source, Volume

_BLOCK = 1 << 20


@dataclass(frozen=True)
class _Stored:
    """The voxels of a NIfTI file as they are stored, and its header."""

    array: npt.NDArray[Any]  # (z, y, x)
    header: Any
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def read_nifti(
    path: Path,
    *,
    spacing_mm: Sequence[float] | None = None,
    frame: int | None = None,
    orientation: str | None = None,
) -> Volume:
    """Read a CT from a NIfTI file.

    Parameters
    ----------
    path : Path
        The file; of a pair either .hdr or .img. Gzip is known by content, not by name.
    spacing_mm : (z, y, x) floats, optional
        Used only if the file has neither affine nor voxel size.
    frame : int, optional
        Which volume of a 4-D file; the first is 0.
    orientation : str, optional
        Where the array axes (z, y, x) run towards; used only if the file has no affine, and then exported as one.

    Returns
    -------
    Volume
        HU as (z, y, x), which is the file's array transposed.

    Raises
    ------
    FrameChoiceError
        If the file holds several volumes and `frame` is None.
    InputError
        If the file is damaged or does not hold 3-D images of real numbers.
    GeometryError
        If its affine is not finite or flattens the volume.
    """
    stored = _read_stored(path, frame)
    slope, intercept, scale_notes = scaling(stored.header)
    geometry, place_notes = header_geometry(stored.header, stored.array.shape, path, spacing_mm, orientation)
    is_by_user = not has_codes(stored.header) and orientation is not None
    source = Source(
        path=path,
        format="NIfTI",
        sha256=sha256_of(*stored.files),
        files=stored.files,
        nifti_header=stored.header.binaryblock if has_voxel_size(stored.header) and not is_by_user else None,
    )
    notes = (*stored.notes, *scale_notes, *place_notes)
    return Volume(as_hu(stored.array, slope, intercept), geometry, notes, source)


def read_nifti_mask(
    path: Path, *, spacing_mm: Sequence[float] | None = None, orientation: str | None = None
) -> Mask:
    """Read a lung mask from a NIfTI file; raises as `read_nifti` does, and for labels other than 0, 1, 2."""
    stored = _read_stored(path)
    slope, intercept, _ = scaling(stored.header)
    geometry, _ = header_geometry(stored.header, stored.array.shape, path, spacing_mm, orientation)
    return Mask(as_labels(stored.array, path, slope, intercept), geometry)


def read_back_nifti(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Return the stored numbers and their geometry, to check what was written."""
    stored = _read_stored(path)
    return stored.array, header_geometry(stored.header, stored.array.shape, path)[0]


def repeats_place(path: Path, source: Source, geometry: Geometry) -> bool:
    """Whether a file's sform, qform, codes, pixdim and units are to the bit those of a source of this geometry.

    True too if the source is no NIfTI file, or its own geometry is another one: there is nothing to repeat.
    """
    wanted = header_like(source, geometry)
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
    header = header_like(source, geometry) or header_of(geometry)
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


def _read_stored(path: Path, frame: int | None = None) -> _Stored:
    header_path, data_path = _pair(path)
    header = read_nifti_header(header_path)
    shape, frames, notes = shape_and_frames(header, path)
    require_regular(data_path)
    dtype = stored_dtype(header, path)
    require_real(dtype, path)
    chosen, frame_notes = choose_frame(frames, frame, path)
    packed = is_gzip(data_path)
    length = int(np.prod(shape, dtype=object)) * dtype.itemsize
    require_room(frames * length, data_path, packed=packed, loaded=length)
    offset = voxel_offset(header, path, is_single=data_path == header_path)
    try:
        with gzip.open(data_path) if packed else data_path.open("rb") as file:
            start = offset + chosen * length
            array = array_from_file(shape, dtype, cast("IOBase", file), start, mmap=False)
            _read_on(file, (frames - 1 - chosen) * length if packed else 0)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(
            f"{data_path} is truncated or damaged ({one_line(error)}); copy or export it again"
        ) from error
    if data_path.name.lower().endswith(".gz") != packed:
        notes.append(f"{data_path.name} is {'' if packed else 'not '}a gzip file, whatever its name says")
    files = tuple(dict.fromkeys((header_path, data_path)))
    return _Stored(array.T, header, files, (*notes, *frame_notes))


def _read_on(file: BinaryIO | gzip.GzipFile, length: int) -> None:
    """Read the rest of a file, `length` bytes and a little more: at its end gzip checks its checksum."""
    left = length + _BLOCK
    while left > 0 and (block := file.read(_BLOCK)):
        left -= len(block)


def _pair(path: Path) -> tuple[Path, Path]:
    """Return the file with the header and the file with the data; mostly these are one."""
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    header, data = (path.with_suffix(s.upper() if path.suffix.isupper() else s) for s in (".hdr", ".img"))
    if not header.exists() or not data.exists():
        missing = header if not header.exists() else data
        raise InputError(f"{path.name} needs {missing.name} beside it, which is not there; copy both files")
    return header, data
