"""What each edit replaced, so that an undo gives back the edits as they were.

The mask layer has a history of its own, of values. Those may be older than the threshold or the run, so on undo they
say only *which* voxels are meant: what these were, as edits, is recalled from here. Per voxel, the last change is
taken back first, which needs no knowledge of what made one step of many voxels.
"""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
import numpy.typing as npt

Edits = npt.NDArray[np.int8]
Where = npt.NDArray[np.intp]

_CHANGES_KEPT = (
    400  # of each slice; what is older than that is recalled by the value that the layer brings back
)

_Changes = defaultdict[int, deque[tuple[Where, Edits]]]


def _changes() -> _Changes:
    return defaultdict(lambda: deque(maxlen=_CHANGES_KEPT))


class EditHistory:
    """The changes of the edits of a case, slice by slice."""

    def __init__(self) -> None:
        self._past, self._future = _changes(), _changes()

    def note(self, z: int, where: Where, before: Edits) -> None:
        """Note that a hand has changed slice `z` at the flat, rising indices `where`, and the edits before that."""
        self._future.clear()
        self._past[z].append((where, before))

    def undo(self, z: int, where: Where, now: Edits, otherwise: Edits) -> Edits:
        """Return the edits that slice `z` had at `where` before their last change.

        Parameters
        ----------
        z : int
            The slice.
        where : (n,) array of int
            Flat, rising indices of the voxels that the undo changed.
        now, otherwise : (n,) arrays of int8
            The edits as they are, which a redo gives back; and those to return where no change is known.
        """
        self._future[z].append((where, now))
        return _recall(self._past[z], where, otherwise)

    def redo(self, z: int, where: Where, now: Edits, otherwise: Edits) -> Edits:
        """Return the edits that an undo took back; parameters as those of `undo`."""
        self._past[z].append((where, now))
        return _recall(self._future[z], where, otherwise)

    def clear(self) -> None:
        """Forget all changes: the edits have become others by another way."""
        self._past.clear()
        self._future.clear()


def _recall(changes: deque[tuple[Where, Edits]], where: Where, otherwise: Edits) -> Edits:
    """Return the newest known value for each index, taking it out of the changes; `otherwise` where none is."""
    recalled, unknown = otherwise.copy(), np.ones(len(where), dtype=bool)
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
