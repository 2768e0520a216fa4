from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_resunet.errors import InputError
from napari_resunet.hu import refuse_implausible_hu
from napari_resunet.phantom import make_phantom

SHAPE = (3, 40, 40)


def chest() -> Any:
    return make_phantom(shape=(6, 64, 64), spacing_mm=(40, 5.75, 5.75)).volume.array


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_chest_in_hu_is_accepted(dtype: Any) -> None:
    refuse_implausible_hu(chest().astype(dtype))


def test_a_chest_with_some_values_that_are_not_numbers_is_accepted() -> None:
    array = chest().astype(np.float32)
    array[:, 20:30, 20:30] = np.nan
    refuse_implausible_hu(array)


@pytest.mark.parametrize("value", [0, -1000, 37])
def test_a_volume_of_one_value_is_refused(value: int) -> None:
    with pytest.raises(
        InputError, match=f"every voxel that is not padding is {value}: there is nothing to segment"
    ):
        refuse_implausible_hu(np.full(SHAPE, value, np.int16))


def test_stored_values_above_zero_are_refused_with_the_offset_that_would_mend_them() -> None:
    stored = np.maximum(chest(), -1000) + 1024
    with pytest.raises(
        InputError,
        match=r"values run from \d+ to \d+ and none .* offset of -1024 \(--hu-offset or hu_offset=\), or 0",
    ):
        refuse_implausible_hu(stored)
    refuse_implausible_hu(stored - 1024)


def test_grey_values_of_a_picture_are_refused() -> None:
    grey = np.linspace(0, 255, 4800).reshape(SHAPE).astype(np.int16)
    with pytest.raises(
        InputError,
        match=r"values run from 0 to 255 .*: they are not HU but grey values of a picture; export",
    ):
        refuse_implausible_hu(grey)


@pytest.mark.parametrize(("aired", "is_enough"), [(0, False), (1, True)])
def test_one_voxel_in_a_thousand_must_be_air(aired: int, is_enough: bool) -> None:
    array = np.zeros((10, 40, 40), np.int16)  # 1000 of them are looked at
    array[0, 0, 4] = 100
    array[0, 0, :aired] = -1000
    if is_enough:
        refuse_implausible_hu(array)
    else:
        with pytest.raises(InputError, match="they are not HU"):
            refuse_implausible_hu(array)


@pytest.mark.parametrize(("body", "message"), [(1024, "HU offset of -1024"), (0, "they are not HU")])
def test_padding_below_any_air_does_not_pass_for_air(body: int, message: str) -> None:
    array = np.full((4, 64, 64), -2000, dtype=np.int16)
    array[:, 16:48, 16:48] = body
    array[:, 20:30, 20:30] = body + (1000 if body else 200)
    with pytest.raises(InputError, match=message):
        refuse_implausible_hu(array)


def test_a_volume_of_padding_alone_is_refused() -> None:
    with pytest.raises(InputError, match="no voxel holds a value that a CT can have"):
        refuse_implausible_hu(np.full((4, 64, 64), -2000, dtype=np.int16))
