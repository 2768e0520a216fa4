"""What the text of a case file says, field by field, and the rules that it has to keep."""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from napari_resunet.errors import InputError, NewerFormatError
from napari_resunet.geometry import Geometry
from napari_resunet.io.regular_file import one_line
from napari_resunet.io.sidecar import NOTICE, PROGRAM, describe_geometry, program_version
from napari_resunet.record import CaseRecord, CtReference
from napari_resunet.settings import InputAnswers, MaskSettings
from napari_resunet.volume import Run, Source

FORMAT_VERSION = 1


def _bare_name(name: str) -> str:
    """Refuse a name with a folder in it, of whatever system: the CT is looked for beside the case file."""
    if name != PureWindowsPath(name).name or name in ("", "..") or "\0" in name:
        raise ValueError("is not the bare name of a file")
    return name


def _date(text: str) -> str:
    try:
        datetime.fromisoformat(text).astimezone()
    except OverflowError as error:
        raise ValueError("is no date") from error
    return text


_Length = Annotated[int, Field(ge=1, lt=2**31)]
_Slices = tuple[Annotated[int, Field(ge=0, lt=2**31)], ...]
_Millimetres = Annotated[float, Field(gt=-1e9, lt=1e9)]
_Row = tuple[_Millimetres, _Millimetres, _Millimetres, _Millimetres]
_Name = Annotated[str, AfterValidator(_bare_name)]
_Date = Annotated[str, AfterValidator(_date)]


@dataclass(frozen=True)
class GeometryText:
    """As `describe_geometry` says it; shape and matrix are what counts."""

    shape_zyx: tuple[_Length, _Length, _Length]
    index_to_lps: tuple[_Row, _Row, _Row, _Row]
    spacing_zyx_mm: tuple[float, float, float]
    axis_codes_zyx: str


@dataclass(frozen=True)
class CtText:
    """Which CT: see `CtReference`; the header in base64."""

    name: _Name
    format: str
    sha256: str
    geometry: GeometryText
    notes: tuple[str, ...]
    answers: InputAnswers
    nifti_header: str | None


@dataclass(frozen=True)
class BankedText:
    """Which slices were set aside, and when; their edits are in an array."""

    slices: _Slices
    when: _Date


@dataclass(frozen=True)
class JournalPart:
    """What makes a case file a part of a journal.

    Parameters
    ----------
    counter : int
        Grows from part to part.
    base : str, optional
        The file beside it that holds the probabilities and the mask that the case began from.
    """

    counter: Annotated[int, Field(ge=0)]
    base: Annotated[str, Field(pattern=r"^base-[0-9]{1,9}\.nru$")] | None


