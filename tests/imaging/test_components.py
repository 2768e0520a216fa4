from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.imaging.components import clean, fill_holes, keep_large, label_pieces

Bools = npt.NDArray[np.bool_]
masks = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))


def drawn(*slices: str) -> Bools:
    """A mask from pictures: # is lung, rows are parted by blanks."""
    return np.array([[[pixel == "#" for pixel in row] for row in picture.split()] for picture in slices])


TWO_LUNGS_AND_GAS = drawn(
    "##..## ##..## ...... #.....",
    "##..## ##...# ...... ......",
)


def test_pieces_hang_together_by_faces_and_not_by_corners() -> None:
    labels, sizes = label_pieces(drawn("#.. .#. ..#"))
    assert sizes.tolist() == [0, 1, 1, 1]
    assert labels.max() == 3
    labels, sizes = label_pieces(drawn("#", "#", ".", "#"))
    assert sorted(sizes.tolist()) == [0, 1, 2]


def test_two_lungs_are_kept_and_a_small_blob_is_dropped() -> None:
    # 8, 7 and 1 voxels
    kept = keep_large(TWO_LUNGS_AND_GAS, least_part=0.5)
    assert kept.sum() == 15
    assert not kept[0, 3, 0]


@pytest.mark.parametrize(
    ("least_part", "left"), [(1.0, 8), (0.876, 8), (0.875, 15), (0.126, 15), (0.125, 16)]
)
def test_a_piece_is_kept_when_it_is_at_least_that_part_of_the_largest(least_part: float, left: int) -> None:
    assert keep_large(TWO_LUNGS_AND_GAS, least_part=least_part).sum() == left


def test_a_cavity_is_filled() -> None:
    solid = np.ones((5, 5, 5), bool)
    hollow = solid.copy()
    hollow[2, 2, 1:4] = False
    np.testing.assert_array_equal(fill_holes(hollow), solid)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_open_tunnel_is_not_filled(axis: int) -> None:
    tunnel = np.ones((5, 5, 5), bool)
    tunnel[:, 2, 2] = False
    tunnel = np.moveaxis(tunnel, 0, axis)
    np.testing.assert_array_equal(fill_holes(tunnel), tunnel)


def test_on_a_single_slice_a_hole_within_the_slice_is_filled() -> None:
    filled = fill_holes(drawn("###. #.#. ###. ...."))
    np.testing.assert_array_equal(filled, drawn("###. ###. ###. ...."))


def test_a_ring_on_one_of_several_slices_stays_open() -> None:
    ring = drawn("### #.# ###", "... ... ...")
    np.testing.assert_array_equal(fill_holes(ring), ring)


def test_clean_keeps_the_lungs_and_fills_them() -> None:
    mask = np.zeros((7, 9, 20), bool)
    mask[1:6, 2:7, 1:8] = mask[1:6, 2:7, 11:18] = True  # 175 voxels each
    wanted = mask.copy()
    mask[3, 4, 4] = False  # a vessel
    mask[0, 0, 0] = mask[6, 8, 15:20] = True  # gas
    np.testing.assert_array_equal(clean(mask), wanted)


def test_clean_leaves_a_ring_on_one_of_several_slices_open() -> None:
    ring = drawn(".... .... ....", "###. #.#. ###.", ".... .... ....")
    np.testing.assert_array_equal(clean(ring), ring)


@given(masks)
def test_clean_gives_what_the_whole_volume_gives(mask: Bools) -> None:
    least_part = 0.02 if len(mask) == 1 else 0.1
    np.testing.assert_array_equal(clean(mask), fill_holes(keep_large(mask, least_part=least_part)))


@pytest.mark.parametrize(("slices", "least"), [(2, 100), (1, 10)])
def test_the_second_lung_may_be_a_tenth_of_the_first_and_on_one_slice_a_fiftieth(
    slices: int, least: int
) -> None:
    mask = np.zeros((slices, 20, 31), bool)
    mask[:, :, :25] = True  # 500 voxels a slice
    wide = least // slices // 10
    mask[:, :10, 26 : 26 + wide] = True
    assert clean(mask).sum() == mask.sum() == slices * 500 + least
    mask[0, 9, 26] = False  # one too few
    assert clean(mask).sum() == slices * 500


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 5)])
def test_clean_of_nothing_is_nothing_and_another_array(shape: tuple[int, int, int]) -> None:
    nothing = np.zeros(shape, bool)
    cleaned = clean(nothing)
    assert not cleaned.any()
    assert cleaned is not nothing


@given(masks)
def test_clean_changes_no_array_it_was_given_and_is_done_when_it_is_done(mask: Bools) -> None:
    given_mask = mask.copy()
    once = clean(mask)
    np.testing.assert_array_equal(mask, given_mask)
    assert once.shape == mask.shape
    assert once.dtype == bool
    np.testing.assert_array_equal(clean(once), once)


@given(masks)
def test_filling_only_adds_and_dropping_only_takes(mask: Bools) -> None:
    assert not (mask & ~fill_holes(mask)).any()
    assert not (keep_large(mask, least_part=0.1) & ~mask).any()
    assert keep_large(mask, least_part=0.1).any() == mask.any()
