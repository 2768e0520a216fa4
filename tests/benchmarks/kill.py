"""Kills a process at random moments while it writes, and looks at what is there afterwards: a table.

    python tests/benchmarks/kill.py [--points 200] [--seed 0] [--only nifti tiff case journal]

A child writes one version after the other to the same place and says which ones are whole; it gets a SIGKILL at a
random moment. What is there then has to be the last version it spoke of (old) or the one after it (new); anything else
is a third thing, and makes the exit code 1. The next child starts on what the last one left. For exports, the sidecar
has to be missing or to bear the checksum of the very file. Needs `os.fork`.

in a write   kills that left a temporary file behind: they fell into a write
swept        whether one more write, left in peace, removed all that was left
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_resunet.editing.journal import Journal, abandoned
from napari_resunet.errors import ResUNetError
from napari_resunet.geometry import Geometry
from napari_resunet.io.case_file import read_case, write_case
from napari_resunet.io.export import write_mask
from napari_resunet.io.files import read_mask
from napari_resunet.io.regular_file import sha256_of
from napari_resunet.io.sidecar import read_sidecar
from napari_resunet.record import CaseRecord, CtReference, SliceEdits
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import Mask

SHAPE = (12, 96, 96)
GEOMETRY = Geometry.from_spacing(SHAPE, (2.5, 0.7, 0.7))
CT = CtReference("ct.nii.gz", "NIfTI", "a" * 64, GEOMETRY)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS))
    choices = parser.parse_args()
    table = Table("what", "kills", "old", "new", "third things", "in a write", "swept")
    is_good = True
    for name in choices.only:
        with tempfile.TemporaryDirectory() as folder:
            tally = kill_often(TARGETS[name](Path(folder)), choices.points, random.Random(choices.seed))
        counts = [tally.found[key] for key in ("old", "new")]
        table.add_row(
            *map(str, (name, choices.points, *counts, len(tally.third), tally.in_a_write)),
            "yes" if tally.is_swept else "NO",
        )
        for what in tally.third:
            Console(stderr=True).print(f"{name}: {what}", soft_wrap=True)
        is_good = is_good and not tally.third and tally.is_swept and tally.in_a_write > 0
    Console().print(table)
    sys.exit(0 if is_good else 1)


@dataclass
class Tally:
    """What was found after the kills."""

    found: Counter[str] = field(default_factory=Counter)
    third: list[str] = field(default_factory=list)
    in_a_write: int = 0
    is_swept: bool = False


class MaskFile:
    """A mask that is exported again and again, and its sidecar."""

    def __init__(self, folder: Path, ending: str = ".nii.gz") -> None:
        self.folder, self.path = folder, folder / f"lungs{ending}"

    def next(self, _kill: int) -> MaskFile:
        """Return where the next child writes: what the last one left."""
        return self

    def write(self, version: int) -> None:
        """Write a version."""
        write_mask(Mask(mask_of(version), GEOMETRY), self.path)

    def holds(self, version: int) -> bool:
        """Whether that version is there, whole."""
        return np.array_equal(read_mask(self.path).array, mask_of(version))

    def fault(self) -> str:
        """Return what is wrong besides."""
        sidecar = self.folder / "lungs.json"
        if not sidecar.exists() or read_sidecar(sidecar)["output"]["sha256"] == sha256_of(self.path):
            return ""
        return "the sidecar is of another file"

    def leftovers(self) -> list[str]:
        """Return what is there besides the file and its sidecar."""
        return [
            path.name for path in self.folder.iterdir() if path.name not in (self.path.name, "lungs.json")
        ]


class CaseFile(MaskFile):
    """A case that is saved again and again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ".nru")

    def write(self, version: int) -> None:
        """Write a version."""
        write_case(record_of(version), self.path)

    def holds(self, version: int) -> bool:
        """Whether that version is there, whole."""
        return is_version(read_case(self.path), version)


