"""What is known of each case of a cohort, on disk: the only truth, whoever works on it.

::

    OUT/cohort.json                what every case is run with
    OUT/manifest.csv               one row a case, made anew from the files below
    OUT/cases/ID/case.json         all that is known of a case
    OUT/cases/ID/lungs.nii.gz      its mask, with the sidecar lungs.json
    OUT/cases/ID/case.log          what a crash or a hang left behind

Each file is written whole or not at all. Paths of results are relative to OUT, so that it can be moved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from napari_resunet.errors import InputError
from napari_resunet.io.atomic import replacing
from napari_resunet.io.table import as_csv
from napari_resunet.settings import InputAnswers

FORMAT = 1
COHORT_FILE, TABLE = "cohort.json", "manifest.csv"
CASES, CASE_FILE, MASK = "cases", "case.json", "lungs.nii.gz"


class Status(StrEnum):
    """Where a case stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    ASKED = "asked"  # something has to be said about its CT before it can run
    REFUSED = "refused"  # its CT cannot be used
    FAILED = "failed"  # it raised, crashed or hung


@dataclass(frozen=True)
class CaseEntry:
    """All that is known of a case of a cohort.

    Parameters
    ----------
    id : str
        Short, and safe as a folder's name.
    source : str
        The CT, as an absolute path.
    answers : InputAnswers
        What was said about it.
    status : Status
        Where it stands.
    reason : str
        Why it is asked, refused or failed, with the remedy; "" else.
    answer_with : tuple of str
        The columns of the answers CSV any of which answers what is asked.
    attempts : int
        How often it was begun since it last ended well; counted before the work begins.
    input_sha256, input_stamp : str
        Of the bytes of the CT, and of names, sizes and dates of its files.
    model, model_sha256 : str
        Name and checksum of the weights that ran.
    settings : mapping
        The choices it was run with, by name; all plain values.
    package_version : str
        Of the program that ran it.
    mask, probability, case_file, picture, log : str
        Paths relative to OUT with ``/`` between folders; "" where there is none. The mask is that of `version`.
    mask_sha256 : str
        Of the mask's file.
    ml_right, ml_left, ml_total : float, optional
        Volumes in ml.
    hu_right, hu_left, hu_mean : float, optional
        Mean HU of each lung and of both.
    laa950_percent : float, optional
        How much of both lungs is below -950 HU, in percent.
    doubt_mean, doubt_worst : float, optional
        Over the slices with any doubt, and of the worst one; as `measure.doubt` ranks by.
    doubt_worst_slice : int, optional
        Axial slice, counted from the lowest, which is 0.
    doubt_slices : tuple of float or None
        Of each axial slice, lowest first; None where the network has not run.
    seconds_read, seconds_predict, seconds_write, seconds_all : float, optional
        How long it took.
    device, host : str
        What it ran on.
    started, ended : str
        UTC, ISO 8601; of the newest attempt.
    notes : tuple of str
        What was noted of the CT and of the run.
    reviewed : bool
        Whether a person has accepted the mask of this `version`.
    reviewed_at : str
        UTC, ISO 8601.
    rejected : str
        Why a person has rejected it; "" if nobody has.
    version : int
        Of the mask: 0 before there is one, 1 as the network made it, more after corrections.
    edited_voxels : int
        Set by hand in this version.
    """

    id: str
    source: str
    answers: InputAnswers = field(default_factory=InputAnswers)
    status: Status = Status.WAITING
    reason: str = ""
    answer_with: tuple[str, ...] = ()
    attempts: int = 0
    input_sha256: str = ""
    input_stamp: str = ""
    model: str = ""
    model_sha256: str = ""
    settings: dict[str, str | int | float | bool] = field(default_factory=dict)
    package_version: str = ""
    mask: str = ""
    probability: str = ""
    case_file: str = ""
    picture: str = ""
    log: str = ""
    mask_sha256: str = ""
    ml_right: float | None = None
    ml_left: float | None = None
    ml_total: float | None = None
    hu_right: float | None = None
    hu_left: float | None = None
    hu_mean: float | None = None
    laa950_percent: float | None = None
    doubt_mean: float | None = None
    doubt_worst: float | None = None
    doubt_worst_slice: int | None = None
    doubt_slices: tuple[float | None, ...] = ()
    seconds_read: float | None = None
    seconds_predict: float | None = None
    seconds_write: float | None = None
    seconds_all: float | None = None
    device: str = ""
    host: str = ""
    started: str = ""
    ended: str = ""
    notes: tuple[str, ...] = ()
    reviewed: bool = False
    reviewed_at: str = ""
    rejected: str = ""
    version: int = 0
    edited_voxels: int = 0
    format: int = FORMAT


