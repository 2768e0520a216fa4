from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_resunet.errors import CheckpointError
from napari_resunet.inference import ready
from napari_resunet.inference.ready import ready_network
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import Model, save_model
from napari_resunet.model.device import Device
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet

CPU = Device("cpu", "float32", "this CPU")
SETTINGS = NetworkSettings(units=(1, 1), width=4)
CARD = ModelCard("tiny", "1", "custom", SETTINGS, 32, (-1000.0, 400.0))


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    ready._from_file.cache_clear()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(ResUNet(SETTINGS), CARD, path)
    return path


def test_a_second_run_does_not_read_the_weights_again(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ready_network(saved, CPU)
    monkeypatch.chdir(saved.parent)
    monkeypatch.setattr(Path, "read_bytes", lambda _path: pytest.fail("the weights were read"))
    assert ready_network(saved, CPU) is first
    assert ready_network("tiny.safetensors", CPU) is first


@pytest.mark.parametrize("keeps", ["the time", "the name"])
def test_weights_that_were_written_anew_are_read_again(saved: Path, tmp_path: Path, keeps: str) -> None:
    first, times = ready_network(saved, CPU), saved.stat()
    if keeps == "the time":  # as a copy that preserves times, put in its place
        other = tmp_path / "other"
        save_model(ResUNet(SETTINGS), CARD, other)
        os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
        other.replace(saved)
    else:
        save_model(ResUNet(SETTINGS), CARD, saved)
        os.utime(saved, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    again = ready_network(saved, CPU)
    assert again.card.sha256 != first.card.sha256
    assert again is not first


def test_weights_that_are_gone_or_damaged_since_are_refused(saved: Path) -> None:
    ready_network(saved, CPU)
    content = saved.read_bytes()
    saved.write_bytes(content[:-4] + b"\x00\x00\x00\x40")
    with pytest.raises(CheckpointError, match="damaged"):
        ready_network(saved, CPU)
    saved.unlink()
    with pytest.raises(CheckpointError, match=r"tiny.safetensors does not exist; check the path"):
        ready_network(saved, CPU)


def test_another_device_or_precision_gets_a_network_of_its_own(saved: Path) -> None:
    plain, half = ready_network(saved, CPU), ready_network(saved, replace(CPU, precision="bfloat16"))
    assert torch.bfloat16 not in {weights.dtype for weights in plain.network.parameters()}
    assert torch.bfloat16 in {weights.dtype for weights in half.network.parameters()}


def test_a_model_that_is_given_loaded_is_made_ready_as_it_is_now() -> None:
    model = Model(ResUNet(SETTINGS).eval(), CARD)
    image = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        before = ready_network(model, CPU).network(image)
        model.network.head[-1].bias += 1  # type: ignore[operator, union-attr]
        torch.testing.assert_close(ready_network(model, CPU).network(image), before + 1)


def test_a_model_that_goes_to_a_gpu_is_a_copy() -> None:
    model = Model(ResUNet(SETTINGS).eval(), CARD)
    on_meta = ready_network(model, Device("meta", "float32", "nowhere"))
    assert next(on_meta.network.parameters()).device.type == "meta"
    assert next(model.network.parameters()).device.type == "cpu"
