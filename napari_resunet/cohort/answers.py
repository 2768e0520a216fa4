"""What a user says of CTs in a table: the fields of `InputAnswers` as columns, empty where nothing is said."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from napari_resunet.errors import GeometryError, InputError
from napari_resunet.geometry import Geometry
from napari_resunet.settings import InputAnswers

COLUMNS = tuple(known.name for known in fields(InputAnswers))
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")

Row = dict[str, str]
Said = dict[str, Any]


def _delimiter(heading: str) -> str:
    """Return what parts the columns: a semicolon where the first line has no comma, as many a spreadsheet writes."""
    return ";" if ";" in heading and "," not in heading else ","


def read_rows(table: Path) -> list[tuple[int, Row]]:
    """Return the rows of a CSV as text without blanks around it, each with the number of its line.

    Raises
    ------
    InputError
        If it cannot be read, or has columns that are none, which would leave an answer unheard.
    """
    known = {"ct", "case", *COLUMNS}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=_delimiter(file.readline()))
            file.seek(0)
            columns = [(name or "").strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            rows = [
                (reader.line_num, {name: (value or "").strip() for name, value in row.items() if name})
                for row in reader
            ]
    except OSError as error:
        raise InputError(f"{table} cannot be opened ({error.strerror}); check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{table} cannot be read as CSV ({error}); save it as CSV in UTF-8") from error
    if not columns:
        raise InputError(f"{table} is empty; its first line names the columns, of {', '.join(sorted(known))}")
    if unknown := [name for name in columns if name not in known]:
        raise InputError(
            f"{table} has an unknown column {unknown[0]!r}; known are {', '.join(['ct', 'case', *COLUMNS])}"
        )
    return rows


def said_in(row: Mapping[str, str], where: str) -> Said:
    """Return the answers of a row by their names; only those that are given.

    Raises
    ------
    InputError
        If one is not of its kind, naming `where`.
    """
    return {name: _answer(name, row[name], where) for name in COLUMNS if row.get(name)}


def _answer(name: str, text: str, where: str) -> Any:
    try:
        if name == "spacing_mm":
            z, y, x = (float(part) for part in text.replace("x", ",").replace(";", ",").split(","))
            return z, y, x
        if name == "hu_offset":
            return float(text)
        if name == "frame":
            return int(text)
        if name == "accept_gaps":
            return _is_yes(text)
        if name == "orientation":
            return Geometry.from_spacing((1, 1, 1), (1, 1, 1), text).axis_codes
    except (ValueError, GeometryError) as error:
        raise InputError(f"{where}: {name} cannot be {text!r}; give {_EXAMPLES[name]}") from error
    return text


_EXAMPLES = {
    "spacing_mm": 'three numbers in mm along z, y and x, such as "2.5,0.7,0.7"',
    "hu_offset": "a number to add to every value, such as -1024, or 0",
    "frame": "a number, the first is 0",
    "accept_gaps": "yes or no",
    "orientation": "three letters such as SPL",
}


def _is_yes(text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise ValueError(text)
    return text.lower() in _YES
