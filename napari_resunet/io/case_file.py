"""A case file (.nru): all that is known of an open CT but the CT, in one zip that other programs can read too.

``case.json`` says which CT, the settings, what ran, which slices were reviewed. Beside it lie NumPy arrays of axial
slices, lowest first: ``edits.npy`` with the edits of the slices that have any, ``banked-0.npy`` and so on with those
set aside, ``probability.npy``, and ``adopted.npy`` with eight voxels a byte. It holds no patient data but what the
CT's file is called.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import CtMissingError, InputError, OutputError
from napari_resunet.io.array_zip import (
    Arrays,
    Layout,
    opened_zip,
    read_arrays,
    read_text,
    starts_as_ours,
    write_zip,
)
from napari_resunet.io.atomic import replacing
from napari_resunet.io.case_text import CaseText, JournalPart, parse_text, write_text
from napari_resunet.io.kind import can_read
from napari_resunet.io.one_writer import only_writer
from napari_resunet.io.open_ct import open_ct
from napari_resunet.record import BankedEdits, CaseRecord, CtReference, SliceEdits
from napari_resunet.track import Track, silent
from napari_resunet.volume import Volume

ENDING = ".nru"


@dataclass(frozen=True, eq=False)
class StoredCase:
    """What a case file holds.

    Parameters
    ----------
    record : CaseRecord
        The case.
    created : str
        When it was written: UTC, ISO 8601.
    journal : JournalPart, optional
        What makes it a part of a journal.
    """

    record: CaseRecord
    created: str
    journal: JournalPart | None


def is_case_file(path: Path) -> bool:
    """Whether a path is meant to be a case file: by its content, or by its name if that is damaged."""
    return path.is_file() and (path.suffix.lower() == ENDING or starts_as_ours(path))


def write_case(record: CaseRecord, path: Path, *, journal: JournalPart | None = None) -> None:
    """Write a case file, whole or not at all: read again and compared before it takes the place of an older one.

    Parameters
    ----------
    record : CaseRecord
        The case; not changed meanwhile.
    path : Path
        Ends in ``.nru``.
    journal : JournalPart, optional
        What makes it a part of a journal.

    Raises
    ------
    OutputError
        If it cannot be written, or `path` is a CT or a mask.
    """
    if path.suffix.lower() != ENDING:
        raise OutputError(f"{path} does not end in {ENDING}, as a case file does; choose another name")
    if path.is_file() and can_read(path):
        raise OutputError(f"{path} is a CT or a mask, which is not written over; choose another name")
    text, arrays = write_text(record, journal), _arrays_of(record)
    is_users = journal is None  # the journal has a lock and a broom of its own
    needed = len(text) + sum(array.nbytes + (1 << 10) for array in arrays.values())
    with (
        only_writer(path) if is_users else nullcontext(),
        replacing(path, needed=needed, keep=is_users) as temporary,
    ):
        write_zip(temporary, text, arrays)
        _require_same(temporary, path, text, arrays)


def read_case(path: Path) -> CaseRecord:
    """Read a case file.

    Raises
    ------
    InputError
        If it is damaged, not ours, or of a later version; with one line that says so.
    """
    return read_stored_case(path).record


def read_stored_case(path: Path) -> StoredCase:
    """Read a case file with what it says of itself; raises as `read_case` does."""
    stored = _read(path)
    return StoredCase(_record(stored, path), stored.said.created, stored.said.journal)


def find_case_ct(path: Path, record: CaseRecord, ct: Path | None = None) -> Path:
    """Return where the CT of a case file is: where the user says, else beside it, by its name.

    Raises
    ------
    CtMissingError
        If it is not there.
    """
    found = ct or path.parent / record.ct.name
    if not found.exists():
        where = "which is not there" if ct else f"which is not beside it in {path.absolute().parent}"
        raise CtMissingError(
            f"{path.name} needs its CT {found.name}, {where}; say where it is",
            is_folder=record.ct.format == "DICOM",
        )
    return found


def refuse_other_ct(volume: Volume, record: CaseRecord, *, what: str = "the case") -> None:
    """Refuse a CT that is not the one a record was made on, bit for bit and on the same grid.

    Raises
    ------
    InputError
        Naming both.
    """
    made_on = record.ct
    # a CT that came from no file is known by its voxels
    given = CtReference.of(replace(volume, source=None) if made_on.format == "layer" else volume)
    name = volume.source.path.name if volume.source else given.name
    if given.sha256 != made_on.sha256:
        was = f"{what} was made on {made_on.name} (SHA-256 {made_on.sha256[:12]}…)"
        raise InputError(f"{was}, {name} (SHA-256 {given.sha256[:12]}…) is another CT; give {made_on.name}")
    if not given.geometry.matches(made_on.geometry):
        raise InputError(
            f"{what} was made on another grid than that of {name}; open it with the same answers"
        )


def open_case_ct(path: Path, record: CaseRecord, ct: Path | None = None, track: Track = silent) -> Volume:
    """Read the CT of a case file, with the answers that the case was made with.

    Parameters
    ----------
    path : Path
        The case file.
    record : CaseRecord
        What it holds.
    ct : Path, optional
        Where the CT is; beside the case file by default.
    track : Track
        Is given the slices of a DICOM series.

    Raises
    ------
    InputError
        If the CT is not there, cannot be read, or is another one.
    """
    volume = open_ct(find_case_ct(path, record, ct), record.ct.answers, track)
    refuse_other_ct(volume, record, what=path.name)
    return volume


@dataclass(frozen=True, eq=False)
class _Stored:
    """A case file taken apart."""

    text: bytes
    said: CaseText
    ct: CtReference
    arrays: Arrays


def _read(path: Path) -> _Stored:
    with opened_zip(path) as archive:
        text = read_text(archive, path)
        said, ct = parse_text(text, path)
        return _Stored(text, said, ct, read_arrays(archive, path, _layout(said, ct)))


def _arrays_of(record: CaseRecord) -> Arrays:
    arrays: dict[str, npt.NDArray[Any]] = {"edits": record.edits.values}
    for i, banked in enumerate(record.banked):
        arrays[f"banked-{i}"] = banked.edits.values
    if record.probability is not None:
        arrays["probability"] = record.probability
    if record.adopted is not None:
        arrays["adopted"] = np.packbits(record.adopted, axis=-1)
    return arrays


def _layout(said: CaseText, ct: CtReference) -> Layout:
    """Return which arrays there have to be: the other way round than `_arrays_of`, and from the text alone."""
    depth, rows, columns = ct.geometry.axial.shape
    layout: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "edits": (np.int8, (len(said.edited), rows, columns))
    }
    for i, banked in enumerate(said.banked):
        layout[f"banked-{i}"] = (np.int8, (len(banked.slices), rows, columns))
    if said.holds_probability:
        layout["probability"] = (np.uint8, (depth, rows, columns))
    if said.holds_adopted:
        layout["adopted"] = (np.uint8, (depth, rows, -(-columns // 8)))
    return layout


def _record(stored: _Stored, path: Path) -> CaseRecord:
    said, arrays = stored.said, stored.arrays
    depth, _, columns = stored.ct.geometry.axial.shape
    done = np.zeros(depth, dtype=bool)
    done[list(said.done)] = True
    banked = tuple(
        BankedEdits(_edits(each.slices, arrays[f"banked-{i}"], path), each.when)
        for i, each in enumerate(said.banked)
    )
    packed = arrays.get("adopted")
    return CaseRecord(
        ct=stored.ct,
        settings=said.settings,
        edits=_edits(said.edited, arrays["edits"], path),
        banked=banked,
        marks=np.array(said.marks, dtype=np.uint8),
        seen=np.array(said.seen, dtype=np.uint32),
        run=said.run,
        done=done,
        probability=arrays.get("probability"),
        adopted=None if packed is None else np.unpackbits(packed, axis=-1, count=columns).view(np.bool_),
        adopted_name=said.adopted_name,
    )


def _edits(slices: tuple[int, ...], values: npt.NDArray[np.int8], path: Path) -> SliceEdits:
    if values.size and not (values.min() >= -1 and values.max() <= 1):
        raise InputError(f"{path} holds edits other than -1, 0 and 1; it is damaged, take another copy")
    return SliceEdits(np.array(slices, dtype=np.int64), values)


def _require_same(temporary: Path, path: Path, text: bytes, arrays: Arrays) -> None:
    """Read what was written, as it will be read one day, and refuse it if it is not what was meant."""
    try:
        found = _read(temporary)
        _record(found, temporary)
    except InputError as error:
        raise OutputError(f"{path} was not written whole ({error.__cause__ or error}); try again") from error
    if found.text != text or not all(np.array_equal(found.arrays[name], arrays[name]) for name in arrays):
        raise OutputError(f"{path} reads back other than it was written; try another folder")
