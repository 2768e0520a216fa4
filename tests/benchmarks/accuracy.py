"""How well models agree with masks on the native grid of each CT, and what they find on slices without lung.

    python tests/benchmarks/accuracy.py FOLDER [--models lung-ct FILE ...] [--classical] [--grids 128 256]
        [--corrections CSV] [--out FOLDER]

FOLDER holds cases as `napari_resunet train` finds them. Threshold 0.5; each CT is scored as the network gives it and
cleaned up; "classical" is `classical.py` beside this file, which knows no network. The OUT folder gets `accuracy.json`
and, for the first model, a picture of each slice alone and of the worst slice of each volume, with the contours of
reference and model.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
from classical import classical_lungs
from rich.console import Console
from rich.table import Table
from scoring import dice

import napari_resunet as nru
from napari_resunet.imaging.components import clean, label_pieces
from napari_resunet.io.atomic import replacing
from napari_resunet.io.files import read_volume
from napari_resunet.model.card import find_model
from napari_resunet.model.checkpoint import load_model, save_model
from napari_resunet.training.cases import TrainingCase, find_cases
from napari_resunet.training.corrections import Correction, read_corrections
from napari_resunet.training.dataset import load_case
from napari_resunet.volume import Mask, Volume
from napari_resunet.workflows import read_texts

matplotlib.use("Agg")
from matplotlib import pyplot as plt

T = TypeVar("T")

CLASSICAL = "classical"
FALSE_POSITIVE_MM2 = 100.0  # on a slice without lung: 1 ml if the slice is 1 cm thick
FAILURE = 0.9
_IN_CARD = "Agreement with silver masks of people not trained on"


@dataclass(frozen=True)
class Labelled:
    """A CT with its reference, both axial, lowest slice first."""

    case: TrainingCase
    volume: Volume
    lungs: np.ndarray


def labelled_cases(folder: Path, corrections: Sequence[Correction] = ()) -> Iterator[Labelled]:
    for case in find_cases(folder):
        loaded = load_case(case, corrections)
        volume = read_volume(case.image)
        if len(loaded.slices) == len(volume.axial):  # a slice that is left out leaves no volume to be scored
            yield Labelled(case, volume, loaded.lungs > 0)


def score(labelled: Labelled, found: np.ndarray) -> dict[str, Any]:
    """Return the agreement of a mask (z, y, x) with the reference, and its false positives."""
    lungs, geometry = labelled.lungs, labelled.volume.axial_geometry
    as_mask = [Mask(array.astype(np.uint8), geometry) for array in (found, lungs)]
    agreement = nru.evaluate(*as_mask)["lungs"]
    has_lung = lungs.any(axis=(1, 2))
    dices = [dice(one, truth) for one, truth in zip(found[has_lung], lungs[has_lung], strict=True)]
    pixel_mm2 = geometry.spacing_mm[1] * geometry.spacing_mm[2]
    wrong = [one.sum() * pixel_mm2 > FALSE_POSITIVE_MM2 for one in found[~has_lung]]
    labels, sizes = label_pieces(found)
    sizes[np.unique(labels[lungs])] = 0
    return {
        "dice": agreement.dice,
        "nsd_2mm": agreement.nsd_2mm,
        "hd95_mm": agreement.hd95_mm,
        "missed": bool(agreement.missed),
        "slices with lung": int(has_lung.sum()),
        "slice dice": float(np.mean(dices)) if dices else math.nan,
        "worst slice dice": min(dices) if dices else math.nan,
        "worst slice": int(np.flatnonzero(has_lung)[int(np.argmin(dices))]) if dices else None,
        "slices without lung": int((~has_lung).sum()),
        "of these wrong": int(np.sum(wrong)),
        "largest piece apart, ml": float(sizes.max(initial=0)) * geometry.voxel_volume_mm3 / 1000,
    }


def found_by(model: str, volume: Volume, grid: int) -> np.ndarray:
    if model == CLASSICAL:
        return classical_lungs(volume.axial, volume.axial_geometry.spacing_mm)
    return nru.predict(volume, model=model, grid=grid).axial >= 128


def timed(work: Callable[..., T], *arguments: Any) -> tuple[T, float]:
    """Return what a function returns, and the seconds it took."""
    began = time.monotonic()
    result = work(*arguments)
    return result, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["lung-ct"])
    parser.add_argument("--classical", action="store_true", help="score classical.py as well")
    parser.add_argument("--grids", nargs="+", type=int, default=[128, 256])
    parser.add_argument("--corrections", type=Path, help="a CSV that mends masks")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--into-card", action="store_true", help="write the figures into the models' cards")
    parser.add_argument("--words", type=Path, help="JSON with words that go into the cards with the figures")
    wanted = parser.parse_args()
    corrections = read_corrections(wanted.corrections) if wanted.corrections else []
    rows: list[dict[str, Any]] = []
    for labelled in labelled_cases(wanted.folder, corrections):
        for model in (*wanted.models, *([CLASSICAL] if wanted.classical else [])):
            for grid in [0] if model == CLASSICAL else wanted.grids:
                rows += _rows(labelled, model, grid, wanted.out if model == wanted.models[0] else None)
    print_tables(rows)
    if wanted.into_card:
        for model in wanted.models:
            measured = [row for row in rows if row["model"] == Path(model).stem]
            write_into_card(find_model(model), measured, read_texts(wanted.words) if wanted.words else {})
    if wanted.out:
        wanted.out.mkdir(parents=True, exist_ok=True)
        (wanted.out / "accuracy.json").write_text(json.dumps(rows, indent=1))


def _rows(labelled: Labelled, model: str, grid: int, pictures: Path | None) -> Iterator[dict[str, Any]]:
    raw, seconds = timed(found_by, model, labelled.volume, grid)
    for cleaned in (False, True):
        found = clean(raw) if cleaned else raw
        about = {"case": labelled.case.name, "model": Path(model).stem, "grid": grid, "cleaned": cleaned}
        scores = score(labelled, found)
        yield {**about, "slices": len(raw), "seconds": round(seconds, 2), **scores}
        if pictures and cleaned:
            draw(labelled, found, scores, pictures / f"{labelled.case.name}_{grid}.png")


def draw(labelled: Labelled, found: np.ndarray, scores: dict[str, Any], path: Path) -> None:
    """Draw the worst slice, or where no slice holds lung the one with most found: reference blue, model orange."""
    path.parent.mkdir(parents=True, exist_ok=True)
    z = scores["worst slice"]
    z = int(found.sum(axis=(1, 2)).argmax()) if z is None else z
    figure, axes = plt.subplots(figsize=(7, 7))
    axes.imshow(labelled.volume.axial[z], cmap="gray", vmin=-1100, vmax=250)
    for mask, colour in ((labelled.lungs[z], "deepskyblue"), (found[z], "orange")):
        if mask.any():
            axes.contour(mask, [0.5], colors=colour, linewidths=0.9)
    axes.set_title(f"{labelled.case.name}, slice {z}: Dice {scores['worst slice dice']:.4f}")
    axes.axis("off")
    figure.savefig(path, dpi=80, bbox_inches="tight")
    plt.close(figure)


def write_into_card(path: Path, rows: Sequence[dict[str, Any]], words: Mapping[str, Any]) -> None:
    """Write what was found, cleaned up, and some words into the card of a model; its weights stay as they are."""
    model = load_model(path)
    figures = {name: value for name, value in model.card.figures.items() if not name.startswith(_IN_CARD)}
    for grid in sorted({row["grid"] for row in rows}):
        group = [row for row in rows if row["grid"] == grid and row["cleaned"]]
        figures[f"{_IN_CARD}, native grid, grid {grid}, threshold 0.5, cleaned up"] = _figures(group)
    with replacing(path) as temporary:
        save_model(
            model.network, dataclasses.replace(model.card, figures=figures, **words), temporary, half=True
        )


def _figures(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    volumes = [row for row in group if row["slices"] > 1 and row["slices with lung"]]
    figures: dict[str, Any] = {
        f"{row['case']}, {row['slices']} slices": {
            "Dice": round(row["dice"], 4),
            "NSD 2 mm": round(row["nsd_2mm"], 4),
            "HD95 mm": round(row["hd95_mm"], 2),
        }
        for row in volumes
    }
    alone = [row["dice"] for row in group if row["slices"] == 1 and row["slices with lung"]]
    if len(alone) > 1:
        spread = f"{np.mean(alone):.4f} ± {np.std(alone, ddof=1):.4f}, lowest {min(alone):.4f}"
        figures[f"{len(alone)} single slices, Dice, mean ± standard deviation"] = spread
    wrong, free = (sum(row[name] for row in group) for name in ("of these wrong", "slices without lung"))
    figures[f"slices without lung with more than {FALSE_POSITIVE_MM2:g} mm2"] = f"{wrong} of {free}"
    return figures


def print_tables(rows: Sequence[dict[str, Any]]) -> None:
    groups: dict[tuple[str, int, bool], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["model"], row["grid"], row["cleaned"]].append(row)
    console = Console(width=170)
    for (model, grid, cleaned), group in groups.items():
        title = f"{model}, grid {grid or '-'}, {'cleaned up' if cleaned else 'as it is'}"
        table = Table(
            "case", "slices", "Dice", "NSD 2 mm", "HD95 mm", "slice mean", "worst", "at", title=title
        )
        for row in group:
            if row["slices"] > 1 and row["slices with lung"]:
                numbers = [f"{row[name]:.4f}" for name in ("dice", "nsd_2mm")]
                slices = [f"{row[name]:.4f}" for name in ("slice dice", "worst slice dice")]
                at = str(row["worst slice"])
                table.add_row(row["case"], str(row["slices"]), *numbers, f"{row['hd95_mm']:.2f}", *slices, at)
        alone = [row for row in group if row["slices"] == 1 and row["slices with lung"]]
        if alone:
            mean = [f"{np.mean([row[name] for row in alone]):.4f}" for name in ("dice", "nsd_2mm")]
            hd95 = f"{np.mean([row['hd95_mm'] for row in alone]):.2f}"
            worst = min(alone, key=lambda row: row["dice"])
            table.add_row(
                f"{len(alone)} single slices, mean",
                str(len(alone)),
                *mean,
                hd95,
                mean[0],
                f"{worst['dice']:.4f}",
                worst["case"],
            )
        console.print(table)
        with_lung = [row for row in group if row["slices with lung"]]
        failures = [row["case"] for row in with_lung if row["dice"] < FAILURE]
        console.print(
            f"{sum(row['of these wrong'] for row in group)} of {sum(row['slices without lung'] for row in group)} "
            f"slices without lung have more than {FALSE_POSITIVE_MM2:g} mm2; largest piece apart from all lung "
            f"{max(row['largest piece apart, ml'] for row in group):.1f} ml; Dice below {FAILURE}: "
            f"{', '.join(failures) or 'none'}; {sum(row['missed'] for row in with_lung)} missed; "
            f"{sum(row['slices'] for row in group) / sum(row['seconds'] for row in group):.0f} slices/s\n"
        )


if __name__ == "__main__":
    main()
