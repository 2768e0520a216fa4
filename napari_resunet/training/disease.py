"""What a patient may have inside: dense and hazy lung, fluid around it, contrast in vessels, gas in stomach and bowel.

Every function takes images (n, 1, s, s) in HU, front up, with their shares of lung (0-1) and a generator; it changes
some of the images, and returns both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_LUNG = 0.5  # share of lung from which a pixel counts as lung


def consolidate(
    hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.25
) -> tuple[Tensor, Tensor]:
    """Fill ragged blobs with dense tissue or ground glass, half of them at the pleura; it all stays lung."""
    changed = hu.clone()
    for image in _some(hu, rng, chance):
        inside = lungs[image, 0] > _LUNG
        for _ in range(int(rng.integers(1, 4))):
            centre = _a_pixel(_edge(inside) if rng.random() < 0.5 else inside, rng)
            if centre is None:
                break
            weight = _blob(hu.shape[-1], centre, rng.uniform(0.015, 0.14, 2), rng) * inside
            changed[image, 0] += weight * (float(rng.uniform(-650, 80)) - changed[image, 0]).clamp_min(0)
    return changed, lungs


def effuse(
    hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.06
) -> tuple[Tensor, Tensor]:
    """Let fluid stand in the back of one side or both, up to a level that rises along the wall; it is no lung."""
    hu, lungs, side = hu.clone(), lungs.clone(), hu.shape[-1]
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    for image in _some(hu, rng, chance):
        inside = lungs[image, 0] > _LUNG
        if not inside.any():
            continue
        middle = float(columns[inside].float().mean())
        halves = ((columns < middle) & inside, (columns >= middle) & inside)
        for half in halves if rng.random() < 0.3 else halves[int(rng.random() < 0.5) :][:1]:
            if not half.any():
                continue
            top, bottom = int(rows[half].min()), int(rows[half].max())
            left, right = int(columns[half].min()), int(columns[half].max())
            across = (columns - (left + right) / 2) / max(1.0, (right - left) / 2)
            level = bottom - rng.uniform(0.05, 0.5) * (bottom - top) * (
                1 + rng.uniform(-0.2, 0.6) * across**2
            )
            fluid = torch.sigmoid(rows - level) * half
            hu[image, 0] += fluid * (float(rng.uniform(-5, 45)) - hu[image, 0])
            lungs[image, 0] *= 1 - fluid
    return hu, lungs


def enhance(
    hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Brighten soft tissue near the middle, as contrast in heart and vessels does."""
    changed, side = hu.clone(), hu.shape[-1]
    for image in _some(hu, rng, chance):
        soft = torch.sigmoid((hu[image, 0] - 5) / 10) * torch.sigmoid((140 - hu[image, 0]) / 10)
        for _ in range(int(rng.integers(1, 5))):
            row, column = np.clip(rng.normal(0.5, 0.1, 2), 0, 1) * (side - 1)
            bright = _blob(side, (row, column), rng.uniform(0.02, 0.12, 2), rng)
            changed[image, 0] += float(rng.uniform(60, 350)) * bright * soft
    return changed, lungs


def add_gas(
    hu: Tensor, lungs: Tensor, rng: np.random.Generator, chance: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Put gas, with or without a level of fluid, into soft tissue: often where no lung is seen, seldom beside one."""
    changed, side = hu.clone(), hu.shape[-1]
    rows = torch.arange(side)[:, None]
    without_lung = lungs.flatten(1).amax(dim=1) < _LUNG
    for image in _some(hu, rng, chance):
        if not without_lung[image] and rng.random() < 0.8:
            continue
        soft = (hu[image, 0] > -150) & (lungs[image, 0] == 0)
        for _ in range(int(rng.integers(1, 5))):
            centre = _a_pixel(soft, rng)
            if centre is None:
                break
            gas = _blob(side, centre, rng.uniform(0.015, 0.12, 2), rng) * (lungs[image, 0] == 0)
            if rng.random() < 0.4:
                level = centre[0] + rng.uniform(-0.3, 0.8) * 0.05 * side
                gas = gas * torch.sigmoid(level - rows)
            changed[image, 0] += gas * (float(rng.uniform(-1000, -820)) - changed[image, 0])
    return changed, lungs


def _some(hu: Tensor, rng: np.random.Generator, chance: float) -> list[int]:
    return np.flatnonzero(rng.random(len(hu)) < chance).tolist()


def _a_pixel(mask: Tensor, rng: np.random.Generator) -> tuple[float, float] | None:
    places = torch.nonzero(mask)
    if not len(places):
        return None
    row, column = places[int(rng.integers(len(places)))].tolist()
    return row, column


def _edge(mask: Tensor) -> Tensor:
    outside = functional.max_pool2d((~mask)[None, None].float(), 5, stride=1, padding=2)[0, 0]
    return mask & (outside > 0)


def _blob(side: int, centre: tuple[float, float], radii: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return a ragged ellipse (side, side), 1 inside and 0 outside with a soft edge; radii are shares of the side."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angle = rng.uniform(0, np.pi)
    down, right = rows - centre[0], columns - centre[1]
    along = (down * np.cos(angle) + right * np.sin(angle)) / (radii[0] * side)
    across = (right * np.cos(angle) - down * np.sin(angle)) / (radii[1] * side)
    knots = torch.from_numpy(rng.normal(0, 0.25, (1, 1, 12, 12))).float()
    ragged = functional.interpolate(knots, size=(side, side), mode="bicubic", align_corners=True)[0, 0]
    return torch.sigmoid(6 * (1 - along**2 - across**2 + ragged))
