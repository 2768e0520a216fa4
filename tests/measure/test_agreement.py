from __future__ import annotations

import math
from dataclasses import astuple, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from napari_resunet.errors import GeometryError
from napari_resunet.geometry import Geometry
from napari_resunet.measure.agreement import Agreement, evaluate
from napari_resunet.volume import Mask

masks = hnp.arrays(np.uint8, (1, 2, 4), elements={"min_value": 0, "max_value": 1})
VOXEL_ML = 10 * 5 * 2 / 1000


def mask(*voxels: int, geometry: Geometry | None = None) -> Mask:
    """A mask of one row of voxels, 2 mm apart."""
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
    ],
)
def test_overlap_and_volumes_of_four_voxels_by_hand(first: Any, second: Any, dice: float, iou: float) -> None:
    found = evaluate(mask(*first), mask(*second))
    assert list(found) == ["lungs"]
    lungs = found["lungs"]
    assert (lungs.dice, lungs.iou) == pytest.approx((dice, iou))
    sizes = [sum(voxels) * VOXEL_ML for voxels in (first, second)]
    assert (lungs.volume_ml, lungs.reference_ml) == pytest.approx(sizes)
    assert lungs.volume_difference_ml == pytest.approx(sizes[0] - sizes[1])
    assert not lungs.missed


def test_distances_of_a_row_by_hand() -> None:
    # ends at 0 and 2 mm against ends at 2 and 4 mm: 2 and 0 mm there, 0 and 2 mm back
    lungs = evaluate(mask(1, 1, 0, 0), mask(0, 1, 1, 0))["lungs"]
    assert lungs.hd95_mm == pytest.approx(1.9)  # of 0 and 2, at 0.95 of the way
    assert lungs.assd_mm == pytest.approx(1)
    assert lungs.nsd_2mm == 1


def test_the_figures_are_plain_numbers_that_json_can_hold() -> None:
    for pair in ((mask(1, 1, 0), mask(0, 1, 1)), (mask(0, 0), mask(1, 0)), (mask(0, 0), mask(0, 0))):
        assert {type(value) for value in astuple(evaluate(*pair)["lungs"])} == {float, bool}


def test_of_two_empty_masks_nothing_can_be_said() -> None:
    found = evaluate(mask(0, 0), mask(0, 0))["lungs"]
    for name in ("dice", "iou", "hd95_mm", "assd_mm", "nsd_2mm"):
        assert math.isnan(getattr(found, name))
    assert found.volume_ml == found.reference_ml == found.volume_difference_ml == 0
    assert not found.missed


def test_where_one_mask_is_empty_the_lung_is_missed() -> None:
    diagonal = math.hypot(10, 5, 3 * 2)
    for pair in ((mask(0, 0, 0), mask(1, 1, 0)), (mask(1, 1, 0), mask(0, 0, 0))):
        found = evaluate(*pair)["lungs"]
        assert (found.dice, found.iou, found.nsd_2mm) == (0, 0, 0)
        assert found.hd95_mm == found.assd_mm == pytest.approx(diagonal)
        assert found.missed
        assert abs(found.volume_difference_ml) == pytest.approx(2 * VOXEL_ML)


def test_one_lung_can_be_missed_while_the_other_is_found() -> None:
    found = evaluate(mask(2, 2, 2, 2), mask(1, 1, 2, 2))
    assert found["right"].missed
    assert not found["left"].missed
    assert found["lungs"].dice == 1


def test_right_and_left_are_compared_each_with_its_own() -> None:
    found = evaluate(mask(1, 1, 2, 2), mask(1, 2, 2, 0))
    assert list(found) == ["lungs", "right", "left"]
    assert found["lungs"].dice == pytest.approx(6 / 7)
    assert found["right"].dice == pytest.approx(2 / 3)
    assert found["left"].dice == pytest.approx(2 / 4)
    assert found["left"].volume_ml == pytest.approx(2 * VOXEL_ML)
    # surfaces at 4 and 6 mm against 2 and 4 mm
    assert found["left"].assd_mm == pytest.approx(1)


@pytest.mark.parametrize(("first", "second"), [((1, 2), (1, 1)), ((1, 1), (1, 2)), ((1, 1), (1, 0))])
def test_sides_are_compared_only_where_both_masks_tell_them_apart(first: Any, second: Any) -> None:
    assert list(evaluate(mask(*first), mask(*second))) == ["lungs"]


def test_a_left_lung_that_is_missing_altogether_is_missed_by_the_word_of_who_made_the_mask() -> None:
    # a mask of 1s alone may be one of both lungs: only its maker can tell
    assert list(evaluate(mask(1, 1, 0, 0), mask(1, 1, 2, 2))) == ["lungs"]
    found = evaluate(mask(1, 1, 0, 0), mask(1, 1, 2, 2), sides=True)
    assert found["right"].dice == 1
    assert found["left"].missed
    assert found["left"].dice == 0


def test_sides_are_not_compared_where_the_caller_says_that_2_is_no_side() -> None:
    assert list(evaluate(mask(1, 2), mask(1, 2), sides=False)) == ["lungs"]


def test_a_mask_on_another_grid_is_refused_with_the_distance() -> None:
    grid = Geometry.from_spacing((1, 1, 4), (10, 5, 2))
    moved = grid.index_to_lps.copy()
    moved[1, 3] = 3  # 3 mm backwards
    with pytest.raises(
        GeometryError, match=r"the mask lies 3.00 mm beside the reference at a corner; export it"
    ):
        evaluate(mask(1, 1, 0, 0), mask(1, 1, 0, 0, geometry=Geometry((1, 1, 4), moved)))


def test_a_mask_of_another_shape_is_refused_with_both_shapes() -> None:
    with pytest.raises(GeometryError, match=r"has \(1, 1, 2\) voxels \(z, y, x\), the reference \(1, 1, 3\)"):
        evaluate(mask(1, 1), mask(1, 1, 1))


def test_the_order_of_the_source_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 3, (2, 3, 4, 5), dtype=np.uint8)
    grid = Geometry.from_spacing((3, 4, 5), (4, 2, 1))
    turned = Geometry((5, 4, 3), grid.index_to_lps[:, [2, 1, 0, 3]])
    there = evaluate(Mask(first, grid), Mask(second, grid))
    back = evaluate(Mask(np.ascontiguousarray(first.T), turned), Mask(np.ascontiguousarray(second.T), turned))
    for side, found in there.items():
        assert astuple(found) == pytest.approx(astuple(back[side]))


@given(masks, masks)
def test_all_figures_but_the_volumes_are_the_same_both_ways(first: Any, second: Any) -> None:
    geometry = Geometry.from_spacing((1, 2, 4), (1, 1, 1))
    there = evaluate(Mask(first, geometry), Mask(second, geometry))["lungs"]
    back = evaluate(Mask(second, geometry), Mask(first, geometry))["lungs"]
    for name in (field.name for field in fields(Agreement) if not field.name.endswith("_ml")):
        assert getattr(there, name) == pytest.approx(getattr(back, name), nan_ok=True)
    assert there.volume_difference_ml == -back.volume_difference_ml
    assert there.dice == pytest.approx(2 * there.iou / (1 + there.iou), nan_ok=True)