@dataclass(frozen=True, kw_only=True)
class CaseText:
    """The text of a case file."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    program: str = PROGRAM
    format_version: Annotated[int, Field(ge=1)] = FORMAT_VERSION
    version: str
    notice: str = NOTICE
    created: _Date
    ct: CtText
    settings: MaskSettings
    run: Run | None
    done: _Slices
    edited: _Slices
    banked: tuple[BankedText, ...]
    marks: tuple[Annotated[int, Field(ge=0, le=3)], ...]
    seen: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...]
    adopted_name: str | None
    holds_probability: bool
    holds_adopted: bool
    journal: JournalPart | None


def write_text(record: CaseRecord, journal: JournalPart | None = None) -> bytes:
    """Return what a case file says of a record beside its arrays."""
    text = CaseText(
        version=program_version(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        ct=_ct_text(record.ct),
        settings=record.settings,
        run=record.run,
        done=tuple(np.flatnonzero(record.done).tolist()),
        edited=tuple(record.edits.slices.tolist()),
        banked=tuple(BankedText(tuple(b.edits.slices.tolist()), b.when) for b in record.banked),
        marks=tuple(record.marks.tolist()),
        seen=tuple(record.seen.tolist()),
        adopted_name=record.adopted_name,
        holds_probability=record.probability is not None,
        holds_adopted=record.adopted is not None,
        journal=journal,
    )
    # replace: a name on the disk may hold bytes that are no text
    return json.dumps(dataclasses.asdict(text), ensure_ascii=False).encode("utf-8", errors="replace")


def parse_text(text: bytes, path: Path) -> tuple[CaseText, CtReference]:
    """Return what a case file says, and the CT it is of.

    Raises
    ------
    NewerFormatError
        If it was written by a later version.
    InputError
        If it is not ours, or breaks a rule.
    """
    _require_ours(text, path)
    try:
        said = _reader_of(CaseText).validate_json(text)
        ct = _ct(said.ct)
        _require_sense(said, ct.geometry.axial.shape)
    except ValidationError as error:
        raise InputError(f"{path} is damaged: {_first_fault(error)}; take another copy") from error
    except InputError as error:
        raise InputError(f"{path} is damaged: {one_line(error)}; take another copy") from error
    return said, ct


@dataclass(frozen=True)
class _Stamp:
    """What every version of a case file says."""

    program: str
    format_version: int


def _require_ours(text: bytes, path: Path) -> None:
    try:
        stamp = _reader_of(_Stamp).validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(f"{path} is no case file of {PROGRAM} ({_first_fault(error)})") from error
    if stamp.program != PROGRAM:
        raise InputError(f"{path} was written by {stamp.program[:40]!r}, not by {PROGRAM}; choose another")
    if stamp.format_version > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path} has format version {stamp.format_version}, newer than {FORMAT_VERSION}; update {PROGRAM}"
        )


@cache
def _reader_of(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, fault["loc"]))[:80], fault["msg"][:120])))


def _require_sense(said: CaseText, shape: tuple[int, int, int]) -> None:
    """Refuse what no field says by itself: slices that are not there, or not in order."""
    depth, rows, columns = shape
    for slices in (said.done, said.edited, *(banked.slices for banked in said.banked)):
        if list(slices) != sorted(set(slices)) or (slices and slices[-1] >= depth):
            raise InputError(f"its slices do not rise from 0 to at most {depth - 1}")
    if not len(said.marks) == len(said.seen) == depth:
        raise InputError(f"it has {len(said.marks)} marks of {depth} slices")
    if said.run is not None:
        y0, y1, x0, x1 = said.run.crop
        if not (0 <= y0 < y1 <= rows and 0 <= x0 < x1 <= columns):
            raise InputError(f"the run was cropped to {said.run.crop}, outside of {rows} x {columns}")


def _ct_text(ct: CtReference) -> CtText:
    header = None if ct.nifti_header is None else _placing_part(ct.nifti_header)
    return CtText(
        name=ct.name,
        format=ct.format,
        sha256=ct.sha256,
        geometry=GeometryText(**describe_geometry(ct.geometry)),
        notes=ct.notes,
        answers=ct.answers,
        nifti_header=None if header is None else base64.b64encode(header).decode("ascii"),
    )


def _ct(said: CtText) -> CtReference:
    geometry = Geometry(said.geometry.shape_zyx, np.array(said.geometry.index_to_lps))
    header = None if said.nifti_header is None else _header(said, geometry)
    return CtReference(said.name, said.format, said.sha256, geometry, said.notes, said.answers, header)


def _header(said: CtText, geometry: Geometry) -> bytes:
    """Return the NIfTI header, if an export can do what it will do with it."""
    from nibabel.spatialimages import HeaderDataError

    from napari_resunet.io.nifti_header import header_like

    try:
        block = base64.b64decode(said.nifti_header or "", validate=True)
        if _placing_part(block) != block:
            raise InputError("its NIfTI header holds more than the place of the voxels")
        with np.errstate(all="ignore"):  # what is not finite is refused, not warned of
            header_like(Source(Path(said.name), said.format, said.sha256, nifti_header=block), geometry)
    except (HeaderDataError, ValueError, ArithmeticError, IndexError) as error:
        raise InputError(f"its NIfTI header cannot be used ({one_line(error)})") from error
    return block


def _placing_part(block: bytes) -> bytes | None:
    """Return a NIfTI header with nothing of `block` but what places the voxels: its texts may name a patient."""
    from napari_resunet.io.nifti_header import PLACING_FIELDS, parse_nifti_header

    original = parse_nifti_header(block)
    if original is None:
        return None
    header = type(original)(endianness=original.endianness)
    for name in ("dim", *PLACING_FIELDS):
        header[name] = original[name]
    return bytes(header.binaryblock)
