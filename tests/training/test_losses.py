from __future__ import annotations

import math

import pytest
import torch

from napari_resunet.training.losses import dice_bce_loss, dice_loss

HALF = torch.zeros(2, 1, 4, 4)
HALF[:, :, :2] = 1
EMPTY = torch.zeros(2, 1, 4, 4)


def logits_of(lungs: torch.Tensor, sure: float = 20.0) -> torch.Tensor:
    return sure * (2 * lungs - 1)


def test_a_perfect_answer_costs_nothing() -> None:
    # sigmoid(-20) is 2e-9
    assert float(dice_bce_loss(logits_of(HALF), HALF)) == pytest.approx(0, abs=1e-6)


def test_a_wholly_wrong_answer_costs_all_of_the_dice_and_how_sure_it_was() -> None:
    wrong = logits_of(1 - HALF)
    # nothing overlaps: 1 - 1 / (16 + 16 + 1)
    assert float(dice_loss(wrong, HALF)) == pytest.approx(1 - 1 / 33, abs=1e-6)
    assert float(dice_bce_loss(wrong, HALF)) == pytest.approx(1 - 1 / 33 + 20, abs=1e-5)


def test_an_undecided_answer_costs_what_it_does_by_hand() -> None:
    # 8 of 16 overlap; 16 are called, 16 are there
    expected = 1 - (2 * 8 + 1) / (16 + 16 + 1) + math.log(2)
    assert float(dice_bce_loss(torch.zeros_like(HALF), HALF)) == pytest.approx(expected, abs=1e-6)


def test_where_there_is_no_lung_saying_so_costs_nothing() -> None:
    assert float(dice_bce_loss(logits_of(EMPTY), EMPTY)) == pytest.approx(0, abs=1e-6)
    assert 1 < float(dice_bce_loss(logits_of(1 - EMPTY), EMPTY)) < 22


def test_the_better_answer_costs_less() -> None:
    costs = [float(dice_bce_loss(logits_of(HALF, sure), HALF)) for sure in (-2.0, 0.0, 1.0, 3.0)]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("lungs", [HALF, EMPTY, 1 - EMPTY, 0.3 * HALF])
@pytest.mark.parametrize("sure", [0.0, 5.0, 1000.0])
def test_the_gradient_is_finite_and_points_the_right_way(lungs: torch.Tensor, sure: float) -> None:
    logits = torch.full_like(lungs, sure, requires_grad=True)
    dice_bce_loss(logits, lungs).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    if sure == 5:
        assert (logits.grad[lungs == 0] > 0).all()
