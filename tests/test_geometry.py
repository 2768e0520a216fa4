from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_resunet.errors import GeometryError, InputError
from napari_resunet.geometry import LPS_FLIP, AxisOrder, Geometry

ALL_ORDERS = [
    AxisOrder(axes, flips)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
SHAPE = (2, 3, 4)
# Each step is another length, and the first voxel lies off the origin: nothing can be swapped unseen.
MATRIX = np.array([[0, 0, 0.5, -10], [0, 2, 0, -20], [3, 0, 0, -30], [0, 0, 0, 1]], dtype=float)
CODE_OF = {(0, -1): "R", (0, 1): "L", (1, -1): "A", (1, 1): "P", (2, -1): "I", (2, 1): "S"}


def rotation(axis: int, radians: float) -> npt.NDArray[np.float64]:
    """Turn about one of the patient's axes; 4x4."""
    turn = np.eye(4)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    turn[[a, a, b, b], [a, b, a, b]] = [
        math.cos(radians),
        -math.sin(radians),
        math.sin(radians),
        math.cos(radians),
    ]
    return turn


def changed(row: int, column: int, value: float) -> npt.NDArray[np.float64]:
    matrix = MATRIX.copy()
    matrix[row, column] = value
    return matrix


spacings = st.floats(0.1, 10)
angles = st.floats(-math.pi, math.pi)


@st.composite
def geometries(draw: Any) -> Geometry:
    """Any grid: in any order of axes, turned, off the origin, and sheared a little."""
    shape = tuple(draw(st.integers(1, 6)) for _ in range(3))
    matrix = Geometry.from_spacing(shape, [draw(spacings) for _ in range(3)]).index_to_lps.copy()
    matrix[1, 0] += draw(st.floats(-0.3, 0.3)) * matrix[2, 0]  # the tilt of a gantry
    matrix[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    for axis in range(3):
        matrix = rotation(axis, draw(angles)) @ matrix
    return Geometry((shape[0], shape[1], shape[2]), matrix).reordered(draw(st.sampled_from(ALL_ORDERS)))


# What it is ---------------------------------------------------------------------------------------------------


def test_a_matrix_takes_an_index_z_y_x_to_a_point_left_posterior_superior() -> None:
    geometry = Geometry(SHAPE, MATRIX)
    np.testing.assert_array_equal(geometry.index_to_lps @ [0, 0, 0, 1], [-10, -20, -30, 1])
    np.testing.assert_array_equal(geometry.index_to_lps @ [1, 2, 3, 1], [-8.5, -16, -27, 1])


def test_spacing_and_volume_are_those_of_the_steps() -> None:
    geometry = Geometry(SHAPE, MATRIX)
    assert geometry.spacing_mm == (3, 2, 0.5)
    assert geometry.voxel_volume_mm3 == pytest.approx(3, rel=1e-12)
    assert geometry.axis_codes == "SPL"


def test_spacing_alone_gives_a_straight_grid_from_the_origin() -> None:
    geometry = Geometry.from_spacing(SHAPE, (3, 2, 0.5))
    np.testing.assert_array_equal(
        geometry.index_to_lps, changed(0, 3, 0) * [1, 1, 1, 0] + np.diag([0, 0, 0, 1])
    )
    assert geometry.shape == SHAPE


@pytest.mark.parametrize("order", ALL_ORDERS)
def test_spacing_and_an_orientation_give_a_grid_that_runs_there(order: AxisOrder) -> None:
    codes = Geometry(SHAPE, MATRIX).reordered(order).axis_codes
    geometry = Geometry.from_spacing(SHAPE, (3, 2, 0.5), codes)
    assert geometry.axis_codes == codes
    assert geometry.spacing_mm == (3, 2, 0.5)
    assert not geometry.is_oblique


@pytest.mark.parametrize("codes", ["", "SP", "SPX", "SSP", "SIL", "SPLL"])
def test_an_orientation_that_is_none_is_refused(codes: str) -> None:
    with pytest.raises(GeometryError, match="three letters"):
        Geometry.from_spacing(SHAPE, (1, 1, 1), codes or "?")


def test_a_tilted_stack_holds_less_than_the_product_of_its_steps() -> None:
    # Slices 4 mm apart, each moved 3 mm further to the back: the step is 5 mm long, a voxel 4 mm high.
    geometry = Geometry(SHAPE, [[0, 0, 1, 0], [3, 1, 0, 0], [4, 0, 0, 0], [0, 0, 0, 1]])
    assert geometry.spacing_mm == (5, 1, 1)
    assert geometry.voxel_volume_mm3 == pytest.approx(4, rel=1e-12)
    assert geometry.is_sheared
    assert geometry.is_oblique


def test_a_turned_grid_is_oblique_but_not_sheared() -> None:
    for axis in range(3):
        geometry = Geometry(SHAPE, rotation(axis, 0.1) @ MATRIX)
        assert geometry.is_oblique
        assert not geometry.is_sheared
        assert geometry.axis_codes == "SPL"


@pytest.mark.parametrize(
    ("radians", "oblique"), [(0, False), (0.9e-3, False), (1.1e-3, True), (-1.1e-3, True)]
)
def test_a_grid_is_oblique_from_a_thousandth_of_a_radian_on(radians: float, oblique: bool) -> None:
    assert Geometry(SHAPE, rotation(0, radians) @ MATRIX).is_oblique is oblique


@pytest.mark.parametrize(("slope", "sheared"), [(0, False), (0.9e-3, False), (1.1e-3, True), (-1.1e-3, True)])
def test_a_grid_is_sheared_from_a_thousandth_of_a_right_angle_on(slope: float, sheared: bool) -> None:
    assert Geometry(SHAPE, changed(1, 0, 3 * slope)).is_sheared is sheared


def test_its_own_copy_of_the_matrix_cannot_be_changed() -> None:
    matrix = MATRIX.copy()
    geometry = Geometry(SHAPE, matrix)
    matrix[0, 3] = 99
    assert geometry.index_to_lps[0, 3] == -10
    with pytest.raises(ValueError, match="read-only"):
        geometry.index_to_lps[0, 3] = 99
    with pytest.raises(dataclasses.FrozenInstanceError):
        geometry.shape = (1, 1, 1)  # type: ignore[misc]


def test_a_grid_of_one_voxel_is_allowed() -> None:
    geometry = Geometry((1, 1, 1), MATRIX)
    assert geometry.spacing_mm == (3, 2, 0.5)
    np.testing.assert_array_equal(geometry.corners_lps(), [[-10, -20, -30]] * 8)


# What is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, -1), (2, 3), (2, 3, 4, 5), ()])
def test_a_shape_without_three_axes_or_without_voxels_is_refused(shape: Any) -> None:
    with pytest.raises(GeometryError, match="at least one voxel along each of z, y, x"):
        Geometry(shape, MATRIX)


@pytest.mark.parametrize("matrix", [np.eye(3), np.eye(4)[:3], np.eye(4)[None]])
def test_a_matrix_that_is_not_4_by_4_is_refused(matrix: Any) -> None:
    with pytest.raises(GeometryError, match="must be 4x4"):
        Geometry(SHAPE, matrix)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_matrix_with_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(GeometryError, match="not finite"):
        Geometry(SHAPE, changed(1, 3, value))


@pytest.mark.parametrize("matrix", [changed(3, 3, 2), changed(3, 0, 1e-9), MATRIX.T])
def test_a_matrix_that_is_not_affine_is_refused(matrix: npt.NDArray[np.float64]) -> None:
    with pytest.raises(GeometryError, match="last row"):
        Geometry(SHAPE, matrix)


@pytest.mark.parametrize("matrix", [changed(2, 0, 0), MATRIX[:, [0, 0, 2, 3]], np.diag([0.0, 0, 0, 1])])
def test_a_matrix_that_flattens_the_volume_is_refused(matrix: npt.NDArray[np.float64]) -> None:
    with pytest.raises(GeometryError, match="flattens the volume"):
        Geometry(SHAPE, matrix)


def test_small_voxels_are_not_taken_for_flat_ones() -> None:
    matrix = MATRIX * [1e-4, 1e-4, 1e-4, 1]  # micrometres, as of a micro-CT
    assert Geometry(SHAPE, matrix).spacing_mm == pytest.approx((3e-4, 2e-4, 5e-5))


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -2, 1), (1, 1, math.nan), (math.inf, 1, 1)])
def test_a_spacing_that_is_no_length_is_refused(spacing: tuple[float, float, float]) -> None:
    with pytest.raises(GeometryError, match="three lengths above 0 mm"):
        Geometry.from_spacing(SHAPE, spacing)


