"""Training on images that are no CT: what differs from the training on CT, which does the rest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_resunet.errors import InputError
from napari_resunet.images.augment import INGREDIENTS, augment_images
from napari_resunet.images.dataset import LabelledImage
from napari_resunet.images.predict import image_labels
from napari_resunet.images.slices import image_probabilities
from napari_resunet.model.card import ModelCard
from napari_resunet.model.device import Device
from napari_resunet.model.presets import PRESETS
from napari_resunet.model.resunet import ResUNet
from napari_resunet.model.slices import shrink
from napari_resunet.settings import ImageTask, TrainSettings
from napari_resunet.track import Track, silent
from napari_resunet.training.dataset import OVERSIZE, Slices
from napari_resunet.training.learner import Learner, Progress
from napari_resunet.training.loop import FALSE_SHARE, teach
from napari_resunet.training.losses import dice_bce_loss


def train_on_images(
    data: Slices,
    validation: Sequence[LabelledImage],
    *,
    card: ModelCard,
    settings: TrainSettings,
    device: Device,
    model_path: Path,
    track: Track = silent,
) -> list[Progress]:
    """Train a network on images and keep the best one; as `napari_resunet.training.loop.train` does on CT.

    The Dice of the curve is the mean over validation images and the classes they hold; a false positive is a class
    that is found on more than 0.1 % of a slice without it.

    Raises
    ------
    InputError
        If no validation image holds a class.
    CheckpointError, OutputError
        As there.
    """
    if not any(image.labels.any() for image in validation):
        raise InputError(
            "no validation image holds any class, so that no step can be called the best; add one that does"
        )
    return teach(
        ImageLearner(card, settings, device, len(data.hu)),
        data,
        measure=lambda network: measure(network, card, validation, device),
        model_path=model_path,
        track=track,
    )


def new_image_card(
    settings: TrainSettings, task: ImageTask, *, channels: int, name: str, version: str = "1", **texts: str
) -> ModelCard:
    """Return the card of a model that is about to be trained; `texts` are its training_data, definition, licence."""
    return ModelCard(
        name,
        version,
        settings.preset,
        dataclasses.replace(PRESETS[settings.preset], width=settings.width, in_channels=channels),
        settings.grid,
        window=task.window,
        percentiles=None if task.window else task.percentiles,
        classes=task.classes,
        tile=task.tile,
        **texts,  # type: ignore[arg-type]
    )


class ImageLearner(Learner):
    """A learner that sees images from 0 to 1, of one or three channels, and finds one or several classes."""

    ingredients = INGREDIENTS

    def _images(
        self, data: Slices, chosen: npt.NDArray[np.int64], grid: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        image, shares = data.take(chosen, OVERSIZE * grid)
        image, shares = augment_images(image, shares, rng=rng, without=self.without)
        return shrink(image, grid).to(memory_format=self.layout), shrink(shares, grid).clamp_(0, 1)

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        classes = zip(torch.split(logits, 1, dim=1), torch.split(target, 1, dim=1), strict=True)
        return torch.stack([dice_bce_loss(logit, share) for logit, share in classes]).mean()

    def begun_with(self) -> str:
        card = self.card
        task = {
            "channels": card.network.in_channels,
            "classes": card.classes,
            "window": card.window,
            "percentiles": card.percentiles,
            "tile": card.tile,
        }
        return json.dumps({**dataclasses.asdict(self.settings), **task}, sort_keys=True)


def measure(
    network: ResUNet, card: ModelCard, images: Sequence[LabelledImage], device: Device
) -> tuple[float, float]:
    """Return the mean Dice, and the share of false positives, on the native grid at threshold 0.5."""
    dices, false_positives = [], []
    for each in images:
        found = _found(network, card, each.image, device)
        for number in range(1, len(card.classes) + 1):
            seen, true = found == number, each.labels == number
            if true.any():
                dices.append(2 * np.count_nonzero(seen & true) / (np.count_nonzero(seen) + true.sum()))
            empty = ~true.any(axis=(1, 2))
            false_positives += [bool(wrong.mean() > FALSE_SHARE) for wrong in seen[empty]]
    return float(np.mean(dices)), float(np.mean(false_positives)) if false_positives else 0.0


def _found(network: ResUNet, card: ModelCard, image: Tensor, device: Device) -> npt.NDArray[np.uint8]:
    """Return the labels of all slices, found one by one: validation images may be of any size."""
    slices = [image_probabilities(network, card, one, device) for one in torch.split(image, 1)]
    return image_labels(np.concatenate(slices).swapaxes(0, 1))
