"""How fast a CT is segmented, and what it takes: figures taken side by side, in one run, as a table.

    python tests/benchmarks/speed.py [--slices 100 300] [--grids 128 256] [--json FILE] [--picture FILE]

The CT is a made-up chest of 512 x 512 pixels, repeated along the patient. Times are medians of repeats after one
warm-up; each figure of memory is of a process of its own.

matrix product   a product of two square matrices in the precision of the network: the ceiling of this machine
network          the network alone, in batches on the grid
predict          HU on the native grid to probabilities on the native grid
file to file     NIfTI to NIfTI: read, predict, threshold, clean up, write, prove
lungmask         its inference on the same volume, where `pip install lungmask` was done; with random weights, which
                 cost the same as trained ones, and without its clean-up
threshold        a move of the threshold in a case with edits, against a bare comparison of the same array
memory           peak above the loaded program, as a multiple of the volume in int16
start-up         of commands and imports, against a bare interpreter
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter
from typing import Any

import nibabel
import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

import napari_resunet as nru
from napari_resunet.case import Case
from napari_resunet.geometry import Geometry
from napari_resunet.model.checkpoint import load_model
from napari_resunet.model.device import choose_device
from napari_resunet.phantom import make_phantom
from napari_resunet.settings import PredictSettings
from napari_resunet.volume import Volume
from napari_resunet.workflows import segment

SIDE, SPACING = 512, (1.0, 0.7, 0.7)
BATCH = 8
EDITED_SLICES = 50
FEW_SLICES = 40  # of which lungmask has enough
MATRIX = 2048
START_UPS = {
    "bare interpreter": ["-c", "pass"],
    "napari-resunet --help": ["-m", "napari_resunet", "--help"],
    "import napari_resunet": ["-c", "import napari_resunet"],
    "import napari": ["-c", "import napari"],
    "import torch": ["-c", "import torch"],
}


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Parameters
    ----------
    what : str
        That was measured.
    slices, grid : int
        Of the volume, and of the network; 0 where they are no matter.
    value : float
        Median.
    unit : str
        Of the value.
    against : str
        What it is compared with, and how many times that it is.
    """

    what: str
    slices: int
    grid: int
    value: float
    unit: str
    against: str = ""


def timed(work: Callable[[], object], *, repeats: int = 5) -> float:
    """Return the median time of some work in seconds, after one warm-up."""
    times = []
    for _ in range(repeats + 1):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return median(times[1:])


def chest(slices: int) -> Volume:
    """Return a made-up chest that is repeated until it has so many slices."""
    one = make_phantom(shape=(60, SIDE, SIDE), spacing_mm=(5.0, 0.7, 0.7)).volume.array
    array = np.concatenate([one] * -(-slices // len(one)))[:slices]
    return Volume(array, Geometry.from_spacing(array.shape, SPACING))


def ceiling(grid: int) -> float:
    """Return how many slices a second the network would do at the speed of a matrix product."""
    device, network = choose_device(), load_model("lung-ct").network
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 1, grid, grid))
    matrix = torch.randn(MATRIX, MATRIX).to(device.torch, getattr(torch, device.precision))

    def multiply() -> None:
        for _ in range(4):
            matrix @ matrix
        matrix[0, 0].item()  # a GPU is waited for

    return 4 * 2 * MATRIX**3 / timed(multiply) / counter.get_total_flops()


