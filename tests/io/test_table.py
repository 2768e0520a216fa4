from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from napari_resunet.errors import OutputError
from napari_resunet.io.table import append_rows, write_rows

ROWS = [
    {"ct": "a, “b”.nii.gz", "dice": 1 / 3, "hd95_mm": math.nan, "missed": False, "model": None},
    {"ct": "c.nii.gz", "dice": 1.0, "hd95_mm": 2.5, "missed": True, "model": "lung-ct"},
]


def test_csv_has_a_heading_and_a_row_each_rounded_to_6_decimals(tmp_path: Path) -> None:
    write_rows(tmp_path / "t.csv", ROWS)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "ct": "a, “b”.nii.gz", "dice": "0.333333", "hd95_mm": "nan", "missed": "False", "model": "",
    }  # fmt: skip
    assert second["hd95_mm"] == "2.5"


def test_json_has_the_same_rows_and_is_strict_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    write_rows(tmp_path / "t.JSON", ROWS)
    first, second = json.loads((tmp_path / "t.JSON").read_text(encoding="utf-8"), parse_constant=refuse)
    assert first == {
        "ct": "a, “b”.nii.gz", "dice": 0.333333, "hd95_mm": None, "missed": False, "model": None,
    }  # fmt: skip
    assert list(second) == list(ROWS[1])


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_an_older_table_is_replaced(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / name, ROWS)
    write_rows(tmp_path / name, ROWS[1:])
    assert "a, " not in (tmp_path / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["t.xlsx", "t", "csv"])
def test_another_ending_is_refused_and_nothing_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=r"is neither \.csv nor \.json; give"):
        write_rows(tmp_path / name, ROWS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_rows, append_rows])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, write) -> None:
    with pytest.raises(OutputError, match=r"no.t\.csv"):
        write(tmp_path / "no" / "t.csv", ROWS)


def test_rows_are_added_below_those_that_are_there(tmp_path: Path) -> None:
    append_rows(tmp_path / "grown.csv", ROWS[:1])
    append_rows(tmp_path / "grown.csv", ROWS[1:])
    write_rows(tmp_path / "at_once.csv", ROWS)
    assert (tmp_path / "grown.csv").read_bytes() == (tmp_path / "at_once.csv").read_bytes()


def test_an_empty_table_gets_its_heading(tmp_path: Path) -> None:
    (tmp_path / "t.csv").touch()
    append_rows(tmp_path / "t.csv", ROWS)
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").startswith("ct,dice,")


@pytest.mark.parametrize("there", [b"mask,dice\r\na,1\r\n", b"\xff\xfe\x00binary"])
def test_a_file_with_other_columns_is_left_as_it_is(tmp_path: Path, there: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(there)
    with pytest.raises(OutputError, match="choose another file"):
        append_rows(tmp_path / "t.csv", ROWS)
    assert (tmp_path / "t.csv").read_bytes() == there
