from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from square_lungs import generator
from torch import Tensor

from napari_resunet.training.disease import add_gas, consolidate, effuse, enhance

COUNT, SIDE = 40, 48
Change = Callable[..., tuple[Tensor, Tensor]]


def chests() -> tuple[Tensor, Tensor]:
    """Two lungs in soft tissue, front up."""
    lungs = torch.zeros(COUNT, 1, SIDE, SIDE)
    lungs[:, :, 10:38, 6:20] = 1
    lungs[:, :, 10:38, 28:42] = 1
    return torch.where(lungs > 0, torch.tensor(-850.0), torch.tensor(40.0)), lungs


@pytest.mark.parametrize("change", [consolidate, effuse, enhance, add_gas])
def test_chance_says_how_often_and_what_is_given_stays(change: Change) -> None:
    hu, lungs = chests()
    never, _ = change(hu, lungs, generator(), chance=0.0)
    assert torch.equal(never, hu)
    always, _ = change(hu, lungs, generator(), chance=1.0)
    changed = (always != hu).flatten(1).any(dim=1).float().mean()
    # beside lungs gas is let in one time in five
    assert changed > (0.05 if change is add_gas else 0.9)
    assert torch.isfinite(always).all()
    for left, right in zip((hu, lungs), chests(), strict=True):
        assert torch.equal(left, right)


def test_dense_tissue_comes_only_into_the_lungs_makes_them_denser_and_stays_lung() -> None:
    hu, lungs = chests()
    found, mask = consolidate(hu, lungs, generator(), chance=1.0)
    assert torch.equal(found[lungs == 0], hu[lungs == 0])
    assert (found >= hu).all()
    assert found.max() <= 80
    assert torch.equal(mask, lungs)


def test_fluid_stands_in_the_back_is_as_dense_as_water_and_no_lung() -> None:
    hu, lungs = chests()
    found, mask = effuse(hu, lungs, generator(), chance=1.0)
    assert torch.equal(found[lungs == 0], hu[lungs == 0])
    assert (mask <= lungs).all()
    gone = (lungs - mask).flatten(1).sum(dim=1)
    # a side is 14 wide and 28 high; both sides lose half at most, and a rise along the wall
    assert (gone > 0).all()
    assert (gone < 2 * 14 * 28 * 0.8).all()
    rows = torch.arange(SIDE).float()
    lost = (lungs - mask).sum(dim=(1, 3))
    assert ((lost @ rows) / lost.sum(dim=1) > 24).all()  # 24 is the middle of the lungs
    fluid = found[(mask < 0.01) & (lungs == 1)]
    assert fluid.min() > -20
    assert fluid.max() < 46


def test_a_slice_without_lung_gets_neither_dense_lung_nor_fluid() -> None:
    hu = torch.full((3, 1, 8, 8), -850.0)
    for change in (consolidate, effuse):
        found, mask = change(hu, torch.zeros_like(hu), generator(), chance=1.0)
        assert torch.equal(found, hu)
        assert not mask.any()


def test_contrast_brightens_soft_tissue_alone() -> None:
    hu, lungs = chests()
    found, mask = enhance(hu, lungs, generator(), chance=1.0)
    assert (found >= hu).all()
    torch.testing.assert_close(found[lungs > 0], hu[lungs > 0], atol=1e-3, rtol=0)
    assert (found[lungs == 0] > 100).any()
    assert torch.equal(mask, lungs)


def test_gas_comes_into_soft_tissue_and_never_into_lung_nor_becomes_lung() -> None:
    hu, lungs = chests()
    found, mask = add_gas(hu, lungs, generator(), chance=1.0)
    assert torch.equal(found[lungs > 0], hu[lungs > 0])
    assert torch.equal(mask, lungs)


def test_gas_comes_mostly_where_no_lung_is_seen() -> None:
    hu, lungs = chests()
    beside, _ = add_gas(hu, lungs, generator(), chance=1.0)
    alone = torch.full_like(hu, 40.0)
    below, _ = add_gas(alone, torch.zeros_like(lungs), generator(), chance=1.0)
    share = [
        float((found < was - 500).flatten(1).any(dim=1).float().mean())
        for found, was in ((beside, hu), (below, alone))
    ]
    assert share[0] < 0.5 < 0.9 < share[1]
