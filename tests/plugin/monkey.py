"""Uses the widget as nobody would: at random, fast, and in any order. Every run can be had again by its seed.

    xvfb-run -a -s "-screen 0 1600x1200x24 +extension GLX" python tests/plugin/monkey.py --minutes 30 --seed 0

After each action that is no hand's (a run, a threshold, another CT, a file, a panel that is closed) the edits of both
CTs must be what they were before it. What it meets is told in a table; the exit code is 1 where an edit was lost, or an
error came that nobody raised on purpose. `test_monkey` does a short round.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from threading import active_count
from time import monotonic

import napari
import numpy as np
import psutil
from napari.utils.notifications import NotificationSeverity, notification_manager
from qtpy.QtTest import QTest
from rich.console import Console
from rich.table import Table

from napari_resunet.errors import ResUNetError
from napari_resunet.phantom import make_phantom
from napari_resunet.plugin import launch
from napari_resunet.plugin.tools import TOOLS
from napari_resunet.volume import Volume

SHAPE, SPACING_MM = (28, 96, 96), (11.0, 3.8, 3.8)


@dataclass
class Diary:
    """What happened.

    Parameters
    ----------
    done : Counter
        How often each action was done.
    refused : Counter
        What the user was told on purpose.
    faults : list of str
        Exceptions, and edits that were lost.
    memory_mb : list of float
        Held by the process, after every hundred actions.
    """

    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


class Monkey:
    """A viewer with two CTs and the widget, and what can be done to them.

    Parameters
    ----------
    viewer : napari.Viewer
        To play with.
    folder : Path
        For the files it writes.
    seed : int
        Of what it does.
    """

    def __init__(self, viewer: napari.Viewer, folder: Path, seed: int) -> None:
        self.viewer, self.folder, self.random, self.diary = viewer, folder, random.Random(seed), Diary()
        chest = make_phantom(shape=SHAPE, spacing_mm=SPACING_MM).volume
        self.volumes = [chest, Volume(chest.array[::-1].copy(), chest.geometry)]
        self.open_widget()
        for volume in self.volumes:
            self.dock.session.show_ct(volume)
            self.dock.session.show_layers()

    def open_widget(self) -> None:
        self.dock = launch.show_widget(self.viewer)
        self.dock.segment.device.value = "cpu"
        self.dock.session.events.failed.connect(self._note)
        for panel in (self.dock.segment, self.dock.correct):
            panel._confirm = self._answer

    def _answer(self, _question: str) -> bool:
        return self.random.random() < 0.5

    def _note(self, error: Exception) -> None:
        if isinstance(error, ResUNetError):
            self.diary.refused[str(error).replace(str(self.folder), "")[:100]] += 1
        else:
            self.diary.faults.append(repr(error))

    def act(self) -> None:
        """Do one thing, and see that no edit is lost by it."""
        name = self.random.choice([*BY_HAND, *OTHERS])
        self.diary.done[name] += 1
        before = self._edits()
        try:
            (BY_HAND | OTHERS)[name](self)
            QTest.qWait(self.random.choice([0, 0, 10, 50, 300]))
        except Exception as error:
            self.diary.faults.append(f"{name}: {error!r}")
        if name in OTHERS and (lost := self._lost(before)):
            self.diary.faults.append(f"{name}: {lost} edits became others")
        if sum(self.diary.done.values()) % 100 == 0:
            self.diary.memory_mb.append(psutil.Process().memory_info().rss / 1e6)

    def _edits(self) -> dict[int, np.ndarray]:
        self.dock.session.sync()
        return {id(case.volume): case.edit.copy() for case in self.dock.session.cases}

    def _lost(self, before: dict[int, np.ndarray]) -> int:
        after, nothing = self._edits(), np.zeros(SHAPE, np.int8)
        return sum(
            int(np.count_nonzero(edit != after.get(volume, nothing))) for volume, edit in before.items()
        )

    def rest(self, seconds: float = 60) -> None:
        """Wait until nothing is at work."""
        end = monotonic() + seconds
        while not self.dock.session.is_idle and monotonic() < end:
            QTest.qWait(20)

    @property
    def mask(self) -> napari.layers.Labels:
        self.dock.session.show_layers()
        return self.dock.session.mask_layer

    def _voxel(self) -> tuple[int, int, int]:
        return tuple(self.random.randrange(n) for n in SHAPE)

    # ---- by hand

    def paint(self) -> None:
        mask = self.mask
        mask.brush_size = self.random.randint(1, 20)
        with mask.block_history():
            for _ in range(self.random.randint(1, 5)):
                mask.paint(self._voxel(), self.random.choice([0, 1, 1, 2]))

    def fill(self) -> None:
        self.mask.fill(self._voxel(), self.random.choice([0, 1]))

    def polygon(self) -> None:
        z, y, x = self._voxel()
        self.mask.paint_polygon([(z, y, x), (z, y + 9, x), (z, y + 9, x + 7)], 1)

    def write(self) -> None:
        z, y, x = self._voxel()
        self.mask.data[z, y : y + 5, x : x + 5] = self.random.choice([0, 1])

    def undo(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.mask.undo()

    def redo(self) -> None:
        self.mask.redo()

    def use_tool(self) -> None:
        correct = self.dock.correct
        correct.tool.value = self.random.choice(list(TOOLS))
        correct.look.native.click()
        self.rest()
        self.random.choice([correct.apply, correct.discard]).native.click()

    def forget(self) -> None:
        self.dock.correct.forget.native.click()

    def bring_back(self) -> None:
        self.dock.correct.bring_back.native.click()

    # ---- all else

    def run(self) -> None:
        self.dock.segment.grid.value = self.random.choice([128, 128, 256])
        self.dock.segment.start.native.click()

    def cancel(self) -> None:
        self.dock.session.cancel()

    def wait(self) -> None:
        QTest.qWait(self.random.randint(0, 1500))

    def move_threshold(self) -> None:
        for _ in range(self.random.randint(1, 8)):
            self.dock.mask.threshold.value = self.random.uniform(0.01, 0.99)

    def switch_clean_up(self) -> None:
        self.dock.mask.clean.value = not self.dock.mask.clean.value

    def move_slice(self) -> None:
        self.dock.session.show_slice(self.random.randrange(SHAPE[0]))

    def mark(self) -> None:
        review = self.dock.review
        self.random.choice([review.tick, review.flag, review.clear, review.next, review.back]).native.click()

    def choose_ct(self) -> None:
        self.dock.session.show_ct(self.random.choice(self.volumes))

    def delete_result(self) -> None:
        session = self.dock.session
        layer = self.random.choice([session.mask_layer, session.probability_layer])
        if layer in self.viewer.layers:
            self.viewer.layers.remove(layer)

    def rename(self) -> None:
        self.random.choice(list(self.viewer.layers)).name = f"layer {self.random.random():.3f}"

    def reorder(self) -> None:
        self.viewer.layers.move(0, self.random.randrange(len(self.viewer.layers) + 1))

    def turn_to_3d(self) -> None:
        self.viewer.dims.ndisplay = 3
        QTest.qWait(50)
        self.viewer.dims.ndisplay = 2

    def save(self) -> None:
        self.dock.session.saving.save_case(self.folder / f"{self.random.randrange(3)}.nru")

    def export(self) -> None:
        ending = self.random.choice([".nii.gz", ".tif", ".nrrd", ".seg.nrrd", ".dcm"])
        self.dock.session.saving.export(self.folder / f"lungs{ending}", split=self.random.random() < 0.5)

    def measure(self) -> None:
        self.dock.measure.measure.native.click()

    def close_panel(self) -> None:
        for volume in self.volumes:
            self.dock.session.show_ct(volume)
            self.dock.session.show_layers()  # what is not shown anywhere is left to the journal
        self.viewer.window.remove_dock_widget(self.dock)
        self.open_widget()
        for volume in self.volumes:
            self.dock.session.show_ct(volume)


BY_HAND = {
    action.__name__: action
    for action in (
        Monkey.paint,
        Monkey.fill,
        Monkey.polygon,
        Monkey.write,
        Monkey.undo,
        Monkey.redo,
        Monkey.use_tool,
        Monkey.forget,
        Monkey.bring_back,
    )
}
OTHERS = {
    action.__name__: action
    for action in (
        Monkey.run,
        Monkey.cancel,
        Monkey.wait,
        Monkey.move_threshold,
        Monkey.switch_clean_up,
        Monkey.move_slice,
        Monkey.mark,
        Monkey.choose_ct,
        Monkey.delete_result,
        Monkey.rename,
        Monkey.reorder,
        Monkey.turn_to_3d,
        Monkey.save,
        Monkey.export,
        Monkey.measure,
        Monkey.close_panel,
    )
}


def play(monkey: Monkey, *, actions: int | None = None, seconds: float | None = None) -> Diary:
    """Let it act so often or so long, and return what happened, unexpected exceptions and napari's errors included."""
    faults, before = monkey.diary.faults, sys.excepthook
    sys.excepthook = lambda kind, error, _trace: faults.append(f"{kind.__name__}: {error}")
    notification_manager.records.clear()
    end = None if seconds is None else monotonic() + seconds
    try:
        while (actions is None or sum(monkey.diary.done.values()) < actions) and (
            end is None or monotonic() < end
        ):
            monkey.act()
        monkey.rest()
    finally:
        sys.excepthook = before
    told = {str(message) for message in monkey.diary.refused}
    for notice in notification_manager.records:
        is_fault = notice.severity >= NotificationSeverity.ERROR and notice.message[:100] not in told
        faults.extend([notice.message] if is_fault else [])
    return monkey.diary


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_RESUNET_STATE"] = str(Path(folder) / "state")
        viewer = napari.Viewer(show=True)
        diary = play(Monkey(viewer, Path(folder), wanted.seed), seconds=60 * wanted.minutes)
    console, table = Console(), Table("action", "times")
    for name, times in sorted(diary.done.items()):
        table.add_row(name, str(times))
    console.print(table)
    for message, times in diary.refused.items():
        console.print(f"told {times} times: {message}")
    memory = diary.memory_mb[1:]
    slope = np.polyfit(np.arange(len(memory)), memory, 1)[0] if len(memory) > 2 else 0.0
    console.print(f"{sum(diary.done.values())} actions, {active_count()} threads of Python at the end")
    console.print(f"memory {slope:+.1f} MB in 100 actions: {', '.join(f'{mb:.0f}' for mb in memory[::5])}")
    console.print(f"faults: {len(diary.faults)}", *diary.faults[:20], sep="\n")
    sys.stdout.flush()
    os._exit(1 if diary.faults else 0)  # Qt under a test display may crash when Python takes it apart


if __name__ == "__main__":
    main()
