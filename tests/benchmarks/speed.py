"""How fast a CT is segmented and what it takes: figures taken side by side, each held to its bound.

    python tests/benchmarks/speed.py [--slices 100 300 1000] [--rounds 3] [--only PART ...] [--busy]
                                     [--json FILE] [--picture FILE]

Exit code 1 if a bound is missed. The CT is a made-up chest of 512 x 512 pixels, repeated along the patient; the second
number of slices is the one for speeds. What is compared is measured in turns, so that a machine that slows down slows
both; times are medians after one warm-up round, and each figure of memory is of a process of its own. Where other
programs run, --busy uses one thread and counts the time of the CPU instead of the clock's: its speeds are those of one
core, and its multiples are those of a quiet machine but for what the caches lose.

matrix product    two square matrices in the precision of the network: the most that this machine can do, and the
                  ceiling that the network is held to. Products of the shapes that its convolutions would have as
                  matrices (im2col) are shown beside it: they are lower, since a copied image leaves the caches
network           the network alone, as `predict` runs it, in batches on the grid; the one that ships, and width 64,
                  whose products are large enough to be held to the ceiling
predict           HU on the native grid to probabilities on the native grid
file to file      NIfTI to NIfTI: read, predict, threshold, clean up, write, prove
lungmask          its inference on a part of the same slices, where `pip install lungmask` was done, scaled up; with
                  random weights, which cost the same as trained ones, and without its clean-up
first slices      from the call to the first batch that is handed over, with the model loaded, in times of a batch
growth            exponent of the time of `predict` over the numbers of slices; 1 is in proportion
threshold         a move of the threshold in a case with edits, against a bare comparison of the same array
memory            peak above the loaded program, in volumes of int16
start-up          of commands and imports, against a bare interpreter; and of the widget, against napari with it

Tried, and what came of it (products of CPU time, one core, bfloat16, 8 slices at a time unless it says otherwise;
slices a second at grid 128 / 256, where the network was 57.7 / 11.2 under autocast):

batch normalisations folded, ReLU and sums in place    67.5 / 14.0: kept (model/folded.py)
the same, 4 and 1 slices at a time                     71.2 / 18.6: kept; 16 at a time 60.7; 1 and 2 at grid 128
                                                       56.4 and 69.0
the same, not channels last                            49.3 / 8.6
float32                                                25.7 / 4.7
torch.compile, two cores, grid 128                     139 against 88-123 in turns, but 26 s until the first slice:
                                                       it pays after more than 10,000 slices, and is left out
oneDNN's fused convolution, sum and ReLU               no faster than in place; its operators are torch's own affair
(torch.ops.mkldnn)
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter, process_time
from typing import Any

import nibabel
import numpy as np
import psutil
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import napari_resunet as nru
from napari_resunet.case import Case
from napari_resunet.geometry import Geometry
from napari_resunet.inference.predict import BATCH, Prediction
from napari_resunet.inference.ready import ready_network
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import Model, load_model
from napari_resunet.model.device import choose_device
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet
from napari_resunet.model.slices import _at_once
from napari_resunet.phantom import make_phantom
from napari_resunet.settings import PredictSettings
from napari_resunet.volume import Volume
from napari_resunet.workflows import segment

SIDE, SPACING = 512, (1.0, 0.7, 0.7)
GRIDS = (128, 256)
EDITED_SLICES = 50
FEW_SLICES = 8  # of which lungmask has enough
MATRIX = 2048
WIDE = 64
PARTS = ("network", "runs", "first", "growth", "memory", "threshold", "start-up", "opening")
START_UPS = {
    "bare interpreter": ["-c", "pass"],
    "napari-resunet --help": ["-m", "napari_resunet", "--help"],
    "import napari_resunet": ["-c", "import napari_resunet"],
    "import torch": ["-c", "import torch"],
}
OPENING = """
from time import perf_counter
start = perf_counter()
import napari
viewer = napari.Viewer()
shown = perf_counter()
from napari_resunet.plugin.launch import show_widget
show_widget(viewer)
print(shown - start, perf_counter() - shown)
viewer.close()
"""


@dataclass(frozen=True)
class Bound:
    """What a figure is held to.

    Parameters
    ----------
    of : str
        What it is a multiple of.
    ratio, limit : float
        How many times that it is, and has to be.
    is_least : bool
        Whether it has to be at least as many, or at most.
    """

    of: str
    ratio: float
    limit: float
    is_least: bool = True

    @property
    def is_met(self) -> bool:
        return self.ratio >= self.limit if self.is_least else self.ratio <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.is_least else "<="
        said = "" if self.is_met else "  MISSED"
        return f"{self.ratio:.3g} {self.of}, bound {sign} {self.limit:g}{said}"


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
    bounds : tuple of Bound
        What it is held to.
    """

    what: str
    slices: int
    grid: int
    value: float
    unit: str
    bounds: tuple[Bound, ...] = ()


