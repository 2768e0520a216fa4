"""Pictures for the tests of the augmentation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from napari_resunet.training.scanner import AIR_HU

COUNT, SIDE = 40, 32


def pictures() -> tuple[Tensor, Tensor]:
    """A square of 0 HU in air that is lung, off the middle."""
    lungs = torch.zeros(COUNT, 1, SIDE, SIDE)
    lungs[:, :, 8:20, 10:26] = 1
    return AIR_HU * (1 - lungs), lungs


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)
