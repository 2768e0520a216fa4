"""What every case of a cohort is run with; kept as ``OUT/cohort.json``, so that a case can be run by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from napari_resunet.cohort.manifest import COHORT_FILE
from napari_resunet.errors import InputError
from napari_resunet.io.atomic import replacing
from napari_resunet.settings import MaskSettings, PredictSettings


@dataclass(frozen=True)
class Recipe:
    """What every case of a cohort is run with.

    Parameters
    ----------
    predict, mask
        As for a single CT.
    probability, case_file, picture : bool
        What is written besides the mask: the probability map, a case file for the window, a picture to look at.
    timeout_s : float
        How long a case may take before its worker is stopped.
    attempts : int
        How often a case may crash or hang before it is given up.
    """

    predict: PredictSettings = field(default_factory=PredictSettings)
    mask: MaskSettings = field(default_factory=MaskSettings)
    probability: bool = False
    case_file: bool = False
    picture: bool = True
    timeout_s: float = 1800.0
    attempts: int = 2

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ValueError(f"the timeout must be more than 0 s; got {self.timeout_s:g}")
        if self.attempts < 1:
            raise ValueError(f"a case needs at least one attempt; got {self.attempts}")

    @property
    def settings(self) -> dict[str, str | int | float | bool]:
        """What a result depends on, by name; the device, the picture and the limits are no part of it."""
        chosen = asdict(self.predict) | asdict(self.mask)
        del chosen["device"]
        return {**chosen, "probability": self.probability, "case_file": self.case_file}

    def is_served_by(self, settings: Mapping[str, str | int | float | bool]) -> bool:
        """Whether results made with `settings` are what is wanted, or that and more files."""
        extras = {name: True for name in ("probability", "case_file") if settings.get(name)}
        return settings == self.settings | extras

    def with_absolute_model(self) -> Recipe:
        """Return the same for a program that runs in another folder."""
        model = self.predict.model
        if not model.endswith(".safetensors"):
            return self
        return replace(self, predict=replace(self.predict, model=str(Path(model).absolute())))


@cache
def _adapter() -> TypeAdapter[Recipe]:
    return TypeAdapter(Recipe)


def write_recipe(out: Path, recipe: Recipe) -> None:
    """Write ``cohort.json``, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with replacing(out / COHORT_FILE) as temporary:
        temporary.write_bytes(_adapter().dump_json(recipe, indent=1))


def read_recipe(out: Path) -> Recipe:
    """Read ``cohort.json``.

    Raises
    ------
    InputError
        If it is not there, or damaged.
    """
    path = out / COHORT_FILE
    try:
        return _adapter().validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{path} cannot be read; run napari-resunet cohort IN OUT --prepare first"
        ) from error
