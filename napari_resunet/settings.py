"""The choices a user can make, each with its default, its limits and its explanation.

The window and the command line are both made from these records, so that a choice has one name,
one default and one text everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, get_type_hints


def _choice(
    default: Any,
    label: str,
    tip: str,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    options: Sequence[Any] | None = None,
) -> Any:
    meta = {"label": label, "tip": tip, "low": low, "high": high, "step": step, "options": options}
    return field(default=default, metadata=meta)


def explain(settings: type[Any], name: str) -> dict[str, Any]:
    """Return what the field `name` of a settings record says: label, tip, low, high, step, options, default, type."""
    for known in dataclasses.fields(settings):
        if known.name == name:
            return {**known.metadata, "default": known.default, "type": get_type_hints(settings)[name]}
    raise ValueError(f"{settings.__name__} has no choice called {name!r}")


_NUMBERS = {float: (Real, "a number"), int: (Integral, "a whole number")}


def _check(settings: Any) -> None:
    kinds = get_type_hints(type(settings))
    for known in dataclasses.fields(settings):
        value, meta = getattr(settings, known.name), known.metadata
        label = meta["label"].lower()
        if meta["options"] is not None and value not in meta["options"]:
            raise ValueError(f"{label} must be one of {', '.join(map(str, meta['options']))}; got {value}")
        kind, words = _NUMBERS.get(kinds[known.name], (object, ""))
        if not isinstance(value, kind):
            raise TypeError(f"{label} must be {words}; got {value!r}")
        if meta["low"] is not None and not meta["low"] <= value:
            raise ValueError(f"{label} must be at least {meta['low']}; got {value}")
        if meta["high"] is not None and not value <= meta["high"]:
            raise ValueError(f"{label} must be at most {meta['high']}; got {value}")


@dataclass(frozen=True)
class InputAnswers:
    """What only a user can know of a CT.

    Parameters
    ----------
    spacing_mm : tuple of float, optional
        Along (z, y, x), for a file that does not say.
    series : str, optional
        SeriesInstanceUID, or the end of it, for a folder that holds several.
    hu_offset : float, optional
        To be added to every value so that it is HU; giving one, 0 included, says that the result is HU.
    accept_gaps : bool
        Whether to read a DICOM series whose slices are not evenly spaced, or of which some are missing.
    frame : int, optional
        Which volume of a file that holds several, such as a 4-D NIfTI; the first is 0.
    orientation : str, optional
        Where the array axes (z, y, x) run towards, for a file that does not say: three letters of L or R, A or P,
        S or I, such as ``"SPL"`` for axial slices, lowest first, front up, patient's right on the left.
    """

    spacing_mm: tuple[float, float, float] | None = None
    series: str | None = None
    hu_offset: float | None = None
    accept_gaps: bool = False
    frame: int | None = None
    orientation: str | None = None


@dataclass(frozen=True)
class PredictSettings:
    """How the network runs over a CT."""

    model: str = _choice("lung-ct", "Model", "A built-in model's name, or a .safetensors file.")
    device: str = _choice(
        "auto",
        "Device",
        "Where the network runs. auto takes a CUDA GPU, else Apple's MPS, else the CPU.",
        options=("auto", "cuda", "mps", "cpu"),
    )
    grid: int = _choice(
        128,
        "Grid",
        "Side in pixels of the square each slice is resized to: 128 as published; 256, the mean of both, draws "
        "finer contours and takes about four times as long.",
        options=(128, 256),
    )

    def __post_init__(self) -> None:
        _check(self)


KEEP_EDITS, KEEP_TICKED, FORGET_EDITS = "keep all", "keep on reviewed slices", "forget"


@dataclass(frozen=True)
class RunSettings:
    """What a run of the network does to what is there."""

    edits: str = _choice(
        KEEP_EDITS,
        "My edits",
        "What becomes of the voxels you have set by hand when the network runs. Forgotten edits can be brought back.",
        options=(KEEP_EDITS, KEEP_TICKED, FORGET_EDITS),
    )

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class MaskSettings:
    """How a probability map becomes a mask."""

    threshold: float = _choice(
        0.5,
        "Threshold",
        "A voxel is lung where its probability is at least this.",
        low=0.01,
        high=0.99,
        step=0.01,
    )
    clean: bool = _choice(
        True, "Clean up", "Keep the large connected pieces and fill holes inside them, in 3-D."
    )
    split: bool = _choice(False, "Right and left", "Label the right lung 1 and the left lung 2.")
    swap_sides: bool = _choice(
        False,
        "Swap sides",
        "Label the lungs the other way round, where the CT's header is wrong or organs mirrored.",
    )

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class ToolSettings:
    """What the correction tools go by."""

    in_slice: bool = _choice(
        False, "Only this slice", "Work on the slice in view alone, instead of the whole volume."
    )
    radius_mm: float = _choice(
        2.0,
        "Smoothing (mm)",
        "Details smaller than about this are smoothed away, in mm.",
        low=0.5,
        high=10.0,
        step=0.5,
    )
    low_hu: float = _choice(
        -1000.0, "From (HU)", "Lowest HU to grow into.", low=-1024.0, high=3071.0, step=10.0
    )
    high_hu: float = _choice(
        -400.0, "To (HU)", "Highest HU to grow into.", low=-1024.0, high=3071.0, step=10.0
    )
    within_mm: float = _choice(
        30.0,
        "Within (mm)",
        "How far from the clicked voxel to grow at most, in mm.",
        low=1.0,
        high=300.0,
        step=5.0,
    )

    def __post_init__(self) -> None:
        _check(self)
        if self.low_hu > self.high_hu:
            raise ValueError(f"the HU range must rise; got {self.low_hu:g} to {self.high_hu:g}")


@dataclass(frozen=True)
class TrainSettings:
    """How a network is trained."""

    preset: str = _choice(
        "paper",
        "Preset",
        "How the residual units are built: paper (50 encoder convolutions), identity (37) or plain (33).",
        options=("paper", "identity", "plain"),
    )
    width: int = _choice(
        32, "Width", "Filters of the first level; each deeper level has twice as many.", low=4, high=128
    )
    grid: int = _choice(
        128, "Grid", "Side in pixels of the training images; a multiple of 16.", low=32, high=512
    )
    fine: float = _choice(
        0.0,
        "Fine share",
        "Share of the steps at twice the grid, with a quarter of the batch, so that the model serves both.",
        low=0.0,
        high=1.0,
    )
    steps: int = _choice(5000, "Steps", "Optimiser steps in all.", low=1)
    batch: int = _choice(12, "Batch", "Slices a step.", low=2, high=512)
    hard: float = _choice(
        0.0,
        "Hard slices",
        "How much likelier slices are drawn on which the network errs more than on average; 0 draws evenly.",
        low=0.0,
        high=10.0,
    )
    without: str = _choice(
        "", "Without", "Ingredients of the augmentation to leave out, by name, with commas between."
    )
    learning_rate: float = _choice(
        1e-3, "Learning rate", "Highest learning rate of the schedule.", low=1e-6, high=1.0
    )
    weight_decay: float = _choice(1e-4, "Weight decay", "Decoupled weight decay.", low=0.0, high=1.0)
    ema: float = _choice(
        0.998, "Averaging", "Decay of the moving average of the weights that is kept.", low=0.0, high=0.99999
    )
    validate_every: int = _choice(250, "Validate every", "Steps between validations.", low=1)
    seed: int = _choice(0, "Seed", "Makes order, augmentation and first weights repeatable.", low=0)

    def __post_init__(self) -> None:
        _check(self)
        if self.grid % 16:
            raise ValueError(f"grid must be a multiple of 16; got {self.grid}")


LEAST_TILE = 16


@dataclass(frozen=True)
class ImageTask:
    """What a model of images that are no CT is to find, and how it scales them.

    Parameters
    ----------
    classes : tuple of str
        What the numbers 1, 2, … of the masks mean; one class is whatever is not 0.
    window : tuple of float, optional
        The values that become 0 and 1, the same for all images.
    percentiles : tuple of float
        Where no window is given: the percentiles of each image that become 0 and 1.
    tile : int
        Side in pixels of the squares that an image is cut into, each resized to the grid; 0 resizes the whole image.
    """

    classes: tuple[str, ...] = ("object",)
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] = (1.0, 99.0)
    tile: int = 0

    def __post_init__(self) -> None:
        if not self.classes or not all(self.classes) or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"every class needs a name of its own; got {', '.join(self.classes) or 'none'}")
        for what, limits in (("window", self.window), ("percentiles", self.percentiles)):
            if limits is not None and not limits[0] < limits[1]:
                raise ValueError(f"the {what} must rise; got {limits[0]:g} to {limits[1]:g}")
        if not (self.percentiles[0] >= 0 and self.percentiles[1] <= 100):
            raise ValueError(f"percentiles lie between 0 and 100; got {self.percentiles}")
        if self.tile and self.tile < LEAST_TILE:
            raise ValueError(f"tiles must be at least {LEAST_TILE} pixels, or 0 for none; got {self.tile}")


@dataclass(frozen=True)
class LearnSettings:
    """How a model learns from corrected cases."""

    parent: str = _choice(
        "lung-ct", "Start from", "The model that learns: a built-in model's name, or a .safetensors file."
    )
    steps: int = _choice(300, "Steps", "Optimiser steps in all.", low=1, high=100_000, step=50)
    edited_weight: float = _choice(
        4.0,
        "Weight of edits",
        "How much more a voxel counts that a hand has set than one that it has left.",
        low=1.0,
        high=100.0,
        step=1.0,
    )
    replay: float = _choice(
        0.25,
        "Replay",
        "Share of each batch that comes from made-up chests, so that what was known is not forgotten.",
        low=0.0,
        high=0.9,
        step=0.05,
    )
    learning_rate: float = _choice(
        1e-4, "Learning rate", "Highest learning rate of the schedule.", low=1e-6, high=0.1, step=1e-5
    )
    batch: int = _choice(8, "Batch", "Slices a step.", low=2, high=512)
    validate_every: int = _choice(50, "Validate every", "Steps between validations.", low=1, high=100_000)
    seed: int = _choice(0, "Seed", "Makes order, augmentation and what is held out repeatable.", low=0)

    def __post_init__(self) -> None:
        _check(self)
