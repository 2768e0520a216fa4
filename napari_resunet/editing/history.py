"""What each edit replaced, so that an undo gives back the edits as they were.

The mask layer has a history of its own, of values. Those may be older than the threshold or the run, so an undo there
says only *which* voxels are meant: what these were, as edits, is recalled from here, for each voxel its last change
away from the value that the layer brings back.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Edits = npt.NDArray[np.int8]
Where = npt.NDArray[np.intp]
Step = Literal["undo", "redo"]

_CHANGES_KEPT = 400  # of each slice; what is older is taken by the value that the layer brings back


@dataclass(frozen=True, eq=False)
class Changes:
    """What an undo or a redo gives back in one slice.

    Parameters
    ----------
    where : (n,) array of int
        Flat, rising indices.
    lung : (n,) array of bool
        What the layer writes there with that.
    edits : (n,) array of int8
        What is to be there.
    """

    where: Where
    lung: Bools
    edits: Edits

    def at(self, chosen: Bools | npt.NDArray[np.intp]) -> Changes:
        return Changes(self.where[chosen], self.lung[chosen], self.edits[chosen])


class EditHistory:
    """The changes of the edits of a case, slice by slice."""

    def __init__(self) -> None:
        self._past, self._future = _none(), _none()

    def begin_step(self) -> None:
        """Note that the layer's history has one more step, and nothing to redo."""
        self._future.clear()

    def note(self, z: int, before: Changes) -> None:
        """Note that a hand has changed slice `z`, and what was there before."""
        self._past[z].append(before)

    def slices(self, how: Step) -> list[int]:
        """Return the slices of which an undo, or a redo, is known."""
        return [z for z, known in (self._past if how == "undo" else self._future).items() if known]

    def step(self, how: Step, z: int, written: Changes, *, shown: Bools, now: Edits) -> Edits:
        """Return the edits that an undo or redo of the layer gives back.

        Parameters
        ----------
        how : str
            ``"undo"`` or ``"redo"``.
        z : int
            The slice.
        written : Changes
            The voxels that the layer wrote, what it wrote, and the edits to return where none are known.
        shown : (n,) array of bool
            What they showed until then.
        now : (n,) array of int8
            The edits as they are. They stay where the layer wrote what was shown, and no change is known that it
            takes back.
        """
        differs = written.lung != shown
        edits = np.where(differs, written.edits, now)
        taken, kept = (self._past, self._future) if how == "undo" else (self._future, self._past)
        is_recalled = _recall(taken[z], written, differs, edits)
        kept[z].append(Changes(written.where, ~written.lung, now).at(differs | is_recalled))
        return edits

    def clear(self) -> None:
        """Forget all changes: the edits have become others by another way."""
        self._past.clear()
        self._future.clear()


def _none() -> defaultdict[int, deque[Changes]]:
    return defaultdict(lambda: deque(maxlen=_CHANGES_KEPT))


def _recall(changes: deque[Changes], written: Changes, differs: Bools, edits: Edits) -> Bools:
    """Write the newest edits that belong to what was written into `edits`, take them out of the changes, say where.

    A newer change that does not belong to it was made beside the layer's history: where it shows, it is forgotten.
    """
    is_recalled, is_open = np.zeros(len(edits), dtype=bool), np.ones(len(edits), dtype=bool)
    for i in reversed(range(len(changes))):
        change = changes[i]
        here = np.flatnonzero(is_open & np.isin(written.where, change.where))
        at = np.searchsorted(change.where, written.where[here])
        belongs = change.lung[at] == written.lung[here]
        edits[here[belongs]] = change.edits[at[belongs]]
        is_recalled[here[belongs]] = True
        is_open[here[belongs | ~differs[here]]] = False
        stays = np.ones(len(change.where), dtype=bool)
        stays[at[belongs | differs[here]]] = False
        changes[i] = change.at(stays)
        if not is_open.any():
            break
    while changes and not len(changes[-1].where):
        changes.pop()
    return is_recalled
