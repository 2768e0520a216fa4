from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.editing.between import depth_mm, fill_between
from napari_resunet.errors import InputError

Bools = npt.NDArray[np.bool_]
SQUARE = (1.0, 1.0, 1.0)


def away_mm(shape: tuple[int, int], spacing_mm: tuple[float, float]) -> npt.NDArray[np.float64]:
    """How far each pixel is from the middle of the picture."""
    y, x = np.indices(shape)
    return np.hypot((y - shape[0] // 2) * spacing_mm[0], (x - shape[1] // 2) * spacing_mm[1])


def row(*pixels: int) -> Bools:
    return np.array(pixels, bool).reshape(1, -1)


@pytest.mark.parametrize(
    ("shape", "spacing_mm"),
    [((81, 81), (5.0, 1.0, 1.0)), ((41, 81), (5.0, 2.0, 1.0)), ((81, 81), (1.0, 0.5, 0.5))],
)
def test_between_two_discs_the_radius_goes_over_evenly_in_mm(
    shape: tuple[int, int], spacing_mm: tuple[float, float, float]
) -> None:
    pixel = max(spacing_mm[1:])
    away = away_mm(shape, spacing_mm[1:]) / spacing_mm[2]
    mask = np.zeros((5, *shape), bool)
    mask[0], mask[4] = away < 16, away < 32
    filled = fill_between(mask, [0, 4], spacing_mm=spacing_mm)
    for z, radius in ((1, 20), (2, 24), (3, 28)):
        half_a_pixel = 0.5 * pixel / spacing_mm[2]
        area = np.count_nonzero(filled[z]) * spacing_mm[1] / spacing_mm[2]
        assert np.sqrt(area / np.pi) == pytest.approx(radius, abs=half_a_pixel)
        assert filled[z][away < radius - 2 * half_a_pixel].all()
        assert not filled[z][away > radius + 2 * half_a_pixel].any()


def test_a_bar_that_moves_is_half_way_in_the_middle() -> None:
    mask = np.zeros((3, 1, 12), bool)
    mask[0, 0, 1:8] = mask[2, 0, 3:10] = True
    filled = fill_between(mask, [0, 2], spacing_mm=SQUARE)
    assert np.flatnonzero(filled[1]).tolist() == [2, 3, 4, 5, 6, 7, 8]


def test_pixels_count_by_their_size_in_mm() -> None:
    # A square of 9 pixels a side turns into a single pixel. Half-way, a pixel is in if it lies deeper in the square
    # than far from the single one. A row above the middle these are, less a quarter of the last step, 3.75 and
    # 0.75 mm where pixels are square; where rows are 10 mm apart, 4.75 and 7.5 mm.
    mask = np.zeros((3, 11, 11), bool)
    mask[0, 1:10, 1:10] = mask[2, 5, 5] = True
    square = fill_between(mask, [0, 2], spacing_mm=SQUARE)[1]
    tall = fill_between(mask, [0, 2], spacing_mm=(1.0, 10.0, 1.0))[1]
    np.testing.assert_array_equal(square, square.T)
    assert np.flatnonzero(square[5]).tolist() == [3, 4, 5, 6, 7]
    assert np.flatnonzero(tall[5]).tolist() == [3, 4, 5, 6, 7]
    assert tall.sum() == 5


def test_an_edited_slice_keeps_every_byte_and_what_was_between_is_replaced() -> None:
    mask = np.random.default_rng(0).random((9, 12, 12)) < 0.4
    mask[2] = mask[6] = False
    mask[2, 3:9, 3:9] = mask[6, 3:9, 3:9] = True
    filled = fill_between(mask, [2, 6], spacing_mm=SQUARE)
    for z in (0, 1, 2, 6, 7, 8):
        assert filled[z].tobytes() == mask[z].tobytes()
    for z in (3, 4, 5):
        np.testing.assert_array_equal(filled[z], mask[2])


def test_each_pair_is_filled_by_its_own_two_slices() -> None:
    mask = np.zeros((7, 21, 21), bool)
    away = away_mm((21, 21), (1, 1))
    mask[0], mask[3], mask[6] = away < 8, away < 4, away < 8
    filled = fill_between(mask, [6, 0, 3, 3], spacing_mm=SQUARE)
    np.testing.assert_array_equal(filled[:4], fill_between(mask[:4], [0, 3], spacing_mm=SQUARE))
    np.testing.assert_array_equal(filled[3:], fill_between(mask[3:], [0, 3], spacing_mm=SQUARE))
    assert filled[1].sum() > filled[2].sum() > filled[3].sum() < filled[4].sum() < filled[5].sum()


@pytest.mark.parametrize("empty", [0, 8])
def test_towards_an_empty_slice_the_shape_shrinks_and_is_gone_half_way(empty: int) -> None:
    mask = np.zeros((9, 31, 31), bool)
    mask[8 - empty] = away_mm((31, 31), (1, 1)) < 12
    filled = fill_between(mask, [0, 8], spacing_mm=SQUARE)
    from_shape = filled if empty == 8 else filled[::-1]
    sizes = np.count_nonzero(from_shape, axis=(1, 2))
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] > 0
    assert sizes[4:].tolist() == [0, 0, 0, 0, 0]


def test_between_two_empty_slices_all_is_empty() -> None:
    mask = np.ones((4, 5, 5), bool)
    mask[0] = mask[3] = False
    assert not fill_between(mask, [0, 3], spacing_mm=SQUARE).any()


def test_full_slices_have_no_outline_and_work_all_the_same() -> None:
    mask = np.zeros((5, 4, 4), bool)
    mask[0] = True
    assert fill_between(mask, [0, 4], spacing_mm=SQUARE).all(axis=(1, 2)).tolist() == [
        True,
        True,
        False,
        False,
        False,
    ]
    mask[4] = True
    assert fill_between(mask, [0, 4], spacing_mm=SQUARE).all()


def test_a_lung_cut_off_by_the_edge_of_the_picture_goes_on_beyond_it() -> None:
    mask = np.zeros((3, 9, 20), bool)
    mask[0, :, :6] = mask[2, :, :10] = True
    middle = fill_between(mask, [0, 2], spacing_mm=SQUARE)[1]
    np.testing.assert_array_equal(middle, np.broadcast_to(np.arange(20) < 8, (9, 20)))


def test_parts_that_do_not_overlap_do_not_wander() -> None:
    mask = np.zeros((4, 10, 40), bool)
    mask[0, 2:8, 2:8] = mask[3, 2:8, 30:36] = True
    filled = fill_between(mask, [0, 3], spacing_mm=SQUARE)
    assert not filled[:, :, 8:30].any()


@pytest.mark.parametrize(
    ("edited", "found"), [([], "there are 0"), ([2], "there is 1"), ([2, 2], "there is 1")]
)
def test_fewer_than_two_slices_are_refused_with_what_to_do(edited: list[int], found: str) -> None:
    with pytest.raises(
        InputError, match=rf"needs at least 2 edited slices, {found}; correct the lung on another"
    ):
        fill_between(np.zeros((4, 3, 3), bool), edited, spacing_mm=SQUARE)


@pytest.mark.parametrize("z", [-1, 4])
def test_a_slice_that_is_not_there_is_refused(z: int) -> None:
    with pytest.raises(InputError, match=f"there is no slice {z}"):
        fill_between(np.zeros((4, 3, 3), bool), [1, z], spacing_mm=SQUARE)


def test_depth_is_in_mm_and_changes_sign_at_the_outline() -> None:
    # steps of 2 mm, less a quarter of one
    depth = depth_mm(row(0, 0, 1, 1, 1, 1, 1, 0), spacing_mm=(1.0, 2.0))
    assert depth.ravel().tolist() == [-3.5, -1.5, 1.5, 3.5, 5.5, 3.5, 1.5, -1.5]


def test_without_an_outline_the_depth_is_the_diagonal() -> None:
    np.testing.assert_array_equal(
        depth_mm(np.ones((3, 2), bool), spacing_mm=(1.0, 2.0)), np.full((3, 2), 5.0)
    )
    np.testing.assert_array_equal(
        depth_mm(np.zeros((3, 2), bool), spacing_mm=(1.0, 2.0)), np.full((3, 2), -5.0)
    )


@given(
    hnp.arrays(np.uint8, (6, 5, 4), elements=st.integers(0, 2)),
    st.lists(st.integers(0, 5), min_size=2, unique=True),
)
@settings(max_examples=60)
def test_edited_slices_and_those_outside_never_change_nor_does_what_was_given(
    mask: npt.NDArray[np.uint8], edited: list[int]
) -> None:
    before = mask.copy()
    filled = fill_between(mask, edited, spacing_mm=(2.0, 0.7, 0.5))
    np.testing.assert_array_equal(mask, before)
    assert filled.dtype == bool
    first, last = min(edited), max(edited)
    for z in range(6):
        if z in edited or not first < z < last:
            np.testing.assert_array_equal(filled[z], mask[z] > 0)
        else:
            below = max(i for i in edited if i < z)
            above = min(i for i in edited if i > z)
            # no voxel that neither neighbour has; every voxel that both have
            assert not (filled[z] & ~((mask[below] > 0) | (mask[above] > 0))).any()
            assert not ((mask[below] > 0) & (mask[above] > 0) & ~filled[z]).any()


def test_with_the_voxels_that_a_hand_has_set_only_their_surroundings_change() -> None:
    mask = np.zeros((4, 60, 60), bool)
    mask[:, 5:55, 5:25] = mask[:, 5:55, 35:55] = True
    mask[1:3, 5:55, 50:55] = False  # the network saw this lung smaller in between: that is far from the hand
    edited = np.zeros_like(mask)
    edited[0, 20:30, 10:20] = edited[3, 20:30, 10:20] = True
    mask[edited] = False  # a vessel taken out of the first lung, on the first and the last slice
    filled = fill_between(mask, [0, 3], spacing_mm=SQUARE, edited=edited)
    assert not filled[1:3, 20:30, 10:20].any()
    np.testing.assert_array_equal(filled[:, :, 31:], mask[:, :, 31:])
    everywhere = fill_between(mask, [0, 3], spacing_mm=SQUARE)
    assert everywhere[1:3, 5:55, 50:55].all()


def test_a_correction_reaches_10_mm_beyond_the_voxels_that_were_set() -> None:
    mask = np.ones((3, 1, 60), bool)
    mask[1] = False
    edited = np.zeros_like(mask)
    edited[0, 0, 30] = True
    filled = fill_between(mask, [0, 2], spacing_mm=(1.0, 1.0, 0.5), edited=edited)
    assert np.flatnonzero(filled[1]).tolist() == list(range(10, 51))
