from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from napari_resunet.errors import CheckpointError
from napari_resunet.model.card import (
    RESEARCH_ONLY,
    ModelCard,
    builtin_models,
    find_model,
    read_card,
)
from napari_resunet.model.presets import PRESETS, NetworkSettings

CARD = ModelCard(
    name="tiny",
    version="1.2",
    preset="custom",
    network=NetworkSettings(shortcut="identity", stem=1, units=(1, 1, 1, 1), width=4),
    grid=32,
    window_hu=(-1000.0, 400.0),
    training_data="two made-up chests",
    figures={"Dice": 0.5},
    definition="air in the lungs",
    recipe={"steps": 3},
    licence="CC0",
    sha256="00",
)


def with_fields(**changes: Any) -> str:
    """The card's JSON with some fields changed; None takes one out."""
    fields = {**json.loads(CARD.to_json()), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None})


def with_network(**changes: Any) -> str:
    return with_fields(network={**json.loads(CARD.to_json())["network"], **changes})


def weights_file(path: Path, metadata: dict[str, str] | None) -> Path:
    safetensors.numpy.save_file({"a": np.zeros(3, np.float32)}, path, metadata=metadata)
    return path


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_card_comes_back_from_json_as_it_was(preset: str) -> None:
    card = dataclasses.replace(CARD, preset=preset, network=PRESETS[preset])
    assert ModelCard.from_json(card.to_json()) == card


def test_a_card_for_colour_images_comes_back_from_json_as_it_was() -> None:
    network = dataclasses.replace(CARD.network, in_channels=3)
    scale = {"window_hu": None, "percentiles": (1.0, 99.5), "tile": 256}
    card = dataclasses.replace(CARD, network=network, classes=("nucleus", "stain"), **scale)
    assert ModelCard.from_json(card.to_json()) == card
    assert json.loads(card.to_json())["format"] == 2


def test_a_card_for_ct_is_written_as_it_always_was() -> None:
    # the fields of format 1, with the window and none of the scales for other images
    fields = json.loads(CARD.to_json())
    assert fields["format"] == 1
    assert not {"window", "percentiles", "tile"} & fields.keys()
    assert fields["network"].keys() == {"shortcut", "stem", "units", "width", "in_channels"}


def test_two_channels_are_no_image() -> None:
    text = with_fields(
        window_hu=None, window=[0, 1], network={**json.loads(CARD.to_json())["network"], "in_channels": 2}
    )
    with pytest.raises(CheckpointError, match="expected a network of 1 or 3 input channels, found 2"):
        ModelCard.from_json(text)


def test_a_card_says_that_it_is_for_research_only() -> None:
    assert json.loads(CARD.to_json())["use"] == RESEARCH_ONLY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "the model card cannot be read"),
        ("7", "the model card cannot be read"),
        ('["format"]', "the model card cannot be read"),
        (with_fields(format=None), "the model card cannot be read"),
        (with_fields(format=3), "the model card has format 3; this version reads formats 1 and 2"),
        (with_fields(colour="red"), "does not fit: .*'colour'"),
        (with_fields(name=None), "does not fit: .*'name'"),
        (with_fields(network=None), "does not fit: 'network'"),
        (with_fields(window_hu=[400, -1000]), r"HU window must rise, found \(400.0, -1000.0\)"),
        (with_fields(window_hu=[float("nan"), 0]), "HU window must rise"),
        (with_fields(window_hu=[1, 2, 3]), "does not fit: too many values"),
        (with_fields(classes=["lung", "lobe"]), "expected a network of one class, found lung, lobe"),
        (with_fields(grid=100), "the grid must be a multiple of 16, found 100"),
        (with_fields(grid=0), "the grid must be a multiple of 16, found 0"),
        (with_fields(grid="128"), "does not fit"),
        (with_fields(window_hu=None), "one of window_hu, window and percentiles, found none"),
        (with_fields(percentiles=[1, 99]), "one of .*, found HU window, percentiles"),
        (with_fields(window_hu=None, percentiles=[1, 101]), "percentiles lie between 0 and 100"),
        (with_fields(tile=64), "a CT is not cut into tiles"),
        (with_fields(window_hu=None, window=[255, 0]), "the model card's window must rise"),
        (with_fields(window_hu=None, window=[0, 1], classes=["a", "a"]), "each its own, found a, a"),
        (with_fields(window_hu=None, window=[0, 1], classes=[]), "must have names, each its own, found none"),
        (with_network(in_channels=3), "expected a network of 1 input channel, found 3"),
        (with_network(shortcut="dense"), "does not fit: shortcut must be one of"),
        (with_network(dropout=0.5), "does not fit: .*'dropout'"),
        (with_network(units=3), "does not fit"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        ModelCard.from_json(text)


def test_a_card_is_read_from_a_file_without_torch(tmp_path: Path) -> None:
    path = weights_file(tmp_path / "tiny.safetensors", {"card": CARD.to_json()})
    code = (
        "import sys; from napari_resunet.model.card import read_card;"
        f"print(read_card({str(path)!r}).name, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tiny", "False"]


@pytest.mark.parametrize("metadata", [None, {"author": "somebody"}])
def test_weights_of_somebody_else_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = weights_file(tmp_path / "other.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"other.safetensors carries no model card"):
        read_card(path)


def test_a_bad_card_is_refused_with_the_name_of_its_file(tmp_path: Path) -> None:
    path = weights_file(tmp_path / "old.safetensors", {"card": with_fields(format=0)})
    with pytest.raises(CheckpointError, match=r"^old.safetensors: the model card has format 0"):
        read_card(path)


def test_a_file_that_is_not_weights_is_refused_with_what_it_starts_with(tmp_path: Path) -> None:
    path = tmp_path / "page.safetensors"
    path.write_text("<!DOCTYPE html><html><body>Not found</body></html>")
    with pytest.raises(
        CheckpointError, match=r"page.safetensors is not a whole .* starts with “<!DOCTYPE html>"
    ):
        read_card(path)


def test_an_unknown_model_is_answered_with_the_names_that_are_known(tmp_path: Path) -> None:
    assert builtin_models() == sorted(builtin_models())
    with pytest.raises(CheckpointError, match="there is no model 'lungct'") as refusal:
        find_model("lungct")
    assert str(refusal.value).endswith(f"({', '.join(builtin_models())})")
    with pytest.raises(CheckpointError, match="there is no model"):
        find_model(tmp_path)  # a folder is no model
    with pytest.raises(CheckpointError, match=r"gone.safetensors does not exist; check the path, or"):
        find_model(tmp_path / "gone.safetensors")


def test_every_built_in_model_has_a_card_of_its_own_name_with_its_licence_and_data() -> None:
    assert "lung-ct" in builtin_models()
    for name in builtin_models():
        card = read_card(name)
        assert card.name == name
        assert find_model(name).name == f"{name}.safetensors"
        assert card.network == dataclasses.replace(PRESETS[card.preset], width=card.network.width)


def test_a_path_in_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_file(tmp_path / "mine.safetensors", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_model("~/mine.safetensors") == tmp_path / "mine.safetensors"
