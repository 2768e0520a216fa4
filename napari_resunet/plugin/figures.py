"""What was measured of a mask: a table to look at, napari's features, the rows of a file."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import napari_resunet
from napari_resunet.case import Case
from napari_resunet.measure.agreement import Agreement
from napari_resunet.measure.lungs import LungFigures

if TYPE_CHECKING:
    from pandas import DataFrame

# The lines of the table: words, field, format.
_OF_LUNGS = (
    ("Volume, ml", "volume_ml", ",.0f"),
    ("Mean, HU", "mean_hu", ".0f"),
    ("SD, HU", "sd_hu", ".0f"),
    ("Perc15, HU", "p15_hu", ".0f"),
    ("LAA-950, %", "laa950_percent", ".1f"),
)
_OF_AGREEMENT = (
    ("Reference, ml", "reference_ml", ",.0f"),
    ("Difference, ml", "volume_difference_ml", "+,.0f"),
    ("Dice", "dice", ".3f"),
    ("IoU", "iou", ".3f"),
    ("HD95, mm", "hd95_mm", ".2f"),
    ("ASSD, mm", "assd_mm", ".2f"),
    ("NSD 2 mm", "nsd_2mm", ".3f"),
)
_AGREEMENT_FIELDS = (*(name for _, name, _ in _OF_AGREEMENT), "missed")
_AGREEMENT_OF = {"both": "lungs", "right": "right", "left": "left"}
# napari shows the row of the label under the mouse. In the layer every voxel of lung is 1, right or left: the rows
# of one side stand at labels that nobody paints.
_LABEL_OF = {"both": 1, "right": 101, "left": 102}


@dataclass(frozen=True)
class Figures:
    """The figures of a mask as it was when it was measured.

    Parameters
    ----------
    made : mapping
        How the mask was made, as `how_made` gives it.
    lungs : list of LungFigures
        One for each lung, and one for both.
    reference : str
        The name of what it was compared with.
    agreement : mapping of str to Agreement
        As `evaluate` gives it; empty where nothing was compared.
    """

    made: Mapping[str, Any]
    lungs: list[LungFigures]
    reference: str = ""
    agreement: Mapping[str, Agreement] = field(default_factory=dict)

    def rows(self, *, ct: str, mask: str) -> list[dict[str, Any]]:
        """Return a row for each lung; None stands where the reference does not tell right from left."""
        return [{"ct": ct, "mask": mask, **self._measured(lung), **self.made} for lung in self.lungs]

    def features(self) -> DataFrame:
        """Return what napari's table of features holds."""
        from pandas import DataFrame

        by_hand = {name: value for name, value in self.made.items() if name.endswith("_by_hand")}
        return DataFrame(
            [{"index": _LABEL_OF[lung.name], **self._measured(lung), **by_hand} for lung in self.lungs]
        )

    def as_html(self) -> str:
        """Return a table with a column for each lung, and below it what a table cannot say."""
        lines = [_line("", [f"<b>{lung.name}</b>" for lung in self.lungs])]
        lines += [_line(words, [_cell(lung, *how) for lung in self.lungs]) for words, *how in _OF_LUNGS]
        if self.agreement:
            found = [self._agreement(lung) for lung in self.lungs]
            lines.append(_line("<b>agreement</b>", []))
            lines += [_line(words, [_cell(each, *how) for each in found]) for words, *how in _OF_AGREEMENT]
        below = "<br>".join(html.escape(sentence) for sentence in self.sentences())
        return f"<table cellpadding=1>{''.join(lines)}</table>{below}"

    def sentences(self) -> list[str]:
        """Return how much was done by hand, what the reference was, and which lung is missing where."""
        added, removed = (self.made[f"voxels_{done}_by_hand"] for done in ("added", "removed"))
        said = [f"By hand: {added:,} voxels added, {removed:,} removed."]
        if self.agreement:
            said.append(f"Compared with {self.reference}.")
            if "right" not in self.agreement:
                said.append("It does not tell right from left.")
        said += [f"{part}: {_why(found)}" for part, found in self.agreement.items() if _is_missing(found)]
        return said

    def _agreement(self, lung: LungFigures) -> Agreement | None:
        return self.agreement.get(_AGREEMENT_OF[lung.name])

    def _measured(self, lung: LungFigures) -> dict[str, Any]:
        if not self.agreement:
            return asdict(lung)
        found = self._agreement(lung)
        agreement = {name: None if found is None else getattr(found, name) for name in _AGREEMENT_FIELDS}
        return {**asdict(lung), "reference": self.reference, **agreement}


def how_made(case: Case) -> dict[str, Any]:
    """Return how the mask of a case was made: settings, run, what was done by hand, version."""
    run = case.run
    return {
        "threshold": case.settings.threshold,
        "clean": case.settings.clean,
        "model": None if run is None else run.model,
        "grid": None if run is None else run.grid,
        "slices_run": int(case.done.sum()),
        "slices": len(case.done),
        "voxels_added_by_hand": case.voxels_added,
        "voxels_removed_by_hand": case.voxels_removed,
        "version": napari_resunet.__version__,
    }


def _line(words: str, cells: list[str]) -> str:
    values = "".join(f"<td align=right>&nbsp;&nbsp;{cell}</td>" for cell in cells)
    return f"<tr><td>{words}</td>{values}</tr>"


def _cell(figures: LungFigures | Agreement | None, name: str, form: str) -> str:
    if figures is None:
        return "–"
    value = getattr(figures, name)
    return "n/a" if math.isnan(value) else format(value, form)


def _is_missing(found: Agreement) -> bool:
    return found.missed or math.isnan(found.dice)


def _why(found: Agreement) -> str:
    if not found.missed:
        return "n/a: both empty."
    empty = "the mask" if found.volume_ml == 0 else "the reference"
    return f"missed ({empty} has none): overlap counts as 0, distances as the diagonal of the CT."
