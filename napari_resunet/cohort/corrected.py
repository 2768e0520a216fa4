"""The cases of a cohort that a person has found right, as a model can learn from them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from napari_resunet.cohort.manifest import MASK, CaseEntry, case_folder, read_entries
from napari_resunet.cohort.reviewing import open_for_review
from napari_resunet.errors import InputError
from napari_resunet.io.files import read_mask
from napari_resunet.track import Track
from napari_resunet.training.corrected import REVIEWED, CorrectedCase, Lesson


def reviewed_lessons(out: Path) -> list[Lesson]:
    """Return the accepted cases of a cohort; where the newest mask is not the first one, a hand has edited.

    Raises
    ------
    InputError
        If none was accepted, or a case's file cannot be read.
    """
    accepted = [entry for entry in read_entries(out) if entry.reviewed]
    if not accepted:
        raise InputError(
            f"no case of {out} was accepted yet; review it first: napari-resunet view {out} --next"
        )
    return [Lesson(entry.id, entry.id, partial(_read, out, entry)) for entry in accepted]


def _read(out: Path, entry: CaseEntry, track: Track) -> CorrectedCase:
    opened = open_for_review(out, entry, track)
    first = read_mask(case_folder(out, entry.id) / MASK)
    lungs, before = opened.mask.axial > 0, first.axial > 0
    trust = np.full(len(lungs), REVIEWED)
    return CorrectedCase(entry.id, opened.volume.axial, lungs.astype(np.uint8), lungs != before, trust)
