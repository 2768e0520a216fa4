"""What the headers of a CT say before it is read: the series of a folder, and what has to be asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from napari_resunet.cohort.find import Found, stamp_of
from napari_resunet.cohort.ids import case_id
from napari_resunet.cohort.manifest import CaseEntry, Status
from napari_resunet.cohort.questions import columns_that_answer
from napari_resunet.errors import InputError, NoCtSlicesError, without_options
from napari_resunet.io.dicom_choice import choose_stack
from napari_resunet.io.dicom_files import scan
from napari_resunet.io.dicom_kinds import ct_slices
from napari_resunet.io.dicom_place import heights, series_geometry, sort_slices
from napari_resunet.io.dicom_stacks import Stack, find_stacks
from napari_resunet.io.dicom_steps import SAME_MM
from napari_resunet.io.dicom_unplaced import place_by_user
from napari_resunet.io.frames import choose_frame
from napari_resunet.io.kind import kind_of
from napari_resunet.io.nifti import read_nifti_header
from napari_resunet.io.nifti_header import header_geometry, shape_and_frames
from napari_resunet.settings import InputAnswers


@dataclass(frozen=True)
class Probed:
    """A case as its headers show it.

    Parameters
    ----------
    entry : CaseEntry
        Waiting, asked or refused.
    relative : PurePath
        Its file or folder, relative to what was given.
    series : str
        The UID of its DICOM series; "" of others.
    """

    entry: CaseEntry
    relative: PurePath
    series: str = ""


def probe(found: Found) -> list[Probed]:
    """Return a case for each CT that a file or a folder holds; never raises because of what is in it.

    Of DICOM and NIfTI the headers say what has to be asked; other files are short or have no more to say before they
    are read. A folder of DICOM without a CT, such as one of reports, makes no case.
    """
    answers = InputAnswers(**found.said)
    if found.is_one or not found.path.is_dir():
        return [Probed(_asked(found, answers), found.relative)]
    try:
        headers, _ = scan(found.path)
        slices, _ = ct_slices(headers, found.path)
    except NoCtSlicesError:
        return []
    except InputError as error:
        return [Probed(_with_error(_entry(found, answers), error), found.relative)]
    stacks = find_stacks(slices)
    if len(stacks) == 1:
        return [Probed(_asked_of_stack(_entry(found, answers), stacks[0]), found.relative, stacks[0].uid)]
    entries = [_asked_of_stack(_entry(found, replace(answers, series=stack.key)), stack) for stack in stacks]
    return [Probed(entry, found.relative, stack.uid) for entry, stack in zip(entries, stacks, strict=True)]


def merge_split_series(probed: Sequence[Probed]) -> list[CaseEntry]:
    """Return the cases, one of those whose series lies in several folders beside each other.

    Some archives put each thousand files of a series into a folder of its own. Such a case is read from the folder
    above. The same series in folders elsewhere is a copy, and stays a case of its own.
    """
    by_place: dict[tuple[str, Path], list[Probed]] = defaultdict(list)
    for case in probed:
        apart = Path(case.entry.source) if not case.series else Path(case.entry.source).parent
        by_place[case.series, apart].append(case)
    parents = {Path(case.entry.source) for case in probed}
    merged: list[CaseEntry] = []
    for (series, parent), cases in by_place.items():
        sources = {case.entry.source for case in cases}
        if not series or len(sources) < 2 or parent in parents:
            merged += [case.entry for case in cases]
            continue
        answers = replace(cases[0].entry.answers, series=series)
        within = cases[0].relative.parent
        name = case_id(within if within.name else PurePath(parent.name), series)
        merged.append(CaseEntry(name, str(parent), answers, input_stamp=stamp_of(parent)))
    return sorted(merged, key=lambda entry: (entry.source, entry.answers.series or ""))


def _entry(found: Found, answers: InputAnswers) -> CaseEntry:
    name = found.case_id or case_id(found.relative, answers.series or "")
    stamp = stamp_of(found.path) if found.path.exists() else ""
    return CaseEntry(name, str(found.path), answers, input_stamp=stamp)


def _asked(found: Found, answers: InputAnswers) -> CaseEntry:
    """Return the case of one CT, with what its header leaves open."""
    entry = _entry(found, answers)
    try:
        kind = kind_of(found.path)
        if kind == "NIfTI":
            _ask_of_nifti(found.path, answers)
        elif kind == "DICOM" and found.path.is_dir():
            headers, _ = scan(found.path)
            stacks = find_stacks(ct_slices(headers, found.path)[0])
            return _asked_of_stack(entry, choose_stack(stacks, answers.series, found.path))
    except InputError as error:
        return _with_error(entry, error)
    return entry


def _ask_of_nifti(path: Path, answers: InputAnswers) -> None:
    if path.suffix.lower() in (".hdr", ".img"):
        path = path.with_suffix(".hdr")
    header = read_nifti_header(path)
    shape, frames, _ = shape_and_frames(header, path)
    choose_frame(frames, answers.frame, path)
    header_geometry(header, tuple(shape)[::-1], path, answers.spacing_mm, answers.orientation)


def _asked_of_stack(entry: CaseEntry, stack: Stack) -> CaseEntry:
    where, answers = Path(entry.source), entry.answers
    try:
        slices, _ = place_by_user(stack.slices, where, answers.spacing_mm, answers.orientation)
        ordered = sort_slices(slices, where)
        apart = np.diff(heights(ordered), prepend=-np.inf) > SAME_MM
        places = [header for header, is_new in zip(ordered, apart, strict=True) if is_new]
        if len(places) > 1:
            series_geometry(places, where, accept_gaps=answers.accept_gaps)
    except InputError as error:
        return _with_error(entry, error)
    return entry


def _with_error(entry: CaseEntry, error: InputError) -> CaseEntry:
    columns = columns_that_answer(error)
    status = Status.ASKED if columns else Status.REFUSED
    return replace(entry, status=status, reason=without_options(error), answer_with=columns)
