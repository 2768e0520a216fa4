from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from napari_resunet.errors import CheckpointError
from napari_resunet.inference.postprocess import to_mask
from napari_resunet.inference.predict import predict
from napari_resunet.io.files import write_mask
from napari_resunet.model import checkpoint
from napari_resunet.model.card import ModelCard, read_card
from napari_resunet.model.checkpoint import load_model, load_state, save_model
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet
from napari_resunet.phantom import Phantom

SETTINGS = NetworkSettings(units=(1, 1, 1, 1), width=4)
CARD = ModelCard("tiny", "1", "custom", SETTINGS, 32, (-1000.0, 400.0))
Tensors = dict[str, Tensor]


def network(seed: int = 0) -> ResUNet:
    torch.manual_seed(seed)
    return ResUNet(SETTINGS).eval()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(network(), CARD, path)
    return path


def resave(path: Path, change: Callable[[Tensors], Tensors | None], card: ModelCard = CARD) -> None:
    """Write the file anew with other tensors and a checksum that fits them: the faults are those of its maker."""
    tensors = safetensors.torch.load_file(path)
    tensors = change(tensors) or tensors
    rest = safetensors.torch.save(tensors)
    checksum = hashlib.sha256(rest[8 + int.from_bytes(rest[:8], "little") :]).hexdigest()
    made = dataclasses.replace(card, sha256=checksum)
    path.write_bytes(safetensors.torch.save(tensors, metadata={"card": made.to_json()}))


def refused(path: Path, match: str) -> str:
    with pytest.raises(CheckpointError, match=match) as said:
        load_model(path)
    return str(said.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["head.2.bias", "stem.0.running_var"])
def test_f21_weights_that_are_not_finite_are_refused_when_loaded(
    weights: Path, name: str, value: float, outcome
) -> None:
    def plant(tensors: Tensors) -> None:
        tensors[name].view(-1)[0] = value

    resave(weights, plant)
    outcome("REFUSE", refused(weights, f"{name} holds values that are not finite"))


def test_f22_of_another_network_the_first_five_misfits_are_named(weights: Path, outcome) -> None:
    other = dataclasses.replace(CARD, network=dataclasses.replace(SETTINGS, width=8))
    resave(weights, lambda _tensors: None, other)
    said = refused(weights, r"does not fit the network of its card, \d+ tensors differ")
    assert said.count("expected") == 5
    outcome("REFUSE", said)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module."])
def test_f23_the_prefix_of_a_wrapper_is_taken_off(weights: Path, prefix: str, outcome) -> None:
    resave(weights, lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()})
    found, expected = load_model(weights).network.state_dict(), network().state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    outcome("OK", "nothing")


def test_f23_a_prefix_that_only_some_names_have_is_left_on_them(weights: Path, outcome) -> None:
    def plant(tensors: Tensors) -> None:
        tensors["module.head.2.bias"] = tensors.pop("head.2.bias")

    resave(weights, plant)
    match = r"2 tensors differ: head\.2\.bias is missing; module\.head\.2\.bias is not part"
    outcome("REFUSE", refused(weights, match))


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["evil.pt", "evil.pth", "evil.safetensors"])
@pytest.mark.parametrize("write", [torch.save, lambda evil, path: path.write_bytes(pickle.dumps(evil))])
def test_f24_code_in_a_checkpoint_is_not_run(
    tmp_path: Path, name: str, write: Callable[..., Any], outcome
) -> None:
    ran = tmp_path / "ran"
    pickle.loads(pickle.dumps(Evil(ran)))
    ran.rmdir()  # it would have run
    write(Evil(ran), tmp_path / name)
    said = refused(
        tmp_path / name, f"{name} is a .*, which may hold code and is never opened; save its weights"
    )
    with pytest.raises(CheckpointError):
        read_card(tmp_path / name)
    with pytest.raises(CheckpointError):
        load_state(tmp_path / name)
    assert not ran.exists()
    outcome("REFUSE", said)


def test_f25_a_training_state_that_declares_a_million_million_values_is_refused(
    tmp_path: Path, outcome
) -> None:
    path = tmp_path / "state.pt"
    torch.save({"network": {"a": torch.zeros(1).expand(10**12)}, "curve": []}, path)
    assert path.stat().st_size < 3000
    with pytest.raises(CheckpointError, match="declares tensors larger than what it holds") as said:
        load_state(path)
    outcome("REFUSE", str(said.value).replace(str(tmp_path), "…"))


