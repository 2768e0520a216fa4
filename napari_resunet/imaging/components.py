"""Connected pieces of a mask."""

from __future__ import annotations

import cc3d
import fill_voids
import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]

# A lung that is a tenth of the other one is still a lung; gas in the bowel seldom gets that large.
LEAST_PART_OF_VOLUME = 0.1
# On one slice, near an apex or a base, the second lung may be much smaller than the first.
LEAST_PART_OF_SLICE = 0.02


def label_pieces(mask: Bools) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]:
    """Return a (z, y, x) array of piece numbers, face to face connected, and the voxels of each (0 is outside)."""
    labels = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=6)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels, sizes


def keep_large(mask: Bools, *, least_part: float) -> Bools:
    """Return the pieces of a (z, y, x) mask that are at least `least_part` of the largest one."""
    labels, sizes = label_pieces(mask)
    kept = (sizes > 0) & (sizes >= least_part * sizes.max())
    return np.asarray(kept[labels], dtype=bool)


def fill_holes(mask: Bools) -> Bools:
    """Return the mask with everything filled that it encloses; on a single slice, within the slice."""
    flat = mask.shape[0] == 1
    filled = fill_voids.fill(np.ascontiguousarray(mask[0] if flat else mask))
    return np.asarray(filled, dtype=bool).reshape(mask.shape)


def clean(mask: Bools) -> Bools:
    """Return the large pieces of a (z, y, x) mask, their holes filled."""
    result = np.zeros_like(mask)
    if mask.any():
        slices, *plane = box_around(mask)  # most of a CT is not lung
        # one slice of several must not be taken for a slice alone
        box = (slice(max(slices.start - 1, 0), slices.stop + 1), *plane)
        least_part = LEAST_PART_OF_SLICE if mask.shape[0] == 1 else LEAST_PART_OF_VOLUME
        result[box] = fill_holes(keep_large(mask[box], least_part=least_part))
    return result


def box_around(mask: Bools) -> tuple[slice, slice, slice]:
    """Return the slices, rows and columns that hold anything of a (z, y, x) mask that is not empty."""
    z, y, x = (np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    return slice(z[0], z[-1] + 1), slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)
