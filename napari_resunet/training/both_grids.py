"""The last part of a training: slices at twice the grid as well, so that one model serves both grids.

A network that has only seen one grid finds lung in the abdomen at a finer one. Where both are mixed from the start, the
batch normalisations fit neither, and masks at the coarser grid get worse. So the network learns at one grid first; then
its batch normalisations stay as they are, and its weights get used to the finer grid.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import Model, load_model
from napari_resunet.model.device import Device
from napari_resunet.model.resunet import ResUNet
from napari_resunet.settings import TrainSettings
from napari_resunet.track import Track, silent
from napari_resunet.training.dataset import LabelledCase, Slices
from napari_resunet.training.loop import GoingOn, Progress, teach, train, validate

_RATE = 0.2  # of the learning rate before
_AVERAGING = 0.98  # of a thousand steps, the last fifty


def train_for_both_grids(
    data: Slices,
    validation: Sequence[LabelledCase],
    *,
    card: ModelCard,
    settings: TrainSettings,
    device: Device,
    model_path: Path,
    track: Track = silent,
) -> list[Progress]:
    """Train a network at one grid, then at twice that grid as well, and keep the best one.

    Parameters
    ----------
    data : Slices
        Loaded for twice the grid.
    settings : TrainSettings
        `fine_steps` follow the other steps; where there are none, this is `napari_resunet.training.loop.train`.
    validation, card, device, model_path, track
        As there. What comes of the first part is ``one-grid.safetensors`` in the folder of the training.

    Returns
    -------
    list of Progress
        The curve of the last part. Its Dice is the mean of both grids.

    Raises
    ------
    InputError, CheckpointError, OutputError
        As there.
    """
    at_one = dataclasses.replace(settings, fine=0.0, fine_steps=0)
    if not settings.fine_steps:
        return train(
            data, validation, card=card, settings=at_one, device=device, model_path=model_path, track=track
        )
    one_grid = model_path.with_suffix(".run") / "one-grid.safetensors"
    one_grid.parent.mkdir(parents=True, exist_ok=True)
    train(data, validation, card=card, settings=at_one, device=device, model_path=one_grid, track=track)
    return teach(
        _BothGrids(load_model(one_grid), settings, device, len(data.hu)),
        data,
        measure=lambda network: _validate_both(network, card, validation, device),
        model_path=model_path,
        track=track,
    )


class _BothGrids(GoingOn):
    """Goes on from a model of one grid, gently."""

    def __init__(self, model: Model, settings: TrainSettings, device: Device, slices: int) -> None:
        gently = dataclasses.replace(
            settings,
            steps=settings.fine_steps,
            learning_rate=_RATE * settings.learning_rate,
            ema=_AVERAGING,
        )
        super().__init__(model, gently, device, slices)
        self._whole = settings

    def recipe(self) -> dict[str, Any]:
        before = self.card.recipe["best step"]
        return {**super().recipe(), **dataclasses.asdict(self._whole), "best step before": before}


def _validate_both(
    network: ResUNet, card: ModelCard, validation: Sequence[LabelledCase], device: Device
) -> tuple[float, float]:
    """Return the mean Dice and the mean share of false positives of the model's grid and twice that."""
    finer = dataclasses.replace(card, grid=2 * card.grid)
    dice, false_positive = np.mean(
        [validate(network, at, validation, device) for at in (card, finer)], axis=0
    )
    return float(dice), float(false_positive)
