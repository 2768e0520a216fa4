"""The model card: what weights expect, where they come from, what they can do.

It travels as JSON inside the safetensors file, and is read without torch.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from napari_resunet.errors import CheckpointError, InputError
from napari_resunet.model.presets import NetworkSettings

FORMAT = 1  # of a model for CT
IMAGE_FORMAT = 2  # of a model for other images
RESEARCH_ONLY = "For research use only; not a medical device."
PICKLE = "a pickle"
ZIP = "a PyTorch checkpoint (.pt, .pth) or another zip"
_SCALES = {"window_hu", "window", "percentiles"}
_BUILTIN = resources.files("napari_resunet") / "model" / "builtin"


@dataclass(frozen=True)
class ModelCard:
    """What weights expect, where they come from, what they can do.

    Parameters
    ----------
    name, version : str
        How the model is called.
    preset : str
        Name of the reading of the source, or ``"custom"``.
    network : NetworkSettings
        What the network is built from.
    grid : int
        Side in pixels of the square images it was trained on.
    window_hu : tuple of float, optional
        HU that become 0 and 1; values beyond are clipped. Of a model for CT, which has one input channel and one
        class.
    window : tuple of float, optional
        The same in the values of images that are no CT.
    percentiles : tuple of float, optional
        Of all values of an image that is no CT, each image for itself: those that become 0 and 1. A card has
        exactly one of these three.
    classes : tuple of str
        What the output channels mean.
    tile : int
        Side in pixels of the squares that an image which is no CT is cut into, each resized to the grid; 0 where it
        is resized as a whole.
    training_data : str
        What it has seen, with licences and attribution.
    figures : mapping
        Measured quality, each with what it was measured on.
    definition : str
        What counts as the structure.
    known_failures : str
        Where it is wrong.
    recipe : mapping
        How it was trained.
    licence : str
        Of the weights.
    sha256 : str
        Of the tensor bytes in the file; filled in when saved.
    """

    name: str
    version: str
    preset: str
    network: NetworkSettings
    grid: int
    window_hu: tuple[float, float] | None = None
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float] | None = None
    classes: tuple[str, ...] = ("lung",)
    tile: int = 0
    training_data: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    definition: str = ""
    known_failures: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        self._check_scale()
        if self.is_for_ct:
            self._check_ct()
        elif self.network.in_channels not in (1, 3):
            raise CheckpointError(
                f"expected a network of 1 or 3 input channels, found {self.network.in_channels}"
            )
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise CheckpointError(
                f"the classes must have names, each its own, found {', '.join(self.classes) or 'none'}"
            )
        if self.tile < 0:
            raise CheckpointError(f"the tiles must have a side of pixels, found {self.tile}")
        if self.grid < 1 or self.grid % self.network.multiple:
            raise CheckpointError(
                f"the grid must be a multiple of {self.network.multiple}, found {self.grid}"
            )

    def _check_scale(self) -> None:
        scales = {"HU window": self.window_hu, "window": self.window, "percentiles": self.percentiles}
        given = {name: limits for name, limits in scales.items() if limits is not None}
        if len(given) != 1:
            raise CheckpointError(
                "the model card must have one of window_hu, window and percentiles, "
                f"found {', '.join(given) or 'none'}"
            )
        ((name, (low, high)),) = given.items()
        if not low < high:
            raise CheckpointError(f"the model card's {name} must rise, found {given[name]}")
        if self.percentiles is not None and not (low >= 0 and high <= 100):
            raise CheckpointError(f"percentiles lie between 0 and 100, found {self.percentiles}")

    def _check_ct(self) -> None:
        if self.tile:
            raise CheckpointError(f"a CT is not cut into tiles, found tiles of {self.tile} pixels")
        if self.network.in_channels != 1:
            raise CheckpointError(f"expected a network of 1 input channel, found {self.network.in_channels}")
        if len(self.classes) != 1:
            raise CheckpointError(f"expected a network of one class, found {', '.join(self.classes)}")

    @property
    def is_for_ct(self) -> bool:
        """Whether the model looks at HU; if not, at images of another kind."""
        return self.window_hu is not None

    def require_window_hu(self) -> tuple[float, float]:
        """Return the HU that become 0 and 1.

        Raises
        ------
        CheckpointError
            If the model is not for CT.
        """
        if self.window_hu is None:
            raise CheckpointError(
                f"the model {self.name} finds {', '.join(self.classes)} in images that are no CT; choose a model "
                "for CT, or use this one in the widget “Segment any image” or with napari-resunet segment-image"
            )
        return self.window_hu

    def require_for_images(self) -> None:
        """Refuse a model for CT.

        Raises
        ------
        CheckpointError
            Naming it.
        """
        if self.is_for_ct:
            raise CheckpointError(
                f"the model {self.name} is for CT in HU; use it in the widget “Lung segmentation” or with "
                "napari-resunet segment, or choose a model that napari-resunet train-images has made"
            )

    def to_json(self) -> str:
        fields = dataclasses.asdict(self)
        for scale in _SCALES:
            if fields[scale] is None:
                del fields[scale]
        if not self.tile:
            del fields["tile"]
        form = FORMAT if self.is_for_ct else IMAGE_FORMAT
        return json.dumps({"format": form, **fields, "use": RESEARCH_ONLY}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card.

        Raises
        ------
        CheckpointError
            If a field is missing, unknown or not what the code can use.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("format")
            fields.pop("use", None)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise CheckpointError("the model card cannot be read") from error
        if version not in (FORMAT, IMAGE_FORMAT):
            raise CheckpointError(
                f"the model card has format {version}; this version reads formats {FORMAT} and {IMAGE_FORMAT}"
            )
        try:
            network = fields.pop("network")
            fields["network"] = NetworkSettings(**{**network, "units": tuple(network["units"])})
            for scale in _SCALES & fields.keys():
                fields[scale] = tuple(float(v) for v in fields[scale])
            fields["classes"] = tuple(fields["classes"])
            return cls(**fields)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"the model card does not fit: {error}") from error


def builtin_models() -> list[str]:
    """Return the names of the weights inside the package."""
    return sorted(
        entry.name.removesuffix(".safetensors") for entry in _BUILTIN.iterdir() if _is_weights(entry.name)
    )


def find_model(model: str | Path) -> Path:
    """Return the weights file of a built-in name or a path.

    Raises
    ------
    CheckpointError
        If there is no such model.
    """
    if str(model) in builtin_models():
        return Path(str(_BUILTIN / f"{model}.safetensors"))
    path = Path(model).expanduser()
    if path.is_file():
        return path
    known = ", ".join(builtin_models()) or "none"
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path} does not exist; check the path, or give a built-in name ({known})")
    raise CheckpointError(
        f"there is no model {str(model)!r}: give a .safetensors file or a built-in name ({known})"
    )


def require_model_name(path: Path) -> None:
    """Refuse a name for a model file that has another ending than safetensors.

    Raises
    ------
    InputError
        Naming it.
    """
    if path.suffix != ".safetensors":
        raise InputError(f"a model is a .safetensors file; {path.name} is not named so")


def card_of(path: Path, metadata: Mapping[str, str] | None) -> ModelCard:
    """Return the card in the metadata of a weights file, or say that there is none."""
    if not metadata or "card" not in metadata:
        raise CheckpointError(f"{path.name} carries no model card: give it one with napari-resunet convert")
    try:
        return ModelCard.from_json(metadata["card"])
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from error


def read_card(model: str | Path) -> ModelCard:
    """Return the card of a built-in model or a weights file, without loading the weights.

    Raises
    ------
    CheckpointError
        If there is no such model, or it is not a weights file of ours.
    """
    from safetensors import SafetensorError, safe_open

    path = find_model(model)
    try:
        with safe_open(path, framework="numpy") as weights:
            metadata = weights.metadata()
    except (SafetensorError, OSError) as error:
        raise CheckpointError(not_weights(path)) from error
    return card_of(path, metadata)


def not_weights(path: Path) -> str:
    """Return a sentence on why a file cannot be weights, naming what it is or what it starts with."""
    with path.open("rb") as file:
        start = file.read(24)
    kind = kind_with_code(path, start)
    if kind:
        way = "with napari-resunet convert or " if kind in (PICKLE, ZIP) else "with "
        return (
            f"{path.name} is {kind}, which may hold code and is never opened; "
            f"save its weights as safetensors, {way}save_model of napari_resunet.model.checkpoint"
        )
    return f"{path.name} is not a whole safetensors file{said_first(start)}; save or copy it again"


def said_first(start: bytes) -> str:
    """Return the first words of a file that is text, such as a web page, in brackets; else nothing."""
    words = start.decode("ascii", errors="replace").strip()
    return f" (it starts with “{words}”)" if words and words.isprintable() and words.isascii() else ""


def kind_with_code(path: Path, start: bytes) -> str:
    """Return what a file is by its first bytes if that may hold code, in words; else nothing."""
    if start.startswith(b"\x89HDF\r\n"):
        return "a Keras or other HDF5 file"
    if start.startswith(b"\x80") and start[1:2] in b"\x02\x03\x04\x05":
        return PICKLE
    if not start.startswith(b"PK\x03\x04"):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        names = []
    if any("/code/" in name for name in names):
        return "a TorchScript program"
    if any(name.endswith(".weights.h5") for name in names):
        return "a Keras model"
    return ZIP


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors")
