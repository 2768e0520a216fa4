"""Options of the command line that are made from the settings records, with their texts, limits and defaults."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from napari_resunet.settings import PredictSettings, explain

S = TypeVar("S")
N = TypeVar("N", int, float)


def option(settings: type[Any], name: str, *flags: str) -> Any:
    """Return a command line option with the text and the limits of a field of a settings record."""
    meta = explain(settings, name)
    numeric = meta["type"] in (int, float)
    limits = {"min": meta["low"], "max": meta["high"]} if numeric else {}
    return typer.Option(*flags, help=meta["tip"], show_default=True, **limits)


def settings_of(record: type[S], **choices: Any) -> S:
    """Return a settings record; a choice it refuses is a wrong argument."""
    try:
        return record(**choices)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def two_numbers(
    text: str, flag: str, such_as: str, kind: Callable[[str], N], between: str = ","
) -> tuple[N, N]:
    """Return the two numbers that an option holds; anything else is a wrong argument."""
    try:
        first, second = (kind(part) for part in text.split(between))
    except ValueError:
        raise typer.BadParameter(f"{flag} needs two numbers such as {such_as}; got {text}") from None
    return first, second


class DeviceName(StrEnum):
    """The devices, as the command line offers them."""

    auto = "auto"
    cuda = "cuda"
    mps = "mps"
    cpu = "cpu"


class PresetName(StrEnum):
    """The network's presets, as the command line offers them."""

    paper = "paper"
    identity = "identity"
    plain = "plain"


DeviceOption = Annotated[DeviceName, option(PredictSettings, "device")]
