"""The command for a model that learns from its corrections."""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_resunet.cli.options import DeviceName, DeviceOption, option, settings_of
from napari_resunet.settings import LearnSettings

if TYPE_CHECKING:
    from napari_resunet.training.comparison import LearnProgress, Learnt
    from napari_resunet.training.corrected import Lesson

NO_BETTER = 1

commands = typer.Typer()


@commands.command()
def learn(
    cases: Annotated[
        list[Path],
        typer.Argument(
            metavar="CASES...",
            help="Corrected cases: case files (.nru) with their CT beside them, a cohort's folder, or NAME_ct.* "
            "with NAME_lungs.*.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The new model, a .safetensors file.")],
    parent: Annotated[str, option(LearnSettings, "parent", "--from")] = LearnSettings.parent,
    steps: Annotated[int, option(LearnSettings, "steps")] = LearnSettings.steps,
    hold_out: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A case to compare on and not to learn from; may be given again. One at random if there are three.",
        ),
    ] = None,
    edited_weight: Annotated[float, option(LearnSettings, "edited_weight")] = LearnSettings.edited_weight,
    replay: Annotated[float, option(LearnSettings, "replay")] = LearnSettings.replay,
    learning_rate: Annotated[float, option(LearnSettings, "learning_rate")] = LearnSettings.learning_rate,
    batch: Annotated[int, option(LearnSettings, "batch")] = LearnSettings.batch,
    validate_every: Annotated[int, option(LearnSettings, "validate_every")] = LearnSettings.validate_every,
    seed: Annotated[int, option(LearnSettings, "seed")] = LearnSettings.seed,
    device: DeviceOption = DeviceName.auto,
    keep_anyway: Annotated[
        bool, typer.Option("--keep-anyway", help="Write the model although it is no better than its parent.")
    ] = False,
) -> None:
    """Let a model learn from corrected cases.

    It is written only if it is better than before.

    The same command goes on where it was stopped. Exit codes: 0 the model is written; 1 it is no better, and is kept
    in OUTPUT.run only; 2, 3, 4 and 130 as everywhere.
    """
    from napari_resunet import lessons

    settings = settings_of(
        LearnSettings,
        parent=parent,
        steps=steps,
        edited_weight=edited_weight,
        replay=replay,
        learning_rate=learning_rate,
        batch=batch,
        validate_every=validate_every,
        seed=seed,
    )
    work = lessons.learn(
        _lessons(cases),
        output,
        settings=settings,
        held_out_names=hold_out or (),
        device=device.value,
        keep_anyway=keep_anyway,
    )
    learnt = _followed(work, steps)
    _tell(learnt, output)
    if learnt.model is None:
        raise typer.Exit(NO_BETTER)


def _lessons(paths: Sequence[Path]) -> list[Lesson]:
    from napari_resunet.cohort.corrected import reviewed_lessons
    from napari_resunet.cohort.manifest import is_cohort
    from napari_resunet.lessons import lessons_of

    return [
        lesson
        for path in paths
        for lesson in (reviewed_lessons(path) if is_cohort(path) else lessons_of(path))
    ]


def _followed(work: Iterator[object], steps: int) -> Learnt:
    """Do the work, tell how far it is on stderr, and return what comes of it."""
    from rich.console import Console
    from rich.progress import Progress

    from napari_resunet.training.finetune import Step

    console = Console(stderr=True, highlight=False)
    bar = Progress(console=console, disable=not console.is_terminal)
    told: object = None
    with bar, _stops_between_steps() as is_stopped, closing(work):  # type: ignore[type-var]
        task = bar.add_task("reading", total=steps)
        for told in work:
            if is_stopped():
                raise KeyboardInterrupt
            if isinstance(told, Step):
                bar.update(task, description="learning", completed=told.done)
                if told.line is not None:
                    console.print(_line(told.line), soft_wrap=True, markup=False)
    return told  # type: ignore[return-value]


@contextmanager
def _stops_between_steps() -> Iterator[Callable[[], bool]]:
    """Take Ctrl+C, and the SIGTERM of a batch system, to mean the end of the step that is being made.

    A second one ends the program at once; the state is then that of the last validation.
    """
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        print("stopping after this step", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line(line: LearnProgress) -> str:
    held_out = "" if math.isnan(line.dice) else f"Dice held out {line.dice:.4f}, "
    loss = "" if math.isnan(line.loss) else f"loss {line.loss:.4f}, "
    return f"step {line.step}: {loss}{held_out}made-up chests {line.replay:.4f}"


def _tell(learnt: Learnt, output: Path) -> None:
    before, after = learnt.before, learnt.after
    if learnt.held_out:
        names = ", ".join(learnt.held_out)
        print(f"held out ({names}): Dice {before.dice:.4f} before, {after.dice:.4f} after")
    else:
        print(
            "note: no case was held out (that takes three, or --hold-out), so whether the model is better is not "
            "known",
            file=sys.stderr,
        )
    print(f"made-up chests: Dice {before.replay:.4f} before, {after.replay:.4f} after")
    for reason in learnt.against:
        print(f"note: {reason}", file=sys.stderr)
    curve = f"curve in {output.with_suffix('.run')}"
    if learnt.model is None:
        print(
            f"{output} was not written; the result is {learnt.candidate} (--keep-anyway writes it); {curve}"
        )
        return
    print(f"{output}: step {after.step}; {curve}")
