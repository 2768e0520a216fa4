"""Values that are no Hounsfield units are not segmented."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from napari_resunet.errors import InputError
from napari_resunet.hu import judge_hu


def refuse_implausible_hu(array: npt.NDArray[Any]) -> None:
    """Raise if a (z, y, x) array cannot be a chest CT in HU, with a word on what it may be.

    Raises
    ------
    InputError
        If the volume is constant, or holds no air.
    """
    for finding in judge_hu(array):
        if finding.level in ("ask", "refuse"):
            raise InputError(finding.text)
