from __future__ import annotations

import numpy as np
import pytest
import torch
from image_making import discs, tiny_card, tiny_model

from napari_resunet.errors import CheckpointError, InputError
from napari_resunet.images.predict import image_labels, predict_image
from napari_resunet.images.slices import as_slices, limits_of, scaled
from napari_resunet.images.tiles import grown, tile_weights, tiles_of
from napari_resunet.inference.predict import Prediction
from napari_resunet.phantom import Phantom


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((20, 30), 1, (2, 1, 20, 30)),
        ((5, 20, 30), 1, (2, 5, 20, 30)),
        ((20, 30), 3, (2, 1, 20, 30)),
        ((20, 30, 3), 3, (2, 1, 20, 30)),
        ((20, 30, 4), 3, (2, 1, 20, 30)),
        ((5, 20, 30, 3), 3, (2, 5, 20, 30)),
    ],
)
def test_probabilities_lie_on_the_grid_of_the_image(
    shape: tuple[int, ...], channels: int, expected: tuple[int, ...]
) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    found = predict_image(image, model=tiny_model(channels, ("a", "b")), device="cpu")
    assert (found.shape, found.dtype) == (expected, np.uint8)


def test_a_stack_whose_last_axis_is_short_is_no_picture_in_colour_if_that_is_said() -> None:
    found = predict_image(np.zeros((5, 20, 3)), model=tiny_model(1), device="cpu", is_rgb=False)
    assert found.shape == (1, 5, 20, 3)


def test_slices_of_a_stack_are_found_as_each_for_itself_with_a_window() -> None:
    model = tiny_model(1, window=(0.0, 1.0))
    stack = np.random.default_rng(0).random((6, 32, 32))
    each = [predict_image(picture, model=model, device="cpu")[0, 0] for picture in stack]
    # bfloat16 of another batch may round a probability to the next step of 1/255
    difference = predict_image(stack, model=model, device="cpu")[0].astype(int) - np.stack(each)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("tile", [16, 21, 32])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 40, 63, 64, 100])
def test_tiles_cover_an_image_and_never_leave_it(length: int, tile: int) -> None:
    image = grown(torch.zeros(1, 1, length, length), tile)
    seen = torch.zeros(image.shape[2:])
    for here in tiles_of(tuple(image.shape[2:]), tile):
        assert seen[here].shape == (tile, tile)
        seen[here] += tile_weights(tile)
    assert image.shape[2] == max(length, tile)
    assert float(seen.min()) > 0


def test_an_image_of_one_tile_is_found_as_it_is_as_a_whole() -> None:
    picture = np.random.default_rng(0).random((40, 40))
    whole, tiled = (
        predict_image(picture, model=tiny_model(1, tile=tile), device="cpu").astype(int) for tile in (0, 40)
    )
    # a weighted mean of one value may round to the next step of 1/255
    assert np.abs(whole - tiled).max() <= 1


def test_a_tile_is_found_alike_wherever_it_lies_in_a_large_image() -> None:
    # of squares side by side, each with the same pattern, those in the middle see the same all around
    pattern = np.random.default_rng(0).random((32, 32))
    found = predict_image(np.tile(pattern, (4, 5)), model=tiny_model(1, tile=64), device="cpu")[0, 0].astype(
        int
    )
    assert found.shape == (128, 160)
    np.testing.assert_allclose(found[32:64, 32:64], found[64:96, 96:128], atol=1)


def test_a_pixel_is_of_the_most_probable_class_that_reaches_the_threshold() -> None:
    probabilities = np.array([[[[0, 127, 128, 128, 200, 130]]], [[[127, 0, 0, 130, 150, 130]]]], np.uint8)
    assert image_labels(probabilities).tolist() == [[[0, 0, 1, 2, 1, 1]]]  # 128 / 255 is the first above 0.5
    assert image_labels(probabilities, threshold=0.7).tolist() == [[[0, 0, 0, 0, 1, 0]]]


def test_percentiles_are_of_the_image_and_a_window_is_of_the_model() -> None:
    picture = np.arange(101.0).reshape(1, 101) * 10
    slices = as_slices(picture, channels=1)
    assert limits_of(slices, tiny_card(1, ("a",), percentiles=(10.0, 90.0))) == (100, 900)
    assert limits_of(slices, tiny_card(1, ("a",), window=(0.0, 2000.0))) == (0, 2000)
    seen = scaled(slices, (100, 900))[0, 0, 0]
    assert [float(seen[at]) for at in (0, 10, 50, 90, 100)] == [0, 0, 0.5, 1, 1]


def test_what_is_not_finite_does_not_count_for_the_percentiles_and_becomes_black() -> None:
    slices = as_slices(np.array([[np.nan, 1.0, 2.0, np.inf]]), channels=1)
    limits = limits_of(slices, tiny_card(1, ("a",), percentiles=(0.0, 100.0)))
    assert limits == (1, 2)
    assert scaled(slices, limits).flatten().tolist() == [0, 0, 1, 1]


def test_an_image_of_one_value_is_black_and_one_of_none_is_refused() -> None:
    assert not torch.any(scaled(as_slices(np.full((4, 4), 7), channels=1), (7.0, 7.0)))
    with pytest.raises(InputError, match="no finite value"):
        predict_image(np.full((4, 4), np.nan), model=tiny_model(1), device="cpu")


@pytest.mark.parametrize(
    ("image", "channels", "reason"),
    [
        (np.zeros((4, 4, 3)), 1, "the image is in colour, the model is for grey ones"),
        (np.zeros(4), 1, r"an image is \(y, x\) or \(z, y, x\).*found \(4,\)"),
        (np.zeros((2, 3, 4, 5)), 1, r"found \(2, 3, 4, 5\)"),
        (np.zeros((0, 4)), 1, r"found \(0, 4\)"),
        (np.zeros((4, 4), complex), 1, "real numbers; found complex128"),
    ],
)
def test_what_is_no_image_for_the_model_is_refused(image: np.ndarray, channels: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        predict_image(image, model=tiny_model(channels), device="cpu")


def test_a_ct_is_not_given_to_a_model_of_other_images_nor_an_image_to_one_of_ct(chest: Phantom) -> None:
    with pytest.raises(CheckpointError, match="the model tiny finds thing in images that are no CT; choose"):
        Prediction(chest.volume, model=tiny_model(1), device="cpu", grid=32)  # before it runs
    with pytest.raises(CheckpointError, match="the model lung-ct is for CT in HU; use it in the widget"):
        predict_image(discs(0)[0], model="lung-ct", device="cpu")