def test_f25_weights_that_declare_more_than_the_file_holds_are_refused(weights: Path, outcome) -> None:
    content = weights.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["head.2.bias"] = {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}
    text = json.dumps(header).encode()
    weights.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    outcome("REFUSE", refused(weights, "is not a whole safetensors file"))


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 2_000_000},  # 10**14 weights
        {"width": 10**15},  # more than 64 bits can count
        {"units": (10**9, 1, 1, 1)},
        {"stem": 10**9},
        {"units": (1,) * 60},
    ],
    ids=str,
)
def test_f25_no_room_is_made_for_a_network_that_a_card_merely_describes(
    weights: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    huge = dataclasses.replace(SETTINGS, **settings)
    grid = min(huge.multiple, 2**62)
    resave(weights, lambda _tensors: None, dataclasses.replace(CARD, network=huge, grid=grid))

    def without_values(settings: NetworkSettings) -> ResUNet:
        assert torch.empty(0).device.type == "meta"
        return ResUNet(settings)

    monkeypatch.setattr(checkpoint, "ResUNet", without_values)
    match = "tensors differ|describes a network of more than 1000 units|describes no network"
    outcome("REFUSE", refused(weights, match))


@pytest.mark.parametrize("length", [0, 7, 500, -1])
def test_f26_a_checkpoint_that_was_cut_short_is_refused(weights: Path, length: int, outcome) -> None:
    weights.write_bytes(weights.read_bytes()[:length])
    outcome("REFUSE", refused(weights, "is not a whole safetensors file"))


def test_f26_the_sign_in_page_of_a_proxy_is_refused_with_what_it_is(tmp_path: Path, outcome) -> None:
    path = tmp_path / "lungs.pth"
    path.write_text("<html><body>Please sign in</body></html>")
    outcome("REFUSE", refused(path, r"it starts with “<html><body>Please sign"))


def test_f27_weights_that_changed_on_the_way_are_refused(weights: Path, outcome) -> None:
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    outcome("REFUSE", refused(weights, "are damaged: their checksum is not the model card's"))


OFFLINE = """
import socket, sys
from pathlib import Path
def refuse(*arguments, **options):
    raise SystemExit("something was to be fetched")
socket.socket.connect = socket.socket.connect_ex = socket.socket.sendto = refuse  # urllib3 binds one when imported
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
if sys.argv[2] == "plant":
    import urllib.request
    urllib.request.urlopen("http://127.0.0.1:9")
from napari_resunet import workflows
from napari_resunet.settings import PredictSettings
folder = Path(sys.argv[1])
workflows.segment(folder / "ct.nii.gz", folder / "lungs.nii.gz", predict_settings=PredictSettings(device="cpu"),
                  picture=folder / "lungs.png", probability=folder / "p.nii.gz")
print("done")
"""


@pytest.mark.parametrize("plant", ["", "plant"])
def test_f27_nothing_is_ever_fetched_from_anywhere(
    plant: str, chest: Phantom, tmp_path: Path, outcome
) -> None:
    volume = chest.volume
    affine = np.diag([-3.8, -3.8, 11.0, 1.0])
    nib.Nifti1Image(volume.array.T, affine).to_filename(tmp_path / "ct.nii.gz")
    command = [sys.executable, "-W", "ignore", "-c", OFFLINE, str(tmp_path), plant]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if plant:  # that the trap catches
        assert "something was to be fetched" in done.stderr
        return
    assert done.stdout == "done\n", done.stderr
    outcome("OK", "nothing: no connection is made from the reading of the CT to the last file written")


def test_f28_the_weights_that_ran_are_told_and_not_those_on_the_disk(
    weights: Path, chest: Phantom, tmp_path: Path, outcome
) -> None:
    before = read_card(weights)
    save_model(network(1), CARD, weights)  # between the look at the card and the run
    model = load_model(weights)
    save_model(network(2), CARD, weights)  # and once more
    prob = predict(chest.volume, model=model, device="cpu", grid=32, slices=(8, 10))
    receipt = write_mask(to_mask(prob, clean=False), tmp_path / "lungs.nii.gz")
    told = json.loads(receipt.sidecar.read_text())["history"]["run"]["model_sha256"]
    assert told == save_model(network(1), CARD, tmp_path / "same.safetensors").sha256
    assert told not in (before.sha256, read_card(weights).sha256)
    outcome("OK", f"model_sha256 {told[:12]}… in the sidecar, of the bytes that were loaded")


def keras(path: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2048))  # what every HDF5 file starts with


def keras_3(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"")


def torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)), path)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("name", "write", "kind"),
    [
        ("lungs.h5", keras, "a Keras or other HDF5 file"),
        ("lungs.keras", keras_3, "a Keras model"),
        ("lungs.pt", torchscript, "a TorchScript program"),
    ],
)
def test_f29_a_format_that_holds_code_is_refused_and_the_way_is_shown(
    tmp_path: Path, name: str, write: Callable[[Path], None], kind: str, outcome
) -> None:
    write(tmp_path / name)
    match = f"{name} is {kind}, which may hold code and is never opened; save its weights as safetensors"
    outcome("REFUSE", refused(tmp_path / name, match))
