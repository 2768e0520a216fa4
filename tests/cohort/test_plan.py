from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from cohort_making import PutNifti

from napari_resunet.cohort.find import Found, find_cts
from napari_resunet.cohort.manifest import CaseEntry, Status
from napari_resunet.cohort.plan import against_disk, already_probed, model_sha256_of, with_answers
from napari_resunet.cohort.probe import merge_split_series, probe
from napari_resunet.cohort.recipe import Recipe, read_recipe, write_recipe
from napari_resunet.errors import InputError
from napari_resunet.io.dicom import write_ct_series
from napari_resunet.phantom import Phantom
from napari_resunet.settings import MaskSettings, PredictSettings


def probed(folder: Path) -> list[CaseEntry]:
    found = find_cts(str(folder), folder / "out")
    return merge_split_series([case for each in found for case in probe(each)])


def test_each_series_of_a_folder_is_a_case(tmp_path: Path, small: Phantom) -> None:
    write_ct_series(small.volume, tmp_path / "a")
    write_ct_series(replace(small.volume, array=small.volume.array + np.int16(1)), tmp_path / "b")
    for file in (tmp_path / "b").iterdir():
        shutil.move(file, tmp_path / "a" / f"second {file.name}")
    cases = probed(tmp_path / "a")
    assert [case.status for case in cases] == [Status.WAITING] * 2
    assert len({case.id for case in cases}) == 2
    assert len({case.answers.series for case in cases}) == 2
    assert {case.source for case in cases} == {str(tmp_path / "a")}


def test_a_series_spread_over_folders_beside_each_other_is_one_case(tmp_path: Path, small: Phantom) -> None:
    write_ct_series(small.volume, tmp_path / "in/p/part 1")
    (tmp_path / "in/p/part 2").mkdir()
    for file in sorted((tmp_path / "in/p/part 1").iterdir())[6:]:
        shutil.move(file, tmp_path / "in/p/part 2")
    (case,) = probed(tmp_path / "in")
    assert case.source == str(tmp_path / "in/p")
    assert case.status == Status.WAITING


def test_copies_of_a_series_spread_over_folders_have_ids_of_their_own(tmp_path: Path, small: Phantom) -> None:
    write_ct_series(small.volume, tmp_path / "in/p/dicom/part 1")
    (tmp_path / "in/p/dicom/part 2").mkdir()
    for file in sorted((tmp_path / "in/p/dicom/part 1").iterdir())[6:]:
        shutil.move(file, tmp_path / "in/p/dicom/part 2")
    shutil.copytree(tmp_path / "in/p", tmp_path / "in/q")
    first, second = probed(tmp_path / "in")
    assert (first.source, second.source) == (str(tmp_path / "in/p/dicom"), str(tmp_path / "in/q/dicom"))
    assert first.id.startswith("p-dicom-")
    assert second.id.startswith("q-dicom-")


def test_a_folder_with_a_part_of_a_series_and_a_series_of_its_own_is_probed_as_the_first_time(
    tmp_path: Path, small: Phantom
) -> None:
    write_ct_series(small.volume, tmp_path / "in/p/part 1")
    write_ct_series(replace(small.volume, array=small.volume.array + np.int16(1)), tmp_path / "in/p/part 2")
    for file in sorted((tmp_path / "in/p/part 1").iterdir())[6:]:
        shutil.move(file, tmp_path / "in/p/part 2" / f"second {file.name}")
    first = probed(tmp_path / "in")
    assert [Path(case.source).name for case in first] == ["p", "part 2"]
    new, kept = already_probed(find_cts(str(tmp_path / "in"), tmp_path / "out"), first)
    assert merge_split_series([case for each in new for case in probe(each)]) == first
    assert kept == []


def test_an_answer_reaches_a_ct_whose_path_goes_through_a_link(tmp_path: Path, put_nifti: PutNifti) -> None:
    put_nifti(tmp_path / "store/ct.nii.gz")
    (tmp_path / "in").symlink_to(tmp_path / "store", target_is_directory=True)
    answers = tmp_path / "answers.csv"
    answers.write_text("ct,hu_offset\nin/ct.nii.gz,-1024\n")
    (case,) = with_answers(probed(tmp_path / "in"), answers)
    assert case.answers.hu_offset == -1024