class JournalFolder(MaskFile):
    """The journal of an open case: the network's answer now and then, what a hand did each time."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._journal: Journal | None = None

    def next(self, kill: int) -> JournalFolder:
        """Return a folder of its own: no two processes share a journal."""
        return JournalFolder(self.folder / f"{kill}")

    def write(self, version: int) -> None:
        """Write a version."""
        if self._journal is None:
            self._journal = Journal(self.folder, CT, None)
            self._journal.write_base(record_of(0))
        elif version % 3 == 0:
            self._journal.write_base(record_of(0))
        self._journal.write(record_of(version))

    def holds(self, version: int) -> bool:
        """Whether that version is offered after the crash, whole."""
        found = abandoned(self.folder)
        try:
            return any(is_version(each.record(), version) and not each.lost for each in found)
        finally:
            for each in found:
                each.release()

    def leftovers(self) -> list[str]:
        """Return unfinished files."""
        return [path.name for path in self.folder.glob("case-*/.*.part*")]


TARGETS: dict[str, Callable[[Path], MaskFile]] = {
    "nifti": MaskFile,
    "tiff": lambda folder: MaskFile(folder, ".tif"),
    "case": CaseFile,
    "journal": JournalFolder,
}


def mask_of(version: int) -> np.ndarray:
    """Return a mask that does not pack, another for each version."""
    return np.random.default_rng(version).integers(0, 2, SHAPE).astype(np.uint8)


def record_of(version: int) -> CaseRecord:
    """Return a case that tells its version in its edits and in its counts."""
    edits = SliceEdits(np.arange(SHAPE[0]), mask_of(version).astype(np.int8))
    return CaseRecord(
        ct=CT,
        settings=MaskSettings(),
        edits=edits,
        banked=(),
        marks=np.full(SHAPE[0], version % 2 * 2, np.uint8),
        seen=np.full(SHAPE[0], version, np.uint32),
        run=None,
        done=np.zeros(SHAPE[0], bool),
        probability=mask_of(-1 % 1000),
    )


def is_version(record: CaseRecord, version: int) -> bool:
    """Whether a record is of a version, in all that it holds."""
    return (record.seen == version).all() and np.array_equal(record.edits.values, mask_of(version))


def kill_often(target: MaskFile, points: int, moment: random.Random) -> Tally:
    """Kill that many children, and look after each."""
    tally = Tally()
    began = time.perf_counter()
    target.write(0)
    once_s = time.perf_counter() - began
    version = 0
    for kill in range(points):
        place = target.next(kill)
        is_new = place is not target
        spoken_of = child_killed_after(place, version + 1, moment.uniform(0, 4 * once_s), wait=is_new)
        tally.in_a_write += any(".part" in name for name in place.leftovers())
        version = look(place, max([version, *spoken_of]), tally)
    target.write(version + 1)
    tally.is_swept = not target.leftovers()
    return tally


def child_killed_after(target: MaskFile, first: int, seconds: float, *, wait: bool) -> list[int]:
    """Let a child write until it is killed; return the versions that it said were whole.

    Where it starts on nothing, `wait` for the first one: before that there is nothing to lose.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        version = first
        while True:
            target.write(version)
            os.write(writing, f"{version} ".encode())
            version += 1
    os.close(writing)
    said = os.read(reading, 1 << 16) if wait else b""
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with os.fdopen(reading, "rb") as rest:
        return [int(word) for word in (said + rest.read()).split()]


def look(target: MaskFile, last: int, tally: Tally) -> int:
    """Note what is there, and return its version."""
    try:
        for word, version in (("old", last), ("new", last + 1)):
            if target.holds(version):
                fault = target.fault()
                if fault:
                    tally.third.append(fault)
                else:
                    tally.found[word] += 1
                return version
        tally.third.append(f"neither version {last} nor {last + 1}")
    except (ResUNetError, OSError) as error:
        tally.third.append(str(error))
    return last + 1


if __name__ == "__main__":
    main()
