"""Processes that write a journal until they are killed, or cannot; `test_journal` starts them.

Each record tells its number in all that it holds, so that a half of one and a half of another would show.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_resunet.editing.journal import Journal, abandoned
from napari_resunet.errors import OutputError
from napari_resunet.geometry import Geometry
from napari_resunet.record import CaseRecord, CtReference, SliceEdits
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import Run

SHAPE = (6, 128, 128)
RUN = Run("lung-ct", "f" * 64, 128, "cpu", "bfloat16", (0, 128, 0, 128))
CT = CtReference("ct.nii.gz", "NIfTI", "a" * 64, Geometry.from_spacing(SHAPE, (2.5, 0.7, 0.7)))


def record(number: int, *, base: int = 0, slices: int = 3) -> CaseRecord:
    """A record of a number; its probabilities are of the number of its base."""
    random = np.random.default_rng(number)  # does not pack: the file is as large as it can be
    return CaseRecord(
        ct=CT,
        settings=MaskSettings(),
        edits=SliceEdits(np.arange(slices), random.integers(-1, 2, (slices, *SHAPE[1:])).astype(np.int8)),
        banked=(),
        marks=np.full(SHAPE[0], number % 2 * 2, np.uint8),
        seen=np.full(SHAPE[0], number, np.uint32),
        run=RUN,
        done=np.ones(SHAPE[0], bool),
        probability=np.random.default_rng(base).integers(0, 256, SHAPE).astype(np.uint8),
    )


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def write_for_ever(root: Path) -> None:
    journal = Journal(root, CT, Path("ct.nii.gz"))
    number = base = 0
    while True:
        if number % 4 == 0:
            base += 1
            journal.write_base(record(number, base=base))
        number += 1
        journal.write(record(number))
        say(number)


def write_once(root: Path) -> None:
    journal = Journal(root, CT, Path("ct.nii.gz"))
    journal.write(record(1))
    say("written")
    sys.stdin.readline()
    journal.close()


def count(root: Path) -> None:
    say(len(abandoned(root)))


def fill_the_disk(root: Path) -> None:
    """On a small disk: write what fits, then what does not, then what fits."""
    journal = Journal(root, CT, None)
    journal.write(record(1, slices=1))
    for write, what in ((journal.write, record(2, slices=6)), (journal.write_base, record(2))):
        try:
            write(what)
        except OutputError as error:
            say(error)
    journal.close(keep=True)
    (found,) = abandoned(root)
    say(int(found.record().seen[0]), found.lost)
    found.release()
    say(sorted(path.name for path in next(root.iterdir()).iterdir()))


def fill_the_quota(root: Path) -> None:
    """With a limit on the size of a file, which is lifted in the end."""
    import resource

    journal = Journal(root, CT, None)
    journal.write(record(1, slices=1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.RLIM_INFINITY))
    try:
        journal.write(record(2))
    except OutputError as error:
        say(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal.write(replace(record(3), probability=None))
    say("written")


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
