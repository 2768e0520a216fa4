from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_resunet.errors import GeometryError, InputError, ResUNetError
from napari_resunet.geometry import AxisOrder, Geometry
from napari_resunet.volume import Mask, ProbabilityMap, Run, Source, Volume

SHAPE = (2, 3, 4)
GEOMETRY = Geometry.from_spacing(SHAPE, (5, 2, 1))
# The same voxels as a file that runs to left, anterior and inferior would store them.
AS_STORED = AxisOrder((2, 1, 0), (False, True, True))


def volume(array: Any = None, geometry: Geometry = GEOMETRY) -> Volume:
    return Volume(np.zeros(SHAPE, np.int16) if array is None else array, geometry)


def probability(array: Any, geometry: Geometry = GEOMETRY) -> ProbabilityMap:
    return ProbabilityMap(array, geometry, done=np.zeros(array.shape[0], dtype=bool))


MAKERS: list[Any] = [volume, probability, Mask]
WRONG_TYPES = [
    *((volume, dtype) for dtype in ("uint8", "uint16", "int32", "float64", "float16", "bool", "complex64")),
    *((maker, dtype) for maker in (probability, Mask) for dtype in ("bool", "int8", "int16", "float32")),
]


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_ct_holds_int16_or_float32_as_it_is(dtype: str) -> None:
    array = np.arange(24).reshape(SHAPE).astype(dtype)
    assert volume(array).array is array


def test_a_ct_in_the_other_byte_order_is_still_a_ct() -> None:
    array = np.arange(24).reshape(SHAPE).astype(">i2")
    assert volume(array).array[1, 2, 3] == 23


@pytest.mark.parametrize(("maker", "dtype"), WRONG_TYPES)
def test_another_number_format_is_refused(maker: Any, dtype: str) -> None:
    with pytest.raises(InputError, match=f"must hold .*, got {dtype}"):
        maker(np.zeros(SHAPE, dtype), GEOMETRY)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 3, 5), (2, 3), (1, 2, 3, 4)])
def test_an_array_of_another_shape_than_its_geometry_is_refused(maker: Any, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, np.int16 if maker is volume else np.uint8)
    with pytest.raises(GeometryError, match=r"has shape \(.*\), its geometry \(2, 3, 4\)"):
        maker(array, GEOMETRY)


def test_what_flows_cannot_be_changed() -> None:
    mask = Mask(np.zeros(SHAPE, np.uint8), GEOMETRY)
    source = Source(Path("ct"), "phantom", "0")
    run = Run("lung-ct", "0", 128, "cpu", "float32", (0, 1, 0, 1))
    for thing, name in (
        (volume(), "array"),
        (probability(np.zeros(SHAPE, np.uint8)), "done"),
        (mask, "geometry"),
        (source, "path"),
        (run, "grid"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, None)


def test_each_mask_has_a_history_of_its_own() -> None:
    first, second = (Mask(np.zeros(SHAPE, np.uint8), GEOMETRY) for _ in range(2))
    assert dict(first.history) == {}
    assert first.history is not second.history


def test_a_mask_of_known_voxels_has_a_known_volume() -> None:
    array = np.zeros(SHAPE, np.uint8)
    assert Mask(array, GEOMETRY).volume_ml == 0
    array[0, 0, 0], array[1, 2, 3], array[0, 1, 2] = 1, 2, 1
    assert Mask(array, GEOMETRY).volume_ml == pytest.approx(3 * 5 * 2 * 1 / 1000)


def test_a_tilted_stack_is_not_measured_too_large() -> None:
    tilted = Geometry(SHAPE, [[0, 0, 1, 0], [3, 1, 0, 0], [4, 0, 0, 0], [0, 0, 0, 1]])
    assert Mask(np.ones(SHAPE, np.uint8), tilted).volume_ml == pytest.approx(24 * 4 / 1000)


@pytest.mark.parametrize("maker", MAKERS)
def test_axial_is_a_view_from_the_lowest_slice_up_with_the_front_on_top(maker: Any) -> None:
    axial = np.arange(24).reshape(SHAPE).astype(np.int16 if maker is volume else np.uint8)
    stored = AS_STORED.apply(axial)
    thing = maker(stored, GEOMETRY.reordered(AS_STORED))
    assert thing.geometry.axis_codes == "LAI"
    np.testing.assert_array_equal(thing.axial, axial)
    assert np.shares_memory(thing.axial, stored)


def test_axial_geometry_is_that_of_the_axial_view() -> None:
    stored = volume(AS_STORED.apply(np.zeros(SHAPE, np.int16)), GEOMETRY.reordered(AS_STORED))
    assert stored.axial_geometry.shape == stored.axial.shape
    assert stored.axial_geometry.matches(GEOMETRY, within_mm=1e-12)


def test_an_offset_is_added_and_noted_and_the_given_array_stays() -> None:
    before = volume(np.full(SHAPE, 24, np.int16))
    after = before.with_hu_offset(-1024)
    assert (after.array == -1000).all()
    assert (before.array == 24).all()
    assert after.array.dtype == np.int16
    assert after.notes == ("-1024 was added to every value, by the user's word",)
    assert after.geometry is before.geometry


def test_an_offset_of_0_is_the_users_word_that_the_values_are_hu() -> None:
    before = volume()
    after = before.with_hu_offset(0)
    assert after.array is before.array
    assert after.hu_confirmed
    assert not before.hu_confirmed
    assert after.notes == (*before.notes, "the values are HU by the user's word")


@pytest.mark.parametrize(("value", "offset"), [(-32000, -1024.0), (32000, 1000.0), (0, 0.5)])
def test_a_sum_that_is_no_int16_becomes_float32(value: int, offset: float) -> None:
    after = volume(np.full(SHAPE, value, np.int16)).with_hu_offset(offset)
    assert after.array.dtype == np.float32
    assert (after.array == value + offset).all()


@given(st.integers(-32768, 32767), st.integers(-32768, 32767), st.integers(-5000, 5000))
def test_a_whole_offset_never_wraps_round(low: int, high: int, offset: int) -> None:
    array = np.full(SHAPE, low, np.int16)
    array[0, 0, 0] = high
    after = volume(array).with_hu_offset(offset).array
    assert int(after[0, 0, 0]) == high + offset
    assert int(after[1, 2, 3]) == low + offset


def test_a_refused_array_is_an_error_a_user_can_be_shown() -> None:
    assert issubclass(InputError, ResUNetError)
    assert not issubclass(ResUNetError, RuntimeError)  # napari's generator workers swallow those
