"""Weights that another program wrote, read in a process of its own: damage or malice in them cannot touch this one.

Code in a pickle is refused and never run. A process that crashes, hangs or wants too much memory is ended, and its file
refused; this one is handed tensors only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import safetensors.torch
from torch import Tensor

from napari_resunet.errors import CheckpointError

SECONDS = 300.0
MEMORY_BYTES = 1 << 30  # beyond the copies of the file; torch alone takes 0.25 GiB
_COPIES = 5  # of the file's size: as read, as tensors, and as safetensors, which joins copies of them
_COMMAND = (sys.executable, "-P", "-m", "napari_resunet.model.foreign_child")
_POLL_SECONDS = 0.05


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict that another program wrote, by their names.

    Parameters
    ----------
    path : Path
        What ``torch.save`` wrote of a state dict, or of a dict that has one as ``state_dict`` or ``model``; or
        safetensors without a card.

    Raises
    ------
    CheckpointError
        If the file holds anything else, is damaged, takes too long or wants too much memory.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path}; give a PyTorch checkpoint (.pt, .pth) or safetensors"
        )
    line, _, content = _answer(path).partition(b"\n")
    said = json.loads(line)
    if "error" in said:
        raise CheckpointError(said["error"])
    return safetensors.torch.load(content)


def _answer(path: Path) -> bytes:
    """Return what the process says of a file; it has ended afterwards, whatever happens."""
    most_bytes = MEMORY_BYTES + _COPIES * path.stat().st_size
    process = subprocess.Popen(
        [*_COMMAND, os.fspath(path), str(most_bytes)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # finds what we find
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    with ThreadPoolExecutor(1) as reader:
        try:
            answer = reader.submit(process.communicate)
            end = time.monotonic() + SECONDS
            while not answer.done():
                wait([answer], _POLL_SECONDS)
                if time.monotonic() > end:
                    raise CheckpointError(f"{path.name} is not read after {SECONDS:g} s; save it again")
                if _used_bytes(process) > most_bytes:
                    size = f"{most_bytes / 2**30:.1f} GiB"
                    raise CheckpointError(
                        f"{path.name} takes more than {size} of memory to read; save it again"
                    )
        finally:
            process.kill()
    content = answer.result()[0]
    if process.returncode or b"\n" not in content:
        raise CheckpointError(
            f"{path.name} ended the program that reads it (code {process.returncode}); save it again"
        )
    return content


def _used_bytes(process: subprocess.Popen[bytes]) -> int:
    try:
        return int(psutil.Process(process.pid).memory_info().rss)
    except psutil.Error:  # it has ended
        return 0
