"""Teaches the shipped model another convention on three corrected chests, and measures a fourth: a table.

    python tests/benchmarks/finetune.py DATA [--quick | --defaults] [--steps 300] [--out FOLDER]

DATA holds `train` and `val`; DATA/test is never opened. The convention is "trachea and main bronchi are lung": each
mask gets the airway, which is grown in air from the trachea above the lungs, and the voxels that come in count as
edited by hand. Learnt with and without replay, and with edits weighing 1 and 4. Dice is on the native grid, threshold
0.5, nothing cleaned up:

- new: the fourth chest by the new convention.
- old: the fourth chest and the validation cases by their masks as they are. The new convention alone costs some of it.
- elsewhere: the same with the airway left out, where old and new say the same: what was forgotten.

Exits 1 if with the defaults (replay 0.25, edits 4) "new" does not rise, or "elsewhere" drops by more than 0.01.
`--defaults` learns with those alone; `--quick` so, and makes few steps on few slices.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cc3d
import numpy as np
import numpy.typing as npt
import SimpleITK
import torch
from rich.console import Console
from rich.table import Table
from scipy import ndimage

from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import Model, load_model
from napari_resunet.model.device import Device, choose_device
from napari_resunet.model.resunet import ResUNet
from napari_resunet.model.slices import slice_probabilities
from napari_resunet.settings import LearnSettings
from napari_resunet.training.cases import TrainingCase, find_cases, find_pair
from napari_resunet.training.corrected import REVIEWED, CorrectedCase, Lesson
from napari_resunet.training.dataset import LabelledCase, load_case
from napari_resunet.training.finetune import FineTuning, gather

LEARNT = ("lidc/LIDC-IDRI-0002", "lidc/LIDC-IDRI-0003", "lung-dx/A0001_B")
FOURTH = "lidc/LIDC-IDRI-0314"
ALLOWED_DROP = 0.01
AIR_HU = (-1100.0, -700.0)
WALL_HU = -400.0  # as the masks of the lungs end
TRACHEA_MM2 = (50.0, 800.0)
ABOVE_MM = 25.0  # of the top of the lungs, where the trachea is looked for

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Chest:
    """A case with its airway."""

    case: LabelledCase
    airway: Bools


def airway_of(case: LabelledCase, spacing_mm: tuple[float, float, float]) -> Bools:
    """Return trachea and main bronchi up to the lungs, (z, y, x); nothing where no trachea is found."""
    lungs = case.lungs > 0
    seed = trachea_above(case, lungs, spacing_mm)
    if seed is None:
        return np.zeros_like(lungs)
    hu = np.where(lungs, 0, case.slices).astype(np.float32)
    grown = SimpleITK.ConnectedThreshold(SimpleITK.GetImageFromArray(hu), [seed[::-1]], *AIR_HU)
    airway = SimpleITK.GetArrayFromImage(grown) > 0
    # one voxel more within the slice: the wall is partly air, and so are the rims of the lungs
    rim = ndimage.binary_dilation(airway, structure=np.ones((1, 3, 3)))
    return (airway | (rim & (case.slices < WALL_HU))) & ~lungs


def trachea_above(
    case: LabelledCase, lungs: Bools, spacing_mm: tuple[float, float, float]
) -> tuple[int, int, int] | None:
    """Return a voxel of the trachea: the topmost piece of air, of its size and near the middle of the body."""
    top = int(np.flatnonzero(lungs.any(axis=(1, 2)))[-1])
    highest = min(len(lungs) - 1, top + round(ABOVE_MM / spacing_mm[0]))
    y0, y1, x0, x1 = case.box
    for z in range(highest, top - 3, -1):
        found = case.slices[z]
        air = (found > AIR_HU[0]) & (found < AIR_HU[1]) & ~lungs[z]
        pieces, count = cc3d.connected_components(air[None], connectivity=6, return_N=True)
        for piece in range(1, count + 1):
            rows, columns = np.nonzero(pieces[0] == piece)
            area = len(rows) * spacing_mm[1] * spacing_mm[2]
            y, x = rows.mean(), columns.mean()
            is_middle = abs(x - (x0 + x1) / 2) < 0.15 * (x1 - x0) and 0.2 < (y - y0) / (y1 - y0) < 0.75
            if TRACHEA_MM2[0] < area < TRACHEA_MM2[1] and is_middle:
                at = np.argmin((rows - y) ** 2 + (columns - x) ** 2)
                return z, int(rows[at]), int(columns[at])
    return None


def load_chest(case: TrainingCase, every: int) -> Chest:
    """Read a case, find its airway, and keep every so many slices."""
    from napari_resunet.io.files import read_volume

    loaded = load_case(case)
    if case.mask is None or len(loaded.slices) < 2 or not loaded.lungs.any():
        airway = np.zeros(loaded.lungs.shape, dtype=bool)
    else:
        geometry = read_volume(case.image).geometry
        axial = geometry.reordered(geometry.to_axial)
        airway = airway_of(loaded, tuple(axial.spacing_mm))
    thin = dataclasses.replace(loaded, slices=loaded.slices[::every], lungs=loaded.lungs[::every])
    return Chest(thin, airway[::every])


def lesson_of(chest: Chest) -> Lesson:
    """Return the chest as a person would have corrected it."""
    case, name = chest.case, chest.case.case.name
    new = ((case.lungs > 0) | chest.airway).astype(np.uint8)
    corrected = CorrectedCase(name, case.slices, new, chest.airway, np.full(len(new), REVIEWED))
    return Lesson(name, case.case.patient, lambda _: corrected)


def found_in(network: ResUNet, card: ModelCard, case: LabelledCase, device: Device) -> Bools:
    parts = np.array_split(case.slices, math.ceil(len(case.slices) / 8))
    with_lung = [
        slice_probabilities(network, card, part, crop=case.box, grid=card.grid, device=device) > 127
        for part in parts
    ]
    return np.concatenate(with_lung)


def dice(one: Bools, other: Bools) -> float:
    return float(2 * np.count_nonzero(one & other) / max(1, one.sum() + other.sum()))


def scores(model: Model, fourth: Chest, others: Sequence[Chest], device: Device) -> dict[str, float]:
    """Return the Dice of the fourth chest by the new convention, of all by the old one, and outside of the airway."""
    network = model.network.to(device.torch, memory_format=torch.channels_last)
    old, elsewhere, new = [], [], 0.0
    for chest in (fourth, *others):
        if not chest.case.lungs.any():
            continue
        found, lungs = found_in(network, model.card, chest.case, device), chest.case.lungs > 0
        if chest is fourth:
            new = dice(found, lungs | chest.airway)
        old.append(dice(found, lungs))
        elsewhere.append(dice(found & ~chest.airway, lungs))
    return {"new": new, "old": float(np.mean(old)), "elsewhere": float(np.mean(elsewhere))}


def taught(
    chests: Sequence[Chest], settings: LearnSettings, path: Path, device: Device, console: Console
) -> Path:
    """Let the shipped model learn from some chests, and return where the result is."""
    parent = load_model(settings.parent)
    material = gather([lesson_of(chest) for chest in chests], [], card=parent.card, settings=settings)
    tuning = FineTuning(material, parent, settings=settings, device=device, model_path=path)
    for step in tuning.steps():
        if step.line is not None:
            console.print(
                f"{path.stem}: step {step.done} of {step.of}, made-up chests {step.line.replay:.4f}"
            )
    return tuning.candidate


def main() -> int:
    """Print the table; return 1 if the defaults do not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--defaults", action="store_true")
    parser.add_argument("--steps", type=int, default=LearnSettings.steps)
    parser.add_argument("--out", type=Path, help="keep the models here; a learning that was cut off goes on")
    given = parser.parse_args()
    torch.set_num_threads(2)
    steps, every = (min(given.steps, 20), 6) if given.quick else (given.steps, 2)
    variants = [(0.25, 4.0)]
    if not (given.quick or given.defaults):
        variants += [(0.0, 4.0), (0.25, 1.0), (0.0, 1.0)]
    device, console = choose_device("cpu"), Console(width=110)

    pairs = [find_pair(given.data / "train" / f"{name}_ct.nii.gz") for name in (*LEARNT, FOURTH)]
    *learnt, fourth = (load_chest(pair, every) for pair in pairs)
    for chest in (*learnt, fourth):
        voxels = int(chest.airway.sum())
        console.print(
            f"{chest.case.case.name}: airway {voxels} voxels, {voxels / chest.case.lungs.sum():.2%} of lung"
        )
        if not voxels:
            console.print("no trachea was found in it: nothing is there to be learnt")
            return 1
    others = [load_chest(case, every) for case in find_cases(given.data / "val")]
    parent = load_model(LearnSettings.parent)
    before = scores(parent, fourth, others, device)

    table = Table(
        "replay", "edits", *(f"{name} {when}" for name in before for when in ("before", "after")), "s"
    )
    failed = False
    with tempfile.TemporaryDirectory() as temporary:
        for replay, weight in variants:
            settings = LearnSettings(
                steps=steps, replay=replay, edited_weight=weight, validate_every=max(1, steps // 3)
            )
            path = (given.out or Path(temporary)) / f"replay {replay:g} edits {weight:g}.safetensors"
            began = time.perf_counter()
            candidate = taught(learnt, settings, path, device, console)
            took = time.perf_counter() - began
            after = scores(load_model(candidate), fourth, others, device)
            figures = [f"{each[name]:.4f}" for name in before for each in (before, after)]
            table.add_row(f"{replay:g}", f"{weight:g}", *figures, f"{took:.0f}")
            if (replay, weight) == variants[0]:
                lost = before["elsewhere"] - after["elsewhere"]
                failed = after["new"] <= before["new"] or lost > ALLOWED_DROP
    console.print(table)
    console.print("failed" if failed else "held", "with the defaults, replay 0.25 and edits 4")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
