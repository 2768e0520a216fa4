"""Weights of the same network that were trained elsewhere, given a card.

Preset and width are found from names and shapes. What weights do not hold, their owner has to say: nothing is made up.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_resunet.errors import CheckpointError, InputError, OutputError
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import Model, load_model, misfits, without_prefix
from napari_resunet.model.foreign import read_foreign
from napari_resunet.model.presets import PRESETS, NetworkSettings
from napari_resunet.model.resunet import ResUNet

UNKNOWN = "unknown"
_WIDTH_GIVER = "stem.1.weight"  # of shape (width, 1, 3, 3) in every preset
_MOST_WIDTH = 4096
_NAMED = 5


@dataclass(frozen=True)
class Told:
    """What has to be known of weights, and cannot be found in them.

    Parameters
    ----------
    window_hu : tuple of float
        HU that became 0 and 1 when they were trained.
    grid : int
        Side in pixels of the square images they were trained on; a multiple of 16.
    threshold : float
        Probability from which on a voxel is lung, between 0 and 1.
    definition, training_data, licence : str
        What counts as lung, what they have seen, and of the weights themselves; ``"unknown"`` if nobody knows.
    name, version : str
        How the model is to be called.
    figures : mapping
        Measured quality, each with what it was measured on.

    Raises
    ------
    InputError
        Naming what is not as described.
    """

    window_hu: tuple[float, float]
    grid: int
    threshold: float
    definition: str
    training_data: str
    licence: str
    name: str
    version: str = "1"
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("definition", "training_data", "licence", "name", "version"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise InputError(f'{name} must be words, found {value!r}; "{UNKNOWN}" says that nobody knows')
        object.__setattr__(self, "window_hu", _window(self.window_hu))
        if type(self.grid) is not int or self.grid < 1 or self.grid % 16:
            raise InputError(f"grid must be a multiple of 16, found {self.grid!r}")
        if not _is_number(self.threshold) or not 0 < self.threshold < 1:
            raise InputError(f"threshold must lie between 0 and 1, found {self.threshold!r}")
        if not isinstance(self.figures, Mapping):
            raise InputError(f"figures must be a JSON object, found {self.figures!r}")


def told_from(fields: Mapping[str, Any]) -> Told:
    """Return what is told of weights, or name all that is missing.

    Raises
    ------
    InputError
        If a field is missing, unknown or not as `Told` describes.
    """
    known = {each.name for each in dataclasses.fields(Told)}
    if strange := sorted(set(fields) - known):
        raise InputError(
            f"a card for foreign weights has no {', '.join(strange)}; it has {', '.join(sorted(known))}"
        )
    needed = [each.name for each in dataclasses.fields(Told) if _is_needed(each)]
    if missing := [name for name in needed if name not in fields]:
        raise InputError(
            f"weights do not hold their {', '.join(missing)}: say it in a card file, or as options of these names; "
            f'definition, training_data and licence may be "{UNKNOWN}"'
        )
    return Told(**fields)


def convert(path: Path, told: Told) -> Model:
    """Make a model of a state dict that was trained elsewhere.

    Parameters
    ----------
    path : Path
        As `napari_resunet.model.foreign.read_foreign` takes it; names may begin with ``module.`` or ``_orig_mod.``.
    told : Told
        What weights do not hold.

    Returns
    -------
    Model
        Its network on the CPU, in evaluation mode, in float32; its card names preset and width.

    Raises
    ------
    CheckpointError
        If the file is refused, or fits no preset of any width: the first differences from the nearest are named.
    """
    tensors = without_prefix(read_foreign(path))
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    preset, settings = _recognised(path, tensors)
    network = ResUNet(settings)
    network.load_state_dict(tensors)
    return Model(network.eval(), _card(path, told, preset, settings))


def require_same(model: Model, path: Path) -> None:
    """Load a model file and refuse it unless it gives the very weights that were meant.

    Raises
    ------
    OutputError
        If a bit differs.
    """
    found = load_model(path).network.state_dict()
    if any(not torch.equal(found[name], tensor) for name, tensor in model.network.state_dict().items()):
        raise OutputError(f"{path.name} does not give back the weights that were written; try another disk")


def _recognised(path: Path, tensors: Mapping[str, Tensor]) -> tuple[str, NetworkSettings]:
    """Return the preset, and the settings with their width, that fit names and shapes; or refuse."""
    width = _width(tensors)
    differences = {}
    for preset, settings in PRESETS.items():
        fitting = dataclasses.replace(settings, width=width)
        with torch.device("meta"):
            expected = ResUNet(fitting).state_dict()
        differences[preset] = sorted(misfits(expected, tensors))
        if not differences[preset]:
            return preset, fitting
    nearest = min(differences, key=lambda preset: len(differences[preset]))
    problems = differences[nearest]
    raise CheckpointError(
        f"{path.name} fits none of the networks {', '.join(PRESETS)}; nearest is {nearest} with {width} filters, "
        f"{len(problems)} tensors differ: {'; '.join(problems[:_NAMED])}"
    )


def _width(tensors: Mapping[str, Tensor]) -> int:
    """Return the filters of the first level; the usual number where that cannot be seen."""
    giver = tensors.get(_WIDTH_GIVER)
    if giver is not None and giver.ndim == 4 and 1 <= giver.shape[0] <= _MOST_WIDTH:
        return giver.shape[0]
    return NetworkSettings().width


def _card(path: Path, told: Told, preset: str, settings: NetworkSettings) -> ModelCard:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelCard(
        name=told.name,
        version=told.version,
        preset=preset,
        network=settings,
        grid=told.grid,
        window_hu=told.window_hu,
        training_data=told.training_data,
        figures=told.figures or {"measured quality": UNKNOWN},
        definition=told.definition,
        recipe={
            "trained": "elsewhere, how is unknown; converted by napari-resunet",
            "sha256 of the file converted": digest,
            "threshold": told.threshold,
        },
        licence=told.licence,
    )


def _window(window: Any) -> tuple[float, float]:
    try:
        low, high = window
    except (TypeError, ValueError):
        low = high = None
    if not (_is_number(low) and _is_number(high) and low < high):
        raise InputError(f"window_hu must be two rising numbers such as -1000, 400; found {window!r}")
    return float(low), float(high)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_needed(each: dataclasses.Field[Any]) -> bool:
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
