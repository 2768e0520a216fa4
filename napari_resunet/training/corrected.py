"""Cases that a person has corrected: how far each slice is to be trusted, and which are kept apart to validate on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_resunet.errors import InputError
from napari_resunet.imaging.body import body_box
from napari_resunet.track import Track
from napari_resunet.training.cases import TrainingCase
from napari_resunet.training.dataset import LabelledCase, Slices, slices_of

REVIEWED, EDITED, AUTOMATIC = 1.0, 0.5, 0.25
_MOST_SLICES = 150  # of one case: neighbours teach little, and all are kept in memory
_ENOUGH_TO_HOLD_ONE_OUT = 3


@dataclass(frozen=True, eq=False)
class CorrectedCase:
    """A CT whose mask a person has corrected, on its native grid; arrays are axial slices, lowest first.

    Parameters
    ----------
    name : str
        Of the file, without folders.
    slices : (n, y, x) array
        HU, front up.
    lungs : (n, y, x) array of uint8
        1 where there is lung.
    edited : (n, y, x) array of bool
        Voxels that a hand has set.
    trust : (n,) array of float
        How likely a slice is drawn: `REVIEWED`, `EDITED`, `AUTOMATIC`, or 0 for one that is not used.
    """

    name: str
    slices: npt.NDArray[Any]
    lungs: npt.NDArray[np.uint8]
    edited: npt.NDArray[np.bool_]
    trust: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.by_hand.any():
            raise InputError(
                f"{self.name} teaches nothing: none of its slices was corrected or ticked; review it first"
            )

    @property
    def by_hand(self) -> npt.NDArray[np.bool_]:
        """Which slices a person has looked at."""
        by_hand: npt.NDArray[np.bool_] = self.trust >= EDITED
        return by_hand


@dataclass(frozen=True)
class Lesson:
    """A corrected case that is read when it is its turn.

    Parameters
    ----------
    name : str
        Of its file, without folders.
    patient : str
        Whose it is; cases of one patient never part between learning and validation.
    read : callable
        Given a tracker of its slices, returns the case.
    """

    name: str
    patient: str
    read: Callable[[Track], CorrectedCase]


def hold_out(lessons: Sequence[Lesson], names: Sequence[str], seed: int) -> tuple[list[Lesson], list[Lesson]]:
    """Return the cases to learn from and those to validate on.

    Parameters
    ----------
    lessons : sequence of Lesson
        All of them.
    names : sequence of str
        Those to hold out, with or without their ending. If none are given, one patient is held out at random as soon
        as there are three, and nobody before: slices of a case that is learnt from would prove nothing.
    seed : int
        Of the draw.

    Raises
    ------
    InputError
        If a name is unknown or not the only one of its kind, or nothing is left to learn from.
    """
    known = [lesson.name for lesson in lessons]
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise InputError(
            f"{', '.join(twice)}: given more than once; give each case once, each with its own name"
        )
    patients = sorted({lesson.patient for lesson in lessons})
    if names:
        kept = {lesson.name for lesson in lessons if {lesson.name, _stem(lesson.name)} & set(names)}
        if unknown := [name for name in names if name not in kept | {_stem(each) for each in kept}]:
            raise InputError(f"{', '.join(unknown)}: no such case to hold out; there are {', '.join(known)}")
    elif len(patients) >= _ENOUGH_TO_HOLD_ONE_OUT:
        chosen = np.random.default_rng(seed).choice(patients)
        kept = {lesson.name for lesson in lessons if lesson.patient == chosen}
    else:
        kept = set()
    to_learn = [lesson for lesson in lessons if lesson.name not in kept]
    held_out = [lesson for lesson in lessons if lesson.name in kept]
    if not to_learn:
        raise InputError("every case is held out; give one more to learn from")
    if both := {each.patient for each in to_learn} & {each.patient for each in held_out}:
        raise InputError(f"patients both in learning and in validation: {', '.join(sorted(both))}")
    return to_learn, held_out


def _stem(name: str) -> str:
    return name.partition(".")[0]


def slices_to_learn(case: CorrectedCase, grid: int, rng: np.random.Generator) -> Slices:
    """Return the slices of a case that are used, the share edited as a second channel of the mask.

    Drawn as often as trusted; a case of more slices weighs more, by the square root, as in `load_slices`.
    """
    used = np.flatnonzero(case.trust)
    if len(used) > _MOST_SLICES:
        trust = case.trust[used] / case.trust[used].sum()
        used = np.sort(rng.choice(used, _MOST_SLICES, replace=False, p=trust))
    box = body_box(case.slices)
    hu, lungs = slices_of(case.slices[used], case.lungs[used], box, grid)
    _, edited = slices_of(case.slices[used], case.edited[used].astype(np.uint8), box, grid)
    trust = case.trust[used]
    return Slices(hu, torch.cat([lungs, edited], dim=1), trust / np.sqrt(trust.sum()))


def slices_to_validate(case: CorrectedCase) -> LabelledCase:
    """Return what a person has looked at of a held-out case, on its native grid.

    The others hold what the network has said itself, and would only measure how little it changes.

    Raises
    ------
    InputError
        If there is no lung in it.
    """
    seen = case.by_hand
    if not case.lungs[seen].any():
        raise InputError(f"{case.name} has no lung on the slices looked at; hold out another case")
    where = TrainingCase(case.name, case.name, Path(case.name), None)
    return LabelledCase(where, case.slices[seen], case.lungs[seen], body_box(case.slices))