def test_a_bad_geometry_counts_as_bad_input() -> None:
    assert issubclass(GeometryError, InputError)


# To and from NIfTI --------------------------------------------------------------------------------------------


def test_a_nifti_affine_goes_to_right_anterior_superior_from_x_y_z() -> None:
    affine = [[-0.5, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, -30], [0, 0, 0, 1]]
    geometry = Geometry.from_ras_affine((4, 3, 2), affine)
    assert geometry.shape == SHAPE
    np.testing.assert_array_equal(geometry.index_to_lps, MATRIX)
    np.testing.assert_array_equal(geometry.ras_affine, affine)


def test_a_nifti_affine_shows_no_minus_zero() -> None:
    affine = Geometry(SHAPE, MATRIX).ras_affine
    assert not np.signbit(affine[affine == 0]).any()


@given(geometries())
def test_a_geometry_survives_nifti_exactly(geometry: Geometry) -> None:
    z, y, x = geometry.shape
    back = Geometry.from_ras_affine((x, y, z), geometry.ras_affine)
    assert back.shape == geometry.shape
    np.testing.assert_array_equal(back.index_to_lps, geometry.index_to_lps)
    again = Geometry.from_ras_affine((x, y, z), back.ras_affine)
    np.testing.assert_array_equal(again.ras_affine, geometry.ras_affine)


