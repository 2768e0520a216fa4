"""The segments of a mask, for formats that name what each label means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Segment:
    """What one label of a mask means.

    Parameters
    ----------
    label : int
        The value in the mask.
    name : str
        For a person.
    side : {"Right", "Left"}, optional
        None for both lungs in one.
    rgb : tuple of int
        Its colour in the window, each part 0-255.
    """

    label: int
    name: str
    side: Literal["Right", "Left"] | None
    rgb: tuple[int, int, int]


_LUNGS = Segment(1, "Lungs", None, (255, 140, 26))
_RIGHT = Segment(1, "Right lung", "Right", (255, 140, 26))
_LEFT = Segment(2, "Left lung", "Left", (51, 187, 238))


def segments_of(array: npt.NDArray[np.uint8], history: Mapping[str, Any]) -> tuple[Segment, ...]:
    """Return the segments of a mask: both lungs in one, or the right and the left.

    Parameters
    ----------
    array : array of uint8
        0 and 1; or 0, 1 (right) and 2 (left).
    history : mapping
        How the mask was made. It knows whether a mask without a 2 was split, and the left lung is just not there.
    """
    was_split = (history.get("mask") or {}).get("split", False)
    return (_RIGHT, _LEFT) if was_split or (array == 2).any() else (_LUNGS,)
