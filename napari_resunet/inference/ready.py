"""A network that is ready to run: read, checked, folded, on its device.

The last ones that came from a file are kept, so that a second run does not read the weights again. A file that was
written anew is read again.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from napari_resunet.model.card import ModelCard, find_model
from napari_resunet.model.checkpoint import Model, load_model
from napari_resunet.model.device import Device
from napari_resunet.model.folded import FoldedResUNet
from napari_resunet.model.resunet import ResUNet

_KEPT = 2  # a person who compares two models goes to and fro
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ReadyNetwork:
    """A network on its device.

    Parameters
    ----------
    network : Module
        Takes images (n, channels, y, x), channels last, and returns logits.
    plain : ResUNet
        What it was made from.
    card : ModelCard
        Of the weights.
    """

    network: nn.Module
    plain: ResUNet
    card: ModelCard


def ready_network(model: str | Path | Model, device: Device) -> ReadyNetwork:
    """Return the network of a model on a device; a loaded `Model` is left as it is.

    Raises
    ------
    CheckpointError
        As `load_model`.
    """
    if isinstance(model, Model):  # whose weights may change: made ready each time
        return _made_ready(model, device)
    path = find_model(model)
    return _from_file(path.absolute(), _stamp(path), device)


@functools.lru_cache(maxsize=_KEPT)  # what raises is tried again
def _from_file(path: Path, _written: _Stamp, device: Device) -> ReadyNetwork:
    return _made_ready(load_model(path), device)


def _stamp(path: Path) -> _Stamp:
    """Return what changes when a file is written anew, in place or by another that takes its name."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _made_ready(model: Model, device: Device) -> ReadyNetwork:
    plain = model.network
    # a network of another kind runs as it is
    folds = isinstance(plain, ResUNet)
    copied = FoldedResUNet(plain, getattr(torch, device.precision)) if folds else copy.deepcopy(plain)
    placed = copied.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return ReadyNetwork(placed, plain, model.card)
