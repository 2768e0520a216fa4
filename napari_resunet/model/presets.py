"""What a Residual U-Net is built from, and the three readings of the source that have a name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Shortcut = Literal["conv", "identity", "none"]


@dataclass(frozen=True)
class NetworkSettings:
    """What a `ResUNet` is built from.

    Parameters
    ----------
    shortcut : {"conv", "identity", "none"}
        A 1x1 convolution around every unit; around those only that change the shape; or none at all.
    stem : int
        Number of 3x3 convolutions at full resolution before the first unit.
    units : tuple of int
        Units in each level of the encoder.
    width : int
        Filters of the stem and of the first level; each further level has twice as many.
    in_channels : int
        Channels of the image.
    """

    shortcut: Shortcut = "conv"
    stem: int = 2
    units: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 32
    in_channels: int = 1

    def __post_init__(self) -> None:
        if self.shortcut not in get_args(Shortcut):
            raise ValueError(
                f"shortcut must be one of {', '.join(get_args(Shortcut))}; got {self.shortcut!r}"
            )
        if not self.units or min(self.stem, self.width, self.in_channels, *self.units) < 1:
            raise ValueError(f"stem, units, width and in_channels must be at least 1; got {self}")

    @property
    def multiple(self) -> int:
        """The sides of an image must be a multiple of this."""
        return int(2 ** len(self.units))


PRESETS: dict[str, NetworkSettings] = {
    "paper": NetworkSettings(shortcut="conv", stem=2),  # 2 + 32 + 16 = 50 encoder convolutions
    "identity": NetworkSettings(shortcut="identity", stem=1),  # 1 + 32 + 4 = 37
    "plain": NetworkSettings(shortcut="none", stem=1),  # 1 + 32 = 33
}
