"""The Residual U-Net.

After A. Khanna, N. D. Londhe, S. Gupta, A. Semwal, "A deep Residual U-Net convolutional neural network for
automated lung segmentation in computed tomography images", Biocybernetics and Biomedical Engineering 40(3),
1314-1327 (2020). Known of it: the order BN, ReLU, 3x3 convolution; encoder levels of 3, 4, 6 and 3 residual
units; 50 convolutions in the encoder, those in shortcuts included; transposed convolution and concatenation in
the decoder; a 1x1 convolution and a sigmoid at the end. The width, the places of the strides and the decoder's
units are our own choice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_resunet.model.presets import NetworkSettings, Shortcut


def _conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


class ResidualUnit(nn.Module):
    """Two times BN, ReLU, 3x3 convolution, added to a shortcut.

    A shortcut that is a convolution is 1x1, without bias, and taken after the first BN and ReLU.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv3x3(outputs, outputs)
        changes_shape = stride != 1 or inputs != outputs
        self.shortcut = (
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)
            if shortcut == "conv" or changes_shape
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(active)
        out: Tensor = self.conv2(torch.relu(self.norm2(self.conv1(active))))
        return out + kept


class PlainUnit(nn.Module):
    """Two times 3x3 convolution, BN, ReLU, with nothing around it: the unit of a U-Net."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv3x3(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


def _unit(inputs: int, outputs: int, shortcut: Shortcut, stride: int = 1) -> nn.Module:
    if shortcut == "none":
        return PlainUnit(inputs, outputs, stride=stride)
    return ResidualUnit(inputs, outputs, stride=stride, shortcut=shortcut)


class Stem(nn.Sequential):
    """Batch normalisation of the image, then 3x3 convolutions at full resolution."""

    def __init__(self, settings: NetworkSettings) -> None:
        layers: list[nn.Module] = [
            nn.BatchNorm2d(settings.in_channels),
            _conv3x3(settings.in_channels, settings.width),
        ]
        for _ in range(settings.stem - 1):
            layers += [nn.BatchNorm2d(settings.width), nn.ReLU(), _conv3x3(settings.width, settings.width)]
        if settings.shortcut == "none":  # residual units begin with BN and ReLU, plain ones need them here
            layers += [nn.BatchNorm2d(settings.width), nn.ReLU()]
        super().__init__(*layers)


class DecoderLevel(nn.Module):
    """Up by two, joined with the encoder's features of that size, then one unit."""

    def __init__(self, inputs: int, outputs: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, kernel_size=2, stride=2)
        self.unit = _unit(2 * outputs, outputs, shortcut)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.unit(torch.cat([self.up(x), skip], dim=1))
        return joined


class ResUNet(nn.Module):
    """The Residual U-Net; fully convolutional.

    Parameters
    ----------
    settings : NetworkSettings
        One of `napari_resunet.model.presets.PRESETS`, or another.
    classes : int
        Output channels, each with a sigmoid of its own.

    Notes
    -----
    `forward` takes images (n, channels, y, x) whose sides are a multiple of 16, and returns logits
    (n, classes, y, x).
    The sigmoid is applied where the probability map is made.
    """

    def __init__(self, settings: NetworkSettings, classes: int = 1) -> None:
        super().__init__()
        self.settings = settings
        widths = [settings.width * 2**level for level in range(len(settings.units))]
        self.stem = Stem(settings)
        self.encoder = nn.ModuleList()
        inputs = settings.width
        for count, outputs in zip(settings.units, widths, strict=True):
            first = _unit(inputs, outputs, settings.shortcut, stride=2)
            rest = [_unit(outputs, outputs, settings.shortcut) for _ in range(count - 1)]
            self.encoder.append(nn.Sequential(first, *rest))
            inputs = outputs
        skips = [settings.width, *widths[:-1]]  # the last skip is the stem's, at full resolution
        self.decoder = nn.ModuleList()
        for outputs in reversed(skips):
            self.decoder.append(DecoderLevel(inputs, outputs, settings.shortcut))
            inputs = outputs
        last = [] if settings.shortcut == "none" else [nn.BatchNorm2d(inputs), nn.ReLU()]
        self.head = nn.Sequential(*last, nn.Conv2d(inputs, classes, kernel_size=1))
        if not self.head[
            -1
        ].weight.is_meta:  # without values there is nothing to draw; to try would import a compiler
            self.apply(_initialise)

    def forward(self, image: Tensor) -> Tensor:
        multiple = self.settings.multiple
        if image.ndim != 4 or image.shape[1] != self.settings.in_channels:
            raise ValueError(
                f"image must be (n, {self.settings.in_channels}, y, x), got {tuple(image.shape)}"
            )
        if image.shape[2] % multiple or image.shape[3] % multiple:
            raise ValueError(f"sides must be multiples of {multiple}, got {tuple(image.shape[2:])}")
        x = self.stem(image)
        skips = []
        for level in self.encoder:
            skips.append(x)
            x = level(x)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(x, skip)
        logits: Tensor = self.head(x)
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
