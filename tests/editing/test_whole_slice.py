from __future__ import annotations

import numpy as np
import pytest

from napari_resunet.editing.whole_slice import accept_model, clear_slice
from napari_resunet.errors import InputError


def test_one_slice_becomes_the_models_and_the_others_stay_in_a_changed_copy() -> None:
    shown = np.array([[[1, 2]], [[1, 0]], [[2, 2]]], np.uint8)
    automatic = np.array([[[0, 0]], [[0, 1]], [[0, 0]]], bool)
    accepted = accept_model(shown, automatic, 1)
    assert accepted.tolist() == [[[1, 2]], [[0, 1]], [[2, 2]]]
    assert accepted.dtype == np.uint8
    assert shown.tolist() == [[[1, 2]], [[1, 0]], [[2, 2]]]


def test_one_slice_is_cleared_in_a_changed_copy() -> None:
    mask = np.full((3, 1, 2), 2, np.uint8)
    cleared = clear_slice(mask, 2)
    assert cleared.tolist() == [[[2, 2]], [[2, 2]], [[0, 0]]]
    assert cleared.dtype == np.uint8
    assert (mask == 2).all()


@pytest.mark.parametrize("z", [-1, 3])
def test_a_slice_that_is_not_there_is_refused(z: int) -> None:
    mask = np.ones((3, 1, 2), bool)
    with pytest.raises(InputError, match=f"there is no slice {z}"):
        clear_slice(mask, z)
    with pytest.raises(InputError, match=f"there is no slice {z}"):
        accept_model(mask, mask, z)


def test_masks_of_two_shapes_are_a_wrong_call() -> None:
    with pytest.raises(ValueError, match="different shapes"):
        accept_model(np.ones((3, 2, 2), bool), np.ones((3, 1, 2), bool), 0)
