from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_resunet.settings import InputAnswers, MaskSettings, PredictSettings, TrainSettings, explain

ALL: list[Any] = [PredictSettings, MaskSettings, TrainSettings]
CHOICES = [(settings, known.name) for settings in ALL for known in dataclasses.fields(settings)]
NUMBERS = [
    (settings, name)
    for settings, name in CHOICES
    if explain(settings, name)["low"] is not None or explain(settings, name)["high"] is not None
]
OPTIONS = [(settings, name) for settings, name in CHOICES if explain(settings, name)["options"] is not None]


@pytest.mark.parametrize("settings", ALL)
def test_the_defaults_are_allowed_and_frozen(settings: Any) -> None:
    made = settings()
    assert made == settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(made, dataclasses.fields(settings)[0].name, None)


def test_the_defaults_are_those_of_the_published_network() -> None:
    assert PredictSettings() == PredictSettings(model="lung-ct", device="auto", grid=128)
    assert MaskSettings() == MaskSettings(threshold=0.5, clean=True, split=False)
    assert TrainSettings().grid == 128
    assert TrainSettings().preset == "paper"


@pytest.mark.parametrize(("settings", "name"), CHOICES)
def test_every_choice_explains_itself(settings: Any, name: str) -> None:
    said = explain(settings, name)
    assert set(said) == {"label", "tip", "low", "high", "step", "options", "default", "type"}
    assert said["label"][0].isupper()
    assert said["tip"].endswith(".")
    assert isinstance(said["default"], said["type"])
    assert said["default"] == getattr(settings(), name)


def test_explain_gives_types_and_not_their_names() -> None:
    assert explain(MaskSettings, "threshold") == {
        "label": "Threshold",
        "tip": "A voxel is lung where its probability is at least this.",
        "low": 0.01,
        "high": 0.99,
        "step": 0.01,
        "options": None,
        "default": 0.5,
        "type": float,
    }


def test_explain_knows_no_choice_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="MaskSettings has no choice called 'thresold'"):
        explain(MaskSettings, "thresold")


@pytest.mark.parametrize(("settings", "name"), NUMBERS)
def test_a_number_may_be_at_its_limits_but_not_beyond(settings: Any, name: str) -> None:
    said = explain(settings, name)
    label = said["label"].lower()
    beyond = 1 if said["type"] is int else 1e-9
    if said["low"] is not None:
        assert getattr(settings(**{name: said["low"]}), name) == said["low"]
        with pytest.raises(ValueError, match=f"^{label} must be at least {said['low']}; got "):
            settings(**{name: said["low"] - beyond})
    if said["high"] is not None:
        assert getattr(settings(**{name: said["high"]}), name) == said["high"]
        with pytest.raises(ValueError, match=f"^{label} must be at most {said['high']}; got "):
            settings(**{name: said["high"] + beyond})


@pytest.mark.parametrize(("settings", "name"), NUMBERS)
def test_what_is_not_a_number_is_within_no_limits(settings: Any, name: str) -> None:
    if explain(settings, name)["type"] is int:
        with pytest.raises(TypeError, match=r"must be a whole number; got nan"):
            settings(**{name: float("nan")})
    else:
        with pytest.raises(ValueError, match=r"must be at least .*; got nan"):
            settings(**{name: float("nan")})


@pytest.mark.parametrize(("settings", "name"), OPTIONS)
def test_only_the_options_can_be_chosen(settings: Any, name: str) -> None:
    options = explain(settings, name)["options"]
    for option in options:
        assert getattr(settings(**{name: option}), name) == option
    listed = ", ".join(map(str, options))
    with pytest.raises(ValueError, match=f"must be one of {listed}; got something else"):
        settings(**{name: "something else"})


@given(st.integers(32, 512))
def test_a_training_grid_is_a_multiple_of_16(grid: int) -> None:
    if grid % 16 == 0:
        assert TrainSettings(grid=grid).grid == grid
    else:
        with pytest.raises(ValueError, match=f"grid must be a multiple of 16; got {grid}"):
            TrainSettings(grid=grid)


def test_settings_that_are_equal_can_stand_for_each_other() -> None:
    assert {MaskSettings(threshold=0.4), MaskSettings(threshold=0.4)} == {MaskSettings(threshold=0.4)}
    assert dataclasses.replace(MaskSettings(), split=True) == MaskSettings(split=True)
    with pytest.raises(ValueError, match="threshold must be at most"):
        dataclasses.replace(MaskSettings(), threshold=1.5)


def test_a_user_has_answered_nothing_to_begin_with() -> None:
    assert InputAnswers() == InputAnswers(spacing_mm=None, series=None, hu_offset=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        InputAnswers().hu_offset = 0.0  # type: ignore[misc]


def test_an_offset_of_zero_is_an_answer() -> None:
    assert InputAnswers(hu_offset=0) != InputAnswers()


@pytest.mark.parametrize(("settings", "name"), NUMBERS)
def test_the_step_of_a_choice_leads_from_its_least_value_to_its_default(settings: Any, name: str) -> None:
    said = explain(settings, name)
    if said["step"] is not None:
        steps = (said["default"] - said["low"]) / said["step"]
        assert steps == pytest.approx(round(steps))
        assert said["step"] < said["high"] - said["low"]
