"""A process of its own that reads weights which anyone may have made; see `foreign`.

Its arguments are a path and the bytes of memory it may take beyond what it has when it starts. It gives a line of JSON
on its standard output: ``{}`` with the tensors as safetensors after it, or ``{"error": ...}`` and nothing more.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from napari_resunet.errors import CheckpointError
from napari_resunet.model.card import PICKLE, ZIP, kind_with_code, said_first
from napari_resunet.model.checkpoint import is_hollow, load_plain

WRAPPERS = ("state_dict", "model")
_NAME_IN_ERROR = re.compile(r"GLOBAL (\S+)")
_KEYS_NAMED = 5
_LONGEST_NAME = 80


def main() -> None:
    """Answer with the tensors of the file, or with what is wrong with it."""
    path, most_bytes = Path(sys.argv[1]), int(sys.argv[2])
    _limit_memory(most_bytes)
    with os.fdopen(os.dup(1), "wb") as answers:
        try:
            content = safetensors.torch.save(state_dict_in(path))
        except CheckpointError as error:
            answers.write(json.dumps({"error": str(error)}).encode() + b"\n")
        else:
            answers.write(b"{}\n")
            answers.write(content)


def state_dict_in(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict by their names, contiguous; code in the file is refused, not run.

    Raises
    ------
    CheckpointError
        If the file holds anything else, or declares more than it holds.
    """
    with path.open("rb") as file:
        start = file.read(24)
    kind = kind_with_code(path, start)
    try:
        if kind in (PICKLE, ZIP):
            found = load_plain(path)
        elif not kind and start[8:9] == b"{":
            found = _bare_safetensors(path)
        else:
            raise CheckpointError(_another_kind(path, kind, start))
    except CheckpointError:
        raise
    except Exception as error:  # torch raises whatever its unpickler or zip reader does
        raise CheckpointError(_why(path, error)) from error
    tensors = _tensors_of(path, found)
    _refuse_more_than_the_file_holds(path, tensors)
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }


def _limit_memory(most_bytes: int) -> None:
    """Have the system refuse more memory, where it can; the process that started this one looks as well."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit = psutil.Process().memory_info().vms + most_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _bare_safetensors(path: Path) -> dict[str, Tensor]:
    with safetensors.safe_open(path, framework="pt") as file:
        if "card" in (file.metadata() or {}):
            raise CheckpointError(f"{path.name} has a model card already; use it as it is")
    return safetensors.torch.load_file(path)


def _tensors_of(path: Path, found: Any) -> dict[str, Tensor]:
    """Return the state dict in what a file holds: all of it, or what it has under the name of a wrapper."""
    wrapped = [key for key in WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
    if len(wrapped) > 1:
        raise CheckpointError(f"{path.name} holds {' and '.join(wrapped)}; save the one that is meant alone")
    state = found[wrapped[0]] if wrapped else found
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(
            f"{path.name} holds {_described(state)} and no state dict; save the network's state_dict()"
        )
    odd = [str(name) for name, value in state.items() if not (_is_name(name) and _is_plain(value))]
    if odd:
        raise CheckpointError(
            f"{path.name} is no state dict of plain tensors: {_listed(odd)}; save the network's state_dict() alone"
        )
    return dict(state)


def _is_name(name: Any) -> bool:
    """Whether a name can be shown in a message as it is."""
    return isinstance(name, str) and name.isprintable() and len(name) <= _LONGEST_NAME


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor of numbers in memory, one after the other."""
    return (
        isinstance(value, Tensor)
        and value.device.type == "cpu"
        and value.layout == torch.strided
        and not value.is_nested
        and not value.is_quantized
        and not value.is_complex()
    )


def _refuse_more_than_the_file_holds(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that repeat what they hold, or share it: copies of them could be of any size."""
    declared = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    held = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors.values()
    }
    if declared > sum(held.values()) or any(is_hollow(tensor) for tensor in tensors.values()):
        raise CheckpointError(
            f"{path.name} declares tensors of {declared:,} bytes and holds {sum(held.values()):,}; save it again"
        )


def _another_kind(path: Path, kind: str, start: bytes) -> str:
    if kind:
        return (
            f"{path.name} is {kind}, which cannot be converted; save the state_dict() of the PyTorch network"
        )
    return f"{path.name} is neither a PyTorch checkpoint nor safetensors{said_first(start)}; download or copy it again"


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, MemoryError) or re.search("allocat", str(error)):
        return (
            f"{path.name} takes more memory to read than weights of its size do; save its state_dict() alone"
        )
    if isinstance(error, pickle.UnpicklingError):
        name = _NAME_IN_ERROR.search(str(error))
        what = f" ({_shown(name[1])})" if name else ""
        return (
            f"{path.name} holds more than tensors and plain values{what}: that may be code, and was not run; "
            "save the network's state_dict() alone with torch.save"
        )
    if isinstance(error, SafetensorError):
        return f"{path.name} is not a whole safetensors file ({error}); save or copy it again"
    return f"{path.name} is truncated or damaged ({type(error).__name__}); save or copy it again"


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an empty dict"
    return f"a {type(value).__name__}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _KEYS_NAMED} more" if len(names) > _KEYS_NAMED else ""
    return ", ".join(_shown(name) for name in names[:_KEYS_NAMED]) + more


def _shown(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name[:_LONGEST_NAME])


if __name__ == "__main__":
    main()