@given(geometries(), st.data())
def test_a_voxel_lies_at_the_same_point_in_nifti(geometry: Geometry, data: Any) -> None:
    z, y, x = (data.draw(st.integers(0, n - 1)) for n in geometry.shape)
    ras = geometry.ras_affine @ [x, y, z, 1]
    np.testing.assert_allclose(LPS_FLIP @ ras, geometry.index_to_lps @ [z, y, x, 1], rtol=0, atol=1e-9)


# Orders of axes -----------------------------------------------------------------------------------------------


def test_there_are_48_orders_of_which_one_changes_nothing() -> None:
    assert len(set(ALL_ORDERS)) == 48
    assert [order for order in ALL_ORDERS if order.is_identity] == [
        AxisOrder((0, 1, 2), (False, False, False))
    ]


def test_an_order_transposes_and_then_flips() -> None:
    array = np.arange(6).reshape(1, 2, 3)
    order = AxisOrder((2, 0, 1), (True, False, False))
    np.testing.assert_array_equal(order.apply(array), [[[2, 5]], [[1, 4]], [[0, 3]]])


@pytest.mark.parametrize("order", ALL_ORDERS, ids=str)
def test_undo_gives_the_array_back_without_a_copy(order: AxisOrder) -> None:
    array = np.arange(24).reshape(SHAPE)
    there = order.apply(array)
    back = order.undo(there)
    np.testing.assert_array_equal(back, array)
    np.testing.assert_array_equal(order.apply(order.undo(array)), array)
    assert np.shares_memory(there, array)
    assert np.shares_memory(back, array)


