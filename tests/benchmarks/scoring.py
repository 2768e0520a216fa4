"""What the benchmarks of quality share: a model's probabilities for axial slices, and Dice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from napari_resunet.model.checkpoint import load_model
from napari_resunet.model.device import choose_device
from napari_resunet.model.slices import Crop, slice_probabilities

AT_ONCE = 8  # slices

Predict = Callable[[np.ndarray, Crop], np.ndarray]


def predictor(model_path: str | Path, grid: int, device_name: str = "auto") -> Predict:
    """Return what gives probabilities (z, y, x), 0-255, of axial slices in HU and the box of the body."""
    model, device = load_model(model_path), choose_device(device_name)
    network = model.network.to(device.torch, memory_format=torch.channels_last).eval()

    def predict(slices: np.ndarray, box: Crop) -> np.ndarray:
        parts = np.array_split(slices, -(-len(slices) // AT_ONCE))
        return np.concatenate(
            [
                slice_probabilities(network, model.card, part, crop=box, grid=grid, device=device)
                for part in parts
            ]
        )

    return predict


def dice(found: np.ndarray, lungs: np.ndarray) -> float:
    """Return the agreement of two masks, from 0 to 1; 0 where both are empty."""
    return 2 * float(np.count_nonzero(found & lungs)) / max(1, int(found.sum()) + int(lungs.sum()))
