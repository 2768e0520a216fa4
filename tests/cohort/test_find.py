from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePath

import pytest
import tifffile
from cohort_making import PutNifti

from napari_resunet.cohort.find import Found, find_cts, stamp_of
from napari_resunet.cohort.ids import case_id, is_safe
from napari_resunet.errors import InputError
from napari_resunet.io.dicom import write_ct_series
from napari_resunet.io.files import write_mask
from napari_resunet.phantom import Phantom


def names(found: list[Found]) -> set[str]:
    return {each.relative.as_posix() for each in found}


def test_cts_of_every_kind_are_found_whatever_the_nesting(
    tmp_path: Path, put_nifti: PutNifti, small: Phantom
) -> None:
    put_nifti(tmp_path / "a/b/c/one.nii.gz")
    put_nifti(tmp_path / "two.nii")
    write_ct_series(small.volume, tmp_path / "d/e")
    tifffile.imwrite(tmp_path / "three.tif", small.volume.array)
    (tmp_path / "notes.txt").write_text("no CT")
    (tmp_path / "broken.mha").write_bytes(b"nothing")  # told as refused, not passed over
    found = find_cts(str(tmp_path), tmp_path / "out")
    assert names(found) == {"a/b/c/one.nii.gz", "two.nii", "d/e", "three.tif", "broken.mha"}


def test_masks_results_and_what_is_hidden_are_no_cts(
    tmp_path: Path, put_nifti: PutNifti, small: Phantom
) -> None:
    put_nifti(tmp_path / "ct.nii.gz")
    put_nifti(tmp_path / "ct_lungs.nii.gz")
    put_nifti(tmp_path / ".ct.part.nii.gz")
    put_nifti(tmp_path / ".hidden/ct.nii.gz")
    write_mask(small.mask, tmp_path / "anything.nii.gz")  # known by its sidecar
    put_nifti(tmp_path / "results/cases/x/ct.nii.gz")
    put_nifti(tmp_path / "older/cases/x/ct.nii.gz")
    (tmp_path / "older/cohort.json").write_text("{}")
    heard: list[Path] = []
    assert names(find_cts(str(tmp_path), tmp_path / "results", heard.append)) == {"ct.nii.gz"}
    assert [path.name for path in heard] == ["anything.nii.gz", "ct_lungs.nii.gz"]


def test_a_ct_of_a_lung_kernel_is_not_taken_for_a_mask(tmp_path: Path, put_nifti: PutNifti) -> None:
    put_nifti(tmp_path / "anna_lung.nii.gz")
    assert names(find_cts(str(tmp_path), tmp_path / "out")) == {"anna_lung.nii.gz"}


def test_a_pattern_names_cases_as_its_folder_would(tmp_path: Path, put_nifti: PutNifti) -> None:
    put_nifti(tmp_path / "p1/ct.nii.gz")
    put_nifti(tmp_path / "p2/ct.nii.gz")
    put_nifti(tmp_path / "p2/ct_lungs.nii.gz")
    heard: list[Path] = []
    by_pattern = find_cts(f"{tmp_path}/*/*.nii.gz", tmp_path / "out", heard.append)
    assert heard == [tmp_path / "p2/ct_lungs.nii.gz"]
    assert by_pattern == find_cts(str(tmp_path), tmp_path / "out")


def test_a_table_says_which_ct_and_what_is_to_be_known_of_it(tmp_path: Path, put_nifti: PutNifti) -> None:
    ct = put_nifti(tmp_path / "data/ct.nii.gz")
    table = tmp_path / "tables/list.csv"
    table.parent.mkdir()
    table.write_text('ct,case,spacing_mm,hu_offset\n../data/ct.nii.gz,Case_7,"2.5,0.7,0.7",-1024\n')
    (found,) = find_cts(str(table), tmp_path / "out")
    assert (found.path, found.case_id) == (ct, "Case_7")
    assert found.said == {"spacing_mm": (2.5, 0.7, 0.7), "hu_offset": -1024.0}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ct,spacing\na.nii,1\n", "unknown column 'spacing'; known are ct, case, spacing_mm"),
        ("ct,spacing_mm\na.nii,\n,1\n", "line 3: there is no path in the column ct"),
        ('ct,spacing_mm\na.nii,"1,2"\n', "line 2: spacing_mm cannot be '1,2'; give three numbers"),
        ("ct,accept_gaps\na.nii,perhaps\n", "line 2: accept_gaps cannot be 'perhaps'; give yes or no"),
        ("ct,orientation\na.nii,XYZ\n", "line 2: orientation cannot be 'XYZ'"),
        ("ct,case\na.nii,../up\n", "line 2: '../up' cannot be a folder's name"),
        ("ct,case\na.nii,X\nb.nii,x\n", "line 3: case 'x' is in line 2 already"),
        ("", "list.csv is empty; its first line names the columns"),
    ],
)
def test_a_table_that_is_not_understood_is_refused_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError) as raised:
        find_cts(str(tmp_path / "list.csv"), tmp_path / "out")
    assert told in str(raised.value)


