from __future__ import annotations

from pathlib import Path

import pytest

from napari_resunet.errors import InputError
from napari_resunet.training.cases import TrainingCase, find_cases, split_cases


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def table(path: Path, *rows: str) -> None:
    path.write_text("\n".join(["file,patient,content", *rows]) + "\n")


def patients(folder: Path, count: int) -> Path:
    return touch(folder, *(f"p{i}_a_{what}.nii.gz" for i in range(count) for what in ("ct", "lungs")))


def test_an_image_goes_with_the_mask_of_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "anna_1_ct.nii.gz", "anna_1_lungs.nii.gz", "ben_ct.nii", "ben_lungs.nii.gz")
    touch(tmp_path, "more/carl_7.dcm", "more/carl_7_lungs.png", "notes.txt", "anna_1_airway.nii.gz")
    assert find_cases(tmp_path) == [
        TrainingCase("anna_1", "anna", tmp_path / "anna_1_ct.nii.gz", tmp_path / "anna_1_lungs.nii.gz"),
        TrainingCase("ben", "ben", tmp_path / "ben_ct.nii", tmp_path / "ben_lungs.nii.gz"),
        TrainingCase("carl_7", "carl", tmp_path / "more/carl_7.dcm", tmp_path / "more/carl_7_lungs.png"),
    ]


def test_a_dicom_folder_is_one_case_and_its_files_are_none(tmp_path: Path) -> None:
    touch(tmp_path, "dora_dicom/1.dcm", "dora_dicom/2.dcm", "dora_lungs.nii.gz", "dicom_notes_dicom")
    assert find_cases(tmp_path) == [
        TrainingCase("dora", "dora", tmp_path / "dora_dicom", tmp_path / "dora_lungs.nii.gz")
    ]


def test_an_image_without_a_mask_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "anna_ct.nii.gz", "ben_lungs.nii.gz")
    with pytest.raises(InputError, match=r"anna_ct.nii.gz has no mask beside it \(anna_lungs.*no table says"):
        find_cases(tmp_path)


def test_a_folder_without_a_case_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "anna_lungs.nii.gz", "ct.nii.gz")
    with pytest.raises(
        InputError, match=r"holds no NAME_ct.nii.gz with .*no NAME.dcm with .*and no folder NAME_dicom"
    ):
        find_cases(tmp_path)


def test_a_table_may_say_that_an_image_holds_no_lung_and_whose_it_is(tmp_path: Path) -> None:
    touch(tmp_path, "anna_ct.nii.gz", "sub/knee.dcm")
    table(tmp_path / "index.csv", "anna_ct.nii.gz,P1,no lung", "sub/knee.dcm,P1,no lung")
    assert [(case.name, case.patient, case.mask) for case in find_cases(tmp_path)] == [
        ("anna", "P1", None),
        ("knee", "P1", None),
    ]


def test_a_table_above_the_folder_counts_too(tmp_path: Path) -> None:
    touch(tmp_path, "train/knee.dcm")
    table(tmp_path / "index.csv", "train/knee.dcm,P7,no lung")
    assert find_cases(tmp_path / "train")[0].patient == "P7"


def test_an_entry_that_says_something_else_does_not_excuse_a_missing_mask(tmp_path: Path) -> None:
    touch(tmp_path, "anna_ct.nii.gz")
    table(tmp_path / "index.csv", "anna_ct.nii.gz,P1,lungs")
    with pytest.raises(InputError, match=r"anna_ct.nii.gz has no mask"):
        find_cases(tmp_path)


def test_where_the_table_names_no_patient_the_first_word_of_the_file_does(tmp_path: Path) -> None:
    touch(tmp_path, "anna_2_ct.nii.gz")
    table(tmp_path / "index.csv", "anna_2_ct.nii.gz,,no lung")
    assert find_cases(tmp_path)[0].patient == "anna"


def test_a_table_about_something_else_or_with_short_rows_is_no_hindrance(tmp_path: Path) -> None:
    patients(tmp_path, 1)
    (tmp_path / "prices.csv").write_text("item,price\nbread,2\n")
    (tmp_path / "short.csv").write_text("patient,file\nP1\n")
    assert [case.patient for case in find_cases(tmp_path)] == ["p0"]


def test_the_folders_train_and_val_decide_where_they_are_there(tmp_path: Path) -> None:
    patients(tmp_path / "train", 3)
    touch(tmp_path / "val", "zoe_ct.nii", "zoe_lungs.nii")
    train, val = split_cases(tmp_path, seed=0)
    assert [case.patient for case in train] == ["p0", "p1", "p2"]
    assert [case.patient for case in val] == ["zoe"]


def test_a_patient_in_both_folders_is_refused_by_name(tmp_path: Path) -> None:
    patients(tmp_path / "train", 3)
    touch(tmp_path / "val", "p1_b_ct.nii", "p1_b_lungs.nii")
    with pytest.raises(InputError, match=r"patients both in training and in validation: p1$"):
        split_cases(tmp_path, seed=0)


def test_of_one_patient_nobody_can_be_held_out(tmp_path: Path) -> None:
    touch(tmp_path, *(f"p0_{scan}_{what}.nii" for scan in "ab" for what in ("ct", "lungs")))
    with pytest.raises(InputError, match="at least two patients"):
        split_cases(tmp_path, seed=0)


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (6, 1), (11, 1), (12, 2)])
def test_one_person_in_six_is_held_out_but_at_least_one(tmp_path: Path, count: int, held_out: int) -> None:
    train, val = split_cases(patients(tmp_path, count), seed=0)
    assert len(val) == held_out
    assert len(train) == count - held_out


@pytest.mark.parametrize("seed", range(5))
def test_the_scans_of_one_patient_are_never_parted(tmp_path: Path, seed: int) -> None:
    touch(
        tmp_path,
        *(f"p{i}_{scan}_{what}.nii" for i in range(6) for scan in "abc" for what in ("ct", "lungs")),
    )
    train, val = split_cases(tmp_path, seed)
    assert len(train) == 15
    assert len(val) == 3
    assert not {case.patient for case in train} & {case.patient for case in val}


def test_the_same_seed_holds_out_the_same_people_and_another_seed_others(tmp_path: Path) -> None:
    patients(tmp_path, 12)
    found = [frozenset(case.patient for case in split_cases(tmp_path, seed)[1]) for seed in range(8)]
    again = [frozenset(case.patient for case in split_cases(tmp_path, seed)[1]) for seed in range(8)]
    assert found == again
    assert len(set(found)) > 1