def test_copies_of_a_series_elsewhere_stay_cases_of_their_own(tmp_path: Path, small: Phantom) -> None:
    write_ct_series(small.volume, tmp_path / "in/p/ct")
    shutil.copytree(tmp_path / "in/p", tmp_path / "in/q")
    assert [case.source for case in probed(tmp_path / "in")] == [
        str(tmp_path / "in/p/ct"),
        str(tmp_path / "in/q/ct"),
    ]


def test_headers_tell_at_once_what_has_to_be_asked(tmp_path: Path, small: Phantom) -> None:
    folder = tmp_path / "in"
    write_ct_series(small.volume, folder / "gap")
    sorted((folder / "gap").iterdir())[5].unlink()
    nib.save(nib.Nifti1Image(np.zeros((40, 40, 4, 3), np.int16), np.eye(4)), folder / "frames.nii")
    unplaced = nib.Nifti1Image(np.zeros((40, 40, 4), np.int16), None)
    unplaced.header["pixdim"][1:4] = 0
    unplaced.header.set_sform(None, 0)
    nib.save(unplaced, folder / "sizeless.nii")
    asked = {Path(case.source).name: case for case in probed(folder)}
    assert {name: case.answer_with for name, case in asked.items()} == {
        "gap": ("accept_gaps",),
        "frames.nii": ("frame",),
        "sizeless.nii": ("spacing_mm",),
    }
    assert all(case.status == Status.ASKED for case in asked.values())
    assert "slices are missing between" in asked["gap"].reason
    assert not any("--" in case.reason for case in asked.values())  # what answers here is a column


