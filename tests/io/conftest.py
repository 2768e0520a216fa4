from __future__ import annotations

import numpy as np
import pytest

from napari_resunet.geometry import Geometry
from napari_resunet.volume import Volume


@pytest.fixture
def volume() -> Volume:
    """A CT of 5 axial slices of 6 x 7 pixels; no two voxels are equal."""
    hu = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7) * 7 - 1000
    matrix = np.eye(4)
    matrix[:3] = [[0, 0, 0.7, -100.5], [0, 0.8, 0, -20.25], [2.5, 0, 0, 30]]
    return Volume(hu, Geometry((5, 6, 7), matrix))
