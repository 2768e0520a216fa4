"""The commands for many cases."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_resunet.cli.options import DeviceName, DeviceOption, option, settings_of
from napari_resunet.settings import MaskSettings, PredictSettings

if TYPE_CHECKING:
    from napari_resunet.cohort.engine import Report, Standing
    from napari_resunet.cohort.manifest import CaseEntry

NOT_ALL_DONE = 1
_TOLD = 20  # cases that are named at the end

commands = typer.Typer()


class TemplateName(StrEnum):
    """The templates that ship."""

    slurm = "slurm"
    snakemake = "snakemake"
    container = "container"


_TEMPLATES = {"slurm": "slurm.sh", "snakemake": "Snakefile", "container": "Containerfile"}


@commands.command()
def cohort(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="A folder with CTs wherever in it, a pattern in quotes, or a CSV with the column ct.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder of the results; the same command goes on in it.")
    ],
    workers: Annotated[int, typer.Option(min=1, help="How many processes of this machine work.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="A dask scheduler whose workers do the work, such as tcp://host:8786."
        ),
    ] = None,
    model: Annotated[str, option(PredictSettings, "model")] = PredictSettings.model,
    grid: Annotated[int, option(PredictSettings, "grid")] = PredictSettings.grid,
    device: DeviceOption = DeviceName.auto,
    threshold: Annotated[float, option(MaskSettings, "threshold")] = MaskSettings.threshold,
    clean: Annotated[bool, option(MaskSettings, "clean", "--clean/--no-clean")] = MaskSettings.clean,
    split: Annotated[bool, option(MaskSettings, "split", "--split/--no-split")] = MaskSettings.split,
    probability: Annotated[
        bool, typer.Option("--probability", help="Write the probability maps too.")
    ] = False,
    case_file: Annotated[
        bool,
        typer.Option("--case-file", help="Write a case file too, which the window opens with all it needs."),
    ] = False,
    picture: Annotated[
        bool, typer.Option("--picture/--no-picture", help="Draw a picture of each case.")
    ] = True,
    timeout: Annotated[
        float, typer.Option(metavar="S", help="Seconds after which a case is ended.")
    ] = 1800.0,
    attempts: Annotated[
        int, typer.Option(min=1, help="How often a case may crash or hang before it is given up.")
    ] = 2,
    answers: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Answers to what was asked: columns case or ct, and those it names."
        ),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what was refused or has failed.")] = False,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="Only write the manifest, and waiting.txt with the ids of what is to run."
        ),
    ] = False,
) -> None:
    """Segment many CTs, or go on with them.

    What is done stays done, and what fails is told.

    Exit codes: 0 all cases are done; 1 some are asked, refused or failed, or still wait after --prepare; 2, 3, 4 and
    130 as everywhere.
    """
    from napari_resunet.cohort.engine import run_cohort
    from napari_resunet.cohort.manifest import Status
    from napari_resunet.cohort.recipe import Recipe

    recipe = settings_of(
        Recipe,
        predict=settings_of(PredictSettings, model=model, device=device.value, grid=grid),
        mask=settings_of(MaskSettings, threshold=threshold, clean=clean, split=split),
        probability=probability,
        case_file=case_file,
        picture=picture,
        timeout_s=timeout,
        attempts=attempts,
    )
    told: set[str] = set()
    with _ended_by_the_system_as_by_the_user(), _progress(told) as report:
        entries = run_cohort(
            source,
            out,
            recipe,
            workers=workers,
            scheduler=scheduler,
            answers=answers,
            retry=retry,
            prepare_only=prepare,
            report=report,
        )
    _tell(entries, out, told)
    if any(entry.status != Status.DONE for entry in entries):
        raise typer.Exit(NOT_ALL_DONE)


@commands.command()
def cohort_case(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that cohort --prepare made.")],
    cases: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Cases of it, such as lines of waiting.txt.")
    ],
) -> None:
    """Run cases of a cohort, as SLURM or Snakemake do.

    One after the other; exit code 1 if one is not done then.
    """
    from napari_resunet.cohort.manifest import Status
    from napari_resunet.cohort.recipe import read_recipe
    from napari_resunet.cohort.run import BusyError, run_case

    recipe, all_done = read_recipe(out), True
    with _ended_by_the_system_as_by_the_user():
        for case in cases:
            try:
                entry = run_case(out.absolute(), case, recipe)
            except BusyError as error:
                print(f"{case}: {error}", file=sys.stderr)
                all_done = False
                continue
            print(_line(entry), flush=True)
            all_done &= entry.status == Status.DONE
    if not all_done:
        raise typer.Exit(NOT_ALL_DONE)


@commands.command()
def template(
    name: Annotated[TemplateName, typer.Argument(metavar="slurm|snakemake|container")],
) -> None:
    """Print a script for SLURM, Snakemake or a container."""
    folder = resources.files("napari_resunet") / "cohort" / "templates"
    print((folder / _TEMPLATES[name.value]).read_text(encoding="utf-8"), end="")


@contextmanager
def _ended_by_the_system_as_by_the_user() -> Iterator[None]:
    """Take a SIGTERM, which batch systems send before they kill, as Ctrl+C: the state on disk is left clean."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(told: set[str]) -> Iterator[Report]:
    """Show how far a cohort is on stderr: a line a case, counted, or above a bar on a terminal.

    The ids of the cases that are told go into `told`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("looking for CTs", total=None)
        dashboard = ""

        def report(now: Standing) -> None:
            nonlocal dashboard
            if now.passed_over:
                console.print(_note_on(now.passed_over), soft_wrap=True, markup=False)
            if now.dashboard != dashboard:
                dashboard = now.dashboard
                console.print(f"dashboard: {dashboard}", soft_wrap=True)
            open_cases = sum(now.counts[status] for status in now.counts if status in ("waiting", "running"))
            everything = sum(now.counts.values())
            if now.newest is not None and (now.newest.reason or now.newest.status == "done"):
                told.add(now.newest.id)
                number = "" if console.is_terminal else f"{everything - open_cases} of {everything}: "
                console.print(number + _line(now.newest), soft_wrap=True, markup=False)
            at_work = f"{now.workers} worker{'' if now.workers == 1 else 's'}"
            bar.update(task, description=at_work, total=everything, completed=everything - open_cases)

        yield report


def _note_on(passed_over: Sequence[Path]) -> str:
    first, others = passed_over[0], len(passed_over) - 1
    files = f"{first} and {others} more were" if others else f"{first} was"
    return f"note: {files} passed over, as masks or probability maps; a CSV with the column ct takes what it names"


def _line(entry: CaseEntry) -> str:
    if entry.status == "done":
        return f"{entry.id}: {entry.ml_total or 0:,.0f} ml, {entry.seconds_all or 0:.1f} s"
    column = f" (--answers CSV, column {' or '.join(entry.answer_with)})" if entry.answer_with else ""
    return f"{entry.id}: {entry.status}" + (f", {entry.reason}{column}" if entry.reason else "")


def _tell(entries: list[CaseEntry], out: Path, told: set[str]) -> None:
    """Print how many cases stand where, and what those need that have not been told yet."""
    from napari_resunet.cohort.manifest import count_by_status

    others = [entry for entry in entries if entry.status not in ("done", "waiting") and entry.id not in told]
    for entry in others[:_TOLD]:
        print(_line(entry), file=sys.stderr)
    if len(others) > _TOLD:
        print(f"and {len(others) - _TOLD} more; see {out / 'manifest.csv'}", file=sys.stderr)
    counts = ", ".join(f"{count} {status}" for status, count in count_by_status(entries).items() if count)
    print(f"{out}{os.sep}manifest.csv: {counts}")
