from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.imaging.sides import LEFT, RIGHT, split_right_left
from napari_resunet.phantom import make_phantom

Spacing = tuple[float, float, float]
masks = hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)))
SPACINGS: list[Spacing] = [(5.0, 2.5, 2.5), (10.0, 0.7, 0.7), (1.0, 1.0, 3.0)]


def lungs(spacing: Spacing = (5.0, 2.5, 2.5)) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
    """Two blocks of 60 x 40 x 50 mm, 80 mm from centre to centre, and the labels they should get."""
    shape = [round(mm / step) for mm, step in zip((80, 60, 160), spacing, strict=True)]
    z, y, x = (
        (i + 0.5) * step
        for i, step in zip(np.meshgrid(*map(np.arange, shape), indexing="ij"), spacing, strict=True)
    )
    inside = (abs(z - 40) < 30) & (abs(y - 30) < 20)
    labels = np.zeros(shape, np.uint8)
    labels[inside & (abs(x - 40) < 25)] = RIGHT
    labels[inside & (abs(x - 120) < 25)] = LEFT
    return labels > 0, labels


def middle(mask: npt.NDArray[np.bool_]) -> float:
    return mask.shape[2] / 2


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_lung_at_low_x_is_the_right_one_label_1_and_the_other_label_2(spacing: Spacing) -> None:
    mask, labels = lungs(spacing)
    found = split_right_left(mask, spacing_mm=spacing, midline=middle(mask))
    np.testing.assert_array_equal(found, labels)
    assert found.dtype == np.uint8
    assert (RIGHT, LEFT) == (1, 2)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_lungs_joined_by_a_thin_bridge_are_still_told_apart(spacing: Spacing) -> None:
    mask, labels = lungs(spacing)
    z, y = mask.shape[0] // 2, mask.shape[1] // 2
    thick = max(1, round(5 / spacing[1]))
    between = np.flatnonzero(~labels[z, y].astype(bool))
    between = between[(between > np.flatnonzero(labels[z, y] == RIGHT)[-1])]
    between = between[between < np.flatnonzero(labels[z, y] == LEFT)[0]]
    mask[z, y : y + thick, between[0] : between[-1] + 1] = True
    found = split_right_left(mask, spacing_mm=spacing, midline=middle(mask))
    changed = (found != labels) & (labels > 0)
    assert not changed.any()
    half = mask.shape[2] // 2
    assert found[z, y, between[0]] == RIGHT
    assert found[z, y, between[-1]] == LEFT
    # the bridge is cut near its middle: the coarse grid is 2.5 mm or one voxel
    cut = between[0] + np.count_nonzero(found[z, y, between] == RIGHT)
    assert abs(cut - half) * spacing[2] <= 5


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_of_one_lung_alone_the_midline_decides_which_it_is(side: int) -> None:
    _, labels = lungs()
    found = split_right_left(labels == side, spacing_mm=(5.0, 2.5, 2.5), midline=middle(labels > 0))
    assert set(np.unique(found)) == {0, side}


def test_one_lung_that_reaches_beyond_the_midline_is_not_cut() -> None:
    mask, labels = lungs()
    mask[...] = labels == LEFT
    found = split_right_left(mask, spacing_mm=(5.0, 2.5, 2.5), midline=40.0)  # it begins at column 38
    assert set(np.unique(found)) == {0, LEFT}


@pytest.mark.parametrize("side", [RIGHT, LEFT])
def test_a_collapsed_lung_of_a_tenth_of_the_other_keeps_its_side(side: int) -> None:
    mask, labels = lungs()
    other = LEFT if side == RIGHT else RIGHT
    where = np.argwhere(labels == side)
    mask[labels == side] = False
    z, y, x = where.mean(axis=0).astype(int)
    mask[z - 2 : z + 2, y - 4 : y + 4, x - 6 : x + 6] = True  # 384 voxels to 3840
    found = split_right_left(mask, spacing_mm=(5.0, 2.5, 2.5), midline=middle(mask))
    assert found[z, y, x] == side
    assert set(np.unique(found[labels == other])) == {other}


def test_both_lungs_may_be_in_several_pieces() -> None:
    mask, labels = lungs()
    middle_slice = mask.shape[0] // 2
    mask[middle_slice] = False
    labels[middle_slice] = 0
    found = split_right_left(mask, spacing_mm=(5.0, 2.5, 2.5), midline=middle(mask))
    np.testing.assert_array_equal(found, labels)


def test_nothing_is_neither_right_nor_left() -> None:
    found = split_right_left(np.zeros((2, 3, 4), bool), spacing_mm=(1, 1, 1), midline=2)
    assert found.shape == (2, 3, 4)
    assert not found.any()


def test_the_lungs_of_a_made_up_chest_are_told_apart_as_they_were_made() -> None:
    phantom = make_phantom(shape=(14, 64, 64), spacing_mm=(22, 5.75, 5.75))
    truth = phantom.mask.axial
    found = split_right_left(
        truth > 0, spacing_mm=phantom.mask.geometry.spacing_mm, midline=truth.shape[2] / 2
    )
    np.testing.assert_array_equal(found, truth)


def test_a_mask_so_thin_that_a_coarser_grid_misses_it_still_gets_a_side() -> None:
    mask = np.zeros((1, 2, 2), bool)
    mask[0, 0, 1] = mask[0, 1, 0] = True
    found = split_right_left(mask, spacing_mm=(5.0, 0.6, 0.6), midline=1)
    assert (found > 0).tolist() == mask.tolist()


@given(masks, st.sampled_from([(1.0, 1.0, 1.0), (5.0, 0.6, 0.6), (2.0, 0.3, 3.0), (5.0, 9.0, 30.0)]))
def test_every_voxel_of_the_mask_gets_a_side_and_no_other(mask: npt.NDArray[np.bool_], mm: Spacing) -> None:
    given_mask = mask.copy()
    found = split_right_left(mask, spacing_mm=mm, midline=mask.shape[2] / 2)
    np.testing.assert_array_equal(found > 0, mask)
    assert found.max() <= LEFT
    np.testing.assert_array_equal(mask, given_mask)
