"""Rows of figures to a CSV or a JSON file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_resunet.errors import OutputError
from napari_resunet.io.atomic import replacing

TABLE_ENDINGS = (".csv", ".json")
_DECIMALS = 6

Row = Mapping[str, Any]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows to a new file, whole or not at all; an older file of that name is replaced.

    Parameters
    ----------
    path : Path
        Ends in .csv or .json, which chooses the format.
    rows : sequence of mapping
        All with the same columns. Numbers are rounded to 6 decimals; what is not known is None.

    Raises
    ------
    OutputError
        If it ends in anything else, or cannot be written.
    """
    if path.suffix.lower() not in TABLE_ENDINGS:
        raise OutputError(f"{path} is neither .csv nor .json; give the table one of these endings")
    text = as_json(rows) if path.suffix.lower() == ".json" else as_csv(rows)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a CSV table, which is made with a heading if it is not there.

    Raises
    ------
    OutputError
        If the table has other columns, or cannot be written.
    """
    columns = list(rows[0])
    try:
        with path.open("a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            before = file.read()
            found = next(csv.reader(io.StringIO(before, newline="")), None)
            if found not in (None, columns):
                raise OutputError(f"{path} has other columns than these figures; choose another file")
            # in one piece, so that programs that add to the same table do not write into each other's rows
            gap = "" if not before or before.endswith(("\n", "\r")) else "\r\n"
            file.write(gap + as_csv(rows, heading=found is None))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OutputError(f"{path} cannot be added to ({error}); choose another file") from error


def as_csv(rows: Sequence[Row], *, heading: bool = True) -> str:
    """Return rows as CSV: ``nan`` where there is nothing to measure, empty where nothing is known."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    if heading:
        writer.writeheader()
    writer.writerows({name: _rounded(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def as_json(rows: Sequence[Row]) -> str:
    """Return rows as a JSON list of objects; JSON has no ``nan``, which becomes null."""
    plain = [{name: _or_null(_rounded(value)) for name, value in row.items()} for row in rows]
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _rounded(value: Any) -> Any:
    return round(value, _DECIMALS) if isinstance(value, float) else value


def _or_null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
