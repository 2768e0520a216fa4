"""What is noted on the disk when a person goes through a cohort."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from manifest_table import manifest_rows
from reviewed_cohort import make_cohort

from napari_resunet.case import Case
from napari_resunet.cohort.manifest import (
    CaseEntry,
    Status,
    read_entry,
    update_entry,
    write_entry,
)
from napari_resunet.cohort.reviewing import (
    Opened,
    accept,
    in_order_of_doubt,
    next_open,
    open_for_review,
    reject,
    summary,
)
from napari_resunet.errors import InputError, OutputError
from napari_resunet.io.files import read_mask
from napari_resunet.io.one_writer import only_writer
from napari_resunet.io.sidecar import read_sidecar
from napari_resunet.volume import Mask

DOUBTS = {"a": 0.1, "b": 0.3, "c": 0.2}


@pytest.fixture(scope="module")
def made(chest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cohort(tmp_path_factory.mktemp("made") / "out", chest, DOUBTS)


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A cohort of three; the CTs stay where they are."""
    return shutil.copytree(made, tmp_path / "out")


def opened(out: Path, case_id: str) -> Opened:
    return open_for_review(out, read_entry(out, case_id))


def with_hole(mask: Mask) -> tuple[Mask, int]:
    """The mask without one of its slices, and how many voxels that takes."""
    array = mask.array.copy()
    z = int((array > 0).sum(axis=(1, 2)).argmax())
    removed = int(np.count_nonzero(array[z]))
    array[z] = 0
    return replace(mask, array=array), removed


def test_the_most_doubtful_case_comes_first_and_what_is_not_done_never(out: Path) -> None:
    write_entry(out, CaseEntry("waits", "/ct", doubt_mean=0.9))
    assert [entry.id for entry in in_order_of_doubt(out)] == ["b", "c", "a"]


def test_a_case_without_a_doubt_comes_last(out: Path) -> None:
    update_entry(out, "b", doubt_mean=None)
    assert [entry.id for entry in in_order_of_doubt(out)] == ["c", "a", "b"]


def test_the_next_case_is_the_next_open_one_round_to_the_first(out: Path) -> None:
    entries = in_order_of_doubt(out)
    assert next_open(entries).id == "b"
    assert next_open(entries, after="b").id == "c"
    assert next_open(entries, after="a").id == "b"  # which was skipped
    said = [replace(entries[0], reviewed=True), replace(entries[1], rejected="cut off"), entries[2]]
    assert next_open(said).id == "a"
    assert next_open(said[:2]) is None


def test_a_mask_accepted_as_it_is_stays_the_version_that_it_was(out: Path) -> None:
    case = opened(out, "b")
    entry = accept(out, case.entry, case.volume, case.mask)
    assert (entry.reviewed, entry.version, entry.mask) == (True, 1, "cases/b/lungs.nii.gz")
    assert entry.reviewed_at
    assert entry == read_entry(out, "b")
    assert not list((out / "cases" / "b").glob("*.v2.*"))
    row = next(row for row in manifest_rows(out) if row["id"] == "b")
    assert (row["reviewed"], row["version"]) == ("True", "1")
    assert "accepted" in (out / "index.html").read_text()


def test_a_corrected_mask_is_a_new_version_and_the_first_is_kept(out: Path) -> None:
    case, folder = opened(out, "b"), out / "cases" / "b"
    first = {path.name: path.read_bytes() for path in folder.glob("lungs*")}
    corrected, removed = with_hole(case.mask)
    entry = accept(out, case.entry, case.volume, corrected)
    assert (entry.version, entry.edited_voxels, entry.reviewed) == (2, removed, True)
    assert entry.mask == "cases/b/lungs.v2.nii.gz"
    assert np.array_equal(read_mask(out / entry.mask).array, corrected.array)
    assert read_sidecar(folder / "lungs.v2.json")["history"]["version"] == 2
    assert {name: (folder / name).read_bytes() for name in first} == first
    voxel_ml = case.volume.geometry.voxel_volume_mm3 / 1000
    assert entry.ml_total == pytest.approx(np.count_nonzero(corrected.array) * voxel_ml)
    assert entry.ml_right + entry.ml_left == pytest.approx(entry.ml_total)
    assert (out / entry.picture).name == "case.v2.png"
    assert (out / entry.picture).is_file()


