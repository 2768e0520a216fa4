from __future__ import annotations

import numpy as np
import pytest

from napari_resunet.editing.places import box_around, slice_in, voxel_in
from napari_resunet.errors import InputError

SHAPE = (3, 4, 5)


def test_a_voxel_in_the_volume_comes_back_as_whole_numbers() -> None:
    voxel = voxel_in(SHAPE, np.array([2, 3, 4]))
    assert voxel == (2, 3, 4)
    assert [type(i) for i in voxel] == [int, int, int]


@pytest.mark.parametrize("seed", [(3, 0, 0), (0, 4, 0), (0, 0, 5), (-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_a_click_beside_the_picture_is_refused_and_does_not_count_from_the_end(
    seed: tuple[int, int, int],
) -> None:
    with pytest.raises(
        InputError, match=rf"slice {seed[0]}, row {seed[1]}, column {seed[2]} is outside of the CT"
    ):
        voxel_in(SHAPE, seed)


def test_half_a_voxel_is_nobodys_guess() -> None:
    with pytest.raises(TypeError):
        voxel_in(SHAPE, (0.5, 0, 0))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        slice_in(SHAPE, 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("z", [-1, 3])
def test_a_slice_that_is_not_there_is_refused(z: int) -> None:
    assert [slice_in(SHAPE, i) for i in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match=f"there is no slice {z}; choose one from 0 to 2"):
        slice_in(SHAPE, z)


def test_a_box_holds_the_shape_and_its_margin_and_ends_at_the_edges() -> None:
    shape = np.zeros((10, 10, 10), bool)
    shape[4, 1, 8] = shape[5, 2, 8] = True
    assert box_around(shape, margin=(0, 0, 0)) == (slice(4, 6), slice(1, 3), slice(8, 9))
    assert box_around(shape, margin=(1, 2, 3)) == (slice(3, 7), slice(0, 5), slice(5, 10))
    assert box_around(shape[4], margin=(0, 0)) == (slice(1, 2), slice(8, 9))


def test_the_box_around_nothing_holds_nothing() -> None:
    nothing = np.zeros(SHAPE, bool)
    assert nothing[box_around(nothing, margin=(1, 1, 1))].size == 0
