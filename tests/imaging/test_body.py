from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from napari_resunet.imaging.body import _opened, body_box
from napari_resunet.phantom import make_phantom


def air(shape: tuple[int, int, int] = (3, 100, 120)) -> npt.NDArray[np.int16]:
    return np.full(shape, -1000, np.int16)


def test_the_box_of_a_block_is_the_block_with_2_percent_all_round() -> None:
    slices = air()
    slices[:, 20:70, 10:110] = 40  # 50 by 100
    assert body_box(slices) == (20 - 1, 70 + 1, 10 - 2, 110 + 2)


def test_the_box_holds_the_body_in_all_slices() -> None:
    slices = air()
    slices[0, 30:60, 40:80] = slices[1, 20:70, 50:70] = slices[2, 40:50, 20:100] = 0
    y0, y1, x0, x1 = body_box(slices)
    assert (y0, y1) == (20 - 1, 70 + 1)
    assert (x0, x1) == (20 - 2, 100 + 2)


@pytest.mark.parametrize("gap", [0, 5])
def test_a_table_below_an_ellipse_is_not_part_of_it(gap: int) -> None:
    slices = air()
    y, x = np.mgrid[:100, :120]
    slices[:, ((y - 45) / 25) ** 2 + ((x - 60) / 40) ** 2 <= 1] = 40  # rows 20-70, columns 20-100
    table = 70 + gap
    slices[:, table : table + 4, 5:115] = 200
    y0, y1, x0, x1 = body_box(slices)
    # opening takes up to two pixels from a tip, the margin of 1-2 gives as much back; the sheet is 4 thick where it
    # touches the body
    assert abs(y0 - 20) <= 2
    assert abs(y1 - 71) <= 4
    assert abs(x0 - 20) <= 3
    assert abs(x1 - 101) <= 3


def test_arms_beside_the_body_are_not_part_of_it() -> None:
    slices = air()
    slices[:, 20:70, 30:90] = slices[:, 40:55, 5:15] = slices[:, 40:55, 105:115] = 0
    assert body_box(slices) == (20 - 1, 70 + 1, 30 - 1, 90 + 1)


def test_the_box_never_leaves_the_picture() -> None:
    assert body_box(np.zeros((2, 40, 50), np.int16)) == (0, 40, 0, 50)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("shape", [(2, 40, 50), (1, 512, 300)])
def test_where_there_is_no_body_the_box_is_the_whole_picture(shape: Any, dtype: Any) -> None:
    assert body_box(air(shape).astype(dtype)) == (0, shape[1], 0, shape[2])


def test_what_is_not_a_number_is_no_body() -> None:
    assert body_box(np.full((1, 40, 50), np.nan, np.float32)) == (0, 40, 0, 50)


def test_a_body_too_thin_to_be_opened_is_still_found() -> None:
    slices = air()
    slices[1, 30:33, 40:80] = 0
    assert body_box(slices) == (30 - 1, 33 + 1, 40 - 1, 80 + 1)


def test_in_a_large_picture_the_box_is_right_to_a_few_pixels() -> None:
    slices = air((2, 512, 512))
    slices[:, 101:401, 53:453] = 40
    y0, y1, x0, x1 = body_box(slices)
    # 2 % are 6 and 8 pixels; it is looked for on every 4th pixel
    assert y0 in range(101 - 6 - 4, 101)
    assert y1 in range(401, 401 + 6 + 5)
    assert x0 in range(53 - 8 - 4, 53)
    assert x1 in range(453, 453 + 8 + 5)


def test_the_box_of_a_made_up_chest_holds_its_lungs() -> None:
    phantom = make_phantom(shape=(12, 64, 64), spacing_mm=(25, 5.75, 5.75))
    y0, y1, x0, x1 = body_box(phantom.volume.axial)
    lungs = phantom.mask.axial > 0
    assert lungs[:, y0:y1, x0:x1].sum() == lungs.sum() > 0
    assert (y1 - y0) * (x1 - x0) < 64 * 64


def test_full_lungs_in_a_thin_chest_wall_belong_to_the_body() -> None:
    rows, columns = np.mgrid[:256, :256]
    distance = np.hypot((rows - 128) / 80, (columns - 128) / 110)
    slices = np.full((1, 256, 256), -1000, dtype=np.int16)
    slices[0][distance <= 1] = 40
    slices[0][distance <= 0.96] = -850  # the wall is 3 to 4 pixels thick
    slices[0][np.hypot(rows - 128, columns - 128) < 30] = 40  # the heart, which touches nothing
    y0, y1, x0, x1 = body_box(slices)
    assert (y0, x0) <= (48, 18)
    assert (y1, x1) >= (208, 238)


@pytest.mark.parametrize("seed", range(20))
def test_thin_things_are_opened_away_as_scipy_does_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.random((3, *rng.integers(5, 60, 2)))
    solid = ndimage.gaussian_filter(noise, (0, 1.5, 1.5)) > 0.5
    square = np.ones((1, 3, 3), dtype=bool)
    expected = ndimage.binary_opening(solid, structure=square, iterations=2)
    np.testing.assert_array_equal(_opened(solid), expected)
