"""What a CT slice may look like on another day: another patient, position and scanner."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_resunet.training.disease import add_gas, consolidate, effuse, enhance
from napari_resunet.training.scanner import (
    AIR_HU,
    add_noise,
    blur,
    coarsen,
    lay_on_table,
    limit_field,
    shift_hu,
)

Change = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]

# In the order in which they come about; the patient lies as scanned until `move`.
_OF_THE_PATIENT: dict[str, Change] = {
    "consolidation": consolidate,
    "effusion": effuse,
    "contrast": enhance,
    "gas": add_gas,
    "table": lay_on_table,
}
_OF_THE_SCANNER: dict[str, Change] = {
    "field of view": limit_field,
    "coarse": coarsen,
    "kernel": blur,
    "HU": shift_hu,
    "noise": add_noise,
}
INGREDIENTS = (*_OF_THE_PATIENT, *_OF_THE_SCANNER)


def augment(
    hu: Tensor, lungs: Tensor, *, margin: float, rng: np.random.Generator, without: Collection[str] = ()
) -> tuple[Tensor, Tensor]:
    """Return images and masks as another patient, position and scanner would give them.

    Parameters
    ----------
    hu, lungs : (n, 1, s, s) Tensor
        HU, and share of lung from 0 to 1.
    margin : float
        Part of each side that lies outside of the body box; the result is cropped near that box.
    rng : numpy.random.Generator
        Decides everything.
    without : collection of str
        Which of `INGREDIENTS` to leave out.
    """
    for name, change in _OF_THE_PATIENT.items():
        if name not in without:
            hu, lungs = change(hu, lungs, rng)
    hu, lungs = move(hu, lungs, margin=margin, rng=rng)
    for name, change in _OF_THE_SCANNER.items():
        if name not in without:
            hu, lungs = change(hu, lungs, rng)
    return hu, lungs


def move(hu: Tensor, lungs: Tensor, *, margin: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crop near the body box; turn, stretch, shift, bend and mirror."""
    field = _affine(len(hu), 1 - 2 * margin, rng)
    grid = functional.affine_grid(field, list(hu.shape), align_corners=False) + bend(hu.shape, rng)
    # -AIR and +AIR around the sampling: what lies beyond the picture is air, and grid_sample pads with 0
    moved = functional.grid_sample(hu - AIR_HU, grid, mode="bilinear", align_corners=False) + AIR_HU
    return moved, functional.grid_sample(lungs, grid, mode="bilinear", align_corners=False)


def _affine(count: int, body: float, rng: np.random.Generator) -> Tensor:
    turn = np.deg2rad(rng.normal(0, 8, count))
    turn += np.pi * (rng.random(count) < 0.08)  # prone
    turn += np.deg2rad(rng.uniform(-90, 90, count)) * (rng.random(count) < 0.06)  # on the side
    size = body * np.exp(rng.normal(0, 0.10, count))  # below 1 the picture shows less than the body box
    stretch = np.exp(rng.normal(0, 0.08, count))
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0)
    shift = rng.normal(0, 0.06, (2, count))
    whole = rng.random(count) < 0.1  # as if the crop had found no body
    size = np.where(whole, rng.uniform(1.0, 1.5, count), size)
    cos, sin = np.cos(turn), np.sin(turn)
    rows = [
        [size * stretch * cos * mirror, -size * stretch * sin, shift[0]],
        [size / stretch * sin * mirror, size / stretch * cos, shift[1]],
    ]
    return torch.from_numpy(np.moveaxis(np.array(rows), -1, 0)).float()


def bend(shape: torch.Size, rng: np.random.Generator) -> Tensor:
    """Return a smooth displacement (n, s, s, 2), a few per cent of the picture at most."""
    knots = torch.from_numpy(rng.normal(0, 1, (shape[0], 2, 6, 6))).float()
    strength = torch.from_numpy(rng.uniform(0, 0.025, (shape[0], 1, 1, 1))).float()
    bend = functional.interpolate(knots * strength, size=shape[2:], mode="bicubic", align_corners=True)
    return bend.permute(0, 2, 3, 1)