@cache
def _adapter() -> TypeAdapter[CaseEntry]:
    return TypeAdapter(CaseEntry)


def is_cohort(path: Path) -> bool:
    """Whether a folder is the OUT of a cohort."""
    return (path / COHORT_FILE).is_file() and (path / CASES).is_dir()


def case_folder(out: Path, case_id: str) -> Path:
    """Return the folder of a case."""
    return out / CASES / case_id


def relative_path(case_id: str, file: str) -> str:
    """Return a file of a case as its entry has it: relative to OUT, with ``/`` between folders."""
    return f"{CASES}/{case_id}/{file}"


def in_out(out: Path, relative: str) -> Path | None:
    """Return where a file of a case is, such as its mask; None if it has none."""
    return out.joinpath(*relative.split("/")) if relative else None


def read_entry(out: Path, case_id: str) -> CaseEntry:
    """Read what is known of a case.

    Raises
    ------
    InputError
        If there is no such case, or its file cannot be read.
    """
    path = case_folder(out, case_id) / CASE_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{out} holds no case {case_id!r}; {TABLE} in it names those there are") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); mend that, and run again") from error
    try:
        entry = _adapter().validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{path} is damaged ({where}: {first['msg']}); delete it, and the cohort makes it anew"
        ) from error
    if entry.format > FORMAT:
        raise InputError(f"{path} has format {entry.format}, newer than {FORMAT}; update napari-resunet")
    return entry


def write_entry(out: Path, entry: CaseEntry) -> None:
    """Write what is known of a case, whole or not at all; its folder is made if need be.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    folder = case_folder(out, entry.id)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CASE_FILE) as temporary:
        temporary.write_bytes(_adapter().dump_json(entry, indent=1))


def update_entry(out: Path, case_id: str, **changes: Any) -> CaseEntry:
    """Change some fields of a case on disk, and return what it is now."""
    entry = replace(read_entry(out, case_id), **changes)
    write_entry(out, entry)
    return entry


def case_ids(out: Path) -> list[str]:
    """Return the ids of all cases that have a file, in their order."""
    return sorted(path.parent.name for path in (out / CASES).glob(f"*/{CASE_FILE}"))


def read_entries(out: Path) -> Iterator[CaseEntry]:
    """Read what is known of each case, in the order of their ids.

    Raises
    ------
    InputError
        If `out` is no folder of a cohort, or a case's file cannot be read.
    """
    if not (out / CASES).is_dir():
        raise InputError(f"{out} is not the folder of a cohort; napari-resunet cohort IN OUT makes one")
    return (read_entry(out, case_id) for case_id in case_ids(out))


# What a table has no room for: the lists, what a program alone needs, and what the columns below say.
_NOT_IN_TABLE = ("answers", "settings", "doubt_slices", "notes", "input_stamp", "format")


def write_table(out: Path, entries: Iterable[CaseEntry], unusual: Mapping[str, Sequence[str]]) -> None:
    """Write ``manifest.csv`` anew, a row an entry, with why its volumes stand out of the cohort, by its id.

    Raises
    ------
    OutputError
        If the table cannot be written.
    """
    rows = [_row(entry, unusual.get(entry.id, ())) for entry in entries]
    text = as_csv(rows) if rows else ",".join(_columns()) + "\r\n"
    with replacing(out / TABLE) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def _columns() -> list[str]:
    kept = [known.name for known in fields(CaseEntry) if known.name not in _NOT_IN_TABLE]
    return [*kept, "unusual", "settings", "notes"]


def _row(entry: CaseEntry, unusual: Sequence[str]) -> dict[str, Any]:
    row = {name: getattr(entry, name, "") for name in _columns()}
    row["unusual"] = " | ".join(unusual)
    row["status"] = entry.status.value
    row["answer_with"] = " ".join(entry.answer_with)
    row["settings"] = json.dumps(entry.settings, sort_keys=True)
    row["notes"] = " | ".join(entry.notes)
    return row


def count_by_status(entries: Sequence[CaseEntry]) -> dict[Status, int]:
    """Return how many cases stand where, all of `Status` in their order."""
    found = [entry.status for entry in entries]
    return {status: found.count(status) for status in Status}
