"""Images and masks in memory: to learn from, and to validate on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_resunet.errors import GeometryError, InputError
from napari_resunet.images.slices import as_slices, limits_of, scaled
from napari_resunet.images.tiles import grown, tiles_of
from napari_resunet.io.image_file import StoredImage, read_image, read_labels
from napari_resunet.model.card import ModelCard
from napari_resunet.model.slices import shrink
from napari_resunet.track import Track, silent
from napari_resunet.training.cases import TrainingCase
from napari_resunet.training.dataset import OVERSIZE, Slices


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image in memory, on its native grid.

    Parameters
    ----------
    image : (z, c, y, x) Tensor
        From 0 to 1.
    labels : (z, y, x) array of uint8
        0 background, 1 the first class.
    """

    image: Tensor
    labels: npt.NDArray[np.uint8]


def is_any_in_colour(cases: Sequence[TrainingCase]) -> bool:
    """Return whether an image is in colour, so that the network has to be."""
    return any(read_image(case.image).is_rgb for case in cases)


def load_image(case: TrainingCase, card: ModelCard) -> LabelledImage:
    """Read an image and its mask, scaled as the model's card says.

    Raises
    ------
    GeometryError
        If the mask has another size.
    InputError
        If the mask holds numbers that no class has.
    """
    stored = read_image(case.image)
    slices = as_slices(stored.array, channels=card.network.in_channels, is_rgb=stored.is_rgb)
    return LabelledImage(scaled(slices, limits_of(slices, card)), _labels(case, stored, len(card.classes)))


def load_images(
    cases: Sequence[TrainingCase], card: ModelCard, track: Track = silent
) -> Iterator[LabelledImage]:
    """Read images one after the other."""
    return (load_image(case, card) for case in track(cases))


def load_image_slices(
    cases: Sequence[TrainingCase], card: ModelCard, grid: int, track: Track = silent
) -> Slices:
    """Read all images and return their slices, ready to be drawn from for a grid of `grid` pixels or coarser.

    Where the card says so, they are cut into tiles. An image of n slices or tiles is drawn from with a weight of the
    square root of n, as a CT is. The images are kept in float16 from 0 to 1, where a CT has HU.

    Raises
    ------
    InputError
        If no mask holds one of the classes.
    """
    images, shares, weights = [], [], []
    for loaded in load_images(cases, card, track):
        seen = [_tiles(each, card) for each in (loaded.image, _one_channel_each(loaded.labels, card))]
        image, share = (torch.cat([shrink(tile, OVERSIZE * grid) for tile in tiles]) for tiles in seen)
        images.append(image.half())
        shares.append((share * 255).round().to(torch.uint8))
        weights += [len(image) ** -0.5] * len(image)
    together = torch.cat(shares)
    for name, share in zip(card.classes, together.unbind(dim=1), strict=True):
        if not share.any():
            raise InputError(f"no training mask holds the class {name}; check --classes and the masks")
    return Slices(torch.cat(images), together, np.array(weights) / np.sum(weights), margin=0.0)


def _tiles(image: Tensor, card: ModelCard) -> list[Tensor]:
    """Return the tiles of slices (n, c, y, x), or the slices themselves."""
    if not card.tile:
        return [image]
    whole = grown(image, card.tile)
    return [whole[..., *here] for here in tiles_of((whole.shape[2], whole.shape[3]), card.tile)]


def _one_channel_each(labels: npt.NDArray[np.uint8], card: ModelCard) -> Tensor:
    """Return labels (z, y, x) as (z, classes, y, x), 1 where the class is."""
    channels = [labels == number for number in range(1, len(card.classes) + 1)]
    return torch.from_numpy(np.stack(channels, axis=1).astype(np.float32))


def _labels(case: TrainingCase, stored: StoredImage, classes: int) -> npt.NDArray[np.uint8]:
    if case.mask is None:
        raise InputError(f"{case.image} has no mask")
    labels: npt.NDArray[Any] = read_labels(case.mask)
    expected = stored.array.shape[:-1] if stored.is_rgb else stored.array.shape
    labels, expected = (labels[None], (1, *expected)) if len(expected) == 2 else (labels, expected)
    if labels.shape != expected:
        raise GeometryError(
            f"{case.mask} has {labels.shape} pixels, its image {expected} (slices, rows, columns); "
            "export the mask on the grid of the image"
        )
    numbers: npt.NDArray[np.uint8]
    if classes == 1:
        numbers = np.not_equal(labels, 0).astype(np.uint8)
        return numbers
    found = np.unique(labels)
    if not np.isin(found, np.arange(classes + 1)).all():
        raise InputError(
            f"{case.mask} holds the numbers {', '.join(f'{n:g}' for n in found[:8])}; "
            f"with {classes} classes they go from 0 (background) to {classes}: check --classes"
        )
    numbers = labels.astype(np.uint8)
    return numbers
