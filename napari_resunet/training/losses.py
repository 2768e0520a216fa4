"""How far logits are from the truth."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_SMOOTH = 1.0


def dice_loss(logits: Tensor, lungs: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return 1 - soft Dice over the whole batch, so that slices without lung need no special case."""
    probabilities = logits.sigmoid()
    if weights is not None:
        overlap = (weights * probabilities * lungs).sum()
        total = (weights * (probabilities + lungs)).sum()
    else:
        overlap = (probabilities * lungs).sum()
        total = probabilities.sum() + lungs.sum()
    return 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)


def dice_bce_loss(logits: Tensor, lungs: Tensor) -> Tensor:
    """Return the sum of the Dice loss and the binary cross-entropy; `lungs` may be a share from 0 to 1."""
    return dice_loss(logits, lungs) + functional.binary_cross_entropy_with_logits(logits, lungs)


def weighted_dice_bce_loss(logits: Tensor, lungs: Tensor, weights: Tensor) -> Tensor:
    """Return the same with a weight for each pixel; weights that are all 1 change nothing."""
    entropy = functional.binary_cross_entropy_with_logits(logits, lungs, reduction="none")
    return dice_loss(logits, lungs, weights) + (weights * entropy).sum() / weights.sum()
