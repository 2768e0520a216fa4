"""What is told of a cohort as a whole: the table and the page, made anew from the files of its cases."""

from __future__ import annotations

from pathlib import Path

from napari_resunet.cohort.manifest import read_entries, write_table
from napari_resunet.cohort.page import write_page
from napari_resunet.cohort.unusual import unusual_cases


def write_summary(out: Path) -> None:
    """Write ``manifest.csv`` and ``index.html`` from what is on disk.

    Raises
    ------
    InputError
        If `out` is no folder of a cohort, or a case's file cannot be read.
    OutputError
        If one of them cannot be written.
    """
    entries = list(read_entries(out))
    unusual = unusual_cases(entries)
    write_table(out, entries, unusual)
    write_page(out, entries, unusual)
