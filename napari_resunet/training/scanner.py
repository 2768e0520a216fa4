"""What a scanner makes of a patient: table, field of view, voxel size, kernel, scale of HU, dose.

Every function takes images (n, 1, s, s) in HU, front up, with their shares of lung (0-1) and a generator, and returns
both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

AIR_HU = -1024.0


def lay_on_table(
    hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.25
) -> tuple[Tensor, Tensor]:
    """Draw curved bright lines into the air around the patient, as of table, clothes and cables."""
    changed, side = hu.clone(), hu.shape[-1]
    rows, columns = torch.arange(side)[:, None], torch.arange(side)[None]
    for image in np.flatnonzero(rng.random(len(hu)) < chance):
        air = (hu[image, 0] < -850) & (lungs[image, 0] == 0)
        for _ in range(int(rng.integers(1, 4))):
            bow = rng.uniform(-0.15, 0.15) * side * ((columns / side - rng.uniform(0.2, 0.8)) * 2) ** 2
            line = rng.uniform(0.0, 1.0) * side + rng.uniform(-0.3, 0.3) * columns + bow
            thickness = rng.uniform(0.003, 0.03) * side
            bright = torch.sigmoid(2 * (thickness - (rows - line).abs())) * air
            changed[image, 0] += bright * (float(rng.uniform(-700, 500)) - changed[image, 0])
    return changed, lungs


def limit_field(
    hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.12
) -> tuple[Tensor, Tensor]:
    """Show nothing outside of a circle, which may cut the patient, as a small field of view does."""
    side = hu.shape[-1]
    place = (torch.arange(side) + 0.5) / side * 2 - 1
    chosen = torch.from_numpy(rng.random(len(hu)) < chance)[:, None, None]
    radius = torch.from_numpy(rng.uniform(0.7, 1.1, (len(hu), 1, 1))).float()
    row, column = torch.from_numpy(rng.normal(0, 0.1, (2, len(hu), 1, 1))).float()
    distance = torch.hypot(place[None, :, None] - row, place[None, None, :] - column)
    beyond = (chosen & (distance > radius))[:, None]
    return torch.where(beyond, AIR_HU, hu), torch.where(beyond, 0.0, lungs)


def coarsen(
    hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.12
) -> tuple[Tensor, Tensor]:
    """Take detail from some images, as large voxels and thick slices do."""
    changed, side = hu.clone(), hu.shape[-1]
    for image in np.flatnonzero(rng.random(len(hu)) < chance):
        size = round(side / rng.uniform(1.5, 4.5))
        small = functional.interpolate(
            hu[image : image + 1], size=(size, size), mode="bilinear", antialias=True, align_corners=False
        )
        changed[image] = functional.interpolate(
            small, size=(side, side), mode="bilinear", align_corners=False
        )[0]
    return changed, lungs


def blur(hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.5) -> tuple[Tensor, Tensor]:
    """Smooth some images and sharpen others, as soft and hard kernels do."""
    smooth = functional.avg_pool2d(functional.pad(hu, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = rng.uniform(-0.8, 1.0, len(hu)) * (rng.random(len(hu)) < chance)
    return hu + torch.from_numpy(amount).float()[:, None, None, None] * (smooth - hu), lungs


def shift_hu(hu: Tensor, lungs: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Change scale and offset a little, as scanners and voltages do."""
    offset = torch.from_numpy(rng.normal(0, 20, (len(hu), 1, 1, 1))).float()
    scale = torch.from_numpy(np.exp(rng.normal(0, 0.04, (len(hu), 1, 1, 1)))).float()
    return (hu + 1000) * scale - 1000 + offset, lungs


def add_noise(
    hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Add noise of a low dose, more or less of it, fine or coarse."""
    strength = torch.from_numpy(
        rng.uniform(0, 60, (len(hu), 1, 1, 1)) * (rng.random((len(hu), 1, 1, 1)) < chance)
    ).float()
    noise = torch.from_numpy(rng.standard_normal(hu.shape, dtype=np.float32))
    coarse = functional.avg_pool2d(functional.pad(noise, (1, 1, 1, 1), mode="replicate"), 3, stride=1) * 3
    is_fine = torch.from_numpy(rng.random((len(hu), 1, 1, 1)) < 0.5)
    return hu + strength * torch.where(is_fine, noise, coarse), lungs
