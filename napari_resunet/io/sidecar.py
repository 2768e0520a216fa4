"""The JSON beside an exported file: what it is, and enough to make it again. It holds no patient data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from napari_resunet.errors import InputError
from napari_resunet.geometry import Geometry
from napari_resunet.io.atomic import replacing
from napari_resunet.io.regular_file import one_line
from napari_resunet.volume import Source

PROGRAM = "napari-resunet"
FORMAT_VERSION = 1
NOTICE = "For research use only. Not a medical device."


def describe_source(source: Source | None) -> dict[str, Any] | None:
    """Return name, kind and checksum of a source, without the folder it is in."""
    if source is None:
        return None
    return {"name": source.path.name, "format": source.format, "sha256": source.sha256}


def describe_geometry(geometry: Geometry) -> dict[str, Any]:
    """Return shape, matrix, spacing and directions in plain numbers."""
    return {
        "shape_zyx": list(geometry.shape),
        "index_to_lps": geometry.index_to_lps.tolist(),
        "spacing_zyx_mm": list(geometry.spacing_mm),
        "axis_codes_zyx": geometry.axis_codes,
    }


def write_sidecar(path: Path, facts: Mapping[str, Any]) -> None:
    """Write `facts` with program, version and date as JSON, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    record = {
        "format_version": FORMAT_VERSION,
        "program": PROGRAM,
        "version": program_version(),
        "notice": NOTICE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    }
    text = json.dumps(record, indent=2, sort_keys=True, default=_plain, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_sidecar(path: Path) -> dict[str, Any]:
    """Return what a sidecar says.

    Raises
    ------
    InputError
        If it is missing, not ours, or from a newer version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read as JSON ({one_line(error)}); export the mask again"
        ) from error
    if not isinstance(record, dict) or record.get("program") != PROGRAM:
        raise InputError(f"{path} was not written by {PROGRAM}; give the JSON beside an exported mask")
    version = record.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {version}, newer than {FORMAT_VERSION}; update {PROGRAM}"
        )
    return record


def program_version() -> str:
    """Return the version of this program."""
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:  # run from a folder, not installed
        return "unknown"


def _plain(value: Any) -> Any:
    """Return what JSON can hold for what it cannot."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Path):
        return value.name  # the folders above may name a patient
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
