"""How the parts of a case add up to its mask, apart from the network's and the hand's own."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError

Bools = npt.NDArray[np.bool_]


def put_adopted(adopted: Bools | None, into: Bools, *, done: Bools) -> None:
    """Let slices that the network has not seen keep a mask made elsewhere.

    Parameters
    ----------
    adopted : (z, y, x) array of bool, optional
        The mask that the case began from, if there is one.
    into : (z, y, x) array of bool
        What threshold and clean-up gave. Changed in place.
    done : (z,) array of bool
        Which slices the network has seen.
    """
    if adopted is not None:
        into[~done] = adopted[~done]


def refuse_no_mask(mask: npt.NDArray[np.uint8], *, done: Bools, edited: bool) -> None:
    """Refuse a case in which nothing has happened yet; an empty mask that was found empty is one.

    Parameters
    ----------
    mask : (z, y, x) array of uint8
        As it adds up.
    done : (z,) array of bool
        Which slices the network has seen.
    edited : bool
        Whether a hand has set any voxel.

    Raises
    ------
    InputError
        If there is nothing to export.
    """
    if not (mask.any() or done.any() or edited):
        raise InputError("there is no mask yet: run the network, or paint one")
