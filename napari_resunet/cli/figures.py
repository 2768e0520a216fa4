"""The commands that tell: evaluate a mask, measure the lungs, facts on a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_resunet.cli.ct import (
    FrameOption,
    GapsOption,
    OffsetOption,
    OrientationOption,
    SeriesOption,
    Source,
    SpacingOption,
    answers_of,
)
from napari_resunet.cli.progress import show_progress

commands = typer.Typer()


@commands.command()
def evaluate(
    mask: Annotated[Path, typer.Argument(metavar="MASK")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE")],
    table: Annotated[
        Path | None, typer.Option("--csv", help="Add the result to this table, a row a lung.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    spacing: SpacingOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Compare a mask with a reference on the same grid.

    Dice, IoU, surface distances in mm, volumes in ml.
    """
    from napari_resunet import workflows
    from napari_resunet.io import table as tables

    answers = answers_of(spacing, orientation=orientation)
    results = workflows.evaluate_files(mask, reference, table, answers=answers)
    if as_json:
        print(tables.as_json(workflows.agreement_rows(mask, reference, results)), end="")
        return
    for lung, found in results.items():
        overlap = f"Dice {found.dice:.4f}, IoU {found.iou:.4f}, NSD at 2 mm {found.nsd_2mm:.4f}"
        surfaces = f"HD95 {found.hd95_mm:.2f} mm, ASSD {found.assd_mm:.2f} mm"
        print(
            f"{lung}: {overlap}, {surfaces}, {found.volume_ml:.1f} ml, reference {found.reference_ml:.1f} ml"
        )


@commands.command()
def measure(
    source: Source,
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="A mask of this CT.")],
    table: Annotated[
        Path | None, typer.Option("--csv", help="Add the figures to this table, a row a lung.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    spacing: SpacingOption = None,
    series: SeriesOption = None,
    hu_offset: OffsetOption = None,
    accept_gaps: GapsOption = False,
    frame: FrameOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Measure the lungs: volume, HU, emphysema-like voxels.

    ml, mean and 15th percentile of HU, share of emphysema-like voxels, right, left and both.
    """
    from napari_resunet import workflows
    from napari_resunet.io import table as tables

    answers = answers_of(spacing, series, hu_offset, accept_gaps, frame, orientation)
    figures = workflows.measure_files(
        source, mask, table, answers=answers, read_track=show_progress("reading")
    )
    if as_json:
        print(tables.as_json(workflows.figure_rows(source, mask, figures)), end="")
        return
    for lung in figures:
        print(f"{lung.name}: {lung}")


@commands.command()
def info(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A CT, a mask, a case file, a weights file or a model's name."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    spacing: SpacingOption = None,
    series: SeriesOption = None,
    hu_offset: OffsetOption = None,
    accept_gaps: GapsOption = False,
    frame: FrameOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Show facts on a CT, mask, case, model or this machine."""
    from napari_resunet import facts

    answers = answers_of(spacing, series, hu_offset, accept_gaps, frame, orientation)
    told = facts.tell(subject, answers)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    checks = told.pop("checks", [])
    for line in _lines(told):
        print(line)
    for check in checks:
        print(f"{check['level']:6} {check['name']}: {check['text']}")


def _lines(told: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Return facts as lines; what a name holds that has names itself stands below it, indented."""
    for name, value in told.items():
        if value in ("", None, [], {}):
            continue
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            for number, each in enumerate(value, 1):
                yield f"{indent}{name} {number}:"
                yield from _lines(each, indent + "  ")
        else:
            yield f"{indent}{name}: {value if isinstance(value, str) else json.dumps(value)}"
