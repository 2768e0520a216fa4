"""What kind of file a path is, by its first bytes and not by its name."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from napari_resunet.errors import InputError
from napari_resunet.io.regular_file import first_bytes, require_regular

PICTURES = ("PNG", "JPEG")
KINDS = ("DICOM", "NIfTI", "TIFF", "NRRD", "MetaImage", *PICTURES)
READABLE = (
    "a DICOM folder or file, NIfTI (.nii, .nii.gz, .hdr/.img), TIFF, NRRD or MetaImage (.mha, .mhd), or one slice as "
    "PNG or JPEG"
)
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FIRST_ENTRIES = 8  # of a folder, looked at to see whether it is DICOM


def kind_of(path: Path) -> str | None:
    """Return one of `KINDS`, or None; a folder is taken for DICOM.

    Raises
    ------
    InputError
        If there is no such file, it is empty, or it is not a regular one.
    """
    if path.is_dir():
        return "DICOM"
    require_regular(path)
    if path.suffix.lower() == ".img" and path.with_suffix(".hdr").exists():
        path = path.with_suffix(".hdr")  # the data file of a NIfTI pair has no mark of its own
    try:
        return kind_of_bytes(first_bytes(path, 512))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check the permissions") from error


def kind_of_bytes(start: bytes) -> str | None:
    """Return the kind of a file that starts with these (at least 348, if it is as long) bytes."""
    if start[128:132] == b"DICM":
        return "DICOM"
    if start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0"):
        return "NIfTI"
    if start.startswith(_TIFF_STARTS):
        return "TIFF"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"NRRD"):
        return "NRRD"
    if start.lstrip().startswith((b"ObjectType", b"NDims", b"Comment =")) and b"NDims" in start:
        return "MetaImage"
    return "DICOM" if has_bare_dicom_start(start) else None


def has_bare_dicom_start(start: bytes) -> bool:
    """Whether bytes look like DICOM without its preamble: a short first element of group 2 or 8."""
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00") or start[3] != 0:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:8], "little") < 256


def can_read(path: str | Path) -> bool:
    """Whether `path` looks like a CT or a mask that `read_volume` can read; quick, and never raises.

    A folder does when one of its first few files is DICOM. A picture (PNG, JPEG) does not: it is mostly none.
    """
    try:
        return _looks_readable(Path(path))
    except (InputError, OSError, ValueError, TypeError):  # a name with a NUL byte is a ValueError
        return False


def _looks_readable(path: Path) -> bool:
    if not path.is_dir():
        return kind_of(path) not in (None, *PICTURES)
    with os.scandir(path) as entries:
        files = (Path(entry.path) for entry in islice(entries, _FIRST_ENTRIES) if entry.is_file())
        return any(file.stat().st_size > 0 and kind_of(file) == "DICOM" for file in files)
