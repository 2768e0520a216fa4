from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_resunet.errors import GeometryError
from napari_resunet.geometry import Geometry
from napari_resunet.plugin.layers import ct_layer_data, placed_like
from napari_resunet.plugin.references import can_be_reference, reference_of
from napari_resunet.volume import Volume


def flipped_volume() -> Volume:
    """4 slices of 3 x 2, rows running to the front and columns to the right, as NIfTI files often have them."""
    matrix = np.array([[0, 0, -0.7, 70], [0, -0.8, 0, 80], [2.5, 0, 0, -100], [0, 0, 0, 1]], dtype=float)
    return Volume(np.zeros((4, 3, 2), np.int16), Geometry((4, 3, 2), matrix))


VOLUME = flipped_volume()


def ct() -> Image:
    data, look, _ = ct_layer_data(VOLUME)
    return Image(data, **look)


def labels(*voxels: tuple[int, tuple[int, int, int]], **place) -> Labels:
    """Labels on the CT, unless they are placed elsewhere."""
    array = np.zeros((4, 3, 2), dtype=np.int32)
    for label, voxel in voxels:
        array[voxel] = label
    return Labels(array, name="truth", **{**placed_like(ct()), **place})


def test_a_layer_is_turned_back_into_the_order_of_the_source() -> None:
    mask = reference_of(labels((1, (3, 0, 0)), (1, (3, 0, 1))), ct(), VOLUME)
    assert mask.geometry is VOLUME.geometry
    assert mask.array.flags.c_contiguous
    # shown first is the last of each row and column
    assert np.argwhere(mask.array).tolist() == [[3, 2, 0], [3, 2, 1]]


@pytest.mark.parametrize(
    ("found", "taken_as"),
    [((1, 2), (1, 2)), ((1, 1), (1, 1)), ((2, 2), (1, 1)), ((1, 3), (1, 1)), ((1, 2, 3), (1, 1, 1)),
     ((7, 1000), (1, 1)), ((-1, 1, 2), (0, 1, 2)), ((), ())],
)  # fmt: skip
def test_1_and_2_are_right_and_left_only_where_exactly_these_occur(found, taken_as) -> None:
    voxels = [(z, 0, 0) for z in range(len(found))]
    mask = reference_of(labels(*zip(found, voxels, strict=True)), ct(), VOLUME)
    assert tuple(mask.axial[: len(found), 0, 0]) == taken_as
    assert mask.array.dtype == np.uint8


def test_painting_on_in_the_layer_changes_nothing_in_the_mask() -> None:
    layer = labels((1, (0, 0, 0)))
    mask = reference_of(layer, ct(), VOLUME)
    layer.data[...] = 1
    assert mask.array.sum() == 1


def test_another_shape_is_refused_with_both_shapes() -> None:
    layer = Labels(np.zeros((4, 3, 5), np.uint8), name="truth", **placed_like(ct()))
    with pytest.raises(
        GeometryError, match=r"“truth” has \(4, 3, 5\) voxels \(z, y, x\), the CT \(4, 3, 2\)"
    ):
        reference_of(layer, ct(), VOLUME)


@pytest.mark.parametrize(
    ("place", "mm"),
    [
        ({"translate": (-100, 80 - 2 * 0.8, 70 - 0.7 + 3)}, "3.00"),
        ({"translate": (-95, 80 - 2 * 0.8, 70 - 0.7)}, "5.00"),
        ({"scale": (3.5, 0.8, 0.7)}, "3.00"),  # the last of 4 slices, 1 mm further each
        ({"affine": np.diag([1, 1, -1, 1])}, "140.00"),  # mirrored about x = 0: from 70 to -70 mm
    ],
)
def test_a_layer_beside_the_ct_is_refused_with_the_distance(place, mm: str) -> None:
    with pytest.raises(GeometryError, match=rf"“truth” lies {mm} mm beside the CT .*; choose a layer on the"):
        reference_of(labels((1, (0, 0, 0)), **place), ct(), VOLUME)


def test_the_same_place_in_other_units_is_the_same_place() -> None:
    there = placed_like(ct())
    in_um = {name: np.multiply(there[name], 1000) for name in ("scale", "translate")}
    assert reference_of(labels((1, (0, 0, 0)), **in_um, units="um"), ct(), VOLUME).array.sum() == 1
    # a plugin that knows no units writes mm all the same
    assert reference_of(labels((1, (0, 0, 0)), units="pixel"), ct(), VOLUME).array.sum() == 1


def test_a_ct_whose_layer_states_no_spacing_is_measured_by_the_user_s() -> None:
    volume = Volume(np.zeros((2, 2, 2), np.int16), Geometry.from_spacing((2, 2, 2), (5, 2, 2)))
    layer = Image(volume.array)
    with pytest.raises(GeometryError, match=r"lies 5\.00 mm beside"):
        reference_of(Labels(np.ones((2, 2, 2), np.uint8), translate=(1, 0, 0)), layer, volume)


def test_only_labels_in_three_dimensions_can_be_a_reference() -> None:
    assert can_be_reference(labels())
    assert not can_be_reference(ct())
    assert not can_be_reference(Labels(np.zeros((3, 4), np.uint8)))
    assert not can_be_reference(Labels([np.zeros((4, 8, 8), np.uint8), np.zeros((2, 4, 4), np.uint8)]))
