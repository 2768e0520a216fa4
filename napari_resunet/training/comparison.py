"""What a fine-tuning has come to: the figures of a model beside those of its parent, and what speaks against it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_resunet.io.atomic import replacing

FORGETTING = 0.005  # Dice that may be lost on the made-up chests
_SHOWN = 4  # decimals; what is no better in them is no better


@dataclass(frozen=True)
class LearnProgress:
    """One line of the curve.

    Parameters
    ----------
    step : int
        Optimiser steps done; 0 is the parent.
    loss : float
        Mean training loss since the line before; nan at step 0.
    dice : float
        Mean over the held-out cases: Dice on the native grid, threshold 0.5, nothing cleaned up; nan if there are none.
    replay : float
        The same over made-up chests that are not learnt from.
    learning_rate : float
        At that step.
    """

    step: int
    loss: float
    dice: float
    replay: float
    learning_rate: float


@dataclass(frozen=True)
class Learnt:
    """How a fine-tuning ended.

    Parameters
    ----------
    before, after : LearnProgress
        Figures of the parent and of the candidate.
    against : tuple of str
        Why the candidate is not to be kept; empty if nothing speaks against it.
    held_out : tuple of str
        Names of the cases it was compared on; empty if there were none.
    candidate : Path
        The new model.
    model : Path, optional
        Where it was kept; None if it was not.
    """

    before: LearnProgress
    after: LearnProgress
    against: tuple[str, ...]
    held_out: tuple[str, ...]
    candidate: Path
    model: Path | None = None


def speaks_against(before: LearnProgress, after: LearnProgress) -> tuple[str, ...]:
    """Return why a candidate is not to be kept; nothing if it is better, or no worse where nothing was held out."""
    reasons = []
    if not math.isnan(before.dice) and round(after.dice, _SHOWN) <= round(before.dice, _SHOWN):
        reasons.append(f"it is no better on what was held out: Dice {before.dice:.4f}, now {after.dice:.4f}")
    if has_forgotten(before, after):
        reasons.append(f"it forgets made-up chests: Dice {before.replay:.4f}, now {after.replay:.4f}")
    return tuple(reasons)


def has_forgotten(before: LearnProgress, after: LearnProgress) -> bool:
    """Return whether a model is worse on the made-up chests than its parent may become."""
    return after.replay < before.replay - FORGETTING


def figures(before: LearnProgress, after: LearnProgress) -> dict[str, Any]:
    """Return the figures of both, as a model card has them."""
    named = {
        "made-up chests": (before.replay, after.replay),
        **({} if math.isnan(before.dice) else {"held-out cases": (before.dice, after.dice)}),
    }
    return {
        f"Dice of {what}, native grid, no clean-up": {
            "parent": round(was, _SHOWN),
            "this": round(now, _SHOWN),
        }
        for what, (was, now) in named.items()
    }


def keep(learnt: Learnt, model_path: Path) -> Learnt:
    """Put the candidate where the model is to be; an older model there is replaced.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    content = learnt.candidate.read_bytes()
    with replacing(model_path) as temporary:
        temporary.write_bytes(content)
    return dataclasses.replace(learnt, model=model_path)
