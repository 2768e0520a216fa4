"""What the tests of cohorts share: who writes a chest to a file, and workers in which faults are planted."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

PutNifti = Callable[..., Path]

# Run by each worker as it starts. What becomes of a case is in the name of its CT.
_FAULTS = """
import os, signal, time
from pathlib import Path
from napari_resunet.cohort import run

real = getattr(run.predict, "real", run.predict)  # a worker may run this twice

def predict(volume, **choices):
    name = volume.source.path.name
    with (Path({folder!r}) / "begun.txt").open("a") as file:
        file.write(f"{{name}} {{os.getpid()}}\\n")
    if "segfaults" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hangs" in name:
        time.sleep(1000)
    if "raises" in name:
        raise RuntimeError("this was planted")
    if "waits" in name:
        while not (Path({folder!r}) / "go").exists():
            time.sleep(0.02)
    return real(volume, **choices)

predict.real = real
run.predict = predict
run._model("lung-ct")  # loaded before the clock of a case runs
"""


def planted_faults(folder: Path) -> Path:
    """Write a script for workers to run as they start; which cases have begun is then in begun.txt beside it."""
    script = folder / "faults.py"
    script.write_text(_FAULTS.format(folder=str(folder)))
    return script


def begun(folder: Path) -> list[tuple[str, int]]:
    """Return the names of the CTs whose prediction has begun and the processes that did, in the order they did."""
    path = folder / "begun.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(name, int(process)) for name, process in map(str.split, lines)]


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come about in {seconds} s"
        time.sleep(0.05)
