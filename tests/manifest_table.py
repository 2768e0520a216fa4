"""The table of a cohort, as any program reads it."""

from __future__ import annotations

import csv
from pathlib import Path


def manifest_rows(out: Path) -> list[dict[str, str]]:
    """The rows of ``manifest.csv`` as text."""
    with (out / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
