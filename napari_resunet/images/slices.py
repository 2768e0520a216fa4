"""Slices of an image through the network: values in, probabilities on the native grid out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_resunet.errors import InputError, PredictionError
from napari_resunet.images.tiles import grown, tile_weights, tiles_of
from napari_resunet.model.card import ModelCard
from napari_resunet.model.device import Device
from napari_resunet.model.slices import scale_hu, shrink

_ENOUGH_VALUES = 4_000_000  # to tell percentiles by
_COLOURS = (3, 4)  # the fourth is opacity, which is left out


def as_slices(array: npt.NDArray[Any], *, channels: int, is_rgb: bool | None = None) -> npt.NDArray[Any]:
    """Return an image as slices (z, y, x, channels), without a copy.

    Parameters
    ----------
    array : (y, x) or (z, y, x) array, with a last axis of 3 or 4 if in colour
        A grey image is shown to a network for colour as one whose three channels are the same.
    channels : int
        Of the network: 1 or 3.
    is_rgb : bool, optional
        Whether the last axis is colour; by default if it has 3 or 4 entries and is not the second one.

    Raises
    ------
    InputError
        If it has other axes or no values, is not of real numbers, or is in colour and the network is not.
    """
    if is_rgb is None:
        is_rgb = array.ndim > 2 and array.shape[-1] in _COLOURS
    if array.ndim - is_rgb not in (2, 3) or not array.size or (is_rgb and array.shape[-1] not in _COLOURS):
        raise InputError(
            f"an image is (y, x) or (z, y, x), in colour with 3 or 4 channels last; found {array.shape}"
        )
    if array.dtype.kind not in "buif":
        raise InputError(f"an image holds real numbers; found {array.dtype}")
    if array.dtype == bool:
        array = array.view(np.uint8)
    if is_rgb and channels == 1:
        raise InputError(
            "the image is in colour, the model is for grey ones; convert the image to grey values"
        )
    pixels = array[..., :3] if is_rgb else array[..., np.newaxis]
    slices = pixels if pixels.ndim == 4 else pixels[np.newaxis]
    return np.broadcast_to(slices, (*slices.shape[:3], channels))


def limits_of(slices: npt.NDArray[Any], card: ModelCard) -> tuple[float, float]:
    """Return the values of an image (z, y, x, c) that become 0 and 1: the card's, or those of its percentiles.

    Raises
    ------
    InputError
        If the image has no finite value.
    """
    if card.window is not None:
        return card.window
    step = math.ceil(math.sqrt(slices.size / _ENOUGH_VALUES))
    values = slices[:, ::step, ::step]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        raise InputError("the image holds no finite value, so that nothing can be found in it")
    low, high = np.percentile(values, card.percentiles or (0.0, 100.0))
    return float(low), float(high)


def scaled(slices: npt.NDArray[Any], limits: tuple[float, float]) -> Tensor:
    """Return slices (n, y, x, c) as a tensor (n, c, y, x) from 0 to 1; an image of one value is 0 throughout."""
    low, high = limits
    values = torch.from_numpy(np.ascontiguousarray(np.moveaxis(slices, -1, 1), dtype=np.float32))
    return scale_hu(values, limits) if low < high else torch.zeros_like(values)


@torch.inference_mode()
def image_probabilities(
    network: nn.Module, card: ModelCard, image: Tensor, device: Device
) -> npt.NDArray[np.uint8]:
    """Run the network over some slices.

    Parameters
    ----------
    network : Module
        In evaluation mode, on `device`, channels last.
    card : ModelCard
        Says the grid, to which a slice is resized, and the side of the tiles it is cut into before.
    image : (n, c, y, x) Tensor
        From 0 to 1, on the CPU.
    device : Device
        Where the network is.

    Returns
    -------
    (n, classes, y, x) array of uint8
        0-255 for a probability of 0-1; up-sampled soft and quantised last.

    Raises
    ------
    PredictionError
        If the network's answer is not finite.
    """
    logits = (_tiled if card.tile else _whole)(network, card, image, device)
    quantised: npt.NDArray[np.uint8] = logits.sigmoid_().mul_(255).round_().to(torch.uint8).cpu().numpy()
    return quantised


def _tiled(network: nn.Module, card: ModelCard, image: Tensor, device: Device) -> Tensor:
    """Return native logits (n, classes, y, x): the weighted mean of those of overlapping tiles."""
    rows, columns = image.shape[2:]
    whole = grown(image, card.tile)
    weights = tile_weights(card.tile)
    total = torch.zeros(len(whole), len(card.classes), *whole.shape[2:])
    weight = torch.zeros(whole.shape[2:])
    for here in tiles_of((whole.shape[2], whole.shape[3]), card.tile):
        total[..., *here] += weights * _whole(network, card, whole[..., *here], device).cpu()
        weight[here] += weights
    return (total / weight)[..., :rows, :columns]


def _whole(network: nn.Module, card: ModelCard, image: Tensor, device: Device) -> Tensor:
    """Return native logits (n, classes, y, x) of images that are resized to the grid as they are."""
    seen = shrink(image, card.grid).to(device.torch, memory_format=torch.channels_last)
    with device.autocast():
        logits: Tensor = network(seen)
    logits = logits.float()
    if not torch.isfinite(logits).all():
        raise PredictionError(
            f"the network {card.name} gave values that are not finite on {device.label}; choose device cpu"
        )
    return functional.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False)
