"""Compares the presets, each trained with several seeds, and a classical method: a table and a figure.

    python tests/benchmarks/presets.py FOLDER RUNS [--steps 2000] [--corrections CSV] [--out FOLDER]

FOLDER holds cases as `napari-resunet train` finds them, and RUNS the networks that `experiments.py` has trained under
the names of the presets. Dice, NSD 2 mm and HD95 are means over the cases that hold lung, on the native grid, at
grid 128 and threshold 0.5, nothing cleaned up; a failure is a Dice below 0.9. What stands behind ± is the standard
deviation over seeds. The loss is that of the last training steps. Named beforehand: a difference of less than 0.002
in Dice does not count. The OUT folder gets `presets.json` and `presets.svg`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import CLASSICAL, FAILURE, found_by, labelled_cases, score, timed
from matplotlib import pyplot as plt
from rich.console import Console
from rich.table import Table

from napari_resunet.model.presets import PRESETS
from napari_resunet.training.corrections import Correction, read_corrections

GRID = 128
COLUMNS = ("Dice", "NSD 2 mm", "HD95 mm", "failures", "slices without lung wrong", "slices/s", "loss")


def networks(runs: Path, steps: int) -> dict[str, list[Path]]:
    """Return the trained networks of each preset."""
    found = {preset: sorted(runs.glob(f"{preset}-{steps}-?.safetensors")) for preset in PRESETS}
    return {preset: paths for preset, paths in found.items() if paths}


def scored(
    folder: Path, models: Sequence[str], corrections: Sequence[Correction]
) -> dict[str, list[dict[str, Any]]]:
    """Return how well each model does on each case."""
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for labelled in labelled_cases(folder, corrections):
        for model in models:
            found, seconds = timed(found_by, model, labelled.volume, GRID)
            about = {"case": labelled.case.name, "slices": len(found), "seconds": seconds}
            rows[model].append({**about, **score(labelled, found)})
    return rows


def figures(rows: Sequence[dict[str, Any]], loss: float) -> dict[str, float]:
    """Return the figures of one network, named as `COLUMNS`."""
    lungs = [row for row in rows if row["slices with lung"]]
    volumes = [row for row in rows if row["slices"] > 1]
    return {
        "Dice": float(np.mean([row["dice"] for row in lungs])),
        "NSD 2 mm": float(np.mean([row["nsd_2mm"] for row in lungs])),
        "HD95 mm": float(np.mean([row["hd95_mm"] for row in lungs])),
        "failures": sum(row["dice"] < FAILURE for row in lungs),
        "slices without lung wrong": sum(row["of these wrong"] for row in rows),
        "slices/s": sum(row["slices"] for row in volumes) / sum(row["seconds"] for row in volumes),
        "loss": loss,
    }


def print_table(groups: dict[str, list[dict[str, float]]]) -> None:
    table = Table("", "seeds", *COLUMNS)
    for name, members in groups.items():
        cells = [_mean(column, [member[column] for member in members]) for column in COLUMNS]
        table.add_row(name, "-" if name == CLASSICAL else str(len(members)), *cells)
    Console(width=150).print(table)


def _mean(column: str, values: Sequence[float]) -> str:
    if not np.isfinite(values).all():
        return "-"
    digits = {"HD95 mm": 2, "failures": 1, "slices without lung wrong": 1, "slices/s": 0}.get(column, 4)
    spread = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"


def draw(groups: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw one dot for each network."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 2.4), sharey=True)
    for axis, column in zip(axes, ("Dice", "NSD 2 mm", "HD95 mm"), strict=True):
        for row, members in enumerate(groups.values()):
            axis.plot([member[column] for member in members], [row] * len(members), "o", alpha=0.7)
        axis.set_yticks(range(len(groups)), list(groups))
        axis.set_ylim(len(groups) - 0.5, -0.5)
        axis.set_xlabel(column)
        axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--corrections", type=Path, help="a CSV that mends masks")
    parser.add_argument("--out", type=Path)
    wanted = parser.parse_args()
    corrections = read_corrections(wanted.corrections) if wanted.corrections else []
    trained = networks(wanted.runs, wanted.steps)
    models = [str(path) for paths in trained.values() for path in paths]
    rows = scored(wanted.folder, [*models, CLASSICAL], corrections)
    groups = {
        preset: [figures(rows[str(path)], _loss(path)) for path in paths] for preset, paths in trained.items()
    }
    groups[CLASSICAL] = [figures(rows[CLASSICAL], np.nan)]
    print_table(groups)
    if wanted.out:
        wanted.out.mkdir(parents=True, exist_ok=True)
        (wanted.out / "presets.json").write_text(json.dumps(groups, indent=1))
        draw(groups, wanted.out / "presets.svg")


def _loss(path: Path) -> float:
    return float(json.loads(path.with_suffix(".json").read_text())["loss"])


if __name__ == "__main__":
    main()
