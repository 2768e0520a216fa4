"""Runs a cohort in every way it can be run, kills what can be killed, and compares with a plain loop: tables.

    python tests/benchmarks/cohort.py [--cases 24] [--repeat 2] [--seed 0] [--real] [--simulate] [--only PART ...]

At least 24 chests in all formats and four bad ones (damaged, not HU, several volumes, no voxel size) are made in a
temporary folder. With --real the CTs below NAPARI_RESUNET_DATA are run once as well, for what a real case costs.

speed      the engine with one and two workers against plain loops over the same cases in as many processes; from the
           first case that ended to the last, so that starting up, told apart, has no part in it; the overhead must be
           at most 10 %
kills      SIGKILL for workers, the command, a scheduler: no case lost, none done twice, the masks of an undisturbed run
memory     of each worker, case after case: the second half needs at most a tenth more than the first
apart      a scheduler and two workers that stand, each a process in a folder of its own, over loopback
real       what real cases cost
simulate   100,000 cases on 100 workers, with what was measured and with faults: a queue, event by event

Exits with 1 when something is not as it must be.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import SimpleITK
from rich.console import Console
from rich.table import Table

from napari_resunet.cohort.manifest import CaseEntry, Status, read_entries
from napari_resunet.io.dicom import write_ct_series
from napari_resunet.phantom import make_phantom

CONSOLE = Console(width=130)
SHAPE, SPACING = (24, 112, 112), (12.0, 3.2, 3.2)
BAD = 4
MOST_OVERHEAD, MOST_GROWTH = 0.10, 0.10
LOOP = """
import sys, time
from pathlib import Path
from napari_resunet.cohort.recipe import read_recipe
from napari_resunet.cohort.run import run_case
out = Path(sys.argv[1])
recipe = read_recipe(out)
for case in sys.argv[2:]:
    run_case(out, case, recipe)
    print(time.time(), flush=True)
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cohort-") as name:
        bench = Bench(Path(name), choices.cases, choices.repeat, random.Random(choices.seed))
        bench.make_cases()
        for part in choices.only:
            PARTS[part](bench)
        if choices.real:
            real(bench)
        if choices.simulate:
            simulate(bench)
    for fault in bench.faults:
        CONSOLE.print(f"NOT AS IT MUST BE: {fault}", style="bold red")
    sys.exit(1 if bench.faults else 0)


