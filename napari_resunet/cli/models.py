"""The commands that make a model: train one, or convert weights that were trained elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_resunet.cli.options import (
    DeviceName,
    DeviceOption,
    PresetName,
    option,
    settings_of,
    two_numbers,
)
from napari_resunet.cli.progress import show_progress
from napari_resunet.settings import PredictSettings, TrainSettings, explain

_WINDOW = "-1000,400 (lowest, highest)"

commands = typer.Typer()


@commands.command()
def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with NAME_ct.nii.gz, or a DICOM folder NAME_dicom, beside NAME_lungs.nii.gz.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model, a .safetensors file.")],
    card: Annotated[Path | None, typer.Option(help="JSON with the model card's words.")] = None,
    corrections: Annotated[
        Path | None, typer.Option(help="A CSV that mends masks: case, slices, action, where, why.")
    ] = None,
    device: DeviceOption = DeviceName.auto,
    preset: Annotated[PresetName, option(TrainSettings, "preset")] = PresetName.paper,
    width: Annotated[int, option(TrainSettings, "width")] = TrainSettings.width,
    grid: Annotated[int, option(TrainSettings, "grid")] = TrainSettings.grid,
    fine: Annotated[float, option(TrainSettings, "fine")] = TrainSettings.fine,
    steps: Annotated[int, option(TrainSettings, "steps")] = TrainSettings.steps,
    batch: Annotated[int, option(TrainSettings, "batch")] = TrainSettings.batch,
    hard: Annotated[float, option(TrainSettings, "hard")] = TrainSettings.hard,
    without: Annotated[str, option(TrainSettings, "without")] = TrainSettings.without,
    learning_rate: Annotated[float, option(TrainSettings, "learning_rate")] = TrainSettings.learning_rate,
    weight_decay: Annotated[float, option(TrainSettings, "weight_decay")] = TrainSettings.weight_decay,
    ema: Annotated[float, option(TrainSettings, "ema")] = TrainSettings.ema,
    validate_every: Annotated[int, option(TrainSettings, "validate_every")] = TrainSettings.validate_every,
    seed: Annotated[int, option(TrainSettings, "seed")] = TrainSettings.seed,
) -> None:
    """Train a network, or go on where a training was cut off."""
    from napari_resunet import workflows

    settings = settings_of(
        TrainSettings,
        preset=preset.value,
        width=width,
        grid=grid,
        fine=fine,
        steps=steps,
        batch=batch,
        hard=hard,
        without=without,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        ema=ema,
        validate_every=validate_every,
        seed=seed,
    )
    curve = workflows.train_model(
        data,
        output,
        settings=settings,
        texts=workflows.read_texts(card) if card else None,
        corrections=corrections,
        device=device.value,
        read_track=show_progress("reading"),
        train_track=show_progress("training"),
    )
    best = max(curve, key=lambda line: line.dice)
    found = f"validation Dice {best.dice:.4f} at step {best.step} of {settings.steps}"
    print(f"{output}: {found}; curve in {output.with_suffix('.run')}")


@commands.command()
def convert(
    foreign: Annotated[
        Path,
        typer.Argument(
            metavar="FOREIGN",
            help="A PyTorch state dict (.pt, .pth) of the same network, or safetensors without a card.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model, a .safetensors file.")],
    card: Annotated[
        Path | None, typer.Option(help="JSON with the fields of the options below, which go before it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the model; that of the output without its ending by default.")
    ] = None,
    window_hu: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="HU that became 0 and 1 when it was trained.")
    ] = None,
    grid: Annotated[
        int | None, typer.Option(help="Side in pixels of the images it was trained on; a multiple of 16.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which on a voxel is lung.")
    ] = None,
    definition: Annotated[str | None, typer.Option(help="What counts as lung; or unknown.")] = None,
    training_data: Annotated[str | None, typer.Option(help="What it has seen; or unknown.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights; or unknown.")] = None,
) -> None:
    """Make a model of weights that were trained elsewhere.

    They must be of the same network; code in the file is never run.
    """
    from napari_resunet import workflows

    options = {
        "name": name,
        "window_hu": None if window_hu is None else two_numbers(window_hu, "--window-hu", _WINDOW, float),
        "grid": grid,
        "threshold": threshold,
        "definition": definition,
        "training_data": training_data,
        "licence": licence,
    }
    told = workflows.read_object(card) if card else {}
    told |= {field: value for field, value in options.items() if value is not None}
    made = workflows.convert_weights(foreign, output, told)
    low, high = made.require_window_hu()
    print(f"{output}: {made.preset}, {made.network.width} filters, grid {made.grid}, {low:g} to {high:g} HU")
    choices = f"--threshold {made.recipe['threshold']:g}"
    if made.grid in explain(PredictSettings, "grid")["options"]:
        choices = f"--grid {made.grid} {choices}"
    print(f"note: use it with napari-resunet segment CT -o MASK --model {output} {choices}", file=sys.stderr)
