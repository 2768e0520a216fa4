"""Trains many small networks that differ in one thing each, and scores them on the validation cases: a table.

    python tests/benchmarks/experiments.py DATA OUT [--only NAME ...] [--seeds 0 1 2] [--steps 1000]

DATA holds `train` and `val`; what was read of them is kept in OUT. Each run goes on where it stopped, and is skipped
once it is scored, which leaves a JSON file of its name; several commands may work on one OUT at a time. Dice is on
the native grid, threshold 0.5, nothing cleaned up: the mean over the validation cases, and over the slices of each
case that are left when every fourth is taken, changed as `perturbations.py` says.
`python tests/benchmarks/experiments.py DATA OUT --table` prints means and spreads.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import perturbations
import torch
from rich.console import Console
from rich.table import Table
from scoring import dice, predictor

from napari_resunet.model.card import ModelCard
from napari_resunet.model.device import choose_device
from napari_resunet.settings import TrainSettings
from napari_resunet.training import cases, dataset, loop
from napari_resunet.training.augment import INGREDIENTS
from napari_resunet.training.corrections import read_corrections
from napari_resunet.training.replay import replay_to_learn, with_replay

OLD = "effusion, contrast, gas, table, field of view, coarse"
TWICE = (6, 8, 12, 6)  # units in each level; 3, 4, 6, 3 otherwise
FINEST = 256  # side in pixels of the grids that the slices are kept for
SMALL = {"width": 16, "validate_every": 500}

EXPERIMENTS: dict[str, dict[str, object]] = {
    "paper": {},
    "identity": {"preset": "identity"},
    "plain": {"preset": "plain"},
    "position only": {"without": ", ".join(INGREDIENTS)},
    "fewer kinds": {"without": OLD},
    **{f"without {name}": {"without": name} for name in INGREDIENTS},
    "mixed grids": {"fine": 0.4},
    "mixed grids, fewer kinds": {"fine": 0.4, "without": OLD},
    "hard 1": {"hard": 1.0},
    "made-up chests as well": {"made_up": 0.1},
    "width 32": {"width": 32},
    "width 64": {"width": 64},
    "identity, twice as deep": {"preset": "identity", "units": TWICE},
    "plain, twice as deep": {"preset": "plain", "units": TWICE},
}
SCORES = ("dice 128", "worst 128", "false positive 128", "dice 256", "worst 256", "false positive 256")


def score(model_path: Path, validation: Sequence[dataset.LabelledCase]) -> dict[str, float]:
    """Return mean and worst Dice over the cases at both grids, false positives, and Dice under perturbations."""
    scores: dict[str, float] = {}
    for grid in (128, 256):
        predict = predictor(model_path, grid, "cpu")
        dices, wrong = [], []
        for case in validation:
            found = predict(case.slices, case.box) > 127
            if case.lungs.any():
                dices.append(dice(found, case.lungs > 0))
            empty = ~case.lungs.any(axis=(1, 2))
            wrong += [one.mean() > 0.001 for one in found[empty]]
        scores |= {f"dice {grid}": float(np.mean(dices)), f"worst {grid}": min(dices)}
        scores[f"false positive {grid}"] = float(np.mean(wrong))
    return scores | perturbations.dice_under(predictor(model_path, 128, "cpu"), validation, every=4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--corrections", type=Path, help="a CSV that mends masks; OUT is for one such list")
    parser.add_argument("--table", action="store_true")
    wanted = parser.parse_args()
    if not wanted.table:
        wanted.out.mkdir(parents=True, exist_ok=True)
        run(wanted.data, wanted.out, wanted.only, wanted.seeds, wanted.steps, wanted.corrections)
    print_table(wanted.out)


def run(
    data: Path,
    out: Path,
    names: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    corrections: Path | None,
) -> None:
    device = choose_device("cpu")
    training, validation_cases = cases.split_cases(data, 0)
    slices, validation = _loaded(training, validation_cases, corrections, out)
    for seed in seeds:
        for name in names:
            choices = {**SMALL, **EXPERIMENTS[name], "seed": seed, "steps": steps}
            units, made_up = choices.pop("units", None), choices.pop("made_up", 0.0)
            settings = TrainSettings(**choices)
            model_path = out / f"{name.replace(' ', '-')}-{steps}-{seed}.safetensors"
            result = model_path.with_suffix(".json")
            if result.exists():
                continue
            began = time.monotonic()
            curve = loop.train(
                _with_chests(slices, made_up) if made_up else slices,
                validation,
                card=_card(settings, model_path.stem, units),
                settings=settings,
                device=device,
                model_path=model_path,
            )
            row = {
                "name": name,
                "seed": seed,
                "steps": steps,
                "seconds": round(time.monotonic() - began),
                "loss": round(curve[-1].loss, 4),
                **{key: round(value, 5) for key, value in score(model_path, validation).items()},
            }
            result.write_text(json.dumps(row, indent=1))


def _with_chests(slices: dataset.Slices, share: float) -> dataset.Slices:
    chests = replay_to_learn(FINEST)
    return with_replay(slices, dataclasses.replace(chests, lungs=chests.lungs[:, :1]), share)


def _card(settings: TrainSettings, name: str, units: tuple[int, ...] | None) -> ModelCard:
    card = loop.new_card(settings, name=name)
    if units is None:
        return card
    network = dataclasses.replace(card.network, units=units)
    return dataclasses.replace(card, preset="custom", network=network)


def _loaded(
    training: Sequence[cases.TrainingCase],
    validation: Sequence[cases.TrainingCase],
    corrections: Path | None,
    out: Path,
) -> tuple[dataset.Slices, list[dataset.LabelledCase]]:
    mending = read_corrections(corrections) if corrections else []
    mark = f"-{hashlib.sha256(corrections.read_bytes()).hexdigest()[:8]}" if corrections else ""
    kept = out / f"data{mark}.pt"
    if not kept.exists():
        slices = dataset.load_slices(training, FINEST, corrections=mending)
        loaded = list(dataset.load_cases(validation, mending))
        torch.save((slices, loaded), kept)
    return torch.load(kept, weights_only=False)  # written above, by this very script


def print_table(out: Path) -> None:
    groups: dict[tuple[str, int], list[dict[str, float]]] = defaultdict(list)
    for result in sorted(out.glob("*.json")):
        row = json.loads(result.read_text())
        groups[row["name"], row["steps"]].append(row)
    columns = ["loss", *SCORES, *perturbations.PERTURBATIONS]
    table = Table("experiment", "steps", "n", *columns)
    for (name, steps), rows in groups.items():
        cells = []
        for column in columns:
            values = [row[column] for row in rows]
            spread = f" ±{np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.4f}{spread}")
        table.add_row(name, str(steps), str(len(rows)), *cells)
    Console(width=260).print(table)


if __name__ == "__main__":
    main()
