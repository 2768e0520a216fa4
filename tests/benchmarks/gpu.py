"""How fast a CUDA GPU segments a CT: network, transfers, batch sizes, precisions; where there is none, it says so.

    python tests/benchmarks/gpu.py [--slices 300] [--json FILE]

Exit code 0 also where there is no GPU. The CT is a made-up chest of 512 x 512 pixels; times are medians of 5 repeats
after one to warm up, each ended by waiting for the GPU.

network     alone: folded or layer by layer under autocast, batch sizes, channels last or not, precisions, and the
            same captured as a CUDA graph
transfer    of a batch of slices to the GPU and back, from pinned memory and from any other
predict     HU on the native grid to probabilities on the native grid, one batch ahead and without
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import napari_resunet as nru
from napari_resunet.geometry import Geometry
from napari_resunet.inference.predict import BATCH, Prediction
from napari_resunet.model.checkpoint import load_model
from napari_resunet.model.device import choose_device
from napari_resunet.model.folded import FoldedResUNet
from napari_resunet.phantom import make_phantom
from napari_resunet.volume import Volume

SIDE = 512
GRIDS = (128, 256)
BATCHES = (1, 4, 8, 16, 32, 64)
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)
Rows = list[tuple[str, int, int, float, str]]


def timed(work: Callable[[], object]) -> float:
    """Return the median time of some work on the GPU in seconds."""
    times = []
    for _ in range(6):
        torch.cuda.synchronize()
        start = perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return median(times[1:])


def images(batch: int, grid: int, layout: torch.memory_format) -> Tensor:
    return torch.rand(batch, 1, grid, grid, device="cuda").to(memory_format=layout)


@torch.inference_mode()
def networks(rows: Rows) -> None:
    """Measure the network alone."""
    plain = load_model("lung-ct").network.cuda()
    last, first = torch.channels_last, torch.contiguous_format
    for grid in GRIDS:
        for dtype in PRECISIONS:
            folded = FoldedResUNet(plain, dtype).to("cuda", memory_format=last)  # type: ignore[call-overload]
            name = str(dtype).removeprefix("torch.")
            for batch in BATCHES:
                speed = batch / timed(partial(folded, images(batch, grid, last)))
                rows.append((f"network, folded, {name}", grid, batch, speed, "slices/s"))
        half = FoldedResUNet(plain, torch.float16).to("cuda", memory_format=last)  # type: ignore[call-overload]
        graph = captured(half, images(BATCH, grid, last))
        rows.append(("network, folded, float16, CUDA graph", grid, BATCH, BATCH / timed(graph), "slices/s"))
        flat = FoldedResUNet(plain, torch.float16).to("cuda", memory_format=first)  # type: ignore[call-overload]
        speed = BATCH / timed(partial(flat, images(BATCH, grid, first)))
        rows.append(("network, folded, float16, not channels last", grid, BATCH, speed, "slices/s"))
        with torch.autocast("cuda", torch.float16):
            speed = BATCH / timed(partial(plain, images(BATCH, grid, last)))
        rows.append(("network, layer by layer, autocast float16", grid, BATCH, speed, "slices/s"))


def captured(network: nn.Module, image: Tensor) -> Callable[[], None]:
    """Return the network over an image as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # cuDNN chooses its kernels before they are captured
        for _ in range(3):
            network(image)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(image)
    replay: Callable[[], None] = graph.replay
    return replay


def transfers(rows: Rows) -> None:
    """Measure what a batch of slices takes to the GPU, and its probabilities back."""
    there = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.int16)
    back = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.uint8, device="cuda")
    pinned = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.uint8, pin_memory=True)
    works = {
        "to the GPU, any memory": lambda: there.cuda(),
        "to the GPU, pinned on the way": lambda: there.pin_memory().cuda(non_blocking=True),
        "back, any memory": lambda: back.cpu(),
        "back, pinned": lambda: pinned.copy_(back, non_blocking=True),
    }
    for name, work in works.items():
        rows.append((f"transfer {name}", 0, BATCH, 1e3 * timed(work), "ms"))


def runs(rows: Rows, slices: int) -> None:
    """Measure `predict`, and the same one batch after the other."""
    one = make_phantom(shape=(60, SIDE, SIDE), spacing_mm=(5.0, 0.7, 0.7)).volume.array
    array = np.concatenate([one] * -(-slices // len(one)))[:slices]
    volume = Volume(array, Geometry.from_spacing(array.shape, (1.0, 0.7, 0.7)))
    for grid in GRIDS:
        speed = slices / timed(partial(nru.predict, volume, device="cuda", grid=grid))
        rows.append(("predict", grid, BATCH, speed, "slices/s"))
        speed = slices / timed(partial(one_by_one, volume, grid))
        rows.append(("predict, no batch ahead", grid, BATCH, speed, "slices/s"))


def one_by_one(volume: Volume, grid: int) -> None:
    run = Prediction(volume, device="cuda", grid=grid)
    for block in run.blocks:
        run.predict(block)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    console = Console()
    if not torch.cuda.is_available():
        console.print("there is no CUDA GPU here, or torch was built without CUDA: nothing was measured")
        return
    rows: Rows = []
    networks(rows)
    transfers(rows)
    runs(rows, wanted.slices)
    table = Table("", "grid", "batch", "median", title=f"{choose_device().label}, torch {torch.__version__}")
    for what, grid, batch, value, unit in rows:
        table.add_row(what, str(grid or ""), str(batch), f"{value:.3g} {unit}")
    console.print(table)
    if wanted.json:
        wanted.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
