"""Makes probabilities mean what they say: of the voxels given 0.7, seven in ten should be lung.

One temperature divides all logits (Guo et al. 2017, On calibration of modern neural networks); it moves no voxel
over a probability of a half. It goes into the last convolution, so that nothing has to be done when the model runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from napari_resunet.io.atomic import replacing
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import load_model, save_model
from napari_resunet.model.device import Device
from napari_resunet.model.resunet import ResUNet
from napari_resunet.model.slices import slice_probabilities
from napari_resunet.training.dataset import LabelledCase

TEMPERATURES = np.round(np.arange(0.5, 2.55, 0.05), 2)
IN_RECIPE = "temperature"
_UNSURE = (0.02, 0.98)  # beyond, voxels are many and easy, and say nothing
_SLICES_AT_ONCE = 8

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def temper(model_path: Path, cases: Sequence[LabelledCase], device: Device) -> float:
    """Divide the logits of a model by the temperature that suits some cases best, and note it in its card.

    A model that has been tempered is left as it is.

    Parameters
    ----------
    model_path : Path
        A ``.safetensors`` file; written anew.
    cases : sequence of LabelledCase
        People that the model has not learnt from.
    device : Device
        Where to predict.

    Returns
    -------
    float
        The temperature; less than 1 if the model was too shy.
    """
    model = load_model(model_path)
    if IN_RECIPE in model.card.recipe:
        return float(model.card.recipe[IN_RECIPE])
    network = model.network.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]
    unsure = [
        unsure_voxels(_probabilities(network, model.card, case, device), case.lungs > 0) for case in cases
    ]
    temperature = best_temperature(*(np.concatenate(parts) for parts in zip(*unsure, strict=True)))
    _divide_logits(network, temperature)
    card = dataclasses.replace(model.card, recipe={**model.card.recipe, IN_RECIPE: temperature})
    with replacing(model_path) as temporary:
        save_model(network, card, temporary, half=True)
    return temperature


def unsure_voxels(probabilities: npt.NDArray[np.floating], lungs: Bools) -> tuple[Floats, Bools]:
    """Return probability, and whether it is lung, of each voxel that is neither surely lung nor surely not."""
    chosen = (probabilities > _UNSURE[0]) & (probabilities < _UNSURE[1])
    return probabilities[chosen].astype(np.float64), lungs[chosen]


def best_temperature(probabilities: Floats, lung: Bools) -> float:
    """Return the temperature of `TEMPERATURES` that makes the reference likeliest; 1 if there is no voxel."""
    if not len(probabilities):
        return 1.0
    odds = logits_of(probabilities)
    losses = [np.mean(np.logaddexp(0, odds / t) - odds / t * lung) for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def logits_of(probabilities: Floats) -> Floats:
    logits: Floats = np.log(probabilities) - np.log1p(-probabilities)
    return logits


def _probabilities(
    network: nn.Module, card: ModelCard, case: LabelledCase, device: Device
) -> npt.NDArray[np.float32]:
    parts = np.array_split(case.slices, -(-len(case.slices) // _SLICES_AT_ONCE))
    found = [
        slice_probabilities(network, card, part, crop=case.box, grid=card.grid, device=device)
        for part in parts
    ]
    return np.divide(np.concatenate(found), 255, dtype=np.float32)


@torch.no_grad()
def _divide_logits(network: ResUNet, temperature: float) -> None:
    last = network.head[-1]
    for parameter in last.parameters():
        parameter.div_(temperature)
