"""What learns: the network, its moving average and its optimiser, one step at a time, and all of it put away."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from napari_resunet.errors import CheckpointError, InputError
from napari_resunet.io.atomic import replacing
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import load_state, save_state
from napari_resunet.model.device import Device
from napari_resunet.model.resunet import ResUNet
from napari_resunet.model.slices import scale_hu, shrink
from napari_resunet.settings import TrainSettings
from napari_resunet.training.augment import INGREDIENTS, augment
from napari_resunet.training.dataset import OVERSIZE, Slices
from napari_resunet.training.losses import dice_bce_loss
from napari_resunet.training.without_triton import import_compiler_without_triton

_WARM_UP = 0.04  # of all steps
_GRADIENT_NORM = 5.0
_CALIBRATION_BATCHES = 40
# The moving average follows the network closely at first, while its weights are still worthless.
_EMA_START = 10
_HARDEST = 4.0  # times the mean error: what errs more may be a wrong mask


@dataclass(frozen=True)
class Progress:
    """One line of the curve.

    Parameters
    ----------
    step : int
        Optimiser steps done.
    loss : float
        Mean training loss since the line before.
    dice : float
        Mean over validation cases that hold lung: Dice on the native grid, threshold 0.5, nothing cleaned up.
    false_positive : float
        Share of the lung-free validation slices on which more than 0.1 % of the picture was called lung.
    learning_rate : float
        At that step.
    """

    step: int
    loss: float
    dice: float
    false_positive: float
    learning_rate: float


class Learner:
    """The network, its moving average and its optimiser."""

    line: type[Any] = Progress  # of the curve
    ingredients: Collection[str] = INGREDIENTS  # of the augmentation

    def __init__(self, card: ModelCard, settings: TrainSettings, device: Device, slices: int) -> None:
        torch.manual_seed(settings.seed)
        self.settings, self.card, self.device = settings, card, device
        self.layout = _memory_format(card.network.width)
        self.network = self._new_network()
        self.average = self._new_network().eval()
        self.average.load_state_dict(self.network.state_dict())
        import_compiler_without_triton()
        self.optimiser = AdamW(self._groups(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
        self.without = _ingredients(settings.without, self.ingredients)
        self.errors = np.full(slices, np.nan)  # of each training slice, when it was last seen
        self.step = 0

    def _new_network(self) -> ResUNet:
        network = ResUNet(self.card.network, len(self.card.classes))
        return network.to(self.device.torch, memory_format=self.layout)  # type: ignore[call-overload,no-any-return]

    def _groups(self) -> list[dict[str, Any]]:
        parameters = list(self.network.parameters())
        return [
            {"params": [p for p in parameters if p.ndim > 1]},
            {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
        ]

    def rate(self, step: int) -> float:
        """Return the learning rate: a short rise, then half a cosine."""
        done = step / self.settings.steps
        if done < _WARM_UP:
            rising = self.settings.learning_rate * max(done, 1 / self.settings.steps) / _WARM_UP
            return min(rising, self.settings.learning_rate)  # the rise of very few steps would begin above
        return (
            self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - _WARM_UP) / (1 - _WARM_UP)))
        )

    def learn(self, data: Slices, step: int) -> float:
        # a generator for each step: a training that is taken up again draws what it would have drawn
        rng = np.random.default_rng([self.settings.seed, step])
        grid, count = self._size(rng)
        chosen = data.draw(rng, count, hardness=self._hardness())
        image, target = self._images(data, chosen, grid, rng)
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate(step)
        loss, self.errors[chosen] = self._update(image, target)
        self.step = step + 1
        self._follow()
        return loss

    def _images(
        self, data: Slices, chosen: npt.NDArray[np.int64], grid: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return what the network is to see of some slices on this occasion, and what it should say."""
        hu, lungs = data.take(chosen, OVERSIZE * grid)
        hu, lungs = augment(hu, lungs, margin=data.margin, rng=rng, without=self.without)
        image = shrink(scale_hu(hu, self.card.require_window_hu()), grid)
        return image.to(memory_format=self.layout), shrink(lungs, grid).clamp_(0, 1)

    def _size(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return the grid and the number of slices of a step."""
        if rng.random() < self.settings.fine:
            return 2 * self.settings.grid, max(2, self.settings.batch // 4)
        return self.settings.grid, self.settings.batch

    def _hardness(self) -> npt.NDArray[np.float64] | None:
        if not self.settings.hard or np.isnan(self.errors).all():
            return None
        relative = np.nan_to_num(self.errors / np.nanmean(self.errors), nan=1.0)
        weights: npt.NDArray[np.float64] = 1 + self.settings.hard * np.minimum(relative, _HARDEST)
        return weights

    def _update(self, image: Tensor, target: Tensor) -> tuple[float, npt.NDArray[np.float32]]:
        """Make one step; return the loss, and the mean absolute error of each slice."""
        self._make_ready()
        image, target = image.to(self.device.torch), target.to(self.device.torch)
        with self.device.autocast():
            logits = self.network(image).float()
        loss = self._loss(logits, target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), _GRADIENT_NORM)
        self.optimiser.step()
        errors = (logits.detach().sigmoid() - target[:, : logits.shape[1]]).abs().mean(dim=(1, 2, 3))
        return float(loss.detach()), errors.cpu().numpy()

    def _make_ready(self) -> None:
        self.network.train()

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return dice_bce_loss(logits, target)

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self.settings.ema, self.step / (self.step + _EMA_START))
        for kept, new in zip(
            self.average.state_dict().values(), self.network.state_dict().values(), strict=True
        ):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)

    @torch.no_grad()
    def calibrate(self, data: Slices) -> None:
        """Measure anew what the batch normalisations of the average go by, at the grid of the model.

        What was averaged along the way belongs to weights of the past, and in part to the finer grid; on slices
        that hold little lung that is enough for the network to find none of it.
        """
        norms = [module for module in self.average.modules() if isinstance(module, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all batches
        self.average.train()
        for batch in range(_CALIBRATION_BATCHES):
            rng = np.random.default_rng([self.settings.seed, self.settings.steps + batch])
            image, _ = self._images(data, data.draw(rng, self.settings.batch), self.settings.grid, rng)
            with self.device.autocast():
                self.average(image.to(self.device.torch))
        self.average.eval()
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum

    def begun_with(self) -> str:
        """Return what must be the same for a training to be taken up again."""
        return json.dumps(dataclasses.asdict(self.settings), sort_keys=True)

    def state(self, curve: Sequence[Any]) -> dict[str, Any]:
        """Return all that is needed to go on."""
        return {
            "settings": self.begun_with(),
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "errors": torch.from_numpy(self.errors),
            "curve": [dataclasses.astuple(line) for line in curve],
        }

    def save(self, folder: Path, curve: Sequence[Any]) -> None:
        with replacing(folder / "state.pt") as temporary:
            save_state(self.state(curve), temporary)

    def resume(self, folder: Path) -> list[Any]:
        """Go on where the training in `folder` stopped; return its curve.

        Raises
        ------
        CheckpointError
            If it was begun with other settings, or something is missing of its state or does not fit.
        """
        path = folder / "state.pt"
        if not path.exists():
            return []
        state = load_state(path)
        try:
            self._refuse_other_settings(folder, state["settings"])
            return self._take_up(state)
        except torch.OutOfMemoryError:  # no fault of the state, though it is a RuntimeError
            raise
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{path} is the damaged state of a training ({_what_of(error)}); delete it to begin anew"
            ) from error

    def _refuse_other_settings(self, folder: Path, settings: str) -> None:
        if settings != self.begun_with():
            raise CheckpointError(
                f"{folder} holds a training begun with other settings; give those again, another output, or delete it"
            )

    def _take_up(self, state: Mapping[str, Any]) -> list[Any]:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        for parameter, kept in self.optimiser.state.items():
            if kept["exp_avg"].shape != parameter.shape or kept["exp_avg_sq"].shape != parameter.shape:
                raise ValueError("the optimiser is that of another network")
        if len(state["errors"]) != len(self.errors):
            raise ValueError("it has seen other slices")
        self.errors = state["errors"].numpy().copy()
        self.step = int(state["step"])
        if not 0 <= self.step <= self.settings.steps:
            raise ValueError(f"step {self.step} of {self.settings.steps}")
        return [self.line(int(step), *map(float, rest)) for step, *rest in state["curve"]]


def _memory_format(width: int) -> torch.memory_format:
    """Return channels last, which is faster, where it is safe.

    On a CPU, torch 2.13 ends the process in the backward pass of few channels (4, 8) in that format.
    """
    return torch.channels_last if width % 16 == 0 else torch.contiguous_format


def _ingredients(text: str, known: Collection[str]) -> frozenset[str]:
    """Return the names in a list with commas.

    Raises
    ------
    InputError
        If one is no ingredient of the augmentation.
    """
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if unknown := sorted(names - set(known)):
        raise InputError(
            f"{', '.join(unknown)}: no ingredient of the augmentation; there are {', '.join(known)}"
        )
    return names


def _what_of(error: Exception) -> str:
    """Return what a state lacks, or the first line of what does not fit."""
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error).strip().partition("\n")[0].rstrip(" .:") or type(error).__name__
