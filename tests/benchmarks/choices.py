"""What is best done with a trained model at test time, and whether its probabilities mean something.

    python tests/benchmarks/choices.py DATA [--models lung-ct FILE ...] [--grids 128 256] [--corrections CSV]
        [--out FOLDER]

DATA holds `train` and `val`; choices are made on `val`. Of each model and grid the table has the mean Dice over the
validation cases that hold lung: as it is, mirrored and averaged, smoothed over neighbouring slices, each at several
thresholds, cleaned up or not; and the share of slices without lung on which more than 0.1 % is called lung.

Calibration is looked at where it matters: voxels with a probability from 0.02 to 0.98. ECE is the mean distance of
the probability from the share that is lung, in ten bins; the temperature is the one that makes the reference likeliest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage, special
from scoring import Predict, dice, predictor

from napari_resunet.imaging.components import clean
from napari_resunet.training import cases, dataset
from napari_resunet.training.calibration import best_temperature, logits_of, unsure_voxels
from napari_resunet.training.corrections import read_corrections

matplotlib.use("Agg")
from matplotlib import pyplot as plt

THRESHOLDS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)


def _mirrored(predict: Predict, case: dataset.LabelledCase) -> np.ndarray:
    """Return what is found in the mirror image, mirrored back."""
    y0, y1, x0, x1 = case.box
    width = case.slices.shape[2]
    return predict(case.slices[..., ::-1].copy(), (y0, y1, width - x1, width - x0))[..., ::-1]


def ways(predict: Predict, case: dataset.LabelledCase) -> dict[str, np.ndarray]:
    """Return the probabilities of a case, 0-1, in each way."""
    plain = predict(case.slices, case.box).astype(np.float32) / 255
    other = _mirrored(predict, case).astype(np.float32) / 255
    smooth = ndimage.convolve1d(plain, [0.25, 0.5, 0.25], axis=0, mode="nearest")
    return {"as it is": plain, "mirrored too": (plain + other) / 2, "smoothed over slices": smooth}


class Unsure:
    """Voxels of all cases that are neither surely lung nor surely not."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, probabilities: np.ndarray, lungs: np.ndarray) -> None:
        self.parts.append(unsure_voxels(probabilities, lungs))

    def figures(self, picture: Path | None) -> dict[str, float]:
        p, lung = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        best = best_temperature(p, lung)
        curve = self._curve(p, lung)
        if picture:
            draw(curve, picture)
        return {
            "voxels": len(p),
            "share that is lung": float(lung.mean()),
            "mean probability": float(p.mean()),
            "ece": ece(curve),
            "temperature": best,
            "ece at that temperature": ece(self._curve(special.expit(logits_of(p) / best), lung)),
        }

    @staticmethod
    def _curve(p: np.ndarray, lung: np.ndarray) -> list[tuple[float, float, int]]:
        bins = np.minimum((p * 10).astype(int), 9)
        parts = [bins == i for i in range(10)]
        return [(float(p[b].mean()), float(lung[b].mean()), int(b.sum())) for b in parts if b.any()]


def calibration(
    predict: Predict, loaded: Sequence[dataset.LabelledCase], picture: Path | None
) -> dict[str, float]:
    """Return how well the probabilities are calibrated on other cases, as they are."""
    unsure = Unsure()
    for case in loaded:
        unsure.add(predict(case.slices, case.box).astype(np.float32) / 255, case.lungs > 0)
    return unsure.figures(picture)


def ece(curve: Sequence[tuple[float, float, int]]) -> float:
    total = sum(count for *_, count in curve)
    return sum(abs(p - share) * count for p, share, count in curve) / total


def draw(curve: Sequence[tuple[float, float, int]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    axes.plot([p for p, *_ in curve], [share for _, share, _ in curve], marker="o")
    axes.set_xlabel("probability")
    axes.set_ylabel("share that is lung")
    figure.savefig(path, dpi=100, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["lung-ct"])
    parser.add_argument("--grids", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--corrections", type=Path, help="a CSV that mends masks")
    parser.add_argument("--held-out", type=Path, help="cases on which calibration is looked at, too")
    parser.add_argument("--out", type=Path)
    wanted = parser.parse_args()
    mending = read_corrections(wanted.corrections) if wanted.corrections else []
    _, validation = cases.split_cases(wanted.data, 0)
    loaded = list(dataset.load_cases(validation, mending))
    others = list(dataset.load_cases(cases.find_cases(wanted.held_out))) if wanted.held_out else []
    results = []
    for model in wanted.models:
        for grid in wanted.grids:
            picture = wanted.out / f"calibration_{Path(model).stem}_{grid}.png" if wanted.out else None
            results.append(
                {
                    "model": Path(model).stem,
                    "grid": grid,
                    **compare(predictor(model, grid), loaded, picture),
                }
            )
            print_result(results[-1])
            if others:
                held_out = calibration(predictor(model, grid), others, None)
                Console(width=180).print("held out:", held_out)
    if wanted.out:
        wanted.out.mkdir(parents=True, exist_ok=True)
        (wanted.out / "choices.json").write_text(json.dumps(results, indent=1))


def compare(predict: Predict, loaded: Sequence[dataset.LabelledCase], picture: Path | None) -> dict[str, Any]:
    dices: dict[str, list[float]] = {}
    wrong: dict[str, list[bool]] = {}
    unsure = Unsure()
    for case in loaded:
        lungs = case.lungs > 0
        empty = ~lungs.any(axis=(1, 2))
        for way, p in ways(predict, case).items():
            if way == "as it is":
                unsure.add(p, lungs)
            for threshold in THRESHOLDS:
                raw = p >= threshold
                for name, found in (
                    (f"{way}, {threshold}", raw),
                    (f"{way}, {threshold}, cleaned", clean(raw)),
                ):
                    if lungs.any():
                        dices.setdefault(name, []).append(dice(found, lungs))
                    wrong.setdefault(name, []).extend(one.mean() > 0.001 for one in found[empty])
    return {
        "dice": {name: float(np.mean(values)) for name, values in dices.items()},
        "false positive": {name: float(np.mean(values)) for name, values in wrong.items() if values},
        "calibration": unsure.figures(picture),
    }


def print_result(result: dict[str, Any]) -> None:
    names = ["as it is", "mirrored too", "smoothed over slices"]
    table = Table("threshold", *(f"{name}{extra}" for name in names for extra in ("", ", cleaned")))
    for threshold in THRESHOLDS:
        cells = []
        for name in names:
            for extra in ("", ", cleaned"):
                key = f"{name}, {threshold}{extra}"
                cells.append(
                    f"{result['dice'][key]:.4f} ({100 * result['false positive'].get(key, 0):.0f} %)"
                )
        table.add_row(str(threshold), *cells)
    table.title = f"{result['model']}, grid {result['grid']}: mean Dice (false positives)"
    console = Console(width=180)
    console.print(table)
    console.print(result["calibration"])


if __name__ == "__main__":
    main()
