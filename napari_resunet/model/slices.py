"""Axial slices through the network: HU on the native grid in, probabilities on the native grid out.

The CPU resizes for itself and for an Apple GPU; a CUDA GPU is sent the values as they are, and does all of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_resunet.errors import NotFiniteError
from napari_resunet.model.card import ModelCard
from napari_resunet.model.device import Device

Crop = tuple[int, int, int, int]
# Pixels that a CPU is given at once: with twice as many, feature maps begin to leave its caches.
_PIXELS_AT_ONCE = 4 * 128 * 128


def scale_hu(hu: Tensor, window_hu: tuple[float, float]) -> Tensor:
    """Return `hu` clipped to the window and scaled to 0-1; what is not a number becomes 0."""
    low, high = window_hu
    return ((hu.nan_to_num(nan=low).clamp(low, high) - low) / (high - low)).float()


def shrink(image: Tensor, grid: int) -> Tensor:
    """Return images (n, c, y, x) resized to `grid` x `grid`, smoothed first where they become smaller."""
    return functional.interpolate(
        image, size=(grid, grid), mode="bilinear", antialias=True, align_corners=False
    )


def to_grid(
    slices: npt.NDArray[Any],
    *,
    crop: Crop,
    grid: int,
    window_hu: tuple[float, float],
    device: Device | None = None,
) -> Tensor:
    """Return what the network sees of some slices.

    Parameters
    ----------
    slices : (n, y, x) array
        HU of axial slices, front up.
    crop : tuple of int
        Rows and columns to see: (y0, y1, x0, x1).
    grid : int
        Side of the result in pixels.
    window_hu : tuple of float
        HU that become 0 and 1.
    device : Device, optional
        Where to resize; the CPU by default.

    Returns
    -------
    (n, 1, grid, grid) Tensor of float32
        From 0 to 1.
    """
    y0, y1, x0, x1 = crop
    if device is not None and device.torch.type == "cuda":
        # the values as they are: they are the fewest bytes
        stored = np.array(slices[:, y0:y1, x0:x1], dtype=slices.dtype.newbyteorder("="), order="C")
        seen = _sent(stored, device)
        return shrink(scale_hu(seen.float()[:, None], window_hu), grid)
    # an Apple GPU cannot smooth in every torch: there the CPU resizes
    on_cpu = np.ascontiguousarray(slices[:, y0:y1, x0:x1], dtype=np.float32)
    return shrink(scale_hu(torch.from_numpy(on_cpu)[:, None], window_hu), grid)


def from_grid(
    logits: Tensor, *, crop: Crop, shape: tuple[int, int], device: Device | None = None
) -> npt.NDArray[np.uint8]:
    """Return logits (n, 1, grid, grid) as probabilities (n, y, x) on the native grid, 0-255 for 0-1.

    They are up-sampled soft and quantised last: that keeps contours finer than the grid. Outside of the crop
    the probability is 0.
    """
    y0, y1, x0, x1 = crop
    native = functional.interpolate(logits, size=(y1 - y0, x1 - x0), mode="bilinear", align_corners=False)
    quantised = native.sigmoid_().mul_(255).round_().to(torch.uint8)
    result = np.zeros((len(logits), *shape), dtype=np.uint8)
    result[:, y0:y1, x0:x1] = _fetched(quantised[:, 0], device)
    return result


def _sent(values: npt.NDArray[Any], device: Device) -> Tensor:
    """Return an array on a CUDA GPU, on its way there while the CPU goes on: that takes memory that stays in place."""
    return torch.from_numpy(values).pin_memory().to(device.torch, non_blocking=True)


def _fetched(values: Tensor, device: Device | None) -> npt.NDArray[Any]:
    """Return a tensor in the memory of the CPU; what a CUDA GPU was given to do since is not waited for."""
    if device is None or device.torch.type != "cuda":
        return values.cpu().numpy()
    there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    there.copy_(values, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()
    arrived.synchronize()
    return there.numpy()


@torch.inference_mode()
def slice_probabilities(
    network: nn.Module, card: ModelCard, slices: npt.NDArray[Any], *, crop: Crop, grid: int, device: Device
) -> npt.NDArray[np.uint8]:
    """Run the network over some slices.

    At a grid finer than the one that the network has learnt at, logits are the mean of both: at its own grid it knows
    best what is lung, at the finer one where it ends.

    Parameters
    ----------
    network : Module
        A `ResUNet`, or one that was folded; in evaluation mode, on `device`, channels last.
    card : ModelCard
        Says the HU window, and the grid that it has learnt at.
    slices : (n, y, x) array
        HU of axial slices, front up.
    crop, grid
        As in `to_grid`.
    device : Device
        Where the network is.

    Returns
    -------
    (n, y, x) array of uint8
        0-255 for a probability of 0-1.

    Raises
    ------
    NotFiniteError
        If the network's answer is not finite: no threshold would tell that from background.
    """
    logits = _logits(network, card, slices, crop=crop, grid=grid, device=device)
    if grid > card.grid:
        coarse = _logits(network, card, slices, crop=crop, grid=card.grid, device=device)
        logits = (logits + functional.interpolate(coarse, size=(grid, grid), mode="bilinear")) / 2
    finite = torch.isfinite(logits).flatten(1).all(dim=1)
    if not finite.all():
        raise NotFiniteError(
            f"the network {card.name} gave values that are not finite on {device.label}; choose device cpu",
            index=int(finite.int().argmin()),
        )
    return from_grid(logits, crop=crop, shape=(slices.shape[1], slices.shape[2]), device=device)


def _logits(
    network: nn.Module, card: ModelCard, slices: npt.NDArray[Any], *, crop: Crop, grid: int, device: Device
) -> Tensor:
    """Return logits (n, 1, grid, grid) in float32."""
    image = to_grid(slices, crop=crop, grid=grid, window_hu=card.require_window_hu(), device=device)
    image = image.to(device.torch, memory_format=torch.channels_last)
    with device.autocast():
        logits = torch.cat([network(part) for part in torch.split(image, _at_once(image, device))])
    return logits.float()


def _at_once(image: Tensor, device: Device) -> int:
    """Return how many slices of a batch go through the network together."""
    if device.name != "cpu":
        return len(image)
    return max(1, _PIXELS_AT_ONCE // (image.shape[-2] * image.shape[-1]))
