"""Corrections of one axial slice as a whole."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.places import Labels, slice_in

S = TypeVar("S", bound=np.generic)


def accept_model(shown: npt.NDArray[S], automatic: Labels, z: int) -> npt.NDArray[S]:
    """Return a copy of what is shown, with slice `z` as the model has it.

    Parameters
    ----------
    shown, automatic : (z, y, x) array of bool or int
        The mask with corrections, and the one without. Labels are taken over as they are, in the kind of number
        that `shown` has.
    z : int
        The slice.

    Raises
    ------
    InputError
        If there is no such slice.
    """
    if shown.shape != automatic.shape:
        raise ValueError(f"the masks have different shapes: {shown.shape} and {automatic.shape}")
    z = slice_in(shown.shape, z)
    accepted = shown.copy()
    accepted[z] = automatic[z]
    return accepted


def clear_slice(mask: npt.NDArray[S], z: int) -> npt.NDArray[S]:
    """Return a copy of a (z, y, x) mask with nothing on slice `z`; InputError if there is no such slice."""
    z = slice_in(mask.shape, z)
    cleared = mask.copy()
    cleared[z] = 0
    return cleared
