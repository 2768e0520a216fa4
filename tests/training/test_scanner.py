from __future__ import annotations

import pytest
import torch
from square_lungs import COUNT, SIDE, generator, pictures

from napari_resunet.training.scanner import (
    AIR_HU,
    add_noise,
    blur,
    coarsen,
    lay_on_table,
    limit_field,
    shift_hu,
)


def test_lines_are_drawn_into_the_air_around_the_patient_alone() -> None:
    hu, lungs = pictures()
    found, mask = lay_on_table(hu, lungs, generator(), chance=1.0)
    assert torch.equal(found[lungs > 0], hu[lungs > 0])
    assert torch.equal(mask, lungs)
    drawn = (found > AIR_HU + 100).flatten(1).float().mean(dim=1) - lungs.flatten(1).mean(dim=1)
    assert (drawn > 0).float().mean() > 0.5
    assert drawn.max() < 0.6


def test_air_in_the_lungs_is_no_air_around_the_patient() -> None:
    lungs = torch.ones(COUNT, 1, SIDE, SIDE)
    hu = torch.full_like(lungs, -1000.0)
    assert torch.equal(lay_on_table(hu, lungs, generator(), chance=1.0)[0], hu)


def test_nothing_is_shown_nor_lung_beyond_the_field_of_view() -> None:
    hu, lungs = torch.zeros(COUNT, 1, SIDE, SIDE), torch.ones(COUNT, 1, SIDE, SIDE)
    found, mask = limit_field(hu, lungs, generator(), chance=1.0)
    assert torch.equal(found == AIR_HU, mask == 0)
    assert (found[:, 0, 0, 0] == AIR_HU).float().mean() > 0.9  # the corners lie outside
    assert (found[:, 0, SIDE // 2, SIDE // 2] == 0).all()
    share = mask.flatten(1).mean(dim=1)
    assert share.min() > 0.25
    untouched, _ = limit_field(hu, lungs, generator(), chance=0.0)
    assert torch.equal(untouched, hu)


def test_detail_is_taken_from_a_picture_and_its_mean_stays() -> None:
    hu = torch.from_numpy(generator(1).normal(0, 100, (COUNT, 1, SIDE, SIDE))).float()
    found, _ = coarsen(hu, hu, generator(), chance=1.0)
    assert (found.flatten(1).std(dim=1) < 0.8 * hu.flatten(1).std(dim=1)).all()
    torch.testing.assert_close(found.mean(), hu.mean(), atol=1.5, rtol=0)
    assert torch.equal(coarsen(hu, hu, generator(), chance=0.0)[0], hu)


def test_smoothing_and_sharpening_leave_a_flat_picture_as_it_is() -> None:
    flat = torch.full((COUNT, 1, 8, 8), -123.0)
    torch.testing.assert_close(blur(flat, flat, generator(), chance=1.0)[0], flat)


def test_some_pictures_are_smoothed_some_sharpened_and_some_left() -> None:
    hu, lungs = pictures()
    found, _ = blur(hu, lungs, generator(), chance=0.5)
    spread = found.flatten(1).std(dim=1) - hu.flatten(1).std(dim=1)
    assert (spread < -1).any()
    assert (spread > 1).any()
    assert (spread == 0).any()


def test_scale_and_offset_change_a_little_about_air() -> None:
    hu = torch.zeros(400, 1, 2, 2)
    hu[:, :, 0] = -1000.0
    found, _ = shift_hu(hu, hu, generator())
    air, water = found[:, 0, 0, 0], found[:, 0, 1, 0]
    # deviations of 20 HU for the offset and 4 % of 1000 HU for the scale; of 400 draws they are right to 4 %
    assert float((air + 1000).std()) == pytest.approx(20, rel=0.15)
    assert float((water - air - 1000).std()) == pytest.approx(40, rel=0.15)
    assert torch.equal(found[:, 0, 0, 0], found[:, 0, 0, 1])


def test_half_of_the_pictures_get_noise_of_at_most_60_hu() -> None:
    noise, _ = add_noise(torch.zeros(400, 1, 16, 16), torch.zeros(400, 1, 16, 16), generator())
    strength = noise.flatten(1).std(dim=1)
    assert 0.4 < float((strength > 0).float().mean()) < 0.6
    # a deviation estimated from 256 pixels is right to 4 %, coarse noise to some 12 %
    assert float(strength.max()) < 60 * 1.4
    assert float(noise.mean()) == pytest.approx(0, abs=1)
