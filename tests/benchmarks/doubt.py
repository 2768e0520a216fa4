"""How well the doubt finds the slices where the mask is worst, on CTs with a reference: a table.

    python tests/benchmarks/doubt.py FOLDER

FOLDER is searched for pairs NAME_ct.nii.gz (or a DICOM folder NAME_dicom) and NAME_lungs.nii.gz, a mask of 0 and 1 on
the same grid. Each CT is segmented as the window does by default; its slices are ranked by doubt, and by the baseline
"the smallest mask first". The worst tenth of the slices by Dice, on the grid of the CT, is to be found:

prec 10 %   the share of the first tenth looked at that belongs to the worst tenth
found 20 %  the share of the worst tenth that is among the first fifth looked at
AP, AUROC   average precision and area under the ROC curve, over the whole order
rho         Spearman correlation of the doubt with 1 - Dice

In random order they come to 0.10, 0.20, about 0.10, 0.50 and 0. Slices that hold lung in the mask or in the reference
are ranked. That is kind to the baseline: it is spared the slices without lung, whose mask is the smallest of all.
With --all, all slices are ranked, those without lung in both as Dice 1. CTs of fewer than 10 such slices are put
together and ranked as one; CTs without any lung are left out.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy import stats

import napari_resunet as nru
from napari_resunet.measure.doubt import slice_doubt
from napari_resunet.model.checkpoint import Model
from napari_resunet.settings import MaskSettings

Floats = npt.NDArray[np.float64]

LEAST_SLICES = 10
NAMES = ("prec 10 %", "found 20 %", "AP", "AUROC", "rho")


@dataclass(frozen=True, eq=False)
class Slices:
    """What is known of each slice that is ranked."""

    dice: Floats
    doubt: Floats
    area_mm2: Floats


def main() -> None:
    """Print the table of a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="rank the slices without lung, too")
    arguments = parser.parse_args()
    model = nru.load_model("lung-ct")
    cases, few = {}, []
    for name, ct, reference in pairs(arguments.folder):
        slices = measured(ct, reference, model, everywhere=arguments.all)
        if len(slices.dice) >= LEAST_SLICES:
            if np.ptp(slices.dice) > 0:  # else no slice is worse than another
                cases[name] = slices
        else:
            few.append(slices)
    together = joined(few)
    if len(together.dice) >= LEAST_SLICES:
        cases["the rest, as one"] = together
    if not cases:
        parser.error(f"{arguments.folder} holds no pairs NAME_ct.nii.gz, NAME_lungs.nii.gz with enough lung")
    Console(width=120).print(table(cases))


def pairs(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the name, the CT and the reference of each pair in a folder."""
    for reference in sorted(folder.rglob("*_lungs.nii.gz")):
        name = reference.name.removesuffix("_lungs.nii.gz")
        for ct in (reference.with_name(f"{name}_ct.nii.gz"), reference.with_name(f"{name}_dicom")):
            if ct.exists():
                yield name, ct, reference


def measured(ct: Path, reference: Path, model: Model, *, everywhere: bool) -> Slices:
    """Segment a CT, and measure its slices that hold lung in the mask or in the reference, or all of them."""
    volume, truth = nru.read_volume(ct), nru.read_mask(reference).axial > 0
    probability = nru.predict(volume, model=model)
    mask = nru.to_mask(probability).axial > 0
    spacing_mm = volume.axial_geometry.spacing_mm
    doubt = slice_doubt(
        probability.axial,
        threshold=MaskSettings.threshold,
        spacing_mm=spacing_mm,
        done=probability.done,
    )
    size, true_size, shared = (np.count_nonzero(part, axis=(1, 2)) for part in (mask, truth, mask & truth))
    both = size + true_size
    dice = np.where(both > 0, 2 * shared / np.maximum(both, 1), 1.0)
    ranked = (both > 0) | everywhere
    return Slices(dice[ranked], doubt.total[ranked], size[ranked] * float(np.prod(spacing_mm[1:])))


def joined(parts: list[Slices]) -> Slices:
    """Put the slices of several CTs into one."""
    return Slices(
        *(
            np.concatenate([np.zeros(0), *(getattr(part, name) for part in parts)])
            for name in ("dice", "doubt", "area_mm2")
        )
    )


def figures(order_by: Floats, dice: Floats) -> list[float]:
    """Return how well slices ranked by the largest `order_by` first find those of the lowest Dice."""
    count = math.ceil(len(dice) / 10)
    is_worst = np.zeros(len(dice), dtype=bool)
    is_worst[np.argsort(dice, kind="stable")[:count]] = True
    found = is_worst[np.argsort(-order_by, kind="stable")]
    places = np.flatnonzero(found) + 1
    pairs_in_order = stats.mannwhitneyu(order_by[is_worst], order_by[~is_worst]).statistic
    return [
        float(figure)
        for figure in (
            found[:count].mean(),
            found[: math.ceil(len(dice) / 5)].sum() / count,
            (np.arange(1, count + 1) / places).mean(),
            pairs_in_order / (count * (len(dice) - count)),
            stats.spearmanr(order_by, 1 - dice).statistic,
        )
    ]


def table(cases: dict[str, Slices]) -> Table:
    """Return the figures of each case, of the doubt / of the smallest mask first."""
    result = Table(
        "CT",
        "slices",
        "Dice",
        *NAMES,
        title="doubt / smallest mask first",
        caption="Dice is the mean of the slices. In random order: 0.10, 0.20, about 0.10, 0.50, 0.",
    )
    every = []
    for name, slices in cases.items():
        both = np.array([figures(by, slices.dice) for by in (slices.doubt, -slices.area_mm2)])
        every.append(both)
        result.add_row(name, str(len(slices.dice)), f"{slices.dice.mean():.3f}", *cells(both))
    result.add_section()
    result.add_row("mean", "", "", *cells(np.mean(every, axis=0)))
    return result


def cells(both: Floats) -> list[str]:
    """Return each figure of the doubt and of the baseline as text."""
    return [f"{ours:.2f} / {baseline:.2f}" for ours, baseline in both.T]


if __name__ == "__main__":
    main()
