"""Training: seeded, resumable, validated on the native grid of people it has not seen."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_resunet.errors import InputError
from napari_resunet.io.atomic import replacing
from napari_resunet.io.folders import made_folder
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import save_model
from napari_resunet.model.device import Device
from napari_resunet.model.presets import PRESETS
from napari_resunet.model.resunet import ResUNet
from napari_resunet.model.slices import slice_probabilities
from napari_resunet.pictures import draw_curve
from napari_resunet.settings import TrainSettings
from napari_resunet.track import Track, silent
from napari_resunet.training.dataset import LabelledCase, Slices
from napari_resunet.training.learner import Learner, Progress

WINDOW_HU = (-1000.0, 400.0)
FALSE_SHARE = 0.001  # of a slice: more that is found where nothing is is a false positive
_VALIDATION_BATCH = 8


def train(
    data: Slices,
    validation: Sequence[LabelledCase],
    *,
    card: ModelCard,
    settings: TrainSettings,
    device: Device,
    model_path: Path,
    track: Track = silent,
) -> list[Progress]:
    """Train a network and keep the best one.

    Parameters
    ----------
    data : Slices
        To learn from.
    validation : sequence of LabelledCase
        Other people, to choose the best step by.
    card : ModelCard
        Of the model to be; its recipe and validation figures are filled in.
    settings : TrainSettings
        The recipe.
    device : Device
        Where to train.
    model_path : Path
        The model; beside it, in a folder of that name ending in ``.run``, curve, settings and the state from which
        a training that was cut off goes on by itself.
    track : Track
        Called with all steps still to do.

    Returns
    -------
    list of Progress
        The curve.

    Raises
    ------
    InputError
        If no validation case holds lung.
    CheckpointError
        If a training of that name was begun with other settings, or its state is damaged.
    OutputError
        If the model or the state cannot be written.
    """
    if not any(case.lungs.any() for case in validation):
        raise InputError(
            "no validation case holds lung, so that no step can be called the best; add one that does"
        )
    learner = Learner(card, settings, device, len(data.hu))
    return teach(
        learner,
        data,
        measure=lambda network: validate(network, card, validation, device),
        model_path=model_path,
        track=track,
    )


def teach(
    learner: Learner,
    data: Slices,
    *,
    measure: Callable[[ResUNet], tuple[float, float]],
    model_path: Path,
    track: Track = silent,
) -> list[Progress]:
    """Let a network learn, measure it now and then, and keep the best one; raises as `train` does.

    Parameters
    ----------
    learner : Learner
        At its first step; goes on from an earlier state where there is one.
    data : Slices
        To learn from.
    measure : callable
        Given the averaged network, returns its Dice and its share of false positives on what is held out.
    model_path, track
        As in `train`.
    """
    card, settings = learner.card, learner.settings
    folder = made_folder(model_path.with_suffix(".run"))
    curve = learner.resume(folder)
    losses: list[float] = []
    for step in track(range(learner.step, settings.steps)):
        losses.append(learner.learn(data, step))
        if learner.step % settings.validate_every and learner.step != settings.steps:
            continue
        learner.calibrate(data)
        dice, false_positive = measure(learner.average)
        curve.append(Progress(learner.step, float(np.mean(losses)), dice, false_positive, learner.rate(step)))
        losses.clear()
        if dice >= max(line.dice for line in curve):
            figures = {**card.figures, "validation Dice, native grid, no clean-up": round(dice, 4)}
            recipe = {**card.recipe, **dataclasses.asdict(settings), "best step": learner.step}
            best = dataclasses.replace(card, figures=figures, recipe=recipe)
            with replacing(model_path) as temporary:  # the last good one is there until this one is whole
                save_model(learner.average, best, temporary, half=True)
        write_curve(curve, folder)
        learner.save(folder, curve)
    return curve


def new_card(settings: TrainSettings, *, name: str, version: str = "1", **texts: str) -> ModelCard:
    """Return the card of a model that is about to be trained; `texts` are its training_data, definition, licence."""
    network = dataclasses.replace(PRESETS[settings.preset], width=settings.width)
    grid, window_hu = settings.grid, WINDOW_HU
    return ModelCard(name, version, settings.preset, network, grid, window_hu, **texts)  # type: ignore[arg-type]


def validate(
    network: ResUNet, card: ModelCard, cases: Sequence[LabelledCase], device: Device
) -> tuple[float, float]:
    """Return the mean Dice of the cases that hold lung, and the share of lung-free slices with a false positive.

    Both on the native grid at threshold 0.5, nothing cleaned up.
    """
    dices, false_positives = [], []
    for case in cases:
        found = np.concatenate(
            [
                slice_probabilities(network, card, batch, crop=case.box, grid=card.grid, device=device) > 127
                for batch in np.array_split(case.slices, math.ceil(len(case.slices) / _VALIDATION_BATCH))
            ]
        )
        if case.lungs.any():
            dices.append(
                2 * np.count_nonzero(found & (case.lungs > 0)) / (found.sum() + case.lungs.sum(dtype=int))
            )
        empty = ~case.lungs.any(axis=(1, 2))
        false_positives += [bool(wrong.mean() > FALSE_SHARE) for wrong in found[empty]]
    return float(np.mean(dices)), float(np.mean(false_positives)) if false_positives else 0.0


def write_curve(curve: Sequence[Any], folder: Path) -> None:
    """Write and draw a curve of `Progress`, or of a like dataclass that has at least step, loss and dice."""
    with (folder / "curve.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([known.name for known in dataclasses.fields(curve[0])])
        writer.writerows(dataclasses.astuple(line) for line in curve)
    names = ("step", "loss", "dice")
    draw_curve({name: [getattr(line, name) for line in curve] for name in names}, folder / "curve.png")
