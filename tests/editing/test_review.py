from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_resunet.editing.review import Review, SliceState

AUTO, EDITED, REVIEWED, FLAGGED = SliceState


def lungs() -> npt.NDArray[np.uint8]:
    mask = np.zeros((4, 5, 6), np.uint8)
    mask[:, 1:4, 1:4] = 1
    return mask


def states(review: Review, mask: npt.NDArray[np.uint8], *, edited: Any = (0, 0, 0, 0)) -> list[int]:
    return review.states(mask, np.array(edited, bool)).tolist()


def test_slices_begin_as_the_network_has_them_or_as_a_hand_does() -> None:
    assert states(Review(4), lungs(), edited=(0, 1, 0, 1)) == [AUTO, EDITED, AUTO, EDITED]


def test_a_ticked_slice_is_reviewed_whether_a_hand_was_on_it_or_not() -> None:
    review, mask = Review(4), lungs()
    review.tick(0, mask[0])
    review.tick(1, mask[1])
    assert states(review, mask, edited=(1, 0, 0, 0)) == [REVIEWED, REVIEWED, AUTO, AUTO]
    assert review.ticked.tolist() == [True, True, False, False]


@pytest.mark.parametrize("voxel", [(0, 0), (2, 2), (4, 5)])  # the last is in a byte of its own when packed
def test_one_voxel_that_changes_takes_the_tick_away_and_its_return_gives_it_back(voxel: Any) -> None:
    review, mask = Review(4), lungs()
    review.tick(2, mask[2])
    mask[2][voxel] ^= 1
    assert states(review, mask) == [AUTO] * 4
    assert states(review, mask, edited=(0, 0, 1, 0)) == [AUTO, AUTO, EDITED, AUTO]
    assert review.changed_since(mask).tolist() == [False, False, True, False]
    assert review.ticked[2]
    mask[2][voxel] ^= 1
    assert states(review, mask) == [AUTO, AUTO, REVIEWED, AUTO]
    assert not review.changed_since(mask).any()


def test_what_changes_on_another_slice_is_none_of_a_ticks_business() -> None:
    review, mask = Review(4), lungs()
    review.tick(2, mask[2])
    mask[3] = 0
    assert states(review, mask) == [AUTO, AUTO, REVIEWED, AUTO]


def test_another_label_of_the_same_lung_leaves_the_tick() -> None:
    review, mask = Review(4), lungs()
    review.tick(2, mask[2])
    mask[2][mask[2] > 0] = 2
    assert states(review, mask) == [AUTO, AUTO, REVIEWED, AUTO]


def test_ticking_again_is_for_what_is_seen_now() -> None:
    review, mask = Review(4), lungs()
    review.tick(2, mask[2])
    mask[2, 0, 0] = 1
    review.tick(2, mask[2])
    assert states(review, mask) == [AUTO, AUTO, REVIEWED, AUTO]
    mask[2, 0, 0] = 0
    assert states(review, mask) == [AUTO] * 4


def test_a_flag_stays_whatever_becomes_of_the_slice() -> None:
    review, mask = Review(4), lungs()
    review.flag(1)
    mask[1] = 0
    assert states(review, mask, edited=(0, 1, 0, 0)) == [AUTO, FLAGGED, AUTO, AUTO]
    assert not review.ticked.any()
    assert not review.changed_since(mask).any()


def test_the_last_of_tick_and_flag_counts_and_clearing_takes_either_away() -> None:
    review, mask = Review(4), lungs()
    for z in range(3):
        review.tick(z, mask[z])
        review.flag(z)
    review.tick(1, mask[1])
    review.clear(2)
    assert states(review, mask) == [FLAGGED, REVIEWED, AUTO, AUTO]
    review.clear(0)
    review.clear(1)
    assert states(review, mask) == [AUTO] * 4


def test_an_empty_slice_can_be_ticked() -> None:
    review, mask = Review(4), np.zeros((4, 5, 6), np.uint8)
    review.tick(0, mask[0])
    assert states(review, mask) == [REVIEWED, AUTO, AUTO, AUTO]
