"""One temperature makes probabilities mean what they say, and moves no mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_resunet.imaging.body import body_box
from napari_resunet.model.checkpoint import load_model, save_model
from napari_resunet.model.device import Device
from napari_resunet.model.resunet import ResUNet
from napari_resunet.settings import TrainSettings
from napari_resunet.training.calibration import best_temperature, temper, unsure_voxels
from napari_resunet.training.cases import TrainingCase
from napari_resunet.training.dataset import LabelledCase
from napari_resunet.training.loop import new_card

CPU = Device("cpu", "float32", "this CPU")


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.8])
def test_the_temperature_of_too_shy_or_too_bold_probabilities_is_found(temperature: float) -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 1.5, 200_000)
    lung = rng.random(len(true_logits)) < 1 / (1 + np.exp(-true_logits))
    said = 1 / (1 + np.exp(-true_logits * temperature))
    assert best_temperature(said, lung) == pytest.approx(temperature, abs=0.051)


def test_without_an_unsure_voxel_nothing_is_changed() -> None:
    sure = np.array([0.0, 0.01, 0.99, 1.0])
    assert best_temperature(*unsure_voxels(sure, sure > 0.5)) == 1.0


@pytest.fixture
def model(tmp_path: Path) -> Path:
    card = new_card(TrainSettings(width=4, grid=32), name="tiny")
    torch.manual_seed(0)
    path = tmp_path / "tiny.safetensors"
    save_model(ResUNet(card.network).eval(), card, path, half=True)
    return path


@pytest.fixture
def case(chest) -> LabelledCase:
    slices = chest.volume.axial[::4]
    lungs = (chest.mask.axial[::4] > 0).astype(np.uint8)
    return LabelledCase(TrainingCase("anna", "anna", Path("anna"), None), slices, lungs, body_box(slices))


def test_logits_are_divided_and_the_temperature_is_noted(model: Path, case: LabelledCase) -> None:
    image = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        before = load_model(model).network(image)
        temperature = temper(model, [case], CPU)
        after = load_model(model).network(image)
    assert temperature != 1.0
    assert load_model(model).card.recipe["temperature"] == temperature
    torch.testing.assert_close(after, before / temperature, rtol=2e-3, atol=2e-3)  # stored in float16


def test_a_model_is_tempered_once(model: Path, case: LabelledCase) -> None:
    temperature = temper(model, [case], CPU)
    written = model.read_bytes()
    assert temper(model, [case], CPU) == temperature
    assert model.read_bytes() == written
