"""Weights that were trained elsewhere: which become a model with the same answers, and which are refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from napari_resunet import cli
from napari_resunet.errors import CheckpointError, InputError, OutputError
from napari_resunet.inference.predict import predict
from napari_resunet.model import convert, foreign, foreign_child
from napari_resunet.model.checkpoint import Model, load_model, save_model
from napari_resunet.model.convert import told_from
from napari_resunet.model.foreign import read_foreign
from napari_resunet.model.presets import PRESETS
from napari_resunet.model.resunet import ResUNet
from napari_resunet.phantom import Phantom
from napari_resunet.workflows import convert_weights

TOLD = {
    "window_hu": [-1000, 400],
    "grid": 32,
    "threshold": 0.4,
    "definition": "air-filled lung",
    "training_data": "unknown",
    "licence": "CC BY 4.0",
}
Tensors = dict[str, Tensor]


def network(preset: str = "identity", width: int = 4) -> ResUNet:
    """A network no two tensors of which are alike, as after a training."""
    made = ResUNet(dataclasses.replace(PRESETS[preset], width=width))
    generator = torch.Generator().manual_seed(0)
    for tensor in made.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=generator))
        else:
            tensor.fill_(7)
    return made.eval()


def state(preset: str = "identity") -> Tensors:
    return dict(network(preset).state_dict())


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "lungs.safetensors"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files in this process, which is faster, where its limits do not matter."""
    monkeypatch.setattr(convert, "read_foreign", foreign_child.state_dict_in)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_converted_model_gives_the_answers_of_the_state_dict_to_the_bit(
    preset: str, in_process: None, tmp_path: Path, output: Path
) -> None:
    trained = network(preset)
    torch.save(trained.state_dict(), tmp_path / "a.pt")
    convert_weights(tmp_path / "a.pt", output, TOLD)
    image = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_model(output).network(image), trained(image))


def test_a_converted_model_gives_the_probability_map_of_the_state_dict_to_the_byte(
    chest: Phantom, tmp_path: Path, output: Path
) -> None:
    trained = load_model("lung-ct")
    torch.save(trained.network.state_dict(), tmp_path / "a.pt")
    convert_weights(tmp_path / "a.pt", output, {**TOLD, "grid": 128})
    found, expected = (
        predict(chest.volume, model=model, device="cpu", slices=(8, 12)).array for model in (output, trained)
    )
    assert np.array_equal(found, expected)
    assert len(np.unique(found)) > 100


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("width", [4, 6, 32])
def test_preset_and_width_are_found_from_names_and_shapes(
    preset: str, width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(convert, "read_foreign", lambda _path: network(preset, width).state_dict())
    (tmp_path / "a.pt").touch()
    card = convert.convert(tmp_path / "a.pt", told_from({**TOLD, "name": "a"})).card
    assert (card.preset, card.network) == (preset, dataclasses.replace(PRESETS[preset], width=width))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"state_dict": tensors, "epoch": 3, "model": "a name"},
        lambda tensors: {"model": tensors, "loss": [0.5]},
        lambda tensors: {"module." + name: tensor for name, tensor in tensors.items()},
        lambda tensors: {
            "state_dict": {"_orig_mod.module." + name: tensor for name, tensor in tensors.items()}
        },
        lambda tensors: {name: nn.Parameter(tensor, requires_grad=False) for name, tensor in tensors.items()},
    ],
    ids=["state_dict", "model", "module.", "both", "parameters"],
)
def test_wrappers_are_taken_off(
    wrap: Callable[[Tensors], Any], in_process: None, tmp_path: Path, output: Path
) -> None:
    tensors = state()
    torch.save(wrap(tensors), tmp_path / "a.pth")
    convert_weights(tmp_path / "a.pth", output, TOLD)
    found = load_model(output).network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_the_old_format_of_torch_and_bare_safetensors_are_read_too(tmp_path: Path) -> None:
    tensors = state()
    torch.save(tensors, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(tensors, tmp_path / "bare.safetensors")
    for name in ("old.pt", "bare.safetensors"):
        found = read_foreign(tmp_path / name)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_become_float32_as_the_network_itself_takes_them(
    kind: torch.dtype, in_process: None, tmp_path: Path, output: Path
) -> None:
    tensors = {name: t.to(kind) if t.is_floating_point() else t for name, t in state().items()}
    torch.save(tensors, tmp_path / "a.pt")
    convert_weights(tmp_path / "a.pt", output, TOLD)
    expected = network()
    expected.load_state_dict(tensors)
    found = load_model(output).network.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.state_dict().items())


