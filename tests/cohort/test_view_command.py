"""``napari-resunet view`` on the folder of a cohort."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from napari_resunet import cli
from napari_resunet.cohort.manifest import CaseEntry, Status, update_entry, write_entry

Opened = list[tuple[tuple[object, ...], dict[str, object]]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for case_id, doubt in (("a", 0.1), ("b", 0.3)):
        mask = f"cases/{case_id}/lungs.nii.gz"
        write_entry(tmp_path, CaseEntry(case_id, "/ct", status=Status.DONE, mask=mask, doubt_mean=doubt))
    write_entry(tmp_path, CaseEntry("c", "/ct"))
    return tmp_path


@pytest.fixture
def opened() -> Opened:
    """How the window was opened."""
    return []


@pytest.fixture
def view(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DISPLAY", ":0")

    def run(*arguments: object) -> int:
        def open_window(*given: object, **options: object) -> None:
            assert callable(options.pop("track"))  # reading a CT takes a while
            opened.append((given, options))

        return cli.run(["view", *map(str, arguments)], open_window=open_window)

    return run


def test_next_opens_the_most_doubtful_case_that_is_open(view, opened: Opened, out: Path) -> None:
    assert view(out, "--next") == 0
    update_entry(out, "b", reviewed=True)
    assert view(out, "--next") == 0
    assert opened == [((out,), {"cohort_case": "b"}), ((out,), {"cohort_case": "a"})]


def test_a_named_case_is_opened(view, opened: Opened, out: Path) -> None:
    assert view(out, "--case", "a") == 0
    assert opened == [((out,), {"cohort_case": "a"})]


def test_without_a_choice_it_says_what_is_there(view, opened: Opened, out: Path, capsys) -> None:
    assert view(out) == 0
    said = capsys.readouterr()
    assert said.out == "3 cases, 2 of them done, 2 of these not reviewed yet\n"
    assert "open cases with --next or --case ID" in said.err
    assert not opened


def test_when_all_is_reviewed_next_says_so(view, opened: Opened, out: Path, capsys) -> None:
    for case_id in "ab":
        update_entry(out, case_id, reviewed=True)
    assert view(out, "--next") == 0
    assert "0 of these not reviewed yet" in capsys.readouterr().out
    assert not opened


@pytest.mark.parametrize(
    "choices", [["--next", "--case", "a"], ["--next", "--mask", "m.tif"], ["--spacing", "1,1,1"]]
)
def test_choices_that_contradict_each_other_are_wrong_arguments(
    view, opened: Opened, out: Path, choices: list[str], capsys
) -> None:
    assert view(out, *choices) == 2
    said = " ".join(re.findall(r"[\w-]+", capsys.readouterr().err))  # without the frame around it
    assert "--next or --case and nothing else go with the folder of a cohort" in said
    assert not opened


@pytest.mark.parametrize("choice", [["--next"], ["--case", "a"]])
def test_a_ct_has_no_next_case(view, opened: Opened, tmp_path: Path, choice: list[str]) -> None:
    assert view(tmp_path / "ct.tif", *choice) == 2
    assert not opened
