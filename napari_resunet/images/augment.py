"""What an image may look like on another day: from another side, nearer, brighter, less sharp, with more noise."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_resunet.training.augment import bend
from napari_resunet.training.scanner import blur

Change = Callable[[Tensor, np.random.Generator], Tensor]


def _relight(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast and gamma of the whole picture."""
    offset, contrast, gamma = (
        torch.from_numpy(rng.normal(0, width, (len(image), 1, 1, 1))).float() for width in (0.08, 0.15, 0.15)
    )
    return ((image - 0.5) * contrast.exp() + 0.5 + offset).clamp(0, 1) ** gamma.exp()


def _tint(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the channels against each other, as other lamps and stains do; a grey image stays as it is."""
    if image.shape[1] == 1:
        return image
    strength = torch.from_numpy(rng.normal(0, 0.05, (*image.shape[:2], 1, 1))).float()
    return image * (1 + strength)


def _blur(image: Tensor, rng: np.random.Generator) -> Tensor:
    return blur(image, image, rng)[0]


def _add_noise(image: Tensor, rng: np.random.Generator) -> Tensor:
    strength = rng.uniform(0, 0.06, (len(image), 1, 1, 1)) * (rng.random((len(image), 1, 1, 1)) < 0.5)
    noise = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    return image + torch.from_numpy(strength).float() * noise


_OF_THE_PLACE = ("flip", "turn", "size", "bend")
_OF_THE_LIGHT: dict[str, Change] = {"light": _relight, "tint": _tint, "blur": _blur, "noise": _add_noise}
INGREDIENTS = (*_OF_THE_PLACE, *_OF_THE_LIGHT)


def augment_images(
    image: Tensor, shares: Tensor, *, rng: np.random.Generator, without: Collection[str] = ()
) -> tuple[Tensor, Tensor]:
    """Return images and masks as another day would give them.

    Parameters
    ----------
    image : (n, c, s, s) Tensor
        From 0 to 1, as the result is.
    shares : (n, classes, s, s) Tensor
        Share of each class from 0 to 1; goes wherever the image goes. What lies beyond the picture is its mirror image.
    rng : numpy.random.Generator
        Decides everything.
    without : collection of str
        Which of `INGREDIENTS` to leave out.
    """
    grid = functional.affine_grid(_affine(len(image), rng, without), list(image.shape), align_corners=False)
    if "bend" not in without:
        grid = grid + bend(image.shape, rng)
    image, shares = (
        functional.grid_sample(each, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        for each in (image, shares)
    )
    for name, change in _OF_THE_LIGHT.items():
        if name not in without:
            image = change(image, rng)
    return image.clamp(0, 1), shares


def _affine(count: int, rng: np.random.Generator, without: Collection[str]) -> Tensor:
    """Return (n, 2, 3) matrices that mirror either axis, turn, enlarge and shift."""
    turn = np.deg2rad(rng.normal(0, 15, count)) * ("turn" not in without)
    size = np.exp(rng.normal(-0.05, 0.2, count) * ("size" not in without))
    shift = rng.normal(0, 0.06, (2, count)) * ("size" not in without)
    mirror = np.where((rng.random((2, count)) < 0.5) & ("flip" not in without), -1.0, 1.0)
    cos, sin = size * np.cos(turn), size * np.sin(turn)
    rows = [[cos * mirror[0], -sin * mirror[1], shift[0]], [sin * mirror[0], cos * mirror[1], shift[1]]]
    return torch.from_numpy(np.moveaxis(np.array(rows), -1, 0)).float()
