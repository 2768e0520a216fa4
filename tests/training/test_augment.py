from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_resunet.training import augment as module
from napari_resunet.training.augment import (
    AIR_HU,
    add_noise,
    augment,
    blur,
    consolidate,
    move,
    shift_hu,
)

COUNT, SIDE = 40, 32


def pictures() -> tuple[Tensor, Tensor]:
    """A square of 0 HU in air that is lung, off the middle."""
    lungs = torch.zeros(COUNT, 1, SIDE, SIDE)
    lungs[:, :, 8:20, 10:26] = 1
    return AIR_HU * (1 - lungs), lungs


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_same_generator_gives_the_same_pictures_and_another_gives_others() -> None:
    hu, lungs = pictures()
    first, first_lungs = augment(hu, lungs, margin=0.1, rng=generator())
    second, second_lungs = augment(hu, lungs, margin=0.1, rng=generator())
    other, _ = augment(hu, lungs, margin=0.1, rng=generator(1))
    assert torch.equal(first, second)
    assert torch.equal(first_lungs, second_lungs)
    assert not torch.equal(first, other)


def test_pictures_and_masks_keep_shape_and_type_and_are_numbers() -> None:
    hu, lungs = pictures()
    found, mask = augment(hu, lungs, margin=0.1, rng=generator())
    assert found.shape == mask.shape == hu.shape
    assert found.dtype == mask.dtype == torch.float32
    assert torch.isfinite(found).all()
    assert mask.min() >= 0
    assert mask.max() <= 1


def test_the_given_pictures_stay_as_they_were() -> None:
    hu, lungs = pictures()
    augment(hu, lungs, margin=0.1, rng=generator())
    for left, right in zip((hu, lungs), pictures(), strict=True):
        assert torch.equal(left, right)


def test_every_picture_of_a_batch_is_changed_in_its_own_way() -> None:
    found, _ = augment(*pictures(), margin=0.1, rng=generator())
    assert len({float(one.sum()) for one in found}) == COUNT


def test_image_and_mask_move_together() -> None:
    hu, lungs = pictures()
    moved, mask = move(hu, lungs, margin=0.1, rng=generator())
    # both are read off linearly at the same places, and 0 HU is lung: one is a linear function of the other,
    # within the rounding of float32 at about 1000
    torch.testing.assert_close(moved, AIR_HU * (1 - mask), atol=1e-2, rtol=0)
    assert (mask.flatten(1).sum(dim=1) > 0).all()
    assert not torch.allclose(mask, lungs)


def test_what_comes_into_the_picture_from_outside_is_air_and_no_lung() -> None:
    hu, lungs = torch.zeros(COUNT, 1, SIDE, SIDE), torch.ones(COUNT, 1, SIDE, SIDE)
    moved, mask = move(hu, lungs, margin=0.0, rng=generator())
    assert moved.min() == AIR_HU
    assert mask.min() == 0
    torch.testing.assert_close(moved, AIR_HU * (1 - mask), atol=1e-2, rtol=0)