def test_the_card_says_what_was_told_what_was_found_and_what_is_unknown(
    in_process: None, tmp_path: Path, output: Path
) -> None:
    torch.save(state(), tmp_path / "a.pt")
    convert_weights(tmp_path / "a.pt", output, TOLD)
    card = json.loads(load_model(output).card.to_json())
    content = (tmp_path / "a.pt").read_bytes()
    assert card.pop("network") == {
        **dataclasses.asdict(PRESETS["identity"]),
        "width": 4,
        "units": [3, 4, 6, 3],
    }
    assert len(card.pop("sha256")) == 64
    assert card == {
        "format": 1,
        "name": "lungs",
        "version": "1",
        "preset": "identity",
        "grid": 32,
        "window_hu": [-1000, 400],
        "classes": ["lung"],
        "training_data": "unknown",
        "known_failures": "",
        "definition": "air-filled lung",
        "licence": "CC BY 4.0",
        "figures": {"measured quality": "unknown"},
        "recipe": {
            "trained": "elsewhere, how is unknown; converted by napari-resunet",
            "sha256 of the file converted": hashlib.sha256(content).hexdigest(),
            "threshold": 0.4,
        },
        "use": "For research use only; not a medical device.",
    }


def test_all_that_is_missing_of_what_has_to_be_told_is_named() -> None:
    match = "their window_hu, grid, threshold, definition, training_data, licence: say it"
    with pytest.raises(InputError, match=match):
        told_from({"name": "a"})


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("window_hu", [400, -1000], "window_hu must be two rising numbers"),
        ("window_hu", [-1000, float("inf")], "window_hu must be two rising numbers"),
        ("window_hu", "ab", "window_hu must be two rising numbers"),
        ("window_hu", 400, "window_hu must be two rising numbers"),
        ("grid", 100, "grid must be a multiple of 16, found 100"),
        ("grid", 0, "grid must be a multiple of 16"),
        ("grid", "128", "grid must be a multiple of 16, found '128'"),
        ("threshold", 1, "threshold must lie between 0 and 1"),
        ("threshold", float("nan"), "threshold must lie between 0 and 1"),
        ("threshold", True, "threshold must lie between 0 and 1"),
        ("definition", " ", "definition must be words"),
        ("licence", None, 'licence must be words, found None; "unknown" says that nobody knows'),
        ("figures", [0.99], "figures must be a JSON object"),
        ("sha256", "0" * 64, "a card for foreign weights has no sha256; it has definition, figures, grid"),
    ],
)
def test_what_is_told_wrongly_is_refused_by_name(field: str, value: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        told_from({**TOLD, "name": "a", field: value})


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "write",
    [
        torch.save,
        lambda evil, path: torch.save({"state_dict": {"head.2.bias": evil}}, path),
        lambda evil, path: torch.save(evil, path, _use_new_zipfile_serialization=False),
        lambda evil, path: path.write_bytes(pickle.dumps(evil)),
    ],
    ids=["zip", "wrapped", "old", "pickle"],
)
def test_code_in_a_checkpoint_does_not_run(write: Callable[..., Any], tmp_path: Path, output: Path) -> None:
    ran = tmp_path / "ran"
    write(Evil(ran), tmp_path / "evil.pt")
    pickle.loads(pickle.dumps(Evil(ran)))
    ran.rmdir()  # it would have run
    with pytest.raises(
        CheckpointError, match=r"evil\.pt holds more than tensors and plain values.*was not run"
    ):
        convert_weights(tmp_path / "evil.pt", output, TOLD)
    assert not ran.exists()
    assert not list(output.parent.iterdir())


