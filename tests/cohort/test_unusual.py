from __future__ import annotations

import pytest

from napari_resunet.cohort.unusual import unusual_volumes

# median 2,000; half of the cases are within 100 ml of it
USUAL = {f"case-{at}": ml for at, ml in enumerate([1800.0, 1900, 1900, 2000, 2000, 2000, 2100, 2100, 2200])}


def test_a_volume_far_from_the_others_is_told_in_words() -> None:
    told = unusual_volumes({**USUAL, "big": 3000.0}, what="left lung")
    assert told == {
        "big": "left lung unusually large: 3,000 ml, where half of the cases are within 100 ml of 2,000 ml "
        "(robust z +6.7)"
    }
    assert "unusually small: 900 ml" in unusual_volumes({**USUAL, "small": 900.0})["small"]


@pytest.mark.parametrize(("ml", "is_told"), [(2518.0, False), (2520.0, True)])  # 3.5 x 100 / 0.6745 = 518.9
def test_the_limit_is_a_robust_z_of_three_and_a_half(ml: float, is_told: bool) -> None:
    assert ("one" in unusual_volumes({**USUAL, "one": ml})) is is_told


def test_one_wild_volume_does_not_hide_itself_as_it_would_in_a_standard_deviation() -> None:
    assert set(unusual_volumes({**USUAL, "wild": 1e6, "odd": 3000.0})) == {"wild", "odd"}


def test_of_few_cases_or_of_like_ones_nothing_is_told() -> None:
    assert unusual_volumes({"a": 1.0, "b": 1.0, "c": 9000.0}) == {}
    assert unusual_volumes({**dict.fromkeys("abcdefgh", 5.0), "z": 9000.0}) == {}
    assert unusual_volumes({}) == {}


def test_a_case_without_lungs_is_always_told_and_one_without_a_figure_never() -> None:
    assert unusual_volumes({"empty": 0.0, "unknown": None}) == {"empty": "no lungs found"}
    assert unusual_volumes({**USUAL, "empty": 0.0})["empty"] == "no lungs found"
