"""Slices of any size come back voxel by voxel to where they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import Outcome
from torch import Tensor, nn

from napari_resunet.geometry import Geometry
from napari_resunet.inference.predict import Prediction, predict
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import Model
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.volume import Volume

SETTINGS = NetworkSettings(units=(1, 1, 1, 1), width=4)
CARD = ModelCard("mirror", "1", "custom", SETTINGS, 64, (-1000.0, 400.0), sha256="0123")
GRID = 64


class Mirror(nn.Module):
    """Answers with what it sees: the probability of a pixel is its own value."""

    settings = SETTINGS

    def forward(self, image: Tensor) -> Tensor:
        return torch.logit(image.float().clamp(1e-4, 1 - 1e-4))


def ramp(rows: int, columns: int, top: int, left: int) -> Volume:
    """A body with `top` rows and `left` columns of air beside it, in which HU rise evenly from corner to corner."""
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    hu = -250 + 300 * (x + y)
    hu[:top], hu[:, :left] = -1000, -1000
    return Volume(
        hu[np.newaxis].astype(np.float32),
        Geometry.from_spacing((1, rows, columns), (5, 1, 1)),
        hu_confirmed=True,
    )


def mirrored(volume: Volume) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    model = Model(Mirror(), CARD)
    crop = Prediction(volume, model=model, device="cpu", grid=GRID).run.crop
    return predict(volume, model=model, device="cpu", grid=GRID).array[0], crop


sides = st.integers(33, 530)


@settings(max_examples=60)
@given(sides, sides, st.floats(0, 0.4), st.floats(0, 0.4))
def check_size(rows: int, columns: int, above: float, beside: float) -> None:
    volume = ramp(rows, columns, int(above * rows), int(beside * columns))
    found, (y0, y1, x0, x1) = mirrored(volume)
    assert found.shape == (rows, columns)
    outside = np.ones(found.shape, dtype=bool)
    outside[y0:y1, x0:x1] = False
    assert not found[outside].any()
    # away from the edges of body and crop the ramp comes back to a level of 255: shifted by half a pixel it would not
    away = [2 + 3 * (y1 - y0) // GRID, 2 + 3 * (x1 - x0) // GRID]
    inside = (
        slice(max(y0, int(above * rows)) + away[0], y1 - away[0]),
        slice(max(x0, int(beside * columns)) + away[1], x1 - away[1]),
    )
    wanted = (volume.array[0][inside] + 1000) / 1400 * 255
    if wanted.size:
        assert np.abs(found[inside] - wanted).max() < 0.9


def test_b28_slices_of_any_size_come_back_to_their_own_voxels(outcome: Outcome) -> None:
    check_size()
    outcome("OK", "33 to 530 rows and columns, each voxel in its place")


@pytest.mark.parametrize("size", [(513, 511), (511, 513), (33, 32), (479, 65)])
def test_b28_a_size_that_is_no_multiple_of_the_networks_is_the_size_that_comes_back(
    size: tuple[int, int], outcome: Outcome
) -> None:
    assert mirrored(ramp(*size, 0, 0))[0].shape == size
    outcome("OK", f"{size[0]} x {size[1]}")
