from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from napari_resunet.errors import PredictionError
from napari_resunet.model.card import ModelCard
from napari_resunet.model.device import Device
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet
from napari_resunet.model.slices import from_grid, slice_probabilities, to_grid

WINDOW = (-1000.0, 400.0)
CPU = Device("cpu", "float32", "this CPU")
SETTINGS = NetworkSettings(units=(1, 1, 1, 1), width=4)
CARD = ModelCard("tiny", "1", "custom", SETTINGS, 32, WINDOW)


def seen(values: Any, dtype: Any = np.float32) -> npt.NDArray[Any]:
    """What the network sees of one row of pixels, where the grid is the picture's own."""
    side = len(values)
    slices = np.tile(np.array(values, dtype), (1, side, 1))
    return to_grid(slices, crop=(0, side, 0, side), grid=side, window_hu=WINDOW)[0, 0, 0].numpy()


def test_the_window_becomes_0_to_1() -> None:
    np.testing.assert_allclose(seen([-1000, -300, 50, 400]), [0, 0.5, 0.75, 1], atol=1e-6)


def test_values_beyond_the_window_are_clipped() -> None:
    assert seen([-3024, -1001, 401, 30000], np.int16).tolist() == [0, 0, 1, 1]


def test_what_is_not_a_number_is_air_and_what_is_infinite_is_the_end_of_the_window() -> None:
    assert seen([np.nan, -np.inf, np.inf, -1000]).tolist() == [0, 0, 1, 0]


def test_only_the_crop_is_seen() -> None:
    slices = np.full((2, 8, 8), 400, np.int16)
    slices[:, 2:6, 4:8] = -1000
    image = to_grid(slices, crop=(2, 6, 4, 8), grid=4, window_hu=WINDOW)
    assert image.shape == (2, 1, 4, 4)
    assert not image.any()


def test_slices_are_resized_to_the_grid_keeping_their_mean() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.uniform(-1000, 400, (1, 4, 4)).astype(np.float32)
    large = blocks.repeat(8, axis=1).repeat(8, axis=2)
    image = to_grid(large, crop=(0, 32, 0, 32), grid=4, window_hu=WINDOW)
    assert image.shape == (1, 1, 4, 4)
    # the smoothing is symmetric, and weighs every inner pixel alike; the rim is weighed a little more
    assert float(image.mean()) == pytest.approx(float((blocks.mean() + 1000) / 1400), abs=0.05)


def test_one_odd_pixel_of_many_does_not_vanish_when_a_slice_is_shrunk() -> None:
    slices = np.full((1, 64, 64), -1000, np.float32)
    slices[0, 33, 35] = 400
    assert to_grid(slices, crop=(0, 64, 0, 64), grid=16, window_hu=WINDOW).sum() > 0


@pytest.mark.parametrize("view", [(slice(None, None, -1), slice(None)), (slice(None), slice(None, None, -1))])
def test_a_mirrored_view_is_seen_mirrored(view: tuple[slice, slice]) -> None:
    slices = np.arange(16, dtype=np.int16).reshape(1, 4, 4)
    options: Any = {"crop": (0, 4, 0, 4), "grid": 4, "window_hu": (0.0, 15.0)}
    mirrored = to_grid(slices[:, view[0], view[1]], **options)[0, 0]
    np.testing.assert_array_equal(mirrored, to_grid(slices, **options)[0, 0].numpy()[view])


def test_the_probability_is_zero_outside_of_the_crop() -> None:
    result = from_grid(torch.full((2, 1, 4, 4), 20.0), crop=(1, 7, 2, 10), shape=(9, 12))
    assert result.shape == (2, 9, 12)
    inside = np.zeros((9, 12), bool)
    inside[1:7, 2:10] = True
    assert (result[:, inside] == 255).all()
    assert not result[:, ~inside].any()


def test_probabilities_take_all_of_0_to_255() -> None:
    probabilities = torch.linspace(0, 1, 256, dtype=torch.float64)
    logits = torch.logit(probabilities, eps=1e-9).float().reshape(1, 1, 16, 16)
    result = from_grid(logits, crop=(0, 16, 0, 16), shape=(16, 16))
    assert result.ravel().tolist() == list(range(256))


def test_contours_are_finer_than_the_grid_since_values_are_soft_until_the_end() -> None:
    """A disk of radius R, as its signed distance on a grid of 32, comes back at 128.

    Bilinear interpolation of a distance errs by at most 1 / (4 R) for R in pixels of the grid, and rounding to
    1/255 by 4 / 510: for R = 12 that is 0.029 pixels of the grid, or 0.11 native ones. A contour that is off by
    e all round costs e / R of the Dice: 0.11 / 48 = 0.003, and about as much again for the pixels it crosses.
    Up-sampling the nearest pixel, or quantising first, would be off by a quarter of 4 pixels, and cost 0.02.
    """

    def signed_distance(side: int, radius: float) -> npt.NDArray[np.float64]:
        y, x = np.mgrid[:side, :side] + 0.5 - side / 2 - side / 256  # off the middle: no symmetry helps
        return np.asarray(radius - np.hypot(y, x))

    logits = torch.from_numpy(signed_distance(32, 12))[None, None].float()
    found = from_grid(logits, crop=(0, 128, 0, 128), shape=(128, 128))[0] >= 128
    truth = signed_distance(128, 48) >= 0
    dice = 2 * (found & truth).sum() / (found.sum() + truth.sum())
    assert dice > 0.994


def test_a_slice_through_the_network_lies_where_it_lay() -> None:
    """A network that gives back its image says where dense tissue is."""

    class Echo(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return 40 * (image - 0.5)

    slices = np.full((3, 20, 24), -1000, np.int16)
    slices[1, 4:8, 12:20] = 400
    network: Any = Echo()
    found = slice_probabilities(network, CARD, slices, crop=(0, 16, 4, 24), grid=16, device=CPU)
    assert found.shape == slices.shape
    assert found.dtype == np.uint8
    # columns are resized from 20 to 16 and back, so that one on each side may differ
    assert (found[1, 4:8, 13:19] > 127).all()
    assert not found[[0, 2]].any()
    assert np.count_nonzero(found[1] > 127) <= 4 * 10


def test_an_answer_that_is_not_finite_is_refused() -> None:
    network = ResUNet(SETTINGS).eval()
    network.head[-1].bias.data.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(
        PredictionError, match="tiny gave values that are not finite on this CPU; choose device cpu"
    ):
        slice_probabilities(
            network, CARD, np.zeros((1, 32, 32), np.int16), crop=(0, 32, 0, 32), grid=32, device=CPU
        )


def test_at_a_finer_grid_than_its_own_a_network_is_asked_at_both() -> None:
    """A network that says at which grid it looks: the probability is that of the mean of both logits."""

    class SaysGrid(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.full_like(image, {16: 1.0, 32: 4.0, 64: -2.0}[image.shape[-1]])

    network: Any = SaysGrid()
    slices = np.zeros((2, 20, 24), np.int16)
    assert CARD.grid == 32
    for grid, logit in ((16, 1.0), (32, 4.0), (64, (4.0 - 2.0) / 2)):
        found = slice_probabilities(network, CARD, slices, crop=(0, 20, 0, 24), grid=grid, device=CPU)
        assert set(found.flat) == {round(255 / (1 + np.exp(-logit)))}, grid
