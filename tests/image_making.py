"""Small images with known masks, and small models for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from napari_resunet.images.learn import new_image_card
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import Model
from napari_resunet.model.resunet import ResUNet
from napari_resunet.settings import ImageTask, TrainSettings

SIDE = 48


def discs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture (y, x, 3) of a red disc (1) and a green one (2) on grey, with noise; and its labels."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    picture, labels = np.full((SIDE, SIDE, 3), 90.0), np.zeros((SIDE, SIDE), np.uint8)
    for number, (left, colour) in enumerate((((8, 16), (200, 60, 60)), ((32, 40), (60, 200, 60))), 1):
        y, x = rng.integers(12, 36), rng.integers(*left)
        inside = (rows - y) ** 2 + (columns - x) ** 2 < 7**2
        picture[inside], labels[inside] = colour, number
    return (picture + rng.normal(0, 8, picture.shape)).clip(0, 255).astype(np.uint8), labels


def write_discs(folder: Path, count: int, *, grey: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        picture, labels = discs(seed)
        image = Image.fromarray(picture)
        (image.convert("L") if grey else image).save(folder / f"disc{seed}.png")
        Image.fromarray(labels).save(folder / f"disc{seed}_mask.png")
    return folder


def tiny_card(channels: int, classes: tuple[str, ...], **task: Any) -> ModelCard:
    settings = TrainSettings(width=4, grid=32)
    return new_image_card(settings, ImageTask(classes=classes, **task), channels=channels, name="tiny")


def tiny_model(channels: int, classes: tuple[str, ...] = ("thing",), **task: Any) -> Model:
    torch.manual_seed(0)
    card = tiny_card(channels, classes, **task)
    return Model(ResUNet(card.network, len(classes)).eval(), card)
