"""The command that opens the window: on a CT, on a saved case, on the cases of a cohort."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_resunet.cli.ct import (
    FrameOption,
    GapsOption,
    OffsetOption,
    OrientationOption,
    SeriesOption,
    SpacingOption,
    answers_of,
)
from napari_resunet.cli.display import has_display
from napari_resunet.cli.progress import show_progress
from napari_resunet.errors import CtMissingError, InputError
from napari_resunet.settings import InputAnswers

commands = typer.Typer()


@commands.command()
def view(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A CT: DICOM folder or file, NIfTI, TIFF, MetaImage, NRRD; a case file (.nru); a cohort's folder.",
        ),
    ],
    mask: Annotated[Path | None, typer.Option("--mask", help="A mask of this CT to correct.")] = None,
    ct: Annotated[
        Path | None, typer.Option("--ct", help="Of a case file, the CT; beside it by default.")
    ] = None,
    next_case: Annotated[
        bool, typer.Option("--next", help="Of a cohort, the most doubtful case that is not reviewed yet.")
    ] = False,
    case: Annotated[str | None, typer.Option("--case", metavar="ID", help="Of a cohort, this case.")] = None,
    spacing: SpacingOption = None,
    series: SeriesOption = None,
    hu_offset: OffsetOption = None,
    accept_gaps: GapsOption = False,
    frame: FrameOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Open a CT, a saved case or the cases of a cohort in napari."""
    from napari_resunet.cohort.manifest import case_ids
    from napari_resunet.io.case_file import is_case_file

    answers = answers_of(spacing, series, hu_offset, accept_gaps, frame, orientation)
    holds_cases, of_one_ct = bool(case_ids(source)), mask or ct or answers != InputAnswers()
    if (holds_cases and of_one_ct) or (not holds_cases and (next_case or case)) or (next_case and case):
        raise typer.BadParameter("--next or --case, and nothing else, go with the folder of a cohort")
    if holds_cases:
        _view_cohort(context, source, case, next_case=next_case)
        return
    _require_display()
    if is_case_file(source):
        if mask is not None or answers != InputAnswers():
            raise typer.BadParameter("a case file knows its mask and its CT; give nothing but --ct with it")
        _view_case(context, source, ct)
    elif ct is not None:
        raise typer.BadParameter("--ct says where the CT of a case file is; INPUT is none")
    else:
        context.obj(source, mask=mask, answers=answers, track=show_progress("reading"))


def _require_display() -> None:
    if not has_display():
        raise InputError("there is no display to open a window on; use segment with --picture")


def _view_cohort(context: typer.Context, out: Path, case: str | None, *, next_case: bool) -> None:
    """Open a case of a cohort, and the next ones after it; without a choice, tell what there is."""
    from napari_resunet.cohort import reviewing

    if next_case:
        following = reviewing.next_open(reviewing.in_order_of_doubt(out))
        case = None if following is None else following.id
    if case is None:
        print(reviewing.summary(out))
        print(f"look at {out / 'index.html'}; open cases with --next or --case ID", file=sys.stderr)
        return
    _require_display()
    context.obj(out, cohort_case=case, track=show_progress("reading"))


def _view_case(context: typer.Context, case: Path, ct: Path | None) -> None:
    """Open a case on its CT; another one is refused before there is a window."""
    from napari_resunet.io.case_file import find_case_ct, open_case_ct, read_case

    record = read_case(case)
    try:
        found = find_case_ct(case, record, ct)
    except CtMissingError as error:
        raise InputError(f"{error}: --ct PATH") from error
    volume = open_case_ct(case, record, found, show_progress("reading"))
    context.obj(found, volume=volume, record=record)