Tell = Callable[[Figure], None]


def now() -> float:
    return process_time() if torch.get_num_threads() == 1 else perf_counter()


def in_turns(
    works: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = now
) -> dict[str, float]:
    """Return the median time of each of some works in seconds, done in turns, after a round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = clock()
            work()
            times[name].append(clock() - start)
    return {name: median(found[1:]) for name, found in times.items()}


@cache
def chest(slices: int) -> Volume:
    """Return a made-up chest that is repeated until it has so many slices."""
    one = make_phantom(shape=(60, SIDE, SIDE), spacing_mm=(5.0, 0.7, 0.7)).volume.array
    array = np.concatenate([one] * -(-slices // len(one)))[:slices]
    return Volume(array, Geometry.from_spacing(array.shape, SPACING))


# ---- the network against matrix products


@cache
def shipped() -> Model:
    return load_model("lung-ct")


@cache
def wide() -> Model:
    card = shipped().card
    settings = NetworkSettings(width=WIDE)
    made = ModelCard(f"width {WIDE}", "1", "custom", settings, card.grid, card.window_hu)
    return Model(ResUNet(settings).eval(), made)


def flops(model: Model, grid: int) -> int:
    """Return the operations of one slice."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model.network(torch.zeros(1, 1, grid, grid))
    return int(counter.get_total_flops())


def squares() -> Callable[[], None]:
    """Return a product of large square matrices."""
    device = choose_device()
    matrix = torch.randn(MATRIX, MATRIX).to(device.torch, getattr(torch, device.precision))

    def multiply() -> None:
        (matrix @ matrix)[0, 0].item()  # a GPU is waited for

    return multiply


