"""Folders that files are to be written into."""

from __future__ import annotations

import tempfile
from pathlib import Path

from napari_resunet.errors import OutputError


def require_folder(path: Path) -> Path:
    """Return the folder of a file that is to be written, or raise `OutputError` if it cannot be written to."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist; create it, or choose another for {path.name}")
    try:  # what the permissions say does not count on a network drive or a full disk
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"probe")
    except OSError as error:
        why = error.strerror or error
        raise OutputError(
            f"the folder {folder} may not be written to ({why}); choose another for {path.name}"
        ) from error
    return folder


def made_folder(folder: Path) -> Path:
    """Return a folder, which is made if it is not there, or raise `OutputError` if it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made a folder ({error.strerror}); choose another") from error
    return folder
