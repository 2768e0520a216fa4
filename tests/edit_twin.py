"""A twin that does what a case does, the slow way: what the edits have to be, whatever is done in whatever order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.review import SliceState
from napari_resunet.imaging.components import clean

Bools = npt.NDArray[np.bool_]
Edits = npt.NDArray[np.int8]

EXAMPLES = int(
    os.environ.get("NAPARI_RESUNET_EXAMPLES", "30")
)  # orders of doing things that the machines try


@dataclass
class Step:
    """A step of the layer's history: what it gives back when it is undone, or redone.

    Parameters
    ----------
    where : (z, y, x) array of bool
        The voxels that it changed.
    lung : (z, y, x) array of bool
        What the layer writes there.
    reverse : (z, y, x) array of bool
        What it writes there the other way round.
    edit : (z, y, x) array of int8
        The edits that were there.
    known : (z, y, x) array of bool
        Where the edits are known; else they are taken by what the layer writes.
    """

    where: Bools
    lung: Bools
    reverse: Bools
    edit: Edits
    known: Bools


class Twin:
    """Whole arrays, and a step for each entry in the history of the layer.

    Parameters
    ----------
    shape : tuple of int
        Voxels along (z, y, x).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self.probability = np.zeros(shape, np.uint8)
        self.done = np.zeros(shape[0], bool)
        self.adopted: Bools | None = None
        self.threshold, self.is_clean = 0.5, True
        self.automatic = np.zeros(shape, bool)
        self.hand = np.zeros(shape, np.int8)
        self.bank: list[Edits] = []
        self.seen: dict[int, Bools] = {}
        self.flagged: set[int] = set()
        self.past: list[Step] = []
        self.future: list[Step] = []

    @property
    def mask(self) -> Bools:
        return np.where(self.hand != 0, self.hand > 0, self.automatic)

    # ---- what a hand does

    def change(self, where: Bools, lung: Bools | bool, *, is_step: bool = True) -> None:
        """Make voxels lung or not; only a step can be undone."""
        lung = np.broadcast_to(lung, self.shape)
        changed = where & (self.mask != lung)
        if not changed.any():
            return
        if is_step:
            self.past.append(Step(changed, ~lung, lung, self.hand.copy(), changed.copy()))
            self.future.clear()
        self.hand[changed] = self._stated(lung)[changed]

    def relabel(self, where: Bools) -> None:
        """Paint another label on voxels that a hand has put in: a step of the layer, and no edit."""
        if where.any():
            lung = np.ones(self.shape, bool)
            self.past.append(Step(where, lung, lung, self.hand.copy(), np.zeros(self.shape, bool)))
            self.future.clear()

    def _stated(self, lung: Bools) -> Edits:
        return np.where(lung == self.automatic, 0, np.where(lung, 1, -1)).astype(np.int8)

    def undo(self) -> None:
        self._take(self.past, self.future)

    def redo(self) -> None:
        self._take(self.future, self.past)

    def _take(self, taken: list[Step], kept: list[Step]) -> None:
        if not taken:
            return
        step, before = taken.pop(), self.hand.copy()
        stated = step.where & ~step.known & (self.mask != step.lung)
        self.hand[stated] = self._stated(step.lung)[stated]
        self.hand[step.known] = step.edit[step.known]
        kept.append(Step(step.where, step.reverse, step.lung, before, step.known | stated))

    @property
    def in_history(self) -> Bools:
        """Voxels that the layer has a step for."""
        return np.any(
            [np.zeros(self.shape, bool), *(step.where for step in (*self.past, *self.future))], axis=0
        )

    def forget(self, kept: Iterable[int] = ()) -> None:
        leaving = [z for z in range(self.shape[0]) if self.hand[z].any() and z not in kept]
        if leaving:
            self.bank.append(np.zeros(self.shape, np.int8))
            self.bank[-1][leaving] = self.hand[leaving]
            self.hand[leaving] = 0
            self._edits_became_others()

    def bring_back(self) -> None:
        if self.bank:
            self._lay_under(self.bank.pop())

    def _lay_under(self, edit: Edits) -> None:
        self.hand = np.where(self.hand != 0, self.hand, edit)
        self._edits_became_others()

    def _edits_became_others(self) -> None:
        for step in (*self.past, *self.future):
            step.known[...] = False

    # ---- what the network and the settings say

    @property
    def found(self) -> Bools:
        return self.probability >= self.threshold * 255

    def move_threshold(self, threshold: float) -> None:
        self.threshold = threshold
        self.automatic = self._with_adopted(self.found)

    def settle(self) -> None:
        self.automatic = self._with_adopted(clean(self.found) if self.is_clean else self.found)

    def _with_adopted(self, found: Bools) -> Bools:
        if self.adopted is None:
            return found
        return np.where(self.done[:, None, None], found, self.adopted)

    def begin_anew(self) -> None:
        self.probability[...], self.done[...] = 0, False
        self.settle()

    def batch(self, first: int, last: int, probability: npt.NDArray[np.uint8]) -> None:
        self.probability[first:last], self.done[first:last] = probability, True
        self.automatic[first:last] = self.found[first:last]

    # ---- the review

    def mark(self, z: int, how: str) -> None:
        """Tick, flag or clear a slice."""
        self.flagged.discard(z)
        self.seen.pop(z, None)
        if how == "tick":
            self.seen[z] = self.mask[z]
        elif how == "flag":
            self.flagged.add(z)

    @property
    def states(self) -> list[int]:
        return [self._state(z) for z in range(self.shape[0])]

    def _state(self, z: int) -> SliceState:
        if z in self.flagged:
            return SliceState.FLAGGED
        if z in self.seen and np.array_equal(self.seen[z], self.mask[z]):
            return SliceState.REVIEWED
        return SliceState.EDITED if self.hand[z].any() else SliceState.AUTO

    # ---- a record

    def take_in(self, record: Twin, *, whole: bool) -> None:
        if whole:
            self.probability, self.done = record.probability.copy(), record.done.copy()
            self.adopted = record.adopted
        self.threshold, self.is_clean = record.threshold, record.is_clean
        unmarked = set(range(self.shape[0])) - self.flagged - set(self.seen)
        self.flagged |= record.flagged & unmarked
        self.seen |= {z: mask for z, mask in record.seen.items() if z in unmarked}
        self.bank = [*deepcopy(record.bank), *self.bank]
        self._lay_under(record.hand)
        self.settle()