def network_alone(slices: int, grid: int) -> float:
    """Return how many slices a second the network does, with nothing before or after it."""
    device, network = choose_device(), load_model("lung-ct").network
    network = network.to(device.torch, memory_format=torch.channels_last)
    image = torch.rand(BATCH, 1, grid, grid).to(device.torch, memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode(), device.autocast():
            for _ in range(0, slices, BATCH):
                found = network(image)
        found[0, 0, 0, 0].item()  # a GPU is waited for

    return -(-slices // BATCH) * BATCH / timed(run, repeats=3)


def predicted(volume: Volume, grid: int) -> float:
    """Return how many slices a second `predict` does."""
    return len(volume.array) / timed(partial(nru.predict, volume, grid=grid), repeats=3)


def file_to_file(volume: Volume, grid: int) -> float:
    """Return how many slices a second become a proved mask file."""
    with TemporaryDirectory() as folder:
        ct, mask = Path(folder) / "ct.nii", Path(folder) / "lungs.nii.gz"
        nibabel.Nifti1Image(volume.array.T, volume.geometry.ras_affine).to_filename(ct)
        return len(volume.array) / timed(
            partial(segment, ct, mask, predict_settings=PredictSettings(grid=grid)), repeats=3
        )


def with_lungmask(volume: Volume) -> float | None:
    """Return how many slices a second lungmask does; None if it is not installed."""
    try:
        from lungmask import mask
        from lungmask.resunet import UNet
    except ImportError:
        return None
    shape = {"n_classes": 3, "padding": True, "depth": 5, "up_mode": "upsample", "batch_norm": True}
    mask.get_model = lambda *_: UNet(**shape, residual=False).eval()
    inferer = mask.LMInferer(volume_postprocessing=False, tqdm_disable=True)
    return len(volume.array) / timed(partial(inferer.apply, volume.array), repeats=1)


def threshold_moves(volume: Volume) -> tuple[float, float]:
    """Return the times in seconds of a threshold move with edits, and of a bare comparison."""
    case = Case(volume)
    case.change_settings(clean=False)
    case.probability[...] = np.random.default_rng(0).integers(0, 256, volume.array.shape, np.uint8)
    case.done[...] = True
    for z in range(0, len(volume.array), max(1, len(volume.array) // EDITED_SLICES)):
        case.mask[z, 100:120, 100:120] = 1
    case.absorb_edits()
    levels = iter(np.resize([0.3, 0.6], 100))
    bare = np.empty(volume.array.shape, np.bool_)
    return (
        timed(lambda: case.set_threshold(float(next(levels))), repeats=15),
        timed(lambda: np.greater_equal(case.probability, 128, out=bare), repeats=15),
    )


def peak_bytes(slices: int, grid: int) -> int:
    """Return how much memory a run takes at its peak, above program, model and volume."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_of_a_run, (slices, grid))


def _peak_of_a_run(slices: int, grid: int) -> int:
    nru.predict(chest(BATCH), grid=grid)  # loads all there is to load
    volume = chest(slices)
    gc.collect()
    process, seen, is_over = psutil.Process(), [], Event()

    def watch() -> None:
        while not is_over.wait(0.002):
            seen.append(process.memory_info().rss)

    before = process.memory_info().rss
    watcher = Thread(target=watch)
    watcher.start()
    nru.predict(volume, grid=grid)
    is_over.set()
    watcher.join()
    return max(seen) - before


def start_ups() -> dict[str, float]:
    """Return how long commands and imports take, in seconds."""
    return {
        name: timed(partial(subprocess.run, [sys.executable, *line], check=True, capture_output=True))
        for name, line in START_UPS.items()
    }


def measure(slices: list[int], grids: list[int], tell: Callable[[Figure], None]) -> None:
    """Take all figures, one after the other."""
    for grid in grids:
        top = ceiling(grid)
        tell(Figure("matrix product", 0, grid, top, "slices/s"))
        for count in slices:
            alone = network_alone(count, grid)
            tell(
                Figure("network", count, grid, alone, "slices/s", f"{alone / top:.2f} of the matrix product")
            )
            volume = chest(count)
            whole = predicted(volume, grid)
            tell(Figure("predict", count, grid, whole, "slices/s", f"{whole / alone:.2f} of the network"))
            files = file_to_file(volume, grid)
            tell(
                Figure("file to file", count, grid, files, "slices/s", f"{files / alone:.2f} of the network")
            )
            multiple = peak_bytes(count, grid) / (2 * volume.array.size)
            tell(Figure("memory", count, grid, multiple, "volumes"))
    few = chest(FEW_SLICES)
    other = with_lungmask(few)
    if other is not None:
        times = [f"predict at grid {grid} {predicted(few, grid) / other:.0f} times" for grid in grids]
        tell(Figure("lungmask", FEW_SLICES, 256, other, "slices/s", ", ".join(times)))
    for count in slices:
        move, bare = threshold_moves(chest(count))
        tell(Figure("threshold", count, 0, 1e3 * move, "ms", f"{move / bare:.1f} times a bare comparison"))
    times = start_ups()
    for name, seconds in times.items():
        of_bare = f"{seconds / times['bare interpreter']:.0f} times a bare interpreter"
        tell(Figure(name, 0, 0, 1e3 * seconds, "ms", of_bare))


def machine() -> str:
    """Return what this was measured on."""
    device = choose_device()
    where = f"{platform.machine()}, {device.label}, {device.precision}"
    return f"{where}, torch {torch.__version__}"


def draw(figures: list[Figure], path: Path) -> None:
    """Draw the figures in slices a second as bars."""
    from matplotlib.figure import Figure as Picture

    speeds = [figure for figure in figures if figure.unit == "slices/s"]
    picture = Picture(figsize=(8, 0.4 * len(speeds) + 1), layout="constrained")
    axes = picture.subplots()
    names = [f"{f.what}, grid {f.grid}" + (f", {f.slices} slices" if f.slices else "") for f in speeds]
    bars = axes.barh(names, [figure.value for figure in speeds])
    axes.bar_label(bars, fmt="%.3g")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("slices/s")
    picture.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--grids", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    wanted = parser.parse_args()
    console, figures = Console(), []

    def tell(figure: Figure) -> None:
        figures.append(figure)
        console.print(f"{figure.what} {figure.value:.3g} {figure.unit}", style="dim")

    measure(wanted.slices, wanted.grids, tell)
    table = Table("", "slices", "grid", "median", "", title=machine())
    for figure in figures:
        counts = [str(n) if n else "" for n in (figure.slices, figure.grid)]
        table.add_row(figure.what, *counts, f"{figure.value:.3g} {figure.unit}", figure.against)
    console.print(table)
    if wanted.json:
        told: dict[str, Any] = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
        wanted.json.write_text(json.dumps(told, indent=2) + "\n")
    if wanted.picture:
        draw(figures, wanted.picture)


if __name__ == "__main__":
    main()
