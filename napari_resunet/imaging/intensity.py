"""Whether voxel values can be Hounsfield units."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError

# Air is -1000 HU and lung about -850. A CT of the chest in which not one voxel in a thousand is below this
# holds something else than HU.
_AIRLESS_HU = -300
_SHARE = 0.001
# Values below any air fill what lies outside of the field of view.
_PADDING_HU = -1500
_STRIDE = 4


def refuse_implausible_hu(array: npt.NDArray[Any]) -> None:
    """Raise if a (z, y, x) array cannot be a chest CT in HU, with a word on what it may be.

    Raises
    ------
    InputError
        If the volume is constant, or holds no air.
    """
    sample = np.asarray(array[:, ::_STRIDE, ::_STRIDE])
    sample = sample[np.isfinite(sample) & (sample > _PADDING_HU)]
    if not sample.size:
        raise InputError("no voxel holds a value that a CT can have: export the CT again in HU")
    low, high = float(sample.min()), float(sample.max())
    if low == high:
        raise InputError(
            f"every voxel is {low:g}: there is nothing to segment; choose another series or file"
        )
    if np.count_nonzero(sample < _AIRLESS_HU) >= _SHARE * sample.size:
        return
    found = f"values run from {low:g} to {high:g} and none is as low as air (-1000 HU)"
    if high > 1200:
        raise InputError(
            f"{found}: they look like HU + 1024; give a HU offset of -1024 (--hu-offset), or 0 if they are right"
        )
    raise InputError(
        f"{found}: they are not HU; export the CT again in HU, or give the HU offset that makes them so"
    )
