from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_resunet.editing.pieces import fill_holes, keep_piece, remove_piece
from napari_resunet.errors import InputError

Bools = npt.NDArray[np.bool_]
masks = hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 5)] * 3), elements=st.integers(0, 2))


def drawn(*slices: str) -> Bools:
    """A mask from pictures: # is lung, rows are parted by blanks."""
    return np.array([[[pixel == "#" for pixel in row] for row in picture.split()] for picture in slices])


# On slice 0 two pieces that are one by way of slice 1, and one that touches by a corner only.
BRIDGED = drawn(
    ".##.## .##.## #.....",
    ".##### ...... ......",
    "...... ...... .....#",
)


def test_what_hangs_together_over_other_slices_is_one_piece() -> None:
    wanted = drawn(".##.## .##.## ......", ".##### ...... ......", "...... ...... ......")
    np.testing.assert_array_equal(keep_piece(BRIDGED, (0, 0, 1), in_slice=False), wanted)
    np.testing.assert_array_equal(remove_piece(BRIDGED, (0, 0, 1), in_slice=False), BRIDGED & ~wanted)


def test_in_the_slice_a_piece_ends_with_the_slice_and_other_slices_stay() -> None:
    kept = keep_piece(BRIDGED, (0, 1, 5), in_slice=True)
    np.testing.assert_array_equal(
        kept, drawn("....## ....## ......", ".##### ...... ......", "...... ...... .....#")
    )
    left = remove_piece(BRIDGED, (0, 1, 5), in_slice=True)
    np.testing.assert_array_equal(
        left, drawn(".##... .##... #.....", ".##### ...... ......", "...... ...... .....#")
    )


def test_right_and_left_lung_that_touch_are_one_piece() -> None:
    labels = np.array([[[1, 1, 2, 2, 0, 1]]], np.uint8)
    assert keep_piece(labels, (0, 0, 0), in_slice=False).ravel().tolist() == [True] * 4 + [False] * 2


@pytest.mark.parametrize("tool", [keep_piece, remove_piece])
@pytest.mark.parametrize("in_slice", [True, False])
def test_a_click_on_background_or_beside_the_picture_is_refused(
    tool: type[keep_piece], in_slice: bool
) -> None:
    with pytest.raises(
        InputError, match=r"slice 1, row 2, column 0 is not in the mask; click on a coloured piece"
    ):
        tool(BRIDGED, (1, 2, 0), in_slice=in_slice)
    with pytest.raises(InputError, match="outside of the CT"):
        tool(BRIDGED, (-1, 2, 5), in_slice=in_slice)


@given(masks, st.data())
@settings(max_examples=60)
def test_keep_and_remove_part_the_mask_in_two(mask: npt.NDArray[np.uint8], data: st.DataObject) -> None:
    before = mask.copy()
    if not mask.any():
        return
    seed = data.draw(st.sampled_from([tuple(int(i) for i in voxel) for voxel in np.argwhere(mask)]))
    in_slice = data.draw(st.booleans())
    kept, left = keep_piece(mask, seed, in_slice=in_slice), remove_piece(mask, seed, in_slice=in_slice)
    np.testing.assert_array_equal(mask, before)
    assert kept.dtype == left.dtype == bool
    assert kept[seed]
    assert not left[seed]
    np.testing.assert_array_equal(kept | left, mask > 0)
    if in_slice:
        others = np.arange(len(mask)) != seed[0]
        np.testing.assert_array_equal(kept[others], (mask > 0)[others])
        np.testing.assert_array_equal(left[others], (mask > 0)[others])
        assert not (kept & left)[seed[0]].any()
    else:
        assert not (kept & left).any()


def test_a_tunnel_is_filled_slice_by_slice_only_and_a_cavity_both_ways() -> None:
    ring, disc = "##### #...# ##### ##### .....", "##### ##### ##### ##### ....."
    tunnel, cavity = drawn(ring, ring, ring), drawn(disc, ring, disc)
    np.testing.assert_array_equal(fill_holes(tunnel, in_slice=False), tunnel)
    np.testing.assert_array_equal(fill_holes(tunnel, in_slice=True), drawn(disc, disc, disc))
    for in_slice in (True, False):
        np.testing.assert_array_equal(fill_holes(cavity, in_slice=in_slice), drawn(disc, disc, disc))


def test_a_bay_that_is_open_to_the_edge_of_the_picture_is_no_hole() -> None:
    bay = drawn("##### #...# #...#")
    for in_slice in (True, False):
        np.testing.assert_array_equal(fill_holes(bay, in_slice=in_slice), bay)


@given(masks, st.booleans())
@settings(max_examples=60)
def test_filling_twice_fills_no_more_and_never_takes_away(
    mask: npt.NDArray[np.uint8], in_slice: bool
) -> None:
    before = mask.copy()
    once = fill_holes(mask, in_slice=in_slice)
    np.testing.assert_array_equal(mask, before)
    assert once.dtype == bool
    assert not ((mask > 0) & ~once).any()
    np.testing.assert_array_equal(fill_holes(once, in_slice=in_slice), once)
