from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.editing.changes import changed_voxels

labels = hnp.arrays(np.uint8, (3, 2, 4), elements=st.integers(0, 2))


def test_only_voxels_that_differ_are_named_with_what_is_there_afterwards() -> None:
    before, after = np.zeros((3, 2, 2), np.uint8), np.zeros((3, 2, 2), np.uint8)
    before[0, 1, 0], after[0, 1, 0] = 1, 2
    before[2, 0, 1], after[2, 1, 1] = 1, 1
    before[1, 0, 0] = after[1, 0, 0] = 2
    (z, y, x), values = changed_voxels(before, after)
    assert (z.tolist(), y.tolist(), x.tolist()) == ([0, 2, 2], [1, 0, 1], [0, 1, 1])
    assert values.tolist() == [2, 0, 1]


@given(labels, labels)
def test_written_into_the_first_they_give_the_second(
    before: npt.NDArray[np.uint8], after: npt.NDArray[np.uint8]
) -> None:
    was = before.copy(), after.copy()
    indices, values = changed_voxels(before, after)
    np.testing.assert_array_equal(before, was[0])
    np.testing.assert_array_equal(after, was[1])
    assert len(values) == np.count_nonzero(before != after)
    before[indices] = values
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", [bool, np.int64])
def test_values_are_of_the_kind_that_the_layer_has(kind: type) -> None:
    _, values = changed_voxels(np.zeros((1, 1, 2), np.uint8), np.array([[[0, 1]]], kind))
    assert values.dtype == np.uint8
    assert values.tolist() == [1]


def test_no_difference_is_no_voxel() -> None:
    mask = np.ones((2, 2, 2), np.uint8)
    indices, values = changed_voxels(mask, mask.copy())
    assert [len(i) for i in indices] == [0, 0, 0]
    assert values.dtype == np.uint8
    assert len(values) == 0


def test_masks_of_two_shapes_are_a_wrong_call() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        changed_voxels(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8))