@pytest.mark.parametrize("order", ALL_ORDERS, ids=str)
def test_a_reordered_geometry_keeps_every_voxel_at_its_point(order: AxisOrder) -> None:
    geometry = Geometry(SHAPE, MATRIX)
    new = geometry.reordered(order)
    index = np.stack(np.indices(SHAPE), axis=-1).reshape(*SHAPE, 3)
    points = np.moveaxis(np.array([order.apply(index[..., axis]) for axis in range(3)]), 0, -1)
    assert new.shape == points.shape[:3]
    for where in np.ndindex(new.shape):
        np.testing.assert_allclose(
            new.index_to_lps @ [*where, 1], geometry.index_to_lps @ [*points[where], 1], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("order", ALL_ORDERS, ids=str)
def test_axial_order_finds_superior_posterior_left_from_every_order(order: AxisOrder) -> None:
    straight = Geometry(SHAPE, MATRIX)
    array = np.arange(24).reshape(SHAPE)
    found = straight.reordered(order)
    axial = found.reordered(found.to_axial)
    assert axial.axis_codes == "SPL"
    assert axial.shape == SHAPE
    np.testing.assert_allclose(axial.index_to_lps, straight.index_to_lps, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(found.to_axial.apply(order.apply(array)), array)


@pytest.mark.parametrize("order", ALL_ORDERS, ids=str)
def test_codes_name_where_each_axis_runs(order: AxisOrder) -> None:
    expected = ""
    for axis, flip in zip(order.axes, order.flips, strict=True):
        expected += CODE_OF[2 - axis, -1 if flip else 1]
    assert Geometry(SHAPE, MATRIX).reordered(order).axis_codes == expected


def test_when_two_axes_lean_the_same_way_each_still_gets_a_direction_of_its_own() -> None:
    # The z and y steps are both nearest to posterior; only one of them can be it.
    matrix = [[0, 0, 1, 0], [0.8, 1, 0, 0], [0.6, 0, 0, 0], [0, 0, 0, 1]]
    geometry = Geometry(SHAPE, matrix)
    assert geometry.axis_codes == "SPL"
    assert geometry.to_axial.is_identity


@pytest.mark.parametrize("order", ALL_ORDERS, ids=str)
@pytest.mark.parametrize("turned", [(0,), (1,), (2,), (0, 2), (2, 1)])
def test_a_grid_half_way_between_two_directions_is_put_in_order_once(turned: Any, order: AxisOrder) -> None:
    matrix = MATRIX
    for axis in turned:
        matrix = rotation(axis, math.pi / 4) @ matrix
    found = Geometry(SHAPE, matrix).reordered(order)
    axial = found.reordered(found.to_axial)
    assert axial.to_axial.is_identity
    assert axial.axis_codes == "SPL"


@given(geometries())
def test_axial_order_is_found_for_any_grid_and_moves_no_voxel(geometry: Geometry) -> None:
    order = geometry.to_axial
    axial = geometry.reordered(order)
    assert sorted(geometry.axis_codes.translate(str.maketrans("RAI", "LPS"))) == ["L", "P", "S"]
    assert axial.axis_codes == "SPL"
    assert axial.to_axial.is_identity
    assert axial.voxel_volume_mm3 == pytest.approx(geometry.voxel_volume_mm3, rel=1e-9)
    assert sorted(axial.spacing_mm) == pytest.approx(sorted(geometry.spacing_mm), rel=1e-12)
    first = np.zeros(geometry.shape, dtype=bool)
    first[0, 0, 0] = True
    index = np.argwhere(order.apply(first))[0]
    point = geometry.index_to_lps @ [0, 0, 0, 1]
    np.testing.assert_allclose(axial.index_to_lps @ [*index, 1], point, rtol=0, atol=1e-9)


# Comparing ----------------------------------------------------------------------------------------------------


def test_corners_are_the_centres_of_the_corner_voxels() -> None:
    corners = Geometry(SHAPE, MATRIX).corners_lps()
    expected = {(x, y, z) for x in (-10, -8.5) for y in (-20, -16) for z in (-30, -27)}
    assert set(map(tuple, corners)) == expected


def test_distance_is_that_of_the_corner_that_moved_most() -> None:
    geometry = Geometry(SHAPE, MATRIX)
    assert geometry.distance_mm(geometry) == 0
    shifted = MATRIX.copy()
    shifted[:3, 3] += [3, 0, 4]
    assert geometry.distance_mm(Geometry(SHAPE, shifted)) == pytest.approx(5)
    # 0.1 mm more in each of the 3 steps along x
    assert geometry.distance_mm(Geometry(SHAPE, changed(0, 2, 0.6))) == pytest.approx(0.3)


def test_a_grid_matches_within_a_hundredth_of_a_millimetre_or_as_asked() -> None:
    geometry = Geometry(SHAPE, MATRIX)
    near, far = Geometry(SHAPE, changed(0, 3, -10.009)), Geometry(SHAPE, changed(0, 3, -10.011))
    assert geometry.matches(near)
    assert not geometry.matches(far)
    assert geometry.matches(far, within_mm=0.012)
    assert not geometry.matches(near, within_mm=0.008)


def test_a_grid_of_another_shape_never_matches() -> None:
    assert not Geometry(SHAPE, MATRIX).matches(Geometry((2, 3, 5), MATRIX), within_mm=1e9)
