"""What there is to do: the CTs that were found, against what is known of them on disk."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from napari_resunet.cohort.answers import Said, read_rows, said_in
from napari_resunet.cohort.find import Found, stamp_of
from napari_resunet.cohort.manifest import CaseEntry, Status, in_out
from napari_resunet.cohort.recipe import Recipe
from napari_resunet.errors import InputError
from napari_resunet.model.card import read_card
from napari_resunet.settings import InputAnswers


def already_probed(found: Iterable[Found], known: Iterable[CaseEntry]) -> tuple[list[Found], list[CaseEntry]]:
    """Return what has to be probed, and the cases on disk of what has not changed since it was.

    A folder that may hold a part of a series, whose other parts lie beside it, is probed with them each time.
    """
    known = list(known)
    of_series = {entry.source for entry in known if entry.answers.series}
    of_source: dict[str, list[CaseEntry]] = defaultdict(list)
    for entry in known:
        of_source[entry.source].append(entry)
    new: list[Found] = []
    kept: list[CaseEntry] = []
    for each in found:
        entries = [
            entry
            for entry in of_source[str(each.path)]
            if (not each.case_id or each.case_id == entry.id) and _says(entry.answers, each.said)
        ]
        if (
            entries
            and str(each.path.parent) not in of_series
            and each.path.exists()
            and {entry.input_stamp for entry in entries} == {stamp_of(each.path)}
        ):
            kept += entries
        else:
            new.append(each)
    return new, kept


def _says(answers: InputAnswers, said: Said) -> bool:
    return all(getattr(answers, name) == value for name, value in said.items())


def refuse_unusable(recipe: Recipe, answers: Path | None) -> None:
    """Refuse a model or a table of answers that cannot be used, whatever the CTs are.

    Raises
    ------
    InputError
        Saying what is wrong with it.
    """
    model_sha256_of(recipe)
    for line, row in read_rows(answers) if answers is not None else ():
        said_in(row, f"{answers}, line {line}")


def with_answers(entries: Sequence[CaseEntry], table: Path | None) -> list[CaseEntry]:
    """Return the cases with what a table says of them; a question that it may answer is open again.

    A row names its case by the column ``case``, the id in ``manifest.csv``, or by ``ct``, the path of the CT as it is
    there or relative to the table; all cases of that path are meant.

    Raises
    ------
    InputError
        If the table cannot be used, or a row is of none of the cases.
    """
    if table is None:
        return list(entries)
    said: dict[str, Said] = {}
    by_id = {entry.id: entry for entry in entries}
    by_source: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        by_source[entry.source].append(entry.id)
    for line, row in read_rows(table):
        where = f"{table}, line {line}"
        path = os.path.normpath(table.absolute().parent / row["ct"]) if row.get("ct") else ""
        named = (
            [row["case"]] if row.get("case") else by_source.get(path) or by_source.get(row.get("ct", ""), [])
        )
        if not named or any(name not in by_id for name in named):
            raise InputError(
                f"{where}: there is no case {row.get('case') or row.get('ct')!r}; take the id or the source from "
                "manifest.csv"
            )
        for name in named:
            said[name] = said.get(name, {}) | said_in(row, where)
    return [_answered(entry, said.get(entry.id, {})) for entry in entries]


def _answered(entry: CaseEntry, said: Said) -> CaseEntry:
    answers = replace(entry.answers, **said)
    if answers == entry.answers:
        return entry
    return replace(entry, answers=answers, status=Status.WAITING, reason="", answer_with=(), attempts=0)


def against_disk(
    wanted: Iterable[CaseEntry], known: Mapping[str, CaseEntry], recipe: Recipe, out: Path, *, retry: bool
) -> list[CaseEntry]:
    """Return the cases as they are to be put on disk: those that are done and still up to date are kept so.

    Raises
    ------
    InputError
        If two cases have one id, or a case on disk is of another CT that is still there.
    """
    planned: dict[str, CaseEntry] = {}
    weights = model_sha256_of(recipe)
    for entry in wanted:
        if entry.id in planned:
            raise InputError(
                f"{entry.source} and {planned[entry.id].source} would both be case {entry.id}; name them in a CSV "
                "with the columns ct and case"
            )
        old = known.get(entry.id)
        if old is None:
            planned[entry.id] = entry
            continue
        _refuse_other_ct(entry, old, out)
        is_settled = is_corrected(old) or is_up_to_date(old, recipe, out, weights)
        planned[entry.id] = _merged(entry, old, is_settled=is_settled, retry=retry)
    return list(planned.values())


def _merged(entry: CaseEntry, old: CaseEntry, *, is_settled: bool, retry: bool) -> CaseEntry:
    is_same = old.answers == entry.answers and old.input_stamp == entry.input_stamp
    if is_same and is_settled:
        return old
    if is_same and old.status in (Status.ASKED, Status.REFUSED, Status.FAILED) and not retry:
        return old
    is_parked = not is_same and entry.status in (Status.ASKED, Status.REFUSED)
    # what it knows of its results stays until there are new ones
    return replace(
        old,
        source=entry.source,
        answers=entry.answers,
        input_stamp=entry.input_stamp,
        status=entry.status if is_parked else Status.WAITING,
        reason=entry.reason if is_parked else "",
        answer_with=entry.answer_with if is_parked else (),
        attempts=0 if retry or not is_same else old.attempts,
    )


def is_up_to_date(entry: CaseEntry, recipe: Recipe, out: Path, model_sha256: str) -> bool:
    """Whether a case is done with these settings and weights, and its mask is there."""
    mask = in_out(out, entry.mask)
    is_there = mask is not None and mask.is_file()
    is_same = recipe.is_served_by(entry.settings) and entry.model_sha256 == model_sha256
    return entry.status == Status.DONE and is_there and is_same


def model_sha256_of(recipe: Recipe) -> str:
    """Return the checksum of the weights that a recipe names, by their card; a model not for CT is refused."""
    card = read_card(recipe.predict.model)
    card.require_window_hu()
    return card.sha256


def is_corrected(entry: CaseEntry) -> bool:
    """Whether a person's work is in the mask, which no run replaces."""
    return entry.status == Status.DONE and entry.edited_voxels > 0


def _refuse_other_ct(entry: CaseEntry, old: CaseEntry, out: Path) -> None:
    if old.source != entry.source and Path(old.source).exists():
        raise InputError(
            f"{out} holds case {entry.id} of {old.source}, which is another CT than {entry.source}; choose another "
            "folder for the results"
        )