def test_a_corrected_case_is_corrected_again_from_where_it_was(out: Path) -> None:
    case = opened(out, "b")
    corrected, _ = with_hole(case.mask)
    accept(out, case.entry, case.volume, corrected)
    again = opened(out, "b")
    assert np.array_equal(again.mask.array, corrected.array)
    entry = accept(out, again.entry, again.volume, with_hole(again.mask)[0])
    assert (entry.version, entry.mask) == (3, "cases/b/lungs.v3.nii.gz")


def test_a_mask_that_became_empty_can_be_accepted(out: Path) -> None:
    case = opened(out, "b")
    entry = accept(out, case.entry, case.volume, replace(case.mask, array=np.zeros_like(case.mask.array)))
    assert (entry.version, entry.ml_total) == (2, 0.0)
    assert read_entry(out, "b").ml_total == 0.0


def test_a_rejected_case_has_its_reason_and_is_not_reviewed(out: Path) -> None:
    entry = reject(out, opened(out, "b").entry, " left lung\n missing ")
    assert (entry.rejected, entry.reviewed, entry.version) == ("left lung missing", False, 1)
    assert next_open(in_order_of_doubt(out)).id == "c"
    with pytest.raises(ValueError, match="for a reason"):
        reject(out, opened(out, "c").entry, "  ")


def test_a_rejected_case_can_be_accepted_after_all(out: Path) -> None:
    entry = reject(out, opened(out, "b").entry, "too short")
    case = opened(out, "b")
    assert case.entry == entry
    assert accept(out, case.entry, case.volume, case.mask).rejected == ""


def test_two_people_do_not_write_over_each_other(out: Path) -> None:
    one, other = opened(out, "b"), opened(out, "b")
    accept(out, one.entry, one.volume, with_hole(one.mask)[0])
    for say in (
        lambda: accept(out, other.entry, other.volume, other.mask),
        lambda: reject(out, other.entry, "x"),
    ):
        with pytest.raises(InputError, match="somebody else meanwhile"):
            say()
    assert read_entry(out, "b").version == 2


def test_nothing_is_noted_while_the_cohort_works_on_the_case(out: Path) -> None:
    case = opened(out, "b")
    with only_writer(out / "cases" / "b" / "case.json"), pytest.raises(OutputError, match="being written"):
        accept(out, case.entry, case.volume, case.mask)
    assert not read_entry(out, "b").reviewed


def test_a_ct_that_became_another_is_not_shown_with_the_old_mask(out: Path) -> None:
    update_entry(out, "b", input_sha256="0" * 64)
    with pytest.raises(InputError, match="is not the CT that case b was made of any more"):
        opened(out, "b")


def test_a_case_without_a_mask_says_where_it_stands(out: Path) -> None:
    update_entry(out, "b", status=Status.ASKED, mask="", reason="its voxel size is unknown")
    with pytest.raises(
        InputError, match="case b has no mask to review: it is asked; its voxel size is unknown"
    ):
        opened(out, "b")


def test_a_kept_probability_map_gives_the_same_mask_and_a_doubt_to_go_by(chest, tmp_path: Path) -> None:
    out = make_cohort(tmp_path / "out", chest, {"a": 0.1}, probability=True)
    found = opened(out, "a")
    case = Case(found.volume)
    case.take_in(found.record)
    assert np.array_equal(case.finished_mask().array, found.mask.array)
    assert case.done.all()
    assert case.run.crop == (0, 96, 0, 96)


def test_the_summary_tells_what_is_left(out: Path) -> None:
    write_entry(out, CaseEntry("waits", "/ct"))
    reject(out, opened(out, "b").entry, "too short")
    assert summary(out) == "4 cases, 3 of them done, 2 of these not reviewed yet"
