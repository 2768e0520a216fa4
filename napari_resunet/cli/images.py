"""The commands for images that are no CT."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_resunet.cli.options import DeviceName, DeviceOption, PresetName, option, settings_of, two_numbers
from napari_resunet.cli.progress import show_progress
from napari_resunet.settings import ImageTask, MaskSettings, TrainSettings

_EXAMPLE = "1,99"

commands = typer.Typer()


@commands.command("train-images")
def train_images(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Images and masks: NAME.* with NAME_mask.*, or images/NAME.* with masks/NAME.*; PNG, TIFF, JPEG, "
            "NIfTI, NRRD, MetaImage. Subfolders train and val decide what is held out, else one image in six.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model, a .safetensors file.")],
    classes: Annotated[
        str,
        typer.Option(
            metavar="NAME,…",
            help="Names of the numbers 1, 2, … in the masks; of one class, all that is not 0.",
        ),
    ] = "object",
    window: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Values that become 0 and 1, the same for all images."),
    ] = None,
    percentiles: Annotated[
        str, typer.Option(metavar="LOW,HIGH", help="Without a window: percentiles of each image that do.")
    ] = "1,99",
    tile: Annotated[
        int,
        typer.Option(
            help="Side in pixels of the squares that an image is cut into, each resized to the grid: for small things "
            "in large images. 0 resizes the whole image.",
            min=0,
        ),
    ] = ImageTask.tile,
    card: Annotated[Path | None, typer.Option(help="JSON with the model card's words.")] = None,
    device: DeviceOption = DeviceName.auto,
    preset: Annotated[PresetName, option(TrainSettings, "preset")] = PresetName.identity,
    width: Annotated[int, option(TrainSettings, "width")] = TrainSettings.width,
    grid: Annotated[int, option(TrainSettings, "grid")] = TrainSettings.grid,
    steps: Annotated[int, option(TrainSettings, "steps")] = TrainSettings.steps,
    batch: Annotated[int, option(TrainSettings, "batch")] = TrainSettings.batch,
    without: Annotated[
        str,
        typer.Option(
            help="Ingredients of the augmentation to leave out, with commas between: flip, turn, size, bend, "
            "light, tint, blur, noise."
        ),
    ] = TrainSettings.without,
    learning_rate: Annotated[float, option(TrainSettings, "learning_rate")] = TrainSettings.learning_rate,
    ema: Annotated[float, option(TrainSettings, "ema")] = TrainSettings.ema,
    validate_every: Annotated[int, option(TrainSettings, "validate_every")] = TrainSettings.validate_every,
    seed: Annotated[int, option(TrainSettings, "seed")] = TrainSettings.seed,
) -> None:
    """Train a network on images that are no CT.

    The same command goes on where it was stopped.
    """
    from napari_resunet import image_jobs, workflows

    settings = settings_of(
        TrainSettings,
        preset=preset.value,
        width=width,
        grid=grid,
        steps=steps,
        batch=batch,
        without=without,
        learning_rate=learning_rate,
        ema=ema,
        validate_every=validate_every,
        seed=seed,
    )
    task = settings_of(
        ImageTask,
        classes=tuple(name.strip() for name in classes.split(",")),
        window=None if window is None else two_numbers(window, "--window", _EXAMPLE, float),
        percentiles=two_numbers(percentiles, "--percentiles", _EXAMPLE, float),
        tile=tile,
    )
    curve = image_jobs.train_image_model(
        data,
        output,
        settings=settings,
        task=task,
        texts=workflows.read_texts(card) if card else None,
        device=device.value,
        read_track=show_progress("reading"),
        train_track=show_progress("training"),
    )
    best = max(curve, key=lambda line: line.dice)
    found = f"validation Dice {best.dice:.4f} at step {best.step} of {steps}"
    print(f"{output}: {found}; curve in {output.with_suffix('.run')}")


@commands.command("segment-image")
def segment_image(
    source: Annotated[
        Path,
        typer.Argument(metavar="IMAGE", help="PNG, JPEG, TIFF, NIfTI, NRRD or MetaImage; a DICOM folder."),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The labels: .tif, or .png for one picture.")
    ],
    model: Annotated[str, typer.Option(help="A model that train-images has made.")],
    device: DeviceOption = DeviceName.auto,
    threshold: Annotated[
        float,
        typer.Option(help="A pixel needs at least this probability to be of a class.", min=0.01, max=0.99),
    ] = MaskSettings.threshold,
) -> None:
    """Segment an image that is no CT.

    The model is one that train-images has made; a sidecar beside the labels tells how they were made.
    """
    from napari_resunet import image_jobs
    from napari_resunet.model.card import read_card

    labels = image_jobs.segment_image(
        source,
        output,
        model=model,
        device=device.value,
        threshold=threshold,
        track=show_progress("segmenting"),
    )
    shares = [
        f"{number} {name} {(labels == number).mean():.1%}"
        for number, name in enumerate(read_card(model).classes, 1)
    ]
    print(f"{output}: {', '.join(shares)}")
