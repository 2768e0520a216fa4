"""How far the sorted slices of a DICOM series lie apart: evenly, with some missing, or unevenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAME_MM = 1e-3  # slices nearer than this lie at one position
_ROUNDED_MM = 0.15  # positions are often rounded to 0.1 mm


@dataclass(frozen=True, eq=False)
class Steps:
    """What the heights of two or more slices along their normal say.

    Parameters
    ----------
    mm : (n - 1,) array of float
        From each slice to the next.
    """

    mm: npt.NDArray[np.float64]

    @property
    def usual_mm(self) -> float:
        return float(np.median(self.mm))

    @property
    def gaps(self) -> list[int]:
        """The slices (by number, from 0) after which some are missing; empty if the spacing varies otherwise."""
        wide = np.flatnonzero(self.mm > 1.5 * self.usual_mm)
        few = len(wide) <= max(2, len(self.mm) // 10)
        return [int(i) for i in wide] if few and self._is_even(np.delete(self.mm, wide)) else []

    @property
    def missing(self) -> int:
        """How many slices the gaps have room for."""
        return int(np.rint(self.mm[self.gaps] / self.usual_mm - 1).sum())

    @property
    def is_even(self) -> bool:
        return self._is_even(self.mm)

    def _is_even(self, steps: npt.NDArray[np.float64]) -> bool:
        limit = max(0.1 * self.usual_mm, _ROUNDED_MM)
        return bool((np.abs(steps - self.usual_mm) <= limit).all())
