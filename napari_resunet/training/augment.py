"""What a CT slice may look like on another day: position, size, dose, kernel, disease.

Every function takes images (n, 1, s, s) in HU and a generator, and is done to a whole batch at once.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

AIR_HU = -1024.0


def augment(hu: Tensor, lungs: Tensor, *, margin: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return images and masks as another patient, position and scanner would give them.

    Parameters
    ----------
    hu, lungs : (n, 1, s, s) Tensor
        HU, and share of lung from 0 to 1.
    margin : float
        Part of each side that lies outside of the body box; the result is cropped near that box.
    rng : numpy.random.Generator
        Decides everything.
    """
    hu = consolidate(hu, lungs, rng)
    hu, lungs = move(hu, lungs, margin=margin, rng=rng)
    hu = blur(hu, rng)
    return add_noise(shift_hu(hu, rng), rng), lungs


def move(hu: Tensor, lungs: Tensor, *, margin: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crop near the body box; turn, stretch, shift, bend and mirror."""
    field = _affine(len(hu), 1 - 2 * margin, rng)
    grid = functional.affine_grid(field, list(hu.shape), align_corners=False) + _bend(hu.shape, rng)
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


def _bend(shape: torch.Size, rng: np.random.Generator) -> Tensor:
    """Return a smooth displacement (n, s, s, 2), a few per cent of the picture at most."""
    knots = torch.from_numpy(rng.normal(0, 1, (shape[0], 2, 6, 6))).float()
    strength = torch.from_numpy(rng.uniform(0, 0.025, (shape[0], 1, 1, 1))).float()
    bend = functional.interpolate(knots * strength, size=shape[2:], mode="bicubic", align_corners=True)
    return bend.permute(0, 2, 3, 1)


def consolidate(hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.2) -> Tensor:
    """Fill a soft blob inside the lungs of some slices with dense tissue or ground glass; it stays lung."""
    changed = hu.clone()
    side = hu.shape[-1]
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    for image in np.flatnonzero(rng.random(len(hu)) < chance):
        inside = torch.nonzero(lungs[image, 0] > 0.5)
        if not len(inside):
            continue
        y, x = inside[int(rng.integers(len(inside)))].tolist()
        radius_y, radius_x = rng.uniform(0.02, 0.10, 2) * side
        distance = ((rows - y) / radius_y) ** 2 + ((columns - x) / radius_x) ** 2
        weight = torch.sigmoid(4 * (1 - distance)) * (lungs[image, 0] > 0.5)
        density = float(rng.uniform(-600, 80))
        changed[image, 0] += weight * (
            torch.clamp_min(torch.tensor(density), -1000) - hu[image, 0]
        ).clamp_min(0)
    return changed


def blur(hu: Tensor, rng: np.random.Generator, chance: float = 0.25) -> Tensor:
    """Smooth some images, as soft kernels and thick slices do, and sharpen others."""
    smooth = functional.avg_pool2d(functional.pad(hu, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    amount = rng.uniform(-0.8, 1.0, len(hu)) * (rng.random(len(hu)) < 2 * chance)
    return hu + torch.from_numpy(amount).float()[:, None, None, None] * (smooth - hu)


def shift_hu(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """Change scale and offset a little, as scanners and voltages do."""
    offset = torch.from_numpy(rng.normal(0, 20, (len(hu), 1, 1, 1))).float()
    scale = torch.from_numpy(np.exp(rng.normal(0, 0.04, (len(hu), 1, 1, 1)))).float()
    return (hu + 1000) * scale - 1000 + offset


def add_noise(hu: Tensor, rng: np.random.Generator) -> Tensor:
    """Add noise of a low dose, more or less of it, fine or coarse."""
    strength = torch.from_numpy(
        rng.uniform(0, 60, (len(hu), 1, 1, 1)) * (rng.random((len(hu), 1, 1, 1)) < 0.5)
    ).float()
    noise = torch.from_numpy(rng.standard_normal(hu.shape, dtype=np.float32))
    coarse = functional.avg_pool2d(functional.pad(noise, (1, 1, 1, 1), mode="replicate"), 3, stride=1) * 3
    return hu + strength * torch.where(torch.from_numpy(rng.random((len(hu), 1, 1, 1)) < 0.5), noise, coarse)
