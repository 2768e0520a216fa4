from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from napari_resunet.errors import GeometryError
from napari_resunet.geometry import Geometry
from napari_resunet.measure.overlap import evaluate
from napari_resunet.volume import Mask

masks = hnp.arrays(np.uint8, (1, 2, 4), elements={"min_value": 0, "max_value": 1})
VOXEL_ML = 10 * 5 * 2 / 1000


def mask(*voxels: int, geometry: Geometry | None = None) -> Mask:
    """A mask of one row of voxels."""
    array = np.array(voxels, np.uint8).reshape(1, 1, -1)
    return Mask(array, geometry or Geometry.from_spacing(array.shape, (10, 5, 2)))


@pytest.mark.parametrize(
    ("first", "second", "dice", "iou"),
    [
        ((1, 1, 0, 0), (1, 1, 0, 0), 1, 1),
        ((1, 1, 0, 0), (0, 1, 1, 0), 2 / 4, 1 / 3),
        ((1, 1, 1, 0), (0, 1, 0, 0), 2 / 4, 1 / 3),
        ((1, 1, 1, 1), (0, 1, 1, 1), 6 / 7, 3 / 4),
        ((1, 1, 0, 0), (0, 0, 1, 1), 0, 0),
        ((1, 1, 0, 0), (0, 0, 0, 0), 0, 0),
    ],
)
def test_overlap_of_four_voxels_by_hand(first: Any, second: Any, dice: float, iou: float) -> None:
    found = evaluate(mask(*first), mask(*second))
    assert list(found) == ["lungs"]
    sizes = (sum(voxels) * VOXEL_ML for voxels in (first, second))
    assert astuple(found["lungs"]) == pytest.approx((dice, iou, *sizes))


def test_of_two_empty_masks_nothing_can_be_said() -> None:
    found = evaluate(mask(0, 0), mask(0, 0))["lungs"]
    assert math.isnan(found.dice)
    assert math.isnan(found.iou)
    assert found.volume_ml == found.reference_ml == 0


def test_right_and_left_are_compared_each_with_its_own() -> None:
    found = evaluate(mask(1, 1, 2, 2), mask(1, 2, 2, 0))
    assert list(found) == ["lungs", "right", "left"]
    assert found["lungs"].dice == pytest.approx(6 / 7)
    assert found["right"].dice == pytest.approx(2 / 3)
    assert found["left"].dice == pytest.approx(2 / 4)
    assert found["left"].volume_ml == pytest.approx(2 * VOXEL_ML)


@pytest.mark.parametrize(("first", "second"), [((1, 2), (1, 1)), ((1, 1), (1, 2)), ((1, 1), (1, 0))])
def test_sides_are_compared_only_where_both_masks_tell_them_apart(first: Any, second: Any) -> None:
    assert list(evaluate(mask(*first), mask(*second))) == ["lungs"]


def test_a_mask_on_another_grid_is_refused_with_the_distance() -> None:
    grid = Geometry.from_spacing((1, 1, 4), (10, 5, 2))
    moved = grid.index_to_lps.copy()
    moved[1, 3] = 3  # 3 mm backwards
    with pytest.raises(GeometryError, match=r"the masks lie 3.00 mm apart at a corner; export both"):
        evaluate(mask(1, 1, 0, 0), mask(1, 1, 0, 0, geometry=Geometry((1, 1, 4), moved)))


def test_a_mask_of_another_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(GeometryError, match=r"different shapes \(z, y, x\): \(1, 1, 2\) and \(1, 1, 3\)"):
        evaluate(mask(1, 1), mask(1, 1, 1))


@given(masks, masks)
def test_dice_and_iou_agree_and_do_not_depend_on_the_order(first: Any, second: Any) -> None:
    geometry = Geometry.from_spacing((1, 2, 4), (1, 1, 1))
    there = evaluate(Mask(first, geometry), Mask(second, geometry))["lungs"]
    back = evaluate(Mask(second, geometry), Mask(first, geometry))["lungs"]
    assert there.dice == pytest.approx(back.dice, nan_ok=True)
    assert there.dice == pytest.approx(2 * there.iou / (1 + there.iou), nan_ok=True)
