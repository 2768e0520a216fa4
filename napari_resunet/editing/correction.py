"""What a hand changed in a mask, kept apart from what the network said.

A mask is the sum of known parts: ``where(edit != 0, edit > 0, automatic)``. `edit` is int8: 0 untouched, +1 put in by
hand, -1 taken out by hand. Edits are found by comparing what is shown with what was shown last, so that a brush, a
fill, an undo and a script in the console all count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


def compose(automatic: Bools, edit: npt.NDArray[np.int8]) -> npt.NDArray[np.uint8]:
    """Return the automatic mask with the edits laid over it.

    Parameters
    ----------
    automatic : (z, y, x) array of bool
        What threshold and clean-up gave.
    edit : (z, y, x) array of int8
        0 untouched, +1 put in, -1 taken out.

    Returns
    -------
    (z, y, x) array of uint8
        0 and 1.
    """
    mask = automatic | (edit > 0)
    mask &= edit >= 0
    return mask.view(np.uint8)


def absorb_edits(
    shown: npt.NDArray[np.integer],
    last_shown: npt.NDArray[np.uint8],
    automatic: Bools,
    edit: npt.NDArray[np.int8],
    *,
    undone: bool = False,
) -> int:
    """Write into `edit` what a hand has changed since `last_shown`; return how many voxels that were.

    A voxel brought back to what the automatic mask says, by an undo for example, is untouched again.

    Parameters
    ----------
    shown, last_shown : (z, y, x) array
        The mask as it stands, any label above 0 being lung; and as it stood when edits were last absorbed.
    automatic : (z, y, x) array of bool
        What threshold and clean-up gave, the same then and now.
    edit : (z, y, x) array of int8
        Changed in place, slice by slice, and only where a hand was.
    undone : bool
        Whether the change was an undo or a redo. A voxel that a hand had set is untouched again then, whatever value
        the history brings back: that value may be older than the threshold.
    """
    changed = 0
    for z in range(len(shown)):
        if np.array_equal(shown[z], last_shown[z]):
            continue
        now = shown[z] > 0
        differs = now != (last_shown[z] > 0)
        if differs.any():
            by_hand = np.where(now == automatic[z], 0, np.where(now, 1, -1))
            if undone:
                by_hand[edit[z] != 0] = 0
            edit[z][differs] = by_hand[differs]
            changed += int(np.count_nonzero(differs))
    return changed
