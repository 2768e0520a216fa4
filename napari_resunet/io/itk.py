"""MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr), with SimpleITK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from napari_resunet.errors import GeometryError, InputError, OutputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.frames import choose_frame
from napari_resunet.io.hounsfield import as_hu, as_labels
from napari_resunet.io.itk_header import data_files, read_text_header, states_orientation, states_spacing
from napari_resunet.io.metaimage import require_sane_size, require_whole
from napari_resunet.io.orientation import orientation_note
from napari_resunet.io.regular_file import one_line, require_regular, require_room, sha256_of
from napari_resunet.volume import Mask, Source, Volume

sitk: Any = SimpleITK  # it has no types
_BYTES = {"8-bit": 1, "16-bit": 2, "32-bit": 4, "64-bit": 8}
_IO_OF = {"NRRD": "NrrdImageIO", "MetaImage": "MetaImageIO"}


@dataclass(frozen=True)
class _Stored:
    """The voxels of a file as they are stored, and where they lie."""

    array: npt.NDArray[Any]  # (z, y, x)
    geometry: Geometry
    format: str
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def read_itk(
    path: Path,
    *,
    spacing_mm: Sequence[float] | None = None,
    frame: int | None = None,
    orientation: str | None = None,
) -> Volume:
    """Read a CT from a MetaImage or NRRD file.

    Parameters
    ----------
    path : Path
        The file, or the header of a pair; its voxels must be in its folder.
    spacing_mm : (z, y, x) floats, optional
        Used only if the file does not state its voxel size, which ITK then takes as 1 mm.
    frame : int, optional
        Which volume of a 4-D file; the first is 0.
    orientation : str, optional
        Where the array axes (z, y, x) run towards; used only if the file does not say.

    Returns
    -------
    Volume
        HU as (z, y, x), placed by origin, spacing and direction.

    Raises
    ------
    FrameChoiceError
        If the file holds several volumes and `frame` is None.
    InputError
        If the file is damaged, names files elsewhere, or does not hold images of real numbers.
    """
    stored = _read_stored(path, spacing_mm, orientation, frame)
    source = Source(path, stored.format, sha256_of(*stored.files), stored.files)
    return Volume(as_hu(stored.array), stored.geometry, stored.notes, source)


def read_itk_mask(
    path: Path, *, spacing_mm: Sequence[float] | None = None, orientation: str | None = None
) -> Mask:
    """Read a lung mask; raises as `read_itk` does, and for labels other than 0, 1, 2."""
    stored = _read_stored(path, spacing_mm, orientation)
    return Mask(as_labels(stored.array, path), stored.geometry)


def read_back_itk(path: Path) -> tuple[npt.NDArray[Any], Geometry]:
    """Return the stored numbers and their geometry, to check what was written."""
    stored = _read_stored(path)
    return stored.array, stored.geometry


def write_itk(
    array_zyx: npt.NDArray[np.uint8], geometry: Geometry, path: Path, fields: Mapping[str, str] | None = None
) -> None:
    """Write a mask as compressed NRRD or MetaImage, by the ending (not atomically: see `replacing`).

    `fields` go into the header of an NRRD as they are, as name:=value.

    Raises
    ------
    OutputError
        If ITK says it could not. It does not always say so: read the file again.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(array_zyx))
    image.SetOrigin(geometry.index_to_lps[:3, 3].tolist())
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetDirection(geometry.directions[:, ::-1].ravel().tolist())
    for name, value in (fields or {}).items():
        image.SetMetaData(name, value)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OutputError(
            f"{path.name} could not be written ({_reason(error)}); choose another folder or ending"
        ) from error


def _read_stored(
    path: Path,
    spacing_mm: Sequence[float] | None = None,
    orientation: str | None = None,
    frame: int | None = None,
) -> _Stored:
    require_regular(path)
    fields = read_text_header(path)
    files = data_files(fields, path)
    with path.open("rb") as file:
        kind = "NRRD" if file.read(4) == b"NRRD" else "MetaImage"
    if kind == "MetaImage":
        require_sane_size(fields, path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO(_IO_OF[kind])
    try:
        reader.ReadImageInformation()
        _require_grey(reader, path)
        _require_room(reader, fields, path, files or [path])
        frame_notes = _choose_frame(reader, frame, path)
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"{path} is truncated or damaged ({_reason(error)}); export it again") from error
    array = sitk.GetArrayFromImage(image)
    array = array.reshape((1, *array.shape)[-3:] if array.ndim == 2 else array.shape[-3:])
    geometry, notes = _geometry(image, array.shape, fields, spacing_mm, orientation, path)
    return _Stored(array, geometry, kind, (path, *files), (*frame_notes, *notes))


