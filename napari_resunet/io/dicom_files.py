"""Which DICOM files there are: a single one, those of a folder, or those that a DICOMDIR names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from napari_resunet.errors import InputError
from napari_resunet.io.dicom_ahead import read_ahead
from napari_resunet.io.dicom_headers import SliceHeader, read_header
from napari_resunet.io.regular_file import require_regular
from napari_resunet.track import Track, silent

_MOST_NEIGHBOURS = 500  # files of a folder that are looked at for the sake of a note


def scan(path: Path, track: Track = silent) -> tuple[list[SliceHeader], list[str]]:
    """Return the headers of a DICOM file, of all in a folder, or of those that a DICOMDIR names.

    Parameters
    ----------
    path : Path
        Subfolders of a folder are searched only if it has no DICOM files itself.
    track : Track
        Is given the files that are looked at.

    Returns
    -------
    list of SliceHeader
        Of everything that is DICOM, in the order of the file names.
    list of str
        Notes on empty and unreadable files, and on what a DICOMDIR names and is not read.

    Raises
    ------
    InputError
        If there are none, or only damaged ones.
    """
    if path.is_dir():
        return _scan_folder(path, track)
    require_regular(path)
    header = read_header(path)
    if header is None:
        raise InputError(f"{path} is not a DICOM file; give the folder of a CT series, or a CT file")
    return _scan_listed(header, track) if "DirectoryRecordSequence" in header.tags else ([header], [])


def _scan_folder(folder: Path, track: Track) -> tuple[list[SliceHeader], list[str]]:
    for files in (_files_in(folder), _files_below(folder)):
        filled = [file for file in files if file.stat().st_size > 0]
        headers, notes = _read_headers(filled, track)
        if headers:
            empty = len(files) - len(filled)
            return headers, [f"left out: {counted(empty, 'empty file')}", *notes] if empty else notes
    raise InputError(f"{folder} holds no DICOM files; give the folder of a CT series, or a CT file")


def _read_headers(files: Sequence[Path], track: Track) -> tuple[list[SliceHeader], list[str]]:
    """Return the headers of those files that are DICOM, and a note on those that cannot be read.

    A DICOMDIR is none of them: the files that it names are found without it.

    Raises
    ------
    InputError
        If none of them can be read.
    """
    with closing(read_ahead(_header_or_fault, files)) as found:
        by_file = [(file, answer) for file, answer in zip(track(files), found, strict=True)]
    headers = [answer for _, answer in by_file if isinstance(answer, SliceHeader)]
    faults = [(file, answer) for file, answer in by_file if isinstance(answer, InputError)]
    if faults and not headers:
        raise faults[0][1]
    named = (
        f"left out: {counted(len(faults), 'unreadable file')}, such as {faults[0][0].name}" if faults else ""
    )
    images = [header for header in headers if "DirectoryRecordSequence" not in header.tags]
    return images, [named] if named else []


def _header_or_fault(file: Path) -> SliceHeader | InputError | None:
    try:
        return read_header(file)
    except InputError as error:
        return error


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}); check the permissions") from error


def _files_below(folder: Path) -> list[Path]:
    # os.walk does not follow links to folders, so it cannot go round in circles
    return sorted(path for at, _, names in os.walk(folder) for n in names if (path := Path(at, n)).is_file())


def _scan_listed(directory: SliceHeader, track: Track) -> tuple[list[SliceHeader], list[str]]:
    """Return the headers of the images that a DICOMDIR names, as far as they lie in its own folder."""
    folder, name = directory.path.parent.resolve(), directory.path.name
    records = [SliceHeader(directory.path, record) for record in directory.tags.DirectoryRecordSequence]
    images = [record for record in records if record.text("DirectoryRecordType") == "IMAGE"]
    named = {_resolved(folder, record.value("ReferencedFileID")) for record in images}
    inside = {file for file in named if file is not None and file.is_relative_to(folder)}
    there = sorted(file for file in inside if file.is_file())
    notes = []
    if outside := len(named) - len(inside):
        notes.append(f"left out: {counted(outside, 'file')} outside of its folder, which {name} names")
    if missing := len(inside) - len(there):
        notes.append(f"{name} names {counted(missing, 'file')} not to be found")
    headers, faults = _read_headers(there, track)
    if not headers:
        said = "; ".join(notes) or "it names no images"
        raise InputError(f"{directory.path} leads to no DICOM image ({said}); give the folder of a CT series")
    return headers, [*notes, *faults]


def _resolved(folder: Path, parts: str | Sequence[str] | None) -> Path | None:
    """Return the file that a DICOMDIR names; None if that is no name at all."""
    try:  # resolve: there may be "..", an absolute path, or a link
        return folder.joinpath(*([parts] if isinstance(parts, str) else parts or ())).resolve()
    except (OSError, ValueError):
        return None


def count_neighbours(header: SliceHeader) -> str:
    """Return how many more files of the same series the folder of a file has, in words; "" if none."""
    uid = header.text("SeriesInstanceUID")
    beside = [file for file in _files_in(header.path.parent) if file.name != header.path.name]
    found = [_header_or_fault(file) for file in beside[:_MOST_NEIGHBOURS]]
    images = [other for other in found if isinstance(other, SliceHeader) and other.is_image]
    more = sum(other.text("SeriesInstanceUID") == uid for other in images) if uid else 0
    at_least = "at least " if len(beside) > _MOST_NEIGHBOURS else ""
    return f"{at_least}{counted(more, 'more slice')}" if more else ""


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, such as "1 slice" and "2 slices"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