def test_a_picture_is_cropped_near_the_body_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all chance taken out, the margin is cut off and the rest fills the picture."""

    class Still:
        def normal(self, mean: float, _deviation: float, size: object) -> object:
            return np.full(size, mean)  # type: ignore[call-overload]

        def random(self, size: object) -> object:
            return np.ones(size)  # type: ignore[call-overload]

        def uniform(self, low: float, _high: float, size: object) -> object:
            return np.full(size, low)  # type: ignore[call-overload]

    monkeypatch.setattr(module, "_bend", lambda *_: 0)
    lungs = torch.zeros(1, 1, SIDE, SIDE)
    lungs[:, :, 8:24, 8:24] = 1
    _, mask = move(AIR_HU * (1 - lungs), lungs, margin=0.25, rng=Still())  # type: ignore[arg-type]
    # the outermost pixels read a quarter of a pixel beyond the edge of the square
    assert (mask[0, 0, 1:-1, 1:-1] == 1).all()
    assert mask.min() > 0.5


def test_pictures_are_turned_shifted_and_mirrored() -> None:
    lungs = torch.zeros(100, 1, SIDE, SIDE)
    lungs[:, :, 8:24, 4:12] = 1  # on the left side of the picture
    _, mask = move(AIR_HU * (1 - lungs), lungs, margin=0.1, rng=generator())
    columns = torch.arange(SIDE).float()
    centres = (mask.sum(dim=(1, 2)) @ columns) / mask.sum(dim=(1, 2, 3))
    share = float((centres > SIDE / 2).float().mean())
    # half of 100 are mirrored; three standard deviations of that are 15 %, and a few lie on the side
    assert 0.3 < share < 0.7
    assert float(centres.std()) > 1


def test_bending_is_a_few_per_cent_of_the_picture_at_most() -> None:
    bend = module._bend(torch.Size((200, 1, SIDE, SIDE)), generator())
    assert bend.shape == (200, SIDE, SIDE, 2)
    # the picture is 2 wide; strength 0.025 times normal numbers: 5 deviations and a bicubic overshoot of a quarter
    assert 0 < bend.abs().max() < 0.025 * 5 * 1.25


def test_dense_tissue_comes_only_into_the_lungs_and_only_makes_them_denser() -> None:
    lungs = torch.zeros(COUNT, 1, SIDE, SIDE)
    lungs[:, :, 8:20, 10:26] = 1
    hu = torch.where(lungs > 0, torch.tensor(-850.0), torch.tensor(40.0))
    found = consolidate(hu, lungs, generator(), chance=1.0)
    assert torch.equal(found[lungs == 0], hu[lungs == 0])
    assert (found >= hu).all()
    assert found.max() <= 80
    changed = (found > hu + 50).flatten(1).any(dim=1)
    assert changed.float().mean() > 0.9


@pytest.mark.parametrize(("chance", "changed"), [(0.0, False), (1.0, True)])
def test_dense_tissue_comes_as_often_as_asked(chance: float, changed: bool) -> None:
    hu, lungs = pictures()
    hu = hu * 0 - 850
    assert torch.equal(consolidate(hu, lungs, generator(), chance=chance), hu) != changed


def test_a_slice_without_lung_gets_no_dense_tissue() -> None:
    hu = torch.full((3, 1, 8, 8), -850.0)
    assert torch.equal(consolidate(hu, torch.zeros_like(hu), generator(), chance=1.0), hu)


def test_smoothing_and_sharpening_leave_a_flat_picture_as_it_is() -> None:
    flat = torch.full((COUNT, 1, 8, 8), -123.0)
    torch.testing.assert_close(blur(flat, generator(), chance=1.0), flat)


def test_some_pictures_are_smoothed_some_sharpened_and_some_left() -> None:
    hu, _ = pictures()
    steps = blur(hu, generator(), chance=0.25) - hu
    spread = (hu + steps).flatten(1).std(dim=1) - hu.flatten(1).std(dim=1)
    assert (spread < -1).any()
    assert (spread > 1).any()
    assert (spread == 0).any()


def test_scale_and_offset_change_a_little_about_air() -> None:
    hu = torch.zeros(400, 1, 2, 2)
    hu[:, :, 0] = -1000.0
    found = shift_hu(hu, generator())
    air, water = found[:, 0, 0, 0], found[:, 0, 1, 0]
    # deviations of 20 HU for the offset and 4 % of 1000 HU for the scale; of 400 draws they are right to 4 %
    assert float((air + 1000).std()) == pytest.approx(20, rel=0.15)
    assert float((water - air - 1000).std()) == pytest.approx(40, rel=0.15)
    assert torch.equal(found[:, 0, 0, 0], found[:, 0, 0, 1])


def test_half_of_the_pictures_get_noise_of_at_most_60_hu() -> None:
    noise = add_noise(torch.zeros(400, 1, 16, 16), generator())
    strength = noise.flatten(1).std(dim=1)
    assert 0.4 < float((strength > 0).float().mean()) < 0.6
    # a deviation estimated from 256 pixels is right to 4 %, coarse noise to some 12 %
    assert float(strength.max()) < 60 * 1.4
    assert float(noise.mean()) == pytest.approx(0, abs=1)
