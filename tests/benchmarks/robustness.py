"""What models bear: how far Dice falls when CTs are noisy, blurred, turned, cut off or shifted in HU.

    python tests/benchmarks/robustness.py FOLDER [--models lung-ct FILE ...] [--grids 128] [--every 2] [--json FILE]

FOLDER holds cases as `napari_resunet train` finds them. The mean Dice over the cases with lung, on the native grid,
threshold 0.5, nothing cleaned up, of one slice in so many; each perturbation is in `perturbations.py`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import perturbations
from rich.console import Console
from rich.table import Table
from scoring import predictor

from napari_resunet.training.cases import find_cases
from napari_resunet.training.dataset import load_cases


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["lung-ct"])
    parser.add_argument("--grids", nargs="+", type=int, default=[128])
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    loaded = list(load_cases(find_cases(wanted.folder)))
    results = {
        f"{Path(model).stem}, grid {grid}": perturbations.dice_under(
            predictor(model, grid), loaded, every=wanted.every
        )
        for model in wanted.models
        for grid in wanted.grids
    }
    table = Table("perturbation", *results)
    for name in perturbations.PERTURBATIONS:
        cells = [f"{found[name]:.4f} ({found[name] - found['as it is']:+.4f})" for found in results.values()]
        table.add_row(name, *cells)
    Console(width=140).print(table)
    if wanted.json:
        wanted.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