def declaring(tensors: Any, numel: int, path: Path) -> None:
    """Write a checkpoint whose storages of 100,000 numbers are said to have `numel`."""
    torch.save(tensors, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    said = b"\x8a\x06" + numel.to_bytes(6, "little")  # LONG1 for BININT
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content.replace(b"J" + (100_000).to_bytes(4, "little"), said))


def hollow(path: Path) -> None:
    torch.save({"head.2.bias": torch.zeros(1).expand(10**12)}, path)


def shared(path: Path) -> None:
    one = torch.zeros(1000)
    torch.save({f"tensor {i}": one[:] for i in range(1000)}, path)


def without_storage(path: Path) -> None:
    torch.save({"head.2.bias": torch.empty(10**12, device="meta")}, path)


def sparse(path: Path) -> None:
    zero = torch.zeros(1, 1, dtype=torch.long)
    torch.save(
        {"head.2.bias": torch.sparse_coo_tensor(zero, torch.ones(1), (10**12,), check_invariants=True)}, path
    )


def lying_safetensors(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(100))


def truncated(path: Path) -> None:
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:-1])


def truncated_old(path: Path) -> None:
    torch.save(state(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:-1])


def truncated_safetensors(path: Path) -> None:
    safetensors.torch.save_file(state(), path)
    path.write_bytes(path.read_bytes()[:-1])


def torchscript(path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):  # newer versions of torch advise against it
        torch.jit.save(torch.jit.trace(nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2)), path)


