from __future__ import annotations

import numpy as np
import pytest

from napari_resunet.imaging.lung_ends import shows_lung
from napari_resunet.phantom import Phantom


def body(gas: int) -> np.ndarray:
    """A slice through a body of 60 x 80 pixels with a square hole of gas."""
    hu = np.full((96, 96), -1000, np.int16)
    hu[18:78, 8:88] = 40
    hu[40 : 40 + gas, 40 : 40 + gas] = -800
    return hu


@pytest.mark.parametrize(
    ("gas", "is_lung"), [(0, False), (18, False), (22, True)]
)  # 0, 6.8 and 10 % of the body
def test_a_twelfth_of_the_body_is_lung_and_less_is_a_windpipe(gas: int, is_lung: bool) -> None:
    assert shows_lung(body(gas)) == is_lung


def test_air_around_the_body_and_a_thin_table_are_no_lung() -> None:
    hu = body(0)
    hu[90, :] = 100
    assert not shows_lung(hu)
    assert not shows_lung(np.full((64, 64), -1000, np.int16))


def test_a_large_slice_is_looked_at_coarsely_and_gives_the_same() -> None:
    assert shows_lung(np.kron(body(22), np.ones((6, 6), np.int16)))
    assert not shows_lung(np.kron(body(18), np.ones((6, 6), np.int16)))


def test_the_middle_of_a_chest_shows_lung_and_its_ends_do_not(chest: Phantom) -> None:
    axial = chest.volume.axial
    assert shows_lung(axial[len(axial) // 2])
    assert not shows_lung(axial[0])
    assert not shows_lung(axial[-1])