def as_matrices(model: Model, grid: int) -> tuple[Callable[[], None], int]:
    """Return the products that the convolutions of a batch would be as matrices, and how many slices that are."""
    device = choose_device()
    count = _at_once(torch.zeros(BATCH, 1, grid, grid), device)
    shapes: Counter[tuple[int, int, int]] = Counter()

    def note(part: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(part, nn.Conv2d):
            pixels = count * output.shape[2] * output.shape[3]
            shapes[pixels, part.weight[0].numel(), part.out_channels] += 1
        elif isinstance(part, nn.ConvTranspose2d):
            pixels = count * inputs[0].shape[2] * inputs[0].shape[3]
            shapes[pixels, part.in_channels, part.weight[0].numel()] += 1

    hooks = [part.register_forward_hook(note) for part in model.network.modules()]
    with torch.inference_mode():
        model.network(torch.zeros(1, 1, grid, grid))
    for hook in hooks:
        hook.remove()
    placed = {"device": device.torch, "dtype": getattr(torch, device.precision)}
    pairs = [
        (torch.ones(m, k, **placed), torch.ones(k, n, **placed), times) for (m, k, n), times in shapes.items()
    ]

    def multiply() -> None:
        for left, right, times in pairs:
            for _ in range(times):
                product = left @ right
        product[0, 0].item()

    return multiply, count


def alone(model: Model, slices: int, *grids: int) -> Callable[[], None]:
    """Return a run of the network as `predict` runs it, with nothing before or after it."""
    device = choose_device()
    network = ready_network(model, device).network
    parts: list[torch.Tensor] = []
    for grid in grids:
        image = torch.rand(BATCH, 1, grid, grid).to(device.torch, memory_format=torch.channels_last)
        parts += torch.split(image, _at_once(image, device))

    def run() -> None:
        with torch.inference_mode():
            for _ in range(0, slices, BATCH):
                for part in parts:
                    found = network(part)
            found[0, 0, 0, 0].item()  # a GPU is waited for

    return run


def against_products(model: Model, grid: int, rounds: int, tell: Tell) -> None:
    """Hold a network to the matrix products; what the one that ships reaches of them is told."""
    is_shipped = model is shipped()
    name = "network" if is_shipped else f"network of {model.card.name}"
    multiply, count = as_matrices(model, grid)
    slices = 8 * BATCH
    works = {"square": squares(), "im2col": multiply, "network": alone(model, slices, grid)}
    times = in_turns(works, 3 * rounds)
    square = 2 * MATRIX**3 / times["square"] / flops(model, grid)
    im2col = count / times["im2col"]
    speed = slices / times["network"]
    tell(Figure(f"matrix product for the {name}", 0, grid, square, "slices/s"))
    tell(Figure(f"its convolutions as im2col products, {name}", 0, grid, im2col, "slices/s"))
    bound = Bound("of the matrix product", speed / square, 0.70)
    if is_shipped:
        tell(Figure(f"{name}, {bound.ratio:.2f} of the matrix product", 0, grid, speed, "slices/s"))
    else:
        tell(Figure(name, 0, grid, speed, "slices/s", (bound,)))


# ---- whole runs


def with_lungmask() -> Callable[[], object] | None:
    """Return lungmask's inference on a few slices; None if it is not installed."""
    try:
        from lungmask import mask
        from lungmask.resunet import UNet
    except ImportError:
        return None
    shape = {"n_classes": 3, "padding": True, "depth": 5, "up_mode": "upsample", "batch_norm": True}
    mask.get_model = lambda *_: UNet(**shape, residual=False).eval()
    inferer = mask.LMInferer(volume_postprocessing=False, tqdm_disable=True)
    return partial(inferer.apply, chest(FEW_SLICES).array)


def whole_runs(slices: int, grid: int, folder: Path, rounds: int, tell: Tell) -> None:
    """Hold `predict` and a run from file to file to the network and to lungmask."""
    volume = chest(slices)
    ct, mask = folder / "ct.nii", folder / "lungs.nii.gz"
    nibabel.Nifti1Image(volume.array.T, volume.geometry.ras_affine).to_filename(ct)
    works: dict[str, Callable[[], object]] = {
        "network": alone(shipped(), slices, *sorted({shipped().card.grid, grid})),
        "predict": partial(nru.predict, volume, grid=grid),
        "file to file": partial(segment, ct, mask, predict_settings=PredictSettings(grid=grid)),
    }
    other = with_lungmask()
    if other is not None:
        works["lungmask"] = other
    times = in_turns(works, rounds)
    speeds = {name: slices / seconds for name, seconds in times.items()}
    bounds: dict[str, list[Bound]] = {
        "predict": [Bound("of the network", times["network"] / times["predict"], 0.75)]
    }
    if other is not None:
        speeds["lungmask"] = FEW_SLICES / times["lungmask"]
        limits = {"predict": 40 if grid == GRIDS[0] else 12} | (
            {"file to file": 20} if grid == GRIDS[0] else {}
        )
        for name, limit in limits.items():
            bounds.setdefault(name, []).append(
                Bound("times lungmask", speeds[name] / speeds["lungmask"], limit)
            )
    for name, speed in speeds.items():
        size = FEW_SLICES if name == "lungmask" else slices
        at = 256 if name == "lungmask" else grid
        tell(Figure(name, size, at, speed, "slices/s", tuple(bounds.get(name, []))))


def first_slices(slices: int, grid: int, rounds: int, tell: Tell) -> None:
    """Hold the time until something can be shown to the time of a batch."""
    volume = chest(slices)
    firsts, others = [], []
    for _ in range(rounds + 1):
        marks = [now()]
        for _, _batch in zip(range(4), Prediction(volume, grid=grid).batches(), strict=False):
            marks.append(now())
        firsts.append(marks[1] - marks[0])
        others += np.diff(marks[1:]).tolist()
    first, batch = median(firsts[1:]), median(others[3:])
    bound = Bound("batches", first / batch, 3, is_least=False)
    tell(Figure("first slices shown", slices, grid, 1e3 * first, "ms", (bound,)))


def growth(sizes: Sequence[int], rounds: int, tell: Tell) -> None:
    """Hold the time of `predict` to growing with the number of slices."""
    works = {str(size): partial(nru.predict, chest(size), grid=GRIDS[0]) for size in sizes}
    times = in_turns(works, rounds)
    slope = np.polyfit(np.log(sizes), np.log([times[str(size)] for size in sizes]), 1)[0]
    bound = Bound("as exponent", float(slope), 1.05, is_least=False)
    tell(Figure("growth", sizes[-1], GRIDS[0], float(slope), "", (bound,)))


def threshold_moves(slices: int, rounds: int, tell: Tell) -> None:
    """Hold a threshold move with edits to a bare comparison."""
    case = Case(chest(slices))
    case.change_settings(clean=False)
    random = np.random.default_rng(0)
    for z in range(slices):
        case.probability[z] = random.integers(0, 256, (SIDE, SIDE), np.uint8)
    case.done[...] = True
    case.set_threshold(0.5)
    for z in range(0, slices, max(1, slices // EDITED_SLICES)):
        case.mask[z, 100:120, 100:120] ^= 1
    case.absorb_edits()
    levels = iter(np.resize([0.3, 0.6], 10_000))
    bare = np.empty(case.probability.shape, np.bool_)
    works = {
        "move": lambda: case.set_threshold(float(next(levels))),
        "bare": lambda: np.greater_equal(case.probability, 128, out=bare),
    }
    times = in_turns(works, 5 * rounds)
    bound = Bound("bare comparisons", times["move"] / times["bare"], 3, is_least=False)
    tell(Figure("threshold move", slices, 0, 1e3 * times["move"], "ms", (bound,)))


# ---- memory and start-up


def peak_bytes(slices: int, grid: int) -> int:
    """Return how much memory a run takes at its peak, above program, model and volume."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak_of_a_run, (slices, grid))


def _peak_of_a_run(slices: int, grid: int) -> int:
    nru.predict(chest(BATCH), grid=grid)  # loads all there is to load
    volume = chest(slices)
    gc.collect()
    process, seen, is_over = psutil.Process(), [0], Event()

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


def memory(sizes: Sequence[int], tell: Tell) -> None:
    """Hold the memory of a run to that of the CT."""
    for size in sizes:
        volumes = peak_bytes(size, GRIDS[0]) / (2 * size * SIDE * SIDE)
        bound = Bound("volumes of int16", volumes, 2, is_least=False)
        tell(Figure("memory", size, GRIDS[0], volumes, "volumes", (bound,)))


def start_ups(rounds: int, tell: Tell) -> None:
    """Hold the start of commands to that of a bare interpreter."""
    works = {
        name: partial(subprocess.run, [sys.executable, *line], check=True, capture_output=True)
        for name, line in START_UPS.items()
    }
    times = in_turns(works, rounds, perf_counter)
    for name, seconds in times.items():
        ratio = seconds / times["bare interpreter"]
        bounded = (Bound("bare interpreters", ratio, 15, is_least=False),) if name.endswith("--help") else ()
        tell(Figure(name, 0, 0, 1e3 * seconds, "ms", bounded))


def opening(rounds: int, tell: Tell) -> None:
    """Hold the widget's share of the time that napari takes to open; nothing where there is no display."""
    command = [sys.executable, "-W", "ignore", "-c", OPENING]
    if "DISPLAY" not in os.environ:
        if shutil.which("xvfb-run") is None:
            return
        command = ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24 +extension GLX", *command]
    # as in an installed package, where the bytecode lies beside the code: the first round writes it
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = []
    with TemporaryDirectory() as nothing_left_behind:  # by a crash, which would be looked into
        environment["NAPARI_RESUNET_STATE"] = nothing_left_behind
        for _ in range(rounds + 1):
            said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            found.append([float(seconds) for seconds in said.split()])
    napari, widget = np.median(found[1:], axis=0)
    bound = Bound("of opening napari with it", widget / (napari + widget), 0.10, is_least=False)
    tell(Figure("widget", 0, 0, 1e3 * widget, "ms", (bound,)))


# ---- all of it


def measure(sizes: Sequence[int], rounds: int, parts: Sequence[str], tell: Tell) -> None:
    """Take the figures of some parts, one after the other."""
    main_size = sizes[len(sizes) // 2]
    with TemporaryDirectory() as folder:
        for grid in GRIDS:
            if "network" in parts:
                against_products(shipped(), grid, rounds, tell)
            if "runs" in parts:
                whole_runs(main_size, grid, Path(folder), rounds, tell)
            if "first" in parts:
                first_slices(main_size, grid, rounds, tell)
    if "network" in parts:
        against_products(wide(), GRIDS[0], rounds, tell)
    if "growth" in parts:
        growth(sizes, rounds, tell)
    if "memory" in parts:
        memory(sizes, tell)
    if "threshold" in parts:
        threshold_moves(sizes[-1], rounds, tell)
    if "start-up" in parts:
        start_ups(rounds, tell)
    if "opening" in parts:
        opening(rounds, tell)


def machine() -> str:
    """Return what this was measured on."""
    device = choose_device()
    busy = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    where = [platform.machine(), device.label, device.precision, f"torch {torch.__version__}", busy]
    return ", ".join(filter(None, where))


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


def table_of(figures: list[Figure]) -> Table:
    table = Table("", "slices", "grid", "median", "held to", title=machine())
    for figure in figures:
        counts = [str(n) if n else "" for n in (figure.slices, figure.grid)]
        held = "; ".join(map(str, figure.bounds))
        style = None if all(bound.is_met for bound in figure.bounds) else "red"
        table.add_row(figure.what, *counts, f"{figure.value:.3g} {figure.unit}", held, style=style)
    return table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    wanted = parser.parse_args()
    if wanted.busy:
        torch.set_num_threads(1)
    console, figures = Console(), []

    def tell(figure: Figure) -> None:
        figures.append(figure)
        held = "; ".join(map(str, figure.bounds))
        console.print(f"{figure.what} {figure.value:.3g} {figure.unit} {held}", style="dim", highlight=False)

    measure(sorted(wanted.slices), wanted.rounds, wanted.only, tell)
    console.print(table_of(figures))
    missed = [figure for figure in figures if not all(bound.is_met for bound in figure.bounds)]
    if wanted.json:
        told: dict[str, Any] = {"machine": machine(), "figures": [asdict(figure) for figure in figures]}
        wanted.json.write_text(json.dumps(told, indent=2) + "\n")
    if wanted.picture:
        draw(figures, wanted.picture)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
