"""Weights to and from files: safetensors only, with the card inside, checked on the way in."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from napari_resunet.errors import CheckpointError
from napari_resunet.model.card import ModelCard, card_of, find_model, not_weights
from napari_resunet.model.resunet import ResUNet

_HEADER_LENGTH = 8
_MISMATCHES_NAMED = 5
_MOST_UNITS = 1000
_WRAPPERS = ("module.", "_orig_mod.")  # of torch's DataParallel, and of torch.compile


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its card, ready to predict.

    Parameters
    ----------
    network : ResUNet
        A `torch.nn.Module`: (n, 1, side, side) scaled values in, logits out.
    card : ModelCard
        What it expects, where it comes from, what it can do.
    """

    network: ResUNet
    card: ModelCard

    def __repr__(self) -> str:
        card = self.card
        return (
            f"<Model {card.name} {card.version}: {', '.join(card.classes)}; {card.preset}, grid {card.grid}>"
        )


def save_model(network: ResUNet, card: ModelCard, path: Path, *, half: bool = False) -> ModelCard:
    """Write weights and card as safetensors, and return the card with its checksum.

    Parameters
    ----------
    network : ResUNet
        Built from ``card.network``, with an output for each of ``card.classes``.
    card : ModelCard
        Its ``sha256`` is made anew.
    path : Path
        Where to; written in place, so give what `napari_resunet.io.atomic.replacing` does to keep an older one.
    half : bool
        Round the convolutions to float16, which halves the file.
    """
    tensors = {name: _stored(tensor, half=half) for name, tensor in network.state_dict().items()}
    card = replace(card, sha256=_checksum(safetensors.torch.save(tensors)))
    path.write_bytes(safetensors.torch.save(tensors, metadata={"card": card.to_json()}))
    return card


def load_model(model: str | Path) -> Model:
    """Load a built-in model by name, or one from a file.

    Parameters
    ----------
    model : str or Path
        Such as ``"lung-ct"``, or a .safetensors file.

    Returns
    -------
    Model
        Its network on the CPU, in evaluation mode, in float32.

    Raises
    ------
    CheckpointError
        If there is no such model, its bytes are not those its card was made for, or its tensors do not fit
        the network that the card describes, or are not finite.
    """
    path = find_model(model)
    content = path.read_bytes()  # once: what is checked is what is used
    card, tensors = _parse(path, content)
    if _checksum(content) != card.sha256:
        raise CheckpointError(
            f"the weights in {path.name} are damaged: their checksum is not the model card's"
        )
    tensors = without_prefix(tensors)
    _refuse_misfits(path, _expected(path, card), tensors)
    network = ResUNet(card.network, len(card.classes))
    network.load_state_dict(
        {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    )
    return Model(network.eval(), card)


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write what a training needs to go on; in place, as `save_model` does."""
    torch.save(dict(state), path)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; holds tensors and plain values only, never code."""
    refusal = CheckpointError(f"{path} is not the state of a training; delete it to begin anew")
    try:
        state = load_plain(path)
    except Exception as error:  # torch raises whatever its unpickler or zip reader does
        raise refusal from error
    if not isinstance(state, dict):
        raise refusal
    if any(is_hollow(tensor) for tensor in _tensors_in(state)):
        raise CheckpointError(
            f"{path} declares tensors larger than what it holds, so it is not the state of a training; delete it"
        )
    return state


def load_plain(path: Path) -> Any:
    """Read what ``torch.save`` wrote if it is tensors and plain values only; code is refused, not run.

    Raises
    ------
    Exception
        Of whatever class torch's unpickler or zip reader raises.
    """
    with warnings.catch_warnings(
        action="ignore"
    ):  # torch warns of kinds of tensors that are refused afterwards
        return torch.load(path, weights_only=True, map_location="cpu")


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _tensors_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors_in(each)


def is_hollow(tensor: Tensor) -> bool:
    """Whether a tensor declares more than it holds in memory, so that a copy of it could be of any size."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        return True
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _stored(tensor: Tensor, *, half: bool) -> Tensor:
    is_convolution = tensor.is_floating_point() and tensor.ndim == 4
    kept = tensor.detach().cpu().contiguous()
    return kept.half() if half and is_convolution else kept


def _checksum(content: bytes) -> str:
    return hashlib.sha256(memoryview(content)[_HEADER_LENGTH + _header_length(content) :]).hexdigest()


def _header_length(content: bytes) -> int:
    return int.from_bytes(content[:_HEADER_LENGTH], "little")


def _parse(path: Path, content: bytes) -> tuple[ModelCard, dict[str, Tensor]]:
    try:
        tensors = safetensors.torch.load(content)
    except SafetensorError as error:
        raise CheckpointError(not_weights(path)) from error
    header = json.loads(content[_HEADER_LENGTH : _HEADER_LENGTH + _header_length(content)])
    return card_of(path, header.get("__metadata__")), tensors


def without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by the names of the network itself, where all of them bear the name of a wrapper."""
    for prefix in _WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return without_prefix({name[len(prefix) :]: tensor for name, tensor in tensors.items()})
    return tensors


def _expected(path: Path, card: ModelCard) -> Mapping[str, Tensor]:
    """Return the tensors of the network that a card describes, without room for their values.

    A card may describe a network of any size: nothing is made of it before the file is known to hold it.
    """
    settings = card.network
    if settings.stem + sum(settings.units) > _MOST_UNITS:
        raise CheckpointError(
            f"{path.name}: its card describes a network of more than {_MOST_UNITS} units; save or copy it again"
        )
    try:
        with torch.device("meta"):
            return ResUNet(settings, len(card.classes)).state_dict()
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path.name}: its card describes no network that can be built") from error


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Return a sentence on each tensor that is missing, not expected, of another shape or kind, or not finite."""
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not part of the network" for name in found.keys() - expected.keys()]
    for name in expected.keys() & found.keys():
        wanted, given = expected[name], found[name]
        if wanted.shape != given.shape:
            problems.append(f"{name} is {tuple(given.shape)}, expected {tuple(wanted.shape)}")
        elif wanted.is_floating_point() != given.is_floating_point():
            problems.append(f"{name} holds {_kind(given)}, expected {_kind(wanted)}")
        elif not torch.isfinite(given).all():
            problems.append(f"{name} holds values that are not finite")
    return problems


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _refuse_misfits(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    if problems := misfits(expected, found):
        named = "; ".join(sorted(problems)[:_MISMATCHES_NAMED])
        raise CheckpointError(
            f"{path.name} does not fit the network of its card, {len(problems)} tensors differ: {named}"
        )
