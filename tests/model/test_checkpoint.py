from __future__ import annotations

import dataclasses
import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from napari_resunet.errors import CheckpointError
from napari_resunet.model.card import ModelCard, builtin_models, read_card
from napari_resunet.model.checkpoint import load_model, load_state, save_model, save_state
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet

SETTINGS = NetworkSettings(units=(1, 1, 1, 1), width=4)
CARD = ModelCard("tiny", "1", "custom", SETTINGS, 32, (-1000.0, 400.0))


@pytest.fixture
def network() -> ResUNet:
    torch.manual_seed(0)
    return ResUNet(SETTINGS).eval()


@pytest.fixture
def saved(network: ResUNet, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(network, CARD, path)
    return path


def resave(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Write the file anew with other tensors and a checksum that fits them."""
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    rest = safetensors.torch.save(tensors)
    header = int.from_bytes(rest[:8], "little")
    checksum = hashlib.sha256(rest[8 + header :]).hexdigest()
    card = dataclasses.replace(CARD, sha256=checksum)
    path.write_bytes(safetensors.torch.save(tensors, metadata={"card": card.to_json()}))


def test_a_model_comes_back_with_the_same_answers_and_its_card(network: ResUNet, saved: Path) -> None:
    image = torch.rand(2, 1, 32, 32)
    loaded = load_model(saved)
    with torch.inference_mode():
        assert torch.equal(loaded.network(image), network(image))
    assert loaded.card == dataclasses.replace(CARD, sha256=loaded.card.sha256) == read_card(saved)
    assert len(loaded.card.sha256) == 64
    assert not loaded.network.training


def test_the_card_that_save_returns_is_the_one_in_the_file(network: ResUNet, tmp_path: Path) -> None:
    card = save_model(network, CARD, tmp_path / "a.safetensors")
    assert read_card(tmp_path / "a.safetensors") == card


def test_the_checksum_is_that_of_the_weights_and_not_of_the_words(network: ResUNet, tmp_path: Path) -> None:
    renamed = dataclasses.replace(CARD, name="other", licence="CC0")
    first = save_model(network, CARD, tmp_path / "a.safetensors")
    second = save_model(network, renamed, tmp_path / "b.safetensors")
    assert first.sha256 == second.sha256


def test_half_rounds_the_convolutions_and_leaves_the_batch_norms(network: ResUNet, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_model(network, CARD, path, half=True)
    for name, tensor in safetensors.torch.load_file(path).items():
        if tensor.is_floating_point():
            assert tensor.dtype == (torch.float16 if tensor.ndim == 4 else torch.float32), name
    loaded = load_model(path).network.state_dict()
    for name, tensor in network.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        expected = tensor.half().float() if tensor.ndim == 4 else tensor
        assert torch.equal(loaded[name], expected), name


def test_half_halves_the_file(tmp_path: Path) -> None:
    settings = NetworkSettings(units=(1, 1, 1, 1), width=32)
    card = dataclasses.replace(CARD, network=settings)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    network = ResUNet(settings)
    save_model(network, card, whole)
    save_model(network, card, half, half=True)
    convolutions = sum(2 * p.numel() for p in network.parameters() if p.ndim == 4)
    saved_bytes = whole.stat().st_size - half.stat().st_size
    # headers name dtypes of one length and offsets of about the same
    assert abs(saved_bytes - convolutions) < 1024
    assert half.stat().st_size < 0.52 * whole.stat().st_size


@pytest.mark.parametrize("place", [0.01, 0.5, 0.999])
def test_one_damaged_bit_in_the_weights_is_found(saved: Path, place: float) -> None:
    content = bytearray(saved.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    content[begin + int(place * (len(content) - begin))] ^= 1
    saved.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"the weights in tiny.safetensors are damaged: their checksum"):
        load_model(saved)


@pytest.mark.parametrize("length", [0, 4, 200, -1])
def test_a_file_that_was_cut_short_is_refused(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"tiny.safetensors is not a whole safetensors file"):
        load_model(saved)


def test_a_web_page_named_as_weights_is_refused_with_what_it_starts_with(tmp_path: Path) -> None:
    path = tmp_path / "page.safetensors"
    path.write_text("<!DOCTYPE html><title>404</title>" * 10)
    with pytest.raises(CheckpointError, match=r"it starts with “<!DOCTYPE html>"):
        load_model(path)


def test_a_missing_tensor_is_named(saved: Path) -> None:
    resave(saved, lambda tensors: tensors.pop("head.2.bias"))  # type: ignore[arg-type, return-value]
    with pytest.raises(CheckpointError, match=r"1 tensors differ: head.2.bias is missing"):
        load_model(saved)


def test_an_extra_tensor_is_named(saved: Path) -> None:
    resave(saved, lambda tensors: tensors.update(extra=torch.zeros(1)))
    with pytest.raises(CheckpointError, match="extra is not part of the network"):
        load_model(saved)


def test_a_tensor_of_another_shape_is_named_with_both_shapes(saved: Path) -> None:
    resave(saved, lambda tensors: tensors.update({"head.2.bias": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=r"head.2.bias is \(2,\), expected \(1,\)"):
        load_model(saved)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(saved: Path, value: float) -> None:
    resave(saved, lambda tensors: tensors["head.2.bias"].fill_(value))  # type: ignore[arg-type, return-value]
    with pytest.raises(CheckpointError, match=r"head.2.bias holds values that are not finite"):
        load_model(saved)


def test_of_many_misfits_the_first_five_are_named_and_all_are_counted(network: ResUNet, saved: Path) -> None:
    resave(saved, lambda tensors: [tensors.pop(name) for name in list(tensors)[1:]])  # type: ignore[arg-type, return-value]
    missing = len(network.state_dict()) - 1
    with pytest.raises(CheckpointError, match=f"{missing} tensors differ") as refusal:
        load_model(saved)
    assert str(refusal.value).count("is missing") == 5


def test_weights_without_a_card_are_refused(tmp_path: Path, network: ResUNet) -> None:
    path = tmp_path / "bare.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"bare.safetensors carries no model card"):
        load_model(path)


def test_an_unknown_name_is_answered_with_the_built_in_ones() -> None:
    with pytest.raises(CheckpointError, match=", ".join(builtin_models())):
        load_model("unknown")


def test_the_built_in_model_loads_and_is_what_its_card_was_made_for() -> None:
    model = load_model("lung-ct")
    assert model.card.sha256 == read_card("lung-ct").sha256
    assert all(p.dtype == torch.float32 for p in model.network.parameters())


def test_a_training_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"step": 3, "weights": {"a": torch.arange(3.0)}, "curve": [(1, 0.5)], "settings": "{}"}
    save_state(state, tmp_path / "state.pt")
    found = load_state(tmp_path / "state.pt")
    assert torch.equal(found["weights"].pop("a"), torch.arange(3.0))
    assert found == {**state, "weights": {}}
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


@pytest.mark.parametrize(
    "hollow",
    [
        torch.empty(10, device="meta"),
        torch.zeros(1).expand(10),
        torch.sparse_coo_tensor(
            torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (10,), check_invariants=True
        ),
    ],
    ids=["meta", "expanded", "sparse"],
)
def test_a_state_of_tensors_that_hold_less_than_they_declare_is_refused(
    hollow: Tensor, tmp_path: Path
) -> None:
    save_state({"network": {"a": hollow}}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="declares tensors larger than what it holds"):
        load_state(tmp_path / "state.pt")


def test_whole_numbers_where_weights_are_expected_are_named(saved: Path) -> None:
    resave(saved, lambda tensors: tensors.update({"head.2.bias": torch.tensor([3])}))
    with pytest.raises(CheckpointError, match=r"head.2.bias holds int64, expected float32"):
        load_model(saved)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("write", [torch.save, lambda evil, path: path.write_bytes(pickle.dumps(evil))])
def test_code_in_a_state_is_refused_and_does_not_run(tmp_path: Path, write: Callable[..., Any]) -> None:
    done = tmp_path / "done"
    pickle.loads(pickle.dumps(Evil(done)))
    assert done.exists()  # it would have
    done.rmdir()
    path = tmp_path / "state.pt"
    write(Evil(done), path)
    with pytest.raises(CheckpointError, match=r"state\.pt is not the state of a training; delete it"):
        load_state(path)
    assert not done.exists()


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    save_state({"weights": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(CheckpointError, match="is not the state of a training"):
        load_state(path)