@pytest.mark.parametrize("mark", ["", "\ufeff"])  # Excel's of UTF-8
def test_a_table_with_semicolons_is_read_as_a_spreadsheet_wrote_it(tmp_path: Path, mark: str) -> None:
    (tmp_path / "list.csv").write_text(mark + "ct;spacing_mm;hu_offset\na.nii;2.5,0.7,0.7;-1024\n", "utf-8")
    (found,) = find_cts(str(tmp_path / "list.csv"), tmp_path / "out")
    assert (found.path.name, found.said) == ("a.nii", {"spacing_mm": (2.5, 0.7, 0.7), "hu_offset": -1024.0})


def test_a_table_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    told = r"list.csv cannot be opened \(No such file or directory\); check the path"
    with pytest.raises(InputError, match=told):
        find_cts(str(tmp_path / "list.csv"), tmp_path / "out")


def test_a_path_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nope does not exist; check the path"):
        find_cts(str(tmp_path / "nope"), tmp_path / "out")


def test_a_folder_without_a_ct_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no CT; give a folder, a pattern"):
        find_cts(str(tmp_path), tmp_path / "out")


def test_a_case_is_called_by_the_end_of_its_path_and_differs_by_all_of_it() -> None:
    first, second = case_id(PurePath("a/p 7/CT.nii.gz")), case_id(PurePath("b/p 7/CT.nii.gz"))
    assert first.startswith("p-7-ct-")
    assert second.startswith("p-7-ct-")
    assert first != second
    assert first == case_id(PurePath("a/p 7/CT.nii.gz"))
    assert first != case_id(PurePath("a/p 7/CT.nii.gz"), "1.2.3")


@pytest.mark.parametrize(
    ("path", "readable"),
    [
        ("LUNG-CT-0012/baseline-without-contrast.nii.gz", "without-contrast"),
        ("p/twenty-four-letters-here.nii", "twenty-four-letters-here"),
        ("p/" + "x" * 30 + ".nii", "x" * 24),
    ],
)
def test_a_name_is_never_cut_within_a_word_that_is_not_too_long_by_itself(path: str, readable: str) -> None:
    assert case_id(PurePath(path)).rpartition("-")[0] == readable


@pytest.mark.parametrize(
    "path", [".", "日本/脳.nii", "x" * 300 + ".nii", "..-/con.nii", "/", "a b/\udcff.nii"]
)
def test_a_name_made_from_any_path_is_safe_and_short(path: str) -> None:
    assert is_safe(case_id(PurePath(path)))
    assert len(case_id(PurePath(path))) <= 35


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "CON", "nul.txt", "a b", "x" * 65, "dot."])
def test_a_name_that_some_system_does_not_take_is_not_safe(name: str) -> None:
    assert not is_safe(name)


def test_the_stamp_changes_with_size_and_date_of_any_file_of_a_ct(tmp_path: Path) -> None:
    for name in ("ct.mhd", "ct.raw", "other.raw"):
        (tmp_path / name).write_bytes(b"12345678")
    before, of_folder = stamp_of(tmp_path / "ct.mhd"), stamp_of(tmp_path)
    os.utime(tmp_path / "other.raw", ns=(1, 1))
    assert stamp_of(tmp_path / "ct.mhd") == before
    assert stamp_of(tmp_path) != of_folder
    (tmp_path / "ct.raw").write_bytes(b"123456789")
    assert stamp_of(tmp_path / "ct.mhd") != before


def test_the_stamp_stays_where_the_folder_is_moved(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.dcm").write_bytes(b"x")
    before = stamp_of(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert stamp_of(tmp_path / "b") == before
