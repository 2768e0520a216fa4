"""Whether the fast network gives the masks of the plain one, on real CT.

    python tests/benchmarks/same_masks.py FOLDER [--grids 128 256] [--slices 40] [--json FILE]

FOLDER holds CT of any format (``*_ct.nii.gz``, DICOM folders whose name ends in ``_dicom``). The fast one is what
`predict` runs here: folded batch normalisations, in the precision of the machine. The plain one is the network of the
weights file in float32, layer by layer. Of each CT the middle slices are run; masks are the probabilities at the
threshold, not cleaned up: the clean-up hides what differs. Exit code 1 where a Dice is below the bound.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import napari_resunet as nru
from napari_resunet.inference.predict import Prediction
from napari_resunet.model.checkpoint import load_model
from napari_resunet.model.device import Device
from napari_resunet.model.slices import slice_probabilities
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import Volume, threshold_level

LEAST_DICE = 0.9995
PLAIN = Device("cpu", "float32", "the CPU, layer by layer")


@dataclass(frozen=True)
class Compared:
    """How far two runs over one CT are apart.

    Parameters
    ----------
    name : str
        Of the CT.
    grid, slices : int
        Of the network, and how many were run.
    dice : float
        Of the masks; 1 where both are empty.
    differ, lung : int
        Voxels in one mask and not in the other, and in the plain one.
    largest : float
        Difference of a probability, from 0 to 1.
    where : str
        The slice with most of the voxels that differ, and how many of all lie at the rim of the plain mask.
    """

    name: str
    grid: int
    slices: int
    dice: float
    differ: int
    lung: int
    largest: float
    where: str


def cts(folder: Path) -> Iterator[Path]:
    """Yield the CT in a folder."""
    yield from sorted(folder.rglob("*_ct.nii.gz"))
    yield from sorted(path for path in folder.rglob("*_dicom") if path.is_dir())


def compare(name: str, volume: Volume, grid: int, most: int) -> Compared:
    """Run both networks over the middle slices of a CT."""
    count = len(volume.axial)
    first = max(0, (count - most) // 2 // 8 * 8)
    run = Prediction(volume, grid=grid, slices=(first, min(count, first + most)))
    plain, card = load_model("lung-ct").network, load_model("lung-ct").card
    level = threshold_level(MaskSettings.threshold)
    lung = fast_lung = differ = rim = worst = largest = 0
    at = "nowhere"
    for batch in run.batches():
        expected = slice_probabilities(
            plain, card, volume.axial[batch.start : batch.stop], crop=run.run.crop, grid=grid, device=PLAIN
        )
        largest = max(largest, int(np.abs(expected.astype(int) - batch.probabilities).max()))
        is_lung, is_fast = expected >= level, batch.probabilities >= level
        apart = is_lung != is_fast
        lung, fast_lung = lung + int(is_lung.sum()), fast_lung + int(is_fast.sum())
        rim += int((apart & _rim(is_lung)).sum())
        for z, voxels in enumerate(apart.sum(axis=(1, 2)), batch.start):
            differ += int(voxels)
            if voxels > worst:
                worst, at = int(voxels), f"slice {z} ({voxels})"
    dice = (lung + fast_lung - differ) / (lung + fast_lung) if lung + fast_lung else 1.0
    where = f"most in {at}; {rim} of {differ} at the rim"
    return Compared(name, grid, min(count, most), dice, differ, lung, largest / 255, where)


def _rim(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of which a neighbour in the slice is on the other side of the outline."""
    rim = np.zeros_like(mask)
    for axis in (1, 2):
        steps = np.diff(mask, axis=axis)
        before, after = [slice(None)] * 3, [slice(None)] * 3
        before[axis], after[axis] = slice(-1), slice(1, None)
        rim[tuple(before)] |= steps
        rim[tuple(after)] |= steps
    return rim


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--grids", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    console, found = Console(), []
    for path in cts(wanted.folder):
        volume = nru.read_volume(path)
        for grid in wanted.grids:
            found.append(compare(path.name, volume, grid, wanted.slices))
            console.print(f"{path.name} {grid} {found[-1].dice:.6f}", style="dim")
    table = Table("CT", "grid", "slices", "Dice", "voxels that differ", "of lung", "largest", "where")
    for each in found:
        style = None if each.dice >= LEAST_DICE else "red"
        table.add_row(
            each.name,
            str(each.grid),
            str(each.slices),
            f"{each.dice:.6f}",
            str(each.differ),
            str(each.lung),
            f"{each.largest:.3f}",
            each.where,
            style=style,
        )
    console.print(table)
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    return 1 if not found or min(each.dice for each in found) < LEAST_DICE else 0


if __name__ == "__main__":
    sys.exit(main())
