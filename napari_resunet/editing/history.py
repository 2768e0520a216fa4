"""What each edit replaced, so that an undo gives back the edits as they were.

The mask layer has a history of its own, of values. Those may be older than the threshold or the run, so an undo there
says only *which* voxels are meant: what these were, as edits, is recalled from here, for each voxel its last change.
A redo may not even show, where the threshold has come to agree with the hand meanwhile; so what an undo took back is
kept as a whole, and given back as a whole.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
import numpy.typing as npt

Edits = npt.NDArray[np.int8]
Where = npt.NDArray[np.intp]
Changes = tuple[Where, Edits]  # flat, rising indices into a slice, and the edits that belong there

_STEPS_KEPT = 100  # as many as the mask layer keeps
_CHANGES_KEPT = 400  # of each slice: a step may be noted in several parts


class EditHistory:
    """The changes of the edits of a case, slice by slice."""

    def __init__(self) -> None:
        self._past: defaultdict[int, deque[Changes]] = defaultdict(lambda: deque(maxlen=_CHANGES_KEPT))
        self._undone: list[dict[int, Changes]] = []
        self._steps = 0

    def begin_step(self) -> None:
        """Note that the layer's history has one more step, and nothing to redo."""
        self._steps = min(self._steps + 1, _STEPS_KEPT)
        self._undone.clear()

    def note(self, z: int, where: Where, before: Edits) -> None:
        """Note that slice `z` has changed at `where`, and the edits before that."""
        self._past[z].append((where, before))

    def recall(self, z: int, where: Where, otherwise: Edits) -> Edits:
        """Return the edits that slice `z` had at `where` before their last change, which is forgotten with that.

        Parameters
        ----------
        z : int
            The slice.
        where : (n,) array of int
            Flat, rising indices.
        otherwise : (n,) array of int8
            Returned where no change is known.
        """
        recalled, unknown = otherwise.copy(), np.ones(len(where), dtype=bool)
        changes = self._past[z]
        for i in reversed(range(len(changes))):
            known, values = changes[i]
            meant = unknown & np.isin(where, known)
            if meant.any():
                at = np.searchsorted(known, where[meant])
                recalled[meant], unknown[meant] = values[at], False
                changes[i] = np.delete(known, at), np.delete(values, at)
            if not unknown.any():
                break
        while changes and not len(changes[-1][0]):
            changes.pop()
        return recalled

    def undone(self, step: dict[int, Changes]) -> None:
        """Note that the layer has undone a step, and the edits it took back; no step if there was none to undo."""
        if self._steps or step:
            self._undone.append(step)
            self._steps = max(self._steps - 1, 0)

    def redone(self) -> dict[int, Changes]:
        """Return the edits that the last undo took back, by slice; none if there was no undo."""
        if not self._undone:
            return {}
        self._steps = min(self._steps + 1, _STEPS_KEPT)
        return self._undone.pop()

    def clear(self) -> None:
        """Forget all changes: the edits have become others by another way."""
        self._past.clear()
        self._undone = [{} for _ in self._undone]  # the layer still has these steps
