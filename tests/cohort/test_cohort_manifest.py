from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from manifest_table import manifest_rows

from napari_resunet.cohort.manifest import (
    CaseEntry,
    Status,
    count_by_status,
    in_out,
    is_cohort,
    read_entries,
    read_entry,
    update_entry,
    write_entry,
    write_table,
)
from napari_resunet.cohort.recipe import Recipe, write_recipe
from napari_resunet.errors import InputError, OutputError
from napari_resunet.settings import InputAnswers

ENTRY = CaseEntry(
    "a-1",
    "/data/ct.nii.gz",
    InputAnswers(spacing_mm=(2.5, 0.7, 0.7), accept_gaps=True),
    Status.DONE,
    settings={"grid": 128, "threshold": 0.5, "clean": True, "model": "lung-ct"},
    doubt_slices=(0.25, None, 0.5),
    notes=("one", "two"),
    ml_total=4321.5,
    doubt_worst_slice=2,
    version=1,
)


def test_a_case_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_entry(tmp_path, ENTRY)
    assert read_entry(tmp_path, "a-1") == ENTRY


def test_what_cannot_be_measured_comes_back_as_none(tmp_path: Path) -> None:
    write_entry(tmp_path, replace(ENTRY, hu_right=float("nan")))
    assert "NaN" not in (tmp_path / "cases/a-1/case.json").read_text()
    assert read_entry(tmp_path, "a-1").hu_right is None


def test_a_change_keeps_the_rest(tmp_path: Path) -> None:
    write_entry(tmp_path, ENTRY)
    assert update_entry(tmp_path, "a-1", reviewed=True, version=2) == replace(ENTRY, reviewed=True, version=2)
    assert read_entry(tmp_path, "a-1").reviewed


def test_the_table_has_one_row_a_case_in_the_order_of_the_ids(tmp_path: Path) -> None:
    write_entry(tmp_path, replace(ENTRY, id="b"))
    write_entry(tmp_path, replace(ENTRY, status=Status.ASKED, answer_with=("frame", "series")))
    write_table(tmp_path, read_entries(tmp_path), {"b": ("no left lung found", "lungs unusually small")})
    first, second = manifest_rows(tmp_path)
    assert (first["id"], first["status"], first["answer_with"]) == ("a-1", "asked", "frame series")
    assert (second["id"], second["ml_total"], second["hu_mean"]) == ("b", "4321.5", "")
    assert json.loads(second["settings"]) == ENTRY.settings
    assert (first["unusual"], second["unusual"]) == ("", "no left lung found | lungs unusually small")


def test_a_cohort_without_cases_has_a_table_with_a_heading(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    write_table(tmp_path, read_entries(tmp_path), {})
    assert manifest_rows(tmp_path) == []
    assert (tmp_path / "manifest.csv").read_text().startswith("id,source,status,")


def test_a_damaged_case_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    write_entry(tmp_path, ENTRY)
    path = tmp_path / "cases/a-1/case.json"
    path.write_text(path.read_text().replace('"done"', '"perhaps"'))
    with pytest.raises(InputError, match=r"case.json is damaged \(status: .*delete it"):
        read_entry(tmp_path, "a-1")
    path.write_text("{")
    with pytest.raises(InputError, match=r"case.json is damaged"):
        read_entry(tmp_path, "a-1")


def test_a_case_of_a_later_version_is_refused(tmp_path: Path) -> None:
    write_entry(tmp_path, replace(ENTRY, format=2))
    with pytest.raises(InputError, match="format 2, newer than 1; update"):
        read_entry(tmp_path, "a-1")


def test_a_case_that_is_not_there_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no case .zz.; manifest.csv in it names those there are"):
        read_entry(tmp_path, "zz")


def test_any_other_folder_is_no_cohort(tmp_path: Path) -> None:
    assert not is_cohort(tmp_path)
    with pytest.raises(InputError, match="is not the folder of a cohort"):
        list(read_entries(tmp_path))


def test_a_folder_with_a_folder_called_cases_is_no_cohort_yet(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    assert not is_cohort(tmp_path)
    write_recipe(tmp_path, Recipe())
    assert is_cohort(tmp_path)


def test_a_result_is_found_where_the_cohort_has_been_moved_to(tmp_path: Path) -> None:
    assert in_out(tmp_path, "cases/a/lungs.nii.gz") == tmp_path / "cases" / "a" / "lungs.nii.gz"
    assert in_out(tmp_path, "") is None


def test_counts_name_every_status() -> None:
    counts = count_by_status([ENTRY, ENTRY, replace(ENTRY, status=Status.FAILED)])
    assert list(counts) == list(Status)
    assert (counts[Status.DONE], counts[Status.FAILED], counts[Status.ASKED]) == (2, 1, 0)


def test_a_write_that_fails_leaves_the_old_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_entry(tmp_path, ENTRY)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_entry(tmp_path, replace(ENTRY, reason="new"))
    assert read_entry(tmp_path, "a-1") == ENTRY
