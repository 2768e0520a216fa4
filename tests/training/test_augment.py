from __future__ import annotations

import numpy as np
import pytest
import torch
from square_lungs import COUNT, SIDE, generator, pictures

from napari_resunet.training import augment as module
from napari_resunet.training.augment import INGREDIENTS, augment, move
from napari_resunet.training.scanner import AIR_HU


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

    monkeypatch.setattr(module, "bend", lambda *_: 0)
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
    bend = module.bend(torch.Size((200, 1, SIDE, SIDE)), generator())
    assert bend.shape == (200, SIDE, SIDE, 2)
    # the picture is 2 wide; strength 0.025 times normal numbers: 5 deviations and a bicubic overshoot of a quarter
    assert 0 < bend.abs().max() < 0.025 * 5 * 1.25


@pytest.mark.parametrize("name", INGREDIENTS)
def test_every_ingredient_changes_pictures_and_can_be_left_out(name: str) -> None:
    hu, lungs = pictures()
    hu = torch.where(lungs > 0, torch.tensor(-850.0), torch.tensor(40.0))
    hu[:, :, :4] = AIR_HU
    all_others = set(INGREDIENTS) - {name}
    with_it, _ = augment(hu, lungs, margin=0.1, rng=generator(), without=all_others)
    without_it, _ = augment(hu, lungs, margin=0.1, rng=generator(), without=INGREDIENTS)
    # an ingredient of the patient draws before the position, so that another generator decides the rest
    assert not torch.equal(with_it, without_it)
    again, _ = augment(hu, lungs, margin=0.1, rng=generator(), without=INGREDIENTS)
    assert torch.equal(again, without_it)
