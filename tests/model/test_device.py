from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from napari_resunet.errors import DeviceError
from napari_resunet.model import device as device_module
from napari_resunet.model.device import Device, choose_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretends to be a machine with these."""

    def pretend(*, cuda: bool = False, bf16: bool = True, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda *, including_emulation: bf16 or including_emulation
        )
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU of a friend")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(device_module, "_apart_from_cpu", lambda _device: 0.0)

    return pretend


@pytest.mark.parametrize("name", ["gpu", "", "CPU", "cuda:1"])
def test_an_unknown_device_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(DeviceError, match=f"there is no device '{name}': choose auto, cuda, mps or cpu"):
        choose_device(name)


@pytest.mark.parametrize(("name", "reason"), [("cuda", "no CUDA GPU"), ("mps", r"no Apple GPU \(MPS\)")])
def test_a_device_that_is_not_there_is_never_replaced_silently(machine: Any, name: str, reason: str) -> None:
    machine()
    with pytest.raises(DeviceError, match=f"torch finds {reason}; choose auto or cpu"):
        choose_device(name)


def test_auto_takes_the_cpu_of_a_machine_that_has_nothing_else() -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    assert choose_device().name == "cpu"
    assert choose_device("auto") == choose_device("cpu")


def test_auto_takes_cuda_before_mps_before_the_cpu(machine: Any) -> None:
    machine(cuda=True, mps=True)
    assert choose_device().name == "cuda"
    machine(mps=True)
    assert choose_device().name == "mps"
    machine()
    assert choose_device().name == "cpu"


def test_the_cpu_can_be_asked_for_where_there_is_a_gpu(machine: Any) -> None:
    machine(cuda=True, mps=True)
    assert choose_device("cpu").name == "cpu"
    assert choose_device("mps").name == "mps"


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bfloat16"), (False, "float16")])
def test_cuda_computes_in_bfloat16_where_it_can(machine: Any, bf16: bool, precision: str) -> None:
    machine(cuda=True, bf16=bf16)
    assert choose_device() == Device("cuda", precision, "GPU of a friend")


def test_mps_computes_in_float32(machine: Any) -> None:
    machine(mps=True)
    assert choose_device() == Device("mps", "float32", "Apple GPU")


@pytest.mark.parametrize(("avx", "amx"), [(True, False), (False, True), (False, False)])
def test_the_cpu_computes_in_bfloat16_only_where_it_has_the_instructions(
    monkeypatch: pytest.MonkeyPatch, avx: bool, amx: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert choose_device("cpu").precision == ("bfloat16" if avx or amx else "float32")


def test_a_torch_that_cannot_say_what_the_cpu_has_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert device_module.choose_device("cpu").precision == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_convolutions_run_in_the_precision_of_the_device(precision: str) -> None:
    device = Device("cpu", precision, "a CPU")
    assert device.torch == torch.device("cpu")
    with torch.inference_mode(), device.autocast():
        assert nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 4, 4)).dtype == getattr(torch, precision)
