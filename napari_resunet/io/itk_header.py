"""What the text header of a MetaImage or NRRD file says, before ITK is asked to open anything it names."""

from __future__ import annotations

import re
from pathlib import Path

from napari_resunet.errors import InputError

_MOST_HEADER_BYTES = 1 << 16


def read_text_header(path: Path) -> dict[str, str]:
    """Return the fields of a MetaImage or NRRD header, names in lower case without blanks.

    The field `elementdatafile` (MetaImage) or `datafile` (NRRD) ends the header, or an empty line does; if it
    is a list of files, its lines follow in the value.
    """
    with path.open("rb") as file:
        text = file.read(_MOST_HEADER_BYTES).decode("latin-1")
    is_nrrd = text.startswith("NRRD")
    fields: dict[str, str] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if is_nrrd and not line.strip():
            break
        name, found, value = line.partition(":" if is_nrrd else "=")
        if not found or line.startswith("#"):
            continue
        key = name.strip().lower().replace(" ", "")
        fields[key] = value.lstrip("=").strip()  # NRRD's own keys are written key:=value
        if key in ("elementdatafile", "datafile"):
            if fields[key].upper().startswith("LIST"):
                fields[key] = "\n".join(lines[number + 1 :])
            if not is_nrrd or "\n" in fields[key]:
                break
    return fields


def data_files(fields: dict[str, str], path: Path) -> list[Path]:
    """Return the files with the voxels that a header names, none if they are in the same file.

    Raises
    ------
    InputError
        If one is not a file in the folder of the header or below: a header must not make us read others.
    """
    named = fields.get("elementdatafile", fields.get("datafile", "LOCAL"))
    if named.upper() == "LOCAL":
        return []
    folder = path.parent.resolve()
    files = []
    for line in filter(None, map(str.strip, named.splitlines())):
        if not line.isprintable():
            raise InputError(
                f"{path} is damaged: the name of the file with its voxels is none; export it again"
            )
        plain = (folder / line).resolve()
        if not plain.is_relative_to(folder):
            raise InputError(f"{path} takes its voxels from {line}, outside its folder; this is not followed")
        if re.search(r"%\d*d", line):
            raise InputError(f"{path} takes its voxels from numbered files ({line}); convert it to one file")
        if not plain.is_file():
            raise InputError(f"{path} needs {line} beside it, which is not there; copy both files")
        files.append(plain)
    return files


def states_spacing(fields: dict[str, str]) -> bool:
    """Whether the header says how large the voxels are."""
    return any(name in fields for name in ("elementspacing", "elementsize", "spacings", "spacedirections"))


def states_orientation(fields: dict[str, str]) -> bool:
    """Whether the header says how the voxels lie in the patient."""
    in_metaimage = any(name in fields for name in ("transformmatrix", "rotation", "orientation"))
    return in_metaimage or ("space" in fields and "spacedirections" in fields)
