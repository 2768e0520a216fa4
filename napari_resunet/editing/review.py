"""Which slices a person has looked at, and what stands on them now.

A tick is for a mask as it was seen: a checksum of the slice is kept with it, so that a threshold, a run or a brush
that changes the slice afterwards takes the tick away, and going back to what was seen gives it back.
"""

from __future__ import annotations

import zlib
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]


class SliceState(IntEnum):
    """What a slice is, as the review sees it."""

    AUTO = 0  # as the network has it
    EDITED = 1  # a hand has set voxels
    REVIEWED = 2  # ticked, and unchanged since
    FLAGGED = 3  # to be looked at again


class Review:
    """The ticks and flags of a case.

    Parameters
    ----------
    slices : int
        How many axial slices there are.

    Attributes
    ----------
    marks : (z,) array of uint8
        ``SliceState.REVIEWED`` and ``SliceState.FLAGGED`` where a person said so, else 0.
    seen : (z,) array of uint32
        Checksum of a slice of the mask when it was ticked.
    """

    def __init__(self, slices: int) -> None:
        self.marks = np.zeros(slices, dtype=np.uint8)
        self.seen = np.zeros(slices, dtype=np.uint32)

    def tick(self, z: int, mask: Bytes) -> None:
        """Note that slice `z` was looked at as the (y, x) `mask` has it, and is right."""
        self.marks[z], self.seen[z] = SliceState.REVIEWED, _checksum(mask)

    def flag(self, z: int) -> None:
        """Note that slice `z` has to be looked at again."""
        self.marks[z] = SliceState.FLAGGED

    def clear(self, z: int) -> None:
        """Take tick or flag away from slice `z`."""
        self.marks[z] = 0

    @property
    def ticked(self) -> Bools:
        """Which slices were ticked, whatever has become of them since."""
        ticked: Bools = self.marks == SliceState.REVIEWED
        return ticked

    def changed_since(self, mask: Bytes) -> Bools:
        """Return which ticked slices of a (z, y, x) mask are not what was seen any more."""
        changed = np.zeros(len(self.marks), dtype=bool)
        for z in np.flatnonzero(self.ticked):
            changed[z] = _checksum(mask[z]) != self.seen[z]
        return changed

    def states(self, mask: Bytes, edited: Bools) -> Bytes:
        """Return what each slice is, as a (z,) array of `SliceState`.

        Parameters
        ----------
        mask : (z, y, x) array of uint8
            As it is shown.
        edited : (z,) array of bool
            Slices on which a hand has set voxels.
        """
        states = np.where(edited, SliceState.EDITED, SliceState.AUTO).astype(np.uint8)
        states[self.ticked & ~self.changed_since(mask)] = SliceState.REVIEWED
        states[self.marks == SliceState.FLAGGED] = SliceState.FLAGGED
        return states


def _checksum(mask: Bytes) -> int:
    # any label above 0 is lung: 1 and 2 are the same mask
    return zlib.crc32(np.packbits(mask > 0).tobytes())
