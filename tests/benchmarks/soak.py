"""Opens the widget, runs the network, closes the viewer, many times over in one process: a table of what stays behind.

    xvfb-run -a -s "-screen 0 1600x1200x24 +extension GLX" python tests/benchmarks/soak.py [--cycles 300] [--minutes 5]

Each cycle shows a small made-up chest in a new viewer, runs the network on it, paints a box and closes the viewer: in
turn when the run is over, and at a random moment before that. Threads, viewers and sessions that are still there are
counted after each, and the memory the process holds. The exit code is 1 where viewers or sessions stay, where threads
grow in number, where closing took more than 5 s, or where the memory of the second half of the cycles grew by more
than 1 MB a cycle.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import random
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import napari
import numpy as np
import psutil
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QApplication
from rich.console import Console
from rich.table import Table

from napari_resunet.phantom import Phantom, make_phantom
from napari_resunet.plugin.dock import LungSegmentation
from napari_resunet.settings import PredictSettings

LONGEST_CLOSE_S = 5.0
MOST_GROWTH_MB = 1.0
LONGEST_RUN_S = 120.0
BOX = tuple(np.mgrid[5:6, 2:8, 2:8].reshape(3, -1))


@dataclass(frozen=True)
class Cycle:
    """What was there after a cycle."""

    was_cut_short: bool
    close_s: float
    threads: int
    viewers: int
    sessions: int
    memory_mb: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    choices = parser.parse_args()
    cycles = soak(choices.cycles, 60 * choices.minutes, random.Random(choices.seed))
    print_table(cycles)
    faults = faults_of(cycles)
    for fault in faults:
        Console(stderr=True).print(fault)
    sys.stdout.flush()
    os._exit(1 if faults else 0)  # Qt under a test display may crash when Python takes it apart


def soak(cycles: int, seconds: float, moment: random.Random) -> list[Cycle]:
    """Do that many cycles, or as many as fit into the time."""
    chest = make_phantom(shape=(28, 96, 96), spacing_mm=(11.0, 3.8, 3.8))
    began, done = time.monotonic(), []
    kept: list[weakref.ref[object]] = []
    while len(done) < cycles and time.monotonic() - began < seconds:
        before_s = moment.uniform(0, 1.5) if len(done) % 2 else None
        with (
            tempfile.TemporaryDirectory() as state
        ):  # the work that each leaves behind is not offered to the next
            os.environ["NAPARI_RESUNET_STATE"] = state
            close_s, left = one_cycle(chest, before_s)
        kept = [each for each in (*kept, *left) if each() is not None]
        done.append(state_after(kept, close_s, was_cut_short=before_s is not None))
    return done


def one_cycle(chest: Phantom, before_s: float | None) -> tuple[float, list[weakref.ref[object]]]:
    """Open, run, paint, close; return how long the closing took, and what should be gone by now."""
    viewer = napari.Viewer(show=False)
    widget = LungSegmentation(viewer)
    viewer.window.add_dock_widget(widget)
    session = widget.session
    session.show_ct(chest.volume)
    session.run(PredictSettings(device="cpu"))
    wait_while(lambda: session.is_running, LONGEST_RUN_S if before_s is None else before_s)
    if session.mask_layer is not None:
        session.mask_layer.data_setitem(BOX, 1)
    job = session._job
    began = time.monotonic()
    viewer.close()
    wait_while(lambda: job is not None and job._worker.is_running, LONGEST_RUN_S)
    close_s = time.monotonic() - began
    left: list[weakref.ref[object]] = [
        weakref.ref(getattr(viewer, "__wrapped__", viewer)),
        weakref.ref(session),
    ]
    return close_s, left


def wait_while(is_so: Callable[[], bool], seconds: float) -> None:
    """Let the window live while something is so, that long at most."""
    end = time.monotonic() + seconds
    while is_so() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def state_after(kept: list[weakref.ref[object]], close_s: float, *, was_cut_short: bool) -> Cycle:
    """Count what is there once all that can go has gone."""
    for _ in range(3):
        QApplication.processEvents()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        gc.collect()
    give_memory_back()
    names = [type(each()).__name__ for each in kept if each() is not None]
    return Cycle(
        was_cut_short=was_cut_short,
        close_s=close_s,
        threads=psutil.Process().num_threads(),
        viewers=names.count("Viewer"),
        sessions=names.count("Session"),
        memory_mb=psutil.Process().memory_info().rss / 1e6,
    )


def give_memory_back() -> None:
    """Make the C library return what is free, so that only what is held counts; where it can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def faults_of(cycles: list[Cycle]) -> list[str]:
    """Return what is not as it should be."""
    faults = []
    slowest = max(cycle.close_s for cycle in cycles)
    if slowest > LONGEST_CLOSE_S:
        faults.append(f"closing took up to {slowest:.1f} s")
    if max(cycle.viewers for cycle in cycles) > 1 or max(cycle.sessions for cycle in cycles) > 1:
        faults.append("viewers or sessions stay")
    if len(cycles) > 10 and cycles[-1].threads > cycles[4].threads:
        faults.append(f"threads grew from {cycles[4].threads} to {cycles[-1].threads}")
    growth = growth_mb(cycles)
    if growth > MOST_GROWTH_MB:
        faults.append(f"the memory grew by {growth:.2f} MB a cycle")
    return faults


def growth_mb(cycles: list[Cycle]) -> float:
    """Return by how much the memory grew from cycle to cycle in their second half: the slope of a line."""
    memory = [cycle.memory_mb for cycle in cycles[len(cycles) // 2 :]]
    if len(memory) < 3:
        return 0.0
    return float(np.polyfit(np.arange(len(memory)), memory, 1)[0])


def print_table(cycles: list[Cycle]) -> None:
    """Print about twenty of the cycles, and the sums."""
    table = Table("cycle", "close s", "threads", "viewers", "sessions", "memory MB")
    step = max(1, len(cycles) // 20)
    for number in sorted({*range(0, len(cycles), step), len(cycles) - 1}):
        cycle = cycles[number]
        numbers = (cycle.threads, cycle.viewers, cycle.sessions)
        table.add_row(f"{number + 1}", f"{cycle.close_s:.2f}", *map(str, numbers), f"{cycle.memory_mb:.0f}")
    console = Console()
    console.print(table)
    cut = sum(cycle.was_cut_short for cycle in cycles)
    console.print(f"{len(cycles)} cycles, {cut} of them closed during the run")
    console.print(f"slowest closing {max(cycle.close_s for cycle in cycles):.2f} s")
    console.print(f"memory in the second half {growth_mb(cycles):+.2f} MB a cycle")


if __name__ == "__main__":
    main()
