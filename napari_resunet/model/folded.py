"""The Residual U-Net as it predicts: the same answer in fewer passes over its feature maps.

Where a batch normalisation follows a convolution and nothing else looks in between, it is folded into the weights;
ReLU and sums are done in place. On a CPU a pass over a large feature map costs about as much as a small convolution.
"""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from napari_resunet.model.resunet import DecoderLevel, PlainUnit, ResidualUnit, ResUNet, Stem

_Conv = TypeVar("_Conv", nn.Conv2d, nn.ConvTranspose2d)


class FoldedResUNet(nn.Module):
    """What a `ResUNet` in evaluation mode computes; it holds its own copy of the weights.

    Parameters
    ----------
    network : ResUNet
        Stays as it is.
    dtype : torch.dtype
        Of the feature maps and of the convolutions but the first; no autocast is needed.

    Notes
    -----
    `forward` takes images (n, channels, y, x) whose sides are a multiple of 16, and returns logits (n, classes,
    y, x).
    """

    def __init__(self, network: ResUNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.settings, self.dtype = network.settings, dtype
        convolution, *others = _folded_stem(network.stem)
        # not folded: the convolution that follows pads what comes out of it with 0
        self.first = nn.Sequential(copy.deepcopy(network.stem[0]), convolution)
        self.stem = nn.Sequential(*others)
        self.encoder = nn.ModuleList(_folded_level(cast(nn.Sequential, level)) for level in network.encoder)
        *inner, last = (cast(DecoderLevel, level) for level in network.decoder)
        end = cast(nn.BatchNorm2d, network.head[0]) if len(network.head) > 1 else None
        self.decoder = nn.ModuleList([*map(_FoldedDecoderLevel, inner), _FoldedDecoderLevel(last, end)])
        self.head = copy.deepcopy(network.head[-1])
        for part in self.modules():
            # an image in bfloat16 has lost fine steps of HU before anything is made of it, and the rim of lungs moves
            if isinstance(part, nn.Conv2d | nn.ConvTranspose2d) and part is not convolution:
                part.to(dtype)
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):  # which would round the image
            first = self.first(image)
        x = self.stem(first.to(self.dtype))
        skips = []
        for level in self.encoder:
            skips.append(x)
            x = level(x)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(x, skip)
        logits: Tensor = self.head(x)
        return logits


class _FoldedResidualUnit(nn.Module):
    """A residual unit.

    Parameters
    ----------
    unit : ResidualUnit
        With its shortcut.
    after : BatchNorm2d, optional
        What follows the sum, with a ReLU, if nothing else looks at the sum; done here as well.
    is_active : bool
        Whether the first batch normalisation and ReLU are done already.
    """

    def __init__(self, unit: ResidualUnit, after: nn.BatchNorm2d | None, *, is_active: bool) -> None:
        super().__init__()
        self.norm = None if is_active else copy.deepcopy(unit.norm1)
        self.conv1 = _folded(unit.conv1, unit.norm2)
        self.conv2 = _folded(unit.conv2, after)
        self.shortcut = None if unit.shortcut is None else _folded(unit.shortcut, after, shifted=False)
        self.ends_active = after is not None

    def forward(self, x: Tensor) -> Tensor:
        active = x if self.norm is None else self.norm(x).relu_()
        kept = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(self.conv1(active).relu_()).add_(kept)
        return out.relu_() if self.ends_active else out


class _FoldedPlainUnit(nn.Module):
    """Two times 3x3 convolution and ReLU."""

    def __init__(self, unit: PlainUnit) -> None:
        super().__init__()
        self.conv1 = _folded(unit.conv1, unit.norm1)
        self.conv2 = _folded(unit.conv2, unit.norm2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x).relu_()).relu_()
        return out


class _FoldedDecoderLevel(nn.Module):
    """Up by two, joined with the encoder's features of that size, then one unit.

    The first batch normalisation of a residual unit is done on either half before they are joined: of the one that
    comes up it is folded, and of the other it costs half as much.
    """

    def __init__(self, level: DecoderLevel, after: nn.BatchNorm2d | None = None) -> None:
        super().__init__()
        unit = level.unit
        self.unit: nn.Module
        self.norm: nn.BatchNorm2d | None = None
        if isinstance(unit, ResidualUnit):
            below = level.up.out_channels
            self.up = _folded(level.up, _part(unit.norm1, slice(below)))
            self.norm = _part(unit.norm1, slice(below, None))
            self.unit = _FoldedResidualUnit(unit, after, is_active=True)
        else:
            self.up = copy.deepcopy(level.up)
            self.unit = _FoldedPlainUnit(cast(PlainUnit, unit))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        if self.norm is None:
            joined = torch.cat([self.up(x), skip], dim=1)
        else:
            joined = torch.cat([self.up(x), self.norm(skip)], dim=1).relu_()
        out: Tensor = self.unit(joined)
        return out


def _folded_stem(stem: Stem) -> list[nn.Module]:
    """Return the convolutions of the stem, and the ReLUs between them."""
    layers: list[nn.Module] = []
    parts = list(stem)
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if isinstance(part, nn.Conv2d):
            layers.append(_folded(part, cast("nn.BatchNorm2d | None", following)))
        elif isinstance(part, nn.ReLU):
            layers.append(nn.ReLU(inplace=True))
    return layers


def _folded_level(level: nn.Sequential) -> nn.Sequential:
    units = list(level)
    if isinstance(units[0], PlainUnit):
        return nn.Sequential(*(_FoldedPlainUnit(cast(PlainUnit, unit)) for unit in units))
    residual = [cast(ResidualUnit, unit) for unit in units]
    folded: list[nn.Module] = []
    is_active = False
    for unit, following in zip(residual, [*residual[1:], None], strict=True):
        # a unit without a convolution in its shortcut hands on the bare sum; one that follows such a sum needs it
        hides_sum = following is not None and None not in (unit.shortcut, following.shortcut)
        after = following.norm1 if hides_sum and following is not None else None
        folded.append(_FoldedResidualUnit(unit, after, is_active=is_active))
        is_active = after is not None
    return nn.Sequential(*folded)


def _folded(conv: _Conv, norm: nn.BatchNorm2d | None, *, shifted: bool = True) -> _Conv:
    """Return a convolution with the batch normalisation that follows; of two that are summed, one is `shifted`."""
    conv = copy.deepcopy(conv)
    if norm is None:
        return conv
    scale, shift = _scale_and_shift(norm)
    across = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias.double() * scale
    conv.weight = nn.Parameter((conv.weight.double() * scale.reshape(across)).float())
    conv.bias = nn.Parameter((bias + shift).float()) if shifted else None
    return conv


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a batch normalisation in evaluation mode multiplies each channel by, and what it adds."""
    mean, variance = cast(Tensor, norm.running_mean).double(), cast(Tensor, norm.running_var).double()
    scale = norm.weight.double() / torch.sqrt(variance + norm.eps)
    return scale, norm.bias.double() - mean * scale


def _part(norm: nn.BatchNorm2d, channels: slice) -> nn.BatchNorm2d:
    """Return the batch normalisation of some of the channels."""
    part = nn.BatchNorm2d(len(norm.weight[channels]), eps=norm.eps)
    part.load_state_dict(
        {name: value[channels] if value.ndim else value for name, value in norm.state_dict().items()}
    )
    return part.eval()