def keras_3(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")


def with_a_card(path: Path) -> None:
    made = load_model("lung-ct")
    save_model(made.network, made.card, path)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize(
    ("write", "match"),
    [
        (hollow, "declares tensors of 4,000,000,000,000 bytes and holds 4; save it again"),
        (shared, "declares tensors of 4,000,000 bytes and holds 4,000"),
        (without_storage, "is no state dict of plain tensors: head.2.bias"),
        (sparse, "is no state dict of plain tensors: head.2.bias"),
        (lambda path: declaring({"a": torch.zeros(100_000)}, 10**12, path), "is truncated or damaged"),
        (lying_safetensors, "is not a whole safetensors file"),
        (truncated, "is truncated or damaged"),
        (truncated_old, "is truncated or damaged"),
        (truncated_safetensors, "is not a whole safetensors file"),
        (lambda path: path.write_text("<html>Please sign in</html>"), "it starts with “<html>Please sign"),
        (lambda path: path.write_bytes(b""), "neither a PyTorch checkpoint nor safetensors; download"),
        (torchscript, "is a TorchScript program, which cannot be converted"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is a Keras or other HDF5 file"),
        (keras_3, "is a Keras model, which cannot be converted"),
        (lambda path: torch.save(nn.Linear(2, 2), path), r"\(torch.nn.modules.linear.Linear\)"),
        (lambda path: torch.save([torch.zeros(2)], path), "holds a list and no state dict"),
        (lambda path: torch.save({}, path), "holds an empty dict and no state dict"),
        (
            lambda path: torch.save({"epoch": 3, "net": {}}, path),
            "no state dict of plain tensors: epoch, net",
        ),
        (lambda path: torch.save({0: torch.zeros(2)}, path), "no state dict of plain tensors: 0;"),
        (
            lambda path: torch.save({"a\n\x1b[2J" + "b" * 99: torch.zeros(2)}, path),
            r"tensors: a\?\?\[2Jb{74};",
        ),
        (lambda path: torch.save({"a": torch.zeros(2) * 1j}, path), "no state dict of plain tensors: a;"),
        (lambda path: torch.save({"model": {}, "state_dict": {}}, path), "holds state_dict and model"),
        (with_a_card, "has a model card already; use it as it is"),
    ],
)
def test_a_file_that_is_no_state_dict_is_refused_for_what_it_is(
    write: Callable[[Path], Any], match: str, tmp_path: Path
) -> None:
    path = tmp_path / "lungs.pt"
    write(path)
    with pytest.raises(CheckpointError, match=rf"^lungs\.pt .*{match}") as said:
        foreign_child.state_dict_in(path)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("write", [hollow, truncated, keras_3])
def test_a_refusal_comes_out_of_the_process_and_leaves_the_older_model(
    write: Callable[[Path], Any], tmp_path: Path, output: Path
) -> None:
    write(tmp_path / "a.pt")
    output.write_bytes(b"the older model")
    with pytest.raises(CheckpointError, match=r"^a\.pt "):
        convert_weights(tmp_path / "a.pt", output, TOLD)
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert output.read_bytes() == b"the older model"


def test_a_file_that_is_not_there_or_is_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "SECONDS", 5)
    os.mkfifo(tmp_path / "pipe.pt")  # reading one would block for ever
    for name in ("none.pt", "pipe.pt", "."):
        with pytest.raises(CheckpointError, match="there is no file"):
            read_foreign(tmp_path / name)


def unpacking_to(size: int, path: Path) -> None:
    """Write a small checkpoint of zeros that unpack to `size` bytes."""
    declaring({"a": torch.zeros(100_000)}, size // 4, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/data/0")}
        (name,) = (name for name in archive.namelist() if name.endswith("/data/0"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for each, content in entries.items():
            archive.writestr(each, content)
        with archive.open(name, "w") as data:
            for _ in range(size >> 20):
                data.write(bytes(1 << 20))


def test_a_small_file_that_unpacks_to_more_than_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.pt"
    unpacking_to(512 << 20, path)
    assert path.stat().st_size < 3 << 20
    assert foreign_child.state_dict_in(path)["a"].nbytes == 512 << 20  # that it would be unpacked
    monkeypatch.setattr(foreign, "MEMORY_BYTES", 400 << 20)
    monkeypatch.setattr(
        foreign, "_used_bytes", lambda _process: 0
    )  # the system's own limit, not our look at it
    with pytest.raises(CheckpointError, match=r"bomb\.pt takes more memory to read than weights of its size"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            r"ended the program that reads it \(code -9\)",
        ),
        ("raise SystemExit(7)", r"ended the program that reads it \(code 7\)"),
        ("print(end='no answer')", r"ended the program that reads it \(code 0\)"),
        ("import time; time.sleep(60)", "is not read after 1 s"),
        (
            "import time; x = bytearray(300 << 20); time.sleep(60)",
            "takes more than 0.2 GiB of memory to read",
        ),
    ],
)
def test_a_process_that_dies_hangs_or_swells_costs_its_file_only(
    program: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "_COMMAND", (sys.executable, "-c", program))
    monkeypatch.setattr(foreign, "SECONDS", 1 if "after 1 s" in match else 60)
    monkeypatch.setattr(foreign, "MEMORY_BYTES", 200 << 20)
    (tmp_path / "a.pt").write_bytes(b"weights")
    with pytest.raises(CheckpointError, match=rf"a\.pt {match}"):
        read_foreign(tmp_path / "a.pt")


def change(name: str, value: Tensor | None) -> Callable[[Tensors], Any]:
    def changed(tensors: Tensors) -> None:
        tensors.pop(name, None)
        if value is not None:
            tensors[name] = value

    return changed


@pytest.mark.parametrize(
    ("plant", "match"),
    [
        (change("head.2.bias", None), "1 tensors differ: head.2.bias is missing"),
        (change("extra", torch.zeros(1)), "1 tensors differ: extra is not part of the network"),
        (change("head.2.bias", torch.zeros(2)), r"head.2.bias is \(2,\), expected \(1,\)"),
        (change("head.2.bias", torch.tensor([float("nan")])), "head.2.bias holds values that are not finite"),
        (change("head.2.bias", torch.tensor([1e300], dtype=torch.float64)), "values that are not finite"),
        (change("head.2.bias", torch.tensor([3])), "head.2.bias holds int64, expected float32"),
        (change("stem.1.weight", None), "nearest is identity with 32 filters"),
        (change("stem.1.weight", torch.zeros(10**4, 0, 3, 3)), "nearest is identity with 32 filters"),
    ],
)
def test_a_misfit_is_told_as_a_difference_from_the_nearest_preset(
    plant: Callable[[Tensors], Any], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = state()
    plant(tensors)
    monkeypatch.setattr(convert, "read_foreign", lambda _path: tensors)
    with pytest.raises(CheckpointError, match=match) as said:
        convert.convert(tmp_path / "a.pt", told_from({**TOLD, "name": "a"}))
    assert "fits none of the networks paper, identity, plain; nearest is identity" in str(said.value)


def test_of_another_network_the_first_five_differences_are_named(
    in_process: None, tmp_path: Path, output: Path
) -> None:
    torch.save(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3)).state_dict(), tmp_path / "a.pt")
    with pytest.raises(
        CheckpointError, match=r"nearest is plain with 32 filters, \d+ tensors differ"
    ) as said:
        convert_weights(tmp_path / "a.pt", output, TOLD)
    assert str(said.value).count(";") == 1 + 4
    assert not output.exists()


def test_a_model_that_does_not_come_back_as_written_is_refused(tmp_path: Path, output: Path) -> None:
    trained, other = network(), network()
    other.state_dict()["head.2.bias"].add_(1e-3)
    card = convert._card(Path(__file__), told_from({**TOLD, "name": "a"}), "identity", trained.settings)
    save_model(other, card, output)
    with pytest.raises(OutputError, match="does not give back the weights that were written"):
        convert.require_same(Model(trained, card), output)


def command(*arguments: object) -> int:
    return cli.run([str(a) for a in arguments], open_window=lambda: None)


def test_convert_takes_a_card_and_lets_an_option_go_before_it(
    in_process: None, tmp_path: Path, output: Path, capsys
) -> None:
    torch.save(state("plain"), tmp_path / "a.pt")
    (tmp_path / "card.json").write_text(json.dumps({**TOLD, "grid": 64, "figures": {"Dice of ours": 0.9}}))
    options = [
        "--card",
        tmp_path / "card.json",
        "--name",
        "ours",
        "--grid",
        "256",
        "--window-hu",
        "-900,300.5",
    ]
    assert command("convert", tmp_path / "a.pt", "-o", output, *options) == 0
    out, err = capsys.readouterr()
    assert out == f"{output}: plain, 4 filters, grid 256, -900 to 300.5 HU\n"
    assert f"segment CT -o MASK --model {output} --grid 256 --threshold 0.4" in err
    card = load_model(output).card
    assert (card.name, card.grid, card.window_hu) == ("ours", 256, (-900, 300.5))
    assert card.figures == {"Dice of ours": 0.9}


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        (["{pt}", "-o", "m.pt"], 3, "a model is a .safetensors file; m.pt is not named so"),
        (["{pt}", "-o", "m.safetensors"], 3, "do not hold their window_hu, grid, threshold, definition"),
        (["{pt}", "-o", "m.safetensors", "--window-hu", "400"], 2, "--window-hu needs two numbers"),
        (["{pt}", "-o", "m.safetensors", "--card", "none.json"], 3, "none.json cannot be read as JSON"),
        (["{pt}", "-o", "m.safetensors", "--card", "{list}"], 3, "must be a JSON object"),
        (["{pt}", "-o", "none/m.safetensors", "--card", "{card}"], 4, "does not exist; create it"),
        (["{bare}", "-o", "{bare}", "--card", "{card}"], 4, "is what is to be converted"),
        (["none.pt", "-o", "m.safetensors", "--card", "{card}"], 3, "there is no file none.pt"),
    ],
)
def test_convert_refuses_in_one_line(
    arguments: list[str], code: int, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.zeros(1)}, "a.pt")
    safetensors.torch.save_file({"a": torch.zeros(1)}, "bare.safetensors")
    Path("card.json").write_text(json.dumps(TOLD))
    Path("list.json").write_text("[]")
    files = {"pt": "a.pt", "bare": "bare.safetensors", "card": "card.json", "list": "list.json"}
    assert command("convert", *(argument.format(**files) for argument in arguments)) == code
    err = capsys.readouterr().err
    assert match in " ".join(err.replace("│", " ").split())
    assert code == 2 or err.count("\n") == 1
    assert not Path("m.safetensors").exists()