@dataclass
class Bench:
    """The cases, and what was found out about them."""

    folder: Path
    count: int
    repeat: int
    chance: random.Random
    faults: list[str] = field(default_factory=list)
    masks: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    overhead_s: float = 0.02
    start_s: float = 5.0

    @property
    def source(self) -> Path:
        return self.folder / "in"

    def new_out(self) -> Path:
        return self.folder / f"out-{time.monotonic_ns()}"

    def must(self, holds: bool, what: str) -> bool:
        if not holds:
            self.faults.append(what)
        return holds

    def make_cases(self) -> None:
        """Write chests that differ a little, in all formats by turns, and the bad ones."""
        volume = make_phantom(shape=SHAPE, spacing_mm=SPACING).volume
        noise = np.random.default_rng(0)
        for index in range(self.count):
            array = (volume.array + noise.integers(-8, 9, SHAPE)).astype(np.int16)
            _WRITERS[index % len(_WRITERS)](array, volume, self.source / f"case_{index:03}")
        bad = self.source / "bad"
        bad.mkdir()
        whole = next(self.source.glob("*/ct.nii.gz")).read_bytes()
        (bad / "damaged.nii.gz").write_bytes(whole[: len(whole) // 2])
        _save_nifti((volume.array + 1024).clip(0).astype(np.int16).T, volume, bad / "not_hu.nii.gz")
        _save_nifti(np.stack([volume.array.T] * 2, -1), volume, bad / "frames.nii.gz")
        plain = SimpleITK.GetImageFromArray(volume.array)
        SimpleITK.WriteImage(plain, str(bad / "sizeless.tif"))

    def check(self, entries: list[CaseEntry], what: str) -> tuple[int, int]:
        """Return how many cases are lost, and how many masks differ from those of the first run of all."""
        good = [entry for entry in entries if "/bad/" not in entry.source]
        lost = self.count - sum(entry.status == Status.DONE for entry in good)
        parked = sum(entry.status in (Status.ASKED, Status.REFUSED) for entry in entries)
        self.must(lost == 0, f"{what}: {lost} cases are not done")
        self.must(parked == BAD, f"{what}: {parked} of {BAD} bad cases are asked or refused")
        masks = {entry.source: entry.mask_sha256 for entry in good}
        self.masks = self.masks or masks
        differ = sum(masks.get(name) != sha256 for name, sha256 in self.masks.items())
        self.must(differ == 0, f"{what}: {differ} masks differ")
        return lost, differ


def _save_nifti(array_xyz: Any, volume: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array_xyz, volume.geometry.ras_affine), path)


def _as_nifti(ending: str) -> Callable[[Any, Any, Path], None]:
    return lambda array, volume, folder: _save_nifti(array.T, volume, folder / f"ct{ending}")


def _as_itk(ending: str) -> Callable[[Any, Any, Path], None]:
    def write(array: Any, volume: Any, folder: Path) -> None:
        folder.mkdir(parents=True)
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(volume.geometry.spacing_mm[::-1])
        image.SetOrigin(volume.geometry.index_to_lps[:3, 3].tolist())
        SimpleITK.WriteImage(image, str(folder / f"ct{ending}"))

    return write


def _as_dicom(array: Any, volume: Any, folder: Path) -> None:
    from dataclasses import replace

    folder.parent.mkdir(parents=True, exist_ok=True)
    write_ct_series(replace(volume, array=array), folder)


def _as_tiff(array: Any, volume: Any, folder: Path) -> None:
    import tifffile

    folder.mkdir(parents=True)
    z, y, x = volume.geometry.spacing_mm
    tifffile.imwrite(
        folder / "ct.tif",
        array,
        imagej=True,
        resolution=(1 / x, 1 / y),
        metadata={"axes": "ZYX", "spacing": z, "unit": "mm"},
    )


_WRITERS = (_as_nifti(".nii.gz"), _as_dicom, _as_itk(".mha"), _as_nifti(".nii"), _as_itk(".nrrd"), _as_tiff)


# ---- the command, as a user starts it


class Command:
    """The cohort command in a process of its own, with the moments at which cases ended."""

    def __init__(self, source: Path, out: Path, *options: str) -> None:
        self.begun = time.time()
        command = [sys.executable, "-m", "napari_resunet", "cohort", str(source), str(out), "--device", "cpu"]
        self.process = subprocess.Popen(
            [*command, *options], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.ended: list[tuple[float, str]] = []
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line.rstrip())
            if " ml, " in line:
                self.ended.append((time.time(), line.split(":")[0]))

    def wait(self) -> int:
        code = self.process.wait(1200)
        self._reader.join()
        return code

    def workers(self) -> list[psutil.Process]:
        """Return the processes that work: they have torch in memory, or will."""
        with contextlib.suppress(psutil.Error):
            below = psutil.Process(self.process.pid).children(recursive=True)
            return [each for each in below if "spawn_main" in " ".join(each.cmdline())]
        return []


def _case_ids(bench: Bench, out: Path) -> list[str]:
    Command(bench.source, out, "--prepare").wait()
    return [entry.id for entry in read_entries(out) if "/bad/" not in entry.source]


# ---- speed


def speed(bench: Bench) -> None:
    """Compare the engine with plain loops, by turns, in one run."""
    walls: dict[tuple[str, int], list[float]] = {}
    starts: list[float] = []
    for _ in range(bench.repeat):
        for count in (1, 2):
            out = bench.new_out()
            walls.setdefault(("loop", count), []).append(_loop(_case_ids(bench, out), out, count))
            out = bench.new_out()
            command = Command(bench.source, out, "--workers", str(count))
            command.wait()
            ends = sorted(moment for moment, _ in command.ended)
            walls.setdefault(("engine", count), []).append(ends[-1] - ends[0])
            starts.append(ends[0] - command.begun)
            entries = list(read_entries(out))
            bench.check(entries, f"engine with {count} workers")
            bench.seconds = bench.seconds or [e.seconds_all for e in entries if e.seconds_all]
    table = Table("processes", "plain loop (s)", "engine (s)", "overhead", "a case (s)", title="speed")
    for count in (1, 2):
        loop, engine = (min(walls[way, count]) for way in ("loop", "engine"))
        overhead = engine / loop - 1
        bench.must(overhead <= MOST_OVERHEAD, f"overhead of {overhead:.1%} with {count} workers")
        if count == 1:
            bench.overhead_s = max(0.0, (engine - loop) / (bench.count - 1))
        every = [
            f"{way}: " + ", ".join(f"{wall:.1f}" for wall in walls[way, count]) for way in ("loop", "engine")
        ]
        table.add_row(
            str(count),
            f"{loop:.1f}",
            f"{engine:.1f}",
            f"{overhead:+.1%}",
            f"{engine / (bench.count - 1):.2f}",
        )
        table.add_row("", *every, "", "", style="dim")
    bench.start_s = statistics.median(starts)
    CONSOLE.print(table)
    CONSOLE.print(f"from the command to the first mask: {bench.start_s:.1f} s (median)")


def _loop(ids: list[str], out: Path, count: int) -> float:
    """Run plain loops side by side; return the seconds from the first case that ended to the last."""
    threads = str(max(1, (os.cpu_count() or 1) // count))
    environment = os.environ | {"OMP_NUM_THREADS": threads}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOOP, str(out), *ids[part::count]],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in range(count)
    ]
    ends = sorted(float(line) for process in processes for line in process.communicate()[0].split())
    return ends[-1] - ends[0]


# ---- kills


def kills(bench: Bench) -> None:
    """Kill workers, and the command again and again, at random moments."""
    table = Table(
        "killed", "kills", "lost", "done twice", "masks that differ", "attempts left", title="SIGKILL"
    )
    if not bench.masks:
        out = bench.new_out()
        Command(bench.source, out, "--workers", "2").wait()
        bench.check(list(read_entries(out)), "undisturbed")
    for name, kill in (("workers", _kill_workers), ("the command", _kill_commands)):
        out = bench.new_out()
        kills_done, ended = kill(bench, out)
        entries = list(read_entries(out))
        lost, differ = bench.check(entries, f"kill of {name}")
        twice = sum(times > 1 for times in Counter(ended).values())
        bench.must(twice == 0, f"kill of {name}: {twice} cases were done twice")
        attempts = sum(entry.attempts for entry in entries)
        table.add_row(name, str(kills_done), str(lost), str(twice), str(differ), str(attempts))
    CONSOLE.print(table)


def _kill_workers(bench: Bench, out: Path) -> tuple[int, list[str]]:
    command, done = Command(bench.source, out, "--workers", "2", "--attempts", "9"), 0
    while command.process.poll() is None and done < 4:
        time.sleep(bench.chance.uniform(3, 6))
        workers = command.workers()
        if workers and command.ended:
            with contextlib.suppress(psutil.Error):
                bench.chance.choice(workers).kill()
                done += 1
    command.wait()
    return done, [case for _, case in command.ended]


def _kill_commands(bench: Bench, out: Path) -> tuple[int, list[str]]:
    ended, done = list[str](), 0
    for _ in range(3):
        command = Command(bench.source, out, "--workers", "2", "--attempts", "9")
        while not command.ended and command.process.poll() is None:
            time.sleep(0.05)
        time.sleep(bench.chance.uniform(0, 4))
        if command.process.poll() is None:
            command.process.send_signal(signal.SIGKILL)
            done += 1
        command.wait()
        ended += [case for _, case in command.ended]
    command = Command(bench.source, out, "--workers", "2", "--attempts", "9")
    command.wait()
    return done, ended + [case for _, case in command.ended]


# ---- memory


def memory(bench: Bench) -> None:
    """Look at each worker's memory while cases go through it."""
    out = bench.new_out()
    command = Command(bench.source, out, "--workers", "2")
    seen: dict[int, list[float]] = {}
    while command.process.poll() is None:
        for worker in command.workers():
            with contextlib.suppress(psutil.Error):
                seen.setdefault(worker.pid, []).append(worker.memory_info().rss / 2**20)
        time.sleep(0.2)
    command.wait()
    bench.check(list(read_entries(out)), "memory")
    table = Table("worker", "first half, most (MiB)", "second half, most (MiB)", "growth", title="memory")
    for number, samples in enumerate(each for each in seen.values() if max(each) > 300):
        # the first fifth is starting up
        rest = samples[len(samples) // 5 :]
        first, second = max(rest[: len(rest) // 2]), max(rest[len(rest) // 2 :])
        growth = second / first - 1
        bench.must(growth <= MOST_GROWTH, f"a worker's memory grew by {growth:.0%}")
        table.add_row(str(number), f"{first:.0f}", f"{second:.0f}", f"{growth:+.1%}")
    CONSOLE.print(table)


# ---- a scheduler that stands


@contextlib.contextmanager
def _standing(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start a scheduler and two workers, each in a folder of its own; give its address and its process."""
    file = folder / "scheduler.json"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    python = [sys.executable, "-m"]
    scheduler = [
        *python,
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
    ]
    worker = [*python, "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1"]
    worker += ["--memory-limit", "0", "--no-dashboard", "--death-timeout", "30"]
    started = []
    for name, command in (
        ("scheduler", [*scheduler, "--scheduler-file", str(file)]),
        ("worker 1", worker),
        ("worker 2", worker),
    ):
        (folder / name).mkdir(parents=True)
        started.append(
            subprocess.Popen(
                command,
                cwd=folder / name,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
    try:
        while not file.exists():
            time.sleep(0.1)
        import json

        yield json.loads(file.read_text())["address"], started[0]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def apart(bench: Bench) -> None:
    """Run the cohort on a scheduler that stands; then on one that is killed on the way, and go on elsewhere."""
    table = Table(
        "scheduler", "exit code", "lost", "done twice", "masks that differ", "wall (s)", title="standing"
    )
    out = bench.new_out()
    with _standing(bench.folder / f"apart-{time.monotonic_ns()}") as (address, _):
        command = Command(bench.source, out, "--scheduler", address)
        code = command.wait()
    lost, differ = bench.check(list(read_entries(out)), "standing scheduler")
    twice = sum(times > 1 for times in Counter(case for _, case in command.ended).values())
    wall = time.time() - command.begun
    table.add_row("stands", str(code), str(lost), str(twice), str(differ), f"{wall:.0f}")

    out = bench.new_out()
    with _standing(bench.folder / f"apart-{time.monotonic_ns()}") as (address, scheduler):
        command = Command(bench.source, out, "--scheduler", address)
        while not command.ended and command.process.poll() is None:
            time.sleep(0.1)
        scheduler.kill()
        code = command.wait()
        CONSOLE.print(f"the command says of a killed scheduler: {command.said[-1][:200]}", markup=False)
    bench.must(code not in (0, -signal.SIGKILL), f"a killed scheduler ended the command with {code}")
    ended = [case for _, case in command.ended]
    running = [entry.id for entry in read_entries(out) if entry.status == Status.RUNNING]
    again = Command(bench.source, out, "--workers", "2")
    again.wait()
    lost, differ = bench.check(list(read_entries(out)), "killed scheduler")
    twice = sum(times > 1 for times in Counter(ended + [case for _, case in again.ended]).values())
    bench.must(twice == 0, f"killed scheduler: {twice} cases were done twice")
    table.add_row(f"killed, {len(running)} left running", str(code), str(lost), str(twice), str(differ), "")
    CONSOLE.print(table)


PARTS: dict[str, Callable[[Bench], None]] = {"speed": speed, "kills": kills, "memory": memory, "apart": apart}


# ---- real cases


def real(bench: Bench) -> None:
    """Run what lies below NAPARI_RESUNET_DATA once, and tell what a case costs."""
    data = Path(os.environ["NAPARI_RESUNET_DATA"])
    out = bench.new_out()
    command = Command(data, out, "--workers", "2")
    most: dict[int, float] = {}
    while command.process.poll() is None:
        for worker in command.workers():
            with contextlib.suppress(psutil.Error):
                most[worker.pid] = max(most.get(worker.pid, 0), worker.memory_info().rss / 2**20)
        time.sleep(0.2)
    command.wait()
    wall = time.time() - command.begun
    entries = list(read_entries(out))
    counts = Counter(entry.status.value for entry in entries)
    CONSOLE.print(f"real: {dict(counts)} in {wall:.0f} s, worker at most {max(most.values()):.0f} MiB")
    table = Table(
        "case", "slices", "read", "predict", "write", "all (s)", "case.json", title="real, the longest ten"
    )
    done = sorted((e for e in entries if e.status == Status.DONE), key=lambda e: -(e.seconds_all or 0))
    for entry in done[:10]:
        seconds = (entry.seconds_read, entry.seconds_predict, entry.seconds_write, entry.seconds_all)
        size = (out / "cases" / entry.id / "case.json").stat().st_size
        table.add_row(
            entry.id, str(len(entry.doubt_slices)), *(f"{value or 0:.2f}" for value in seconds), f"{size} B"
        )
    CONSOLE.print(table)
    whole = [entry.seconds_all or 0 for entry in done if len(entry.doubt_slices) > 20]
    if whole:
        bench.seconds = whole
        CONSOLE.print(f"whole chests: {len(whole)}, mean {statistics.mean(whole):.1f} s a case")


# ---- the queue


def simulate(bench: Bench, cases: int = 100_000, workers: int = 100) -> None:
    """Play a large cohort event by event: who is free takes the next case; cases crash, hang, workers vanish."""
    table = Table(
        "faults", "wall (h)", "worker hours", "busy", "given up", "attempts", "cost", title="simulated"
    )
    seconds = bench.seconds or [20.0]
    for name, crash, hang, gone_every_h in (
        ("none", 0.0, 0.0, 0.0),
        ("1 in 1,000 crashes, 1 in 10,000 hangs, a worker is lost every 24 h", 1e-3, 1e-4, 24.0),
        ("1 in 100 crashes, 1 in 1,000 hangs, a worker is lost every 2 h", 1e-2, 1e-3, 2.0),
    ):
        wall, busy, given_up, attempts = _play(
            bench, seconds, cases, workers, crash=crash, hang=hang, gone_every_s=gone_every_h * 3600
        )
        hours = wall * workers / 3600
        table.add_row(
            name,
            f"{wall / 3600:.1f}",
            f"{hours:,.0f}",
            f"{busy / (wall * workers):.1%}",
            str(given_up),
            f"{attempts:,}",
            f"{hours * 0.05:,.0f} at 0.05 an hour of a worker",
        )
    CONSOLE.print(table)
    CONSOLE.print(
        f"a case takes {statistics.mean(seconds):.1f} s in the mean ({len(seconds)} measured), the engine adds "
        f"{bench.overhead_s * 1000:.0f} ms, a worker starts in {bench.start_s:.1f} s"
    )


def _play(
    bench: Bench,
    seconds: list[float],
    cases: int,
    workers: int,
    *,
    crash: float,
    hang: float,
    gone_every_s: float,
    timeout_s: float = 1800.0,
    most_attempts: int = 2,
) -> tuple[float, float, int, int]:
    """Return the seconds it took, those that were worked, the cases given up, and the attempts in all.

    One case in so many always crashes or hangs, whoever takes it; a worker that is lost takes its case with it.
    """
    chance = random.Random(1)
    # what waits: (attempts so far, fate); the fate of a case stays with it
    fates = chance.choices(("good", "crash", "hang"), (1 - crash - hang, crash, hang), k=cases)
    waiting = [(0, fate) for fate in reversed(fates)]
    free = [(bench.start_s, number) for number in range(workers)]
    heapq.heapify(free)
    busy, given_up, attempts, wall = 0.0, 0, 0, 0.0
    while waiting:
        now, number = heapq.heappop(free)
        tried, fate = waiting.pop()
        attempts += 1
        takes = timeout_s if fate == "hang" else chance.choice(seconds) * (0.5 if fate == "crash" else 1)
        is_lost = gone_every_s and chance.random() < takes / (gone_every_s * workers)
        ends = now + takes + bench.overhead_s
        busy += takes
        if fate != "good" or is_lost:
            ends += bench.start_s
            if tried + 1 < most_attempts:
                waiting.insert(0, (tried + 1, fate))
            else:
                given_up += 1
        wall = max(wall, ends)
        heapq.heappush(free, (ends, number))
    return wall, busy, given_up, attempts


if __name__ == "__main__":
    main()