def _require_grey(reader: Any, path: Path) -> None:
    components = reader.GetNumberOfComponents()
    if components != 1:
        raise InputError(f"{path} holds {components} values a voxel (colour or vectors); export grey values")
    if "complex" in sitk.GetPixelIDValueAsString(reader.GetPixelID()):
        raise InputError(f"{path} holds complex numbers, not CT values; export the CT in grey values")


def _choose_frame(reader: Any, frame: int | None, path: Path) -> list[str]:
    """Make the reader read one volume of a 4-D file, and return a note if there was a choice."""
    size = list(reader.GetSize())
    if any(n > 1 for n in size[4:]):
        shown = " x ".join(map(str, size))
        raise InputError(f"{path} is {len(size)}-D ({shown}); save one grey volume as a 3-D file")
    chosen, notes = choose_frame(size[3] if len(size) > 3 else 1, frame, path)
    if notes:
        reader.SetExtractIndex([0, 0, 0, chosen, *(0 for _ in size[4:])])
        reader.SetExtractSize([*size[:3], *(0 for _ in size[3:])])
    return notes


def _require_room(reader: Any, fields: dict[str, str], path: Path, files: Sequence[Path]) -> None:
    """Refuse files that cannot hold what their header declares: ITK may fill what is missing with zeros."""
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    item = next((size for name, size in _BYTES.items() if kind.startswith(name)), 1)
    packed = fields.get("compresseddata", "").lower() == "true" or fields.get("encoding", "raw") != "raw"
    declared = int(np.prod([int(n) for n in reader.GetSize()], dtype=object)) * item
    require_room(declared // len(files), files[0], packed=packed)
    if "elementdatafile" in fields and len(files) == 1:
        require_whole(fields, path, files[0], declared)


def _geometry(
    image: Any,
    shape: tuple[int, ...],
    fields: dict[str, str],
    spacing_mm: Sequence[float] | None,
    orientation: str | None,
    path: Path,
) -> tuple[Geometry, list[str]]:
    flat = image.GetDimension()
    used = min(flat, 3)
    notes = []
    directions, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    directions[:used, :used] = np.reshape(image.GetDirection(), (flat, flat))[:used, :used]
    spacing[:used], origin[:used] = image.GetSpacing()[:used], image.GetOrigin()[:used]
    if not states_spacing(fields):
        if spacing_mm is None:
            raise SpacingUnknownError(
                f"{path} does not say how large its voxels are; give the spacing in mm (--spacing Z,Y,X or spacing_mm=)"
            )
        spacing = np.array(tuple(spacing_mm)[::-1], dtype=np.float64)
    elif used < 3:
        spacing[2] = 1.0 if spacing_mm is None else spacing_mm[0]
        notes.append(f"a single slice without a thickness: taken as {spacing[2]:g} mm")
    is_stated = states_orientation(fields)
    if orientation is not None and not is_stated:
        directions = Geometry.from_spacing(shape, spacing[::-1].tolist(), orientation).directions[:, ::-1]
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([(directions * spacing)[:, ::-1], origin])
    try:
        geometry = Geometry((shape[0], shape[1], shape[2]), matrix)
    except GeometryError as error:
        raise GeometryError(f"{path}: {one_line(error)}; export the CT again") from error
    if not is_stated:
        notes.append(orientation_note(geometry.axis_codes, orientation))
    if geometry.is_sheared:
        notes.append("the axes are not at right angles (gantry tilt?); kept as they are")
    return geometry, notes


def _reason(error: RuntimeError) -> str:
    """Return the last line of ITK's long message that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and line != "Reason: Success"]
    return said[-1] if said else "no reason given"
