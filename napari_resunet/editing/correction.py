"""What a hand changed in a mask, kept apart from what the network said.

A mask is the sum of known parts: ``where(edit != 0, edit > 0, automatic)``. `edit` is int8: 0 untouched, +1 put in by
hand, -1 taken out by hand. Edits are found by comparing what is shown with that sum, so that a brush, a fill, an undo
and a script in the console all count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Edits = npt.NDArray[np.int8]

_NOWHERE = np.empty(0, dtype=np.intp)


def compose(automatic: Bools, edit: Edits) -> npt.NDArray[np.uint8]:
    """Return the automatic mask with the edits laid over it.

    Parameters
    ----------
    automatic : array of bool
        What threshold and clean-up gave.
    edit : array of int8
        0 untouched, +1 put in, -1 taken out.

    Returns
    -------
    array of uint8
        0 and 1.
    """
    mask = automatic | (edit > 0)
    mask &= edit >= 0
    return mask.view(np.uint8)


def changed_by_hand(shown: npt.NDArray[np.integer], composed: npt.NDArray[np.uint8]) -> npt.NDArray[np.intp]:
    """Return where one slice is not what was last shown.

    Parameters
    ----------
    shown : (y, x) array
        The mask as it stands; any label above 0 is lung.
    composed : (y, x) array of uint8
        What `compose` gave for it when it was last shown.

    Returns
    -------
    (n,) array of int
        Indices into the slice laid flat, rising.
    """
    if np.array_equal(shown, composed):
        return _NOWHERE
    return np.flatnonzero((shown > 0) != composed.view(np.bool_))


def stated_by(lung: Bools, automatic: Bools) -> Edits:
    """Return the edits that a hand states which made voxels lung, or not.

    A voxel that a hand brought back to what the automatic mask says is untouched again.

    Parameters
    ----------
    lung, automatic : (n,) arrays of bool
        What the hand left, and what threshold and clean-up gave.
    """
    return np.where(lung == automatic, 0, np.where(lung, 1, -1)).astype(np.int8)