def test_a_ct_that_a_table_names_and_is_not_there_is_a_refused_case(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("ct\ngone.nii.gz\n")
    (case,) = [case for each in find_cts(str(tmp_path / "list.csv"), tmp_path) for case in probe(each)]
    assert case.entry.status == Status.REFUSED
    assert "gone.nii.gz cannot be opened (No such file" in case.entry.reason


def test_a_folder_of_dicom_without_ct_makes_no_case(tmp_path: Path, small: Phantom) -> None:
    import pydicom

    write_ct_series(small.volume, tmp_path / "in")
    for file in (tmp_path / "in").iterdir():
        slice_ = pydicom.dcmread(file)
        slice_.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        slice_.save_as(file)
    assert probe(Found(tmp_path / "in", Path("in"))) == []


def test_answers_open_a_case_that_was_asked(tmp_path: Path) -> None:
    asked = CaseEntry("a", "/in/a.nii", status=Status.ASKED, reason="?", answer_with=("frame",))
    other = CaseEntry("b", "/in/b.nii", status=Status.ASKED, reason="?", answer_with=("spacing_mm",))
    (tmp_path / "by_id.csv").write_text("case,frame\na,2\n")
    first, second = with_answers([asked, other], tmp_path / "by_id.csv")
    assert (first.answers.frame, first.status, first.reason) == (2, Status.WAITING, "")
    assert second == other
    (tmp_path / "by_path.csv").write_text('ct,spacing_mm\n/in/b.nii,"2,1,1"\n')
    assert with_answers([asked, other], tmp_path / "by_path.csv")[1].answers.spacing_mm == (2, 1, 1)


def test_an_answer_to_a_case_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_text("case,frame\nzz,2\n")
    with pytest.raises(InputError, match=r"answers.csv, line 2: there is no case 'zz'; take the id"):
        with_answers([CaseEntry("a", "/in/a.nii")], tmp_path / "answers.csv")


@pytest.fixture
def done(tmp_path: Path, put_nifti: PutNifti) -> CaseEntry:
    put_nifti(tmp_path / "in/ct.nii.gz")
    (entry,) = probed(tmp_path / "in")
    mask = tmp_path / "out/cases/x/lungs.nii.gz"
    mask.parent.mkdir(parents=True)
    mask.write_bytes(b"a mask")
    return replace(
        entry,
        status=Status.DONE,
        settings=Recipe().settings,
        model_sha256=model_sha256_of(Recipe()),
        mask="cases/x/lungs.nii.gz",
        version=1,
    )


def planned(
    done: CaseEntry, tmp_path: Path, recipe: Recipe | None = None, *, retry: bool = False
) -> CaseEntry:
    new, kept = already_probed(find_cts(str(tmp_path / "in"), tmp_path / "out"), [done])
    wanted = [*kept, *(case.entry for each in new for case in probe(each))]
    (entry,) = against_disk(wanted, {done.id: done}, recipe or Recipe(), tmp_path / "out", retry=retry)
    return entry


def test_what_is_done_and_has_not_changed_is_left_alone(tmp_path: Path, done: CaseEntry) -> None:
    assert planned(done, tmp_path) == done
    assert planned(done, tmp_path, retry=True) == done
    assert planned(done, tmp_path, Recipe(PredictSettings(device="cpu"), timeout_s=5)) == done


def test_more_files_than_are_asked_for_are_enough(tmp_path: Path, done: CaseEntry) -> None:
    more = Recipe(probability=True, case_file=True)
    rich = replace(done, settings=more.settings)
    assert planned(rich, tmp_path) == rich
    assert planned(rich, tmp_path, Recipe(probability=True)) == rich
    assert planned(rich, tmp_path, Recipe(mask=MaskSettings(threshold=0.4))).status == Status.WAITING


def test_other_settings_weights_or_a_lost_mask_make_a_case_wait_again(
    tmp_path: Path, done: CaseEntry
) -> None:
    assert planned(done, tmp_path, Recipe(mask=MaskSettings(threshold=0.4))).status == Status.WAITING
    assert planned(done, tmp_path, Recipe(probability=True)).status == Status.WAITING
    assert planned(replace(done, model_sha256="other"), tmp_path).status == Status.WAITING
    (tmp_path / "out/cases/x/lungs.nii.gz").unlink()
    assert planned(done, tmp_path).status == Status.WAITING


def test_a_changed_ct_waits_again(tmp_path: Path, done: CaseEntry, put_nifti: PutNifti) -> None:
    put_nifti(tmp_path / "in/ct.nii.gz", hu=5)
    again = planned(done, tmp_path)
    assert (again.status, again.attempts) == (Status.WAITING, 0)
    assert again.input_stamp != done.input_stamp


def test_a_mask_that_a_person_corrected_is_never_run_over(tmp_path: Path, done: CaseEntry) -> None:
    corrected = replace(done, version=2, edited_voxels=12, mask="cases/x/lungs.v2.nii.gz")
    assert planned(corrected, tmp_path, Recipe(mask=MaskSettings(threshold=0.4)), retry=True) == corrected


def test_what_failed_is_only_tried_again_when_told_to(tmp_path: Path, done: CaseEntry) -> None:
    for status in (Status.FAILED, Status.REFUSED, Status.ASKED):
        lost = replace(done, status=status, attempts=2, reason="it was planted")
        assert planned(lost, tmp_path) == lost
        again = planned(lost, tmp_path, retry=True)
        assert (again.status, again.attempts) == (Status.WAITING, 0)


def test_two_cts_of_one_name_are_refused(tmp_path: Path) -> None:
    cases = [CaseEntry("x", "/a"), CaseEntry("x", "/b")]
    with pytest.raises(InputError, match="/b and /a would both be case x; name them in a CSV"):
        against_disk(cases, {}, Recipe(), tmp_path, retry=False)


def test_a_cohort_of_other_cts_is_not_written_over(tmp_path: Path, done: CaseEntry) -> None:
    moved = replace(done, source="/not/there/any/more.nii.gz")
    (entry,) = against_disk([done], {done.id: moved}, Recipe(), tmp_path / "out", retry=False)
    assert entry.source == done.source or entry.status == Status.DONE
    other = replace(done, source=str(tmp_path / "out/cohort.json"))
    (tmp_path / "out/cohort.json").touch()
    with pytest.raises(InputError, match=r"which is another CT than .*; choose another folder"):
        against_disk([done], {done.id: other}, Recipe(), tmp_path / "out", retry=False)


def test_a_recipe_comes_back_as_it_was_written(tmp_path: Path) -> None:
    recipe = Recipe(PredictSettings(grid=256), MaskSettings(split=True), case_file=True, attempts=3)
    write_recipe(tmp_path, recipe)
    assert read_recipe(tmp_path) == recipe
    with pytest.raises(InputError, match="--prepare first"):
        read_recipe(tmp_path / "nowhere")
