from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from napari_resunet.errors import DeviceError, PredictionError
from napari_resunet.inference import predict as module
from napari_resunet.inference.postprocess import to_mask
from napari_resunet.inference.predict import BATCH, Prediction, predict
from napari_resunet.io.files import write_mask
from napari_resunet.model import device as devices
from napari_resunet.model.device import Device, choose_device
from napari_resunet.phantom import Phantom

Answer = npt.NDArray[np.uint8]


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is called bfloat16 be computed in float32: many a CPU takes a hundred times as long for the other."""
    make_ready = module.ready_network
    monkeypatch.setattr(
        module, "ready_network", lambda model, device: make_ready(model, replace(device, precision="float32"))
    )
    monkeypatch.setattr(Device, "autocast", lambda _device: contextlib.nullcontext())


@pytest.fixture
def gpu(in_float32: None, monkeypatch: pytest.MonkeyPatch) -> Device:
    """A machine with a GPU, as far as we can see: what is sent to it goes to the CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_options: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "GPU of a friend")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(Device, "torch", property(lambda _self: torch.device("cpu")))
    devices._apart_from_cpu.cache_clear()
    device = choose_device("cuda")
    assert device == Device("cuda", "bfloat16", "GPU of a friend")
    return device


class OutOfMemory:
    """The network on a device whose memory another program takes at times: `room(n)` slices fit at the nth call."""

    def __init__(self, room: Callable[[int], int], error: Exception) -> None:
        self.room, self.error = room, error
        self.run = module.slice_probabilities
        self.sizes: list[int] = []

    def __call__(self, network: Any, card: Any, slices: Any, **options: Any) -> Answer:
        self.sizes.append(len(slices))
        if len(slices) > self.room(len(self.sizes)):
            raise self.error
        return self.run(network, card, slices, **options)


NO_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    MemoryError("Unable to allocate 2.00 GiB for an array"),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: str(error)[:20])
def test_f17_where_memory_runs_out_the_batch_is_halved_and_the_result_is_whole(
    gpu: Device, chest: Phantom, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome
) -> None:
    device = OutOfMemory(lambda _call: 2, error)
    monkeypatch.setattr(module, "slice_probabilities", device)
    prob = predict(chest.volume, device="cuda", slices=(8, 24))
    assert device.sizes == [8, 4, *[2] * 8]
    assert prob.done.sum() == 16
    assert prob.array.any()
    note = "memory ran out on GPU of a friend: slices were run 2 at a time, not 8"
    receipt = write_mask(to_mask(prob), tmp_path / "lungs.nii.gz")
    history = json.loads(receipt.sidecar.read_text())["history"]
    assert history["run"]["device"] == "cuda"
    assert note in history["notes_on_the_ct"]
    outcome("NOTE", note)


def test_f17_where_not_one_slice_fits_the_cpu_is_offered_and_not_taken(
    gpu: Device, chest: Phantom, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    device = OutOfMemory(lambda _call: 0, NO_MEMORY[0])
    monkeypatch.setattr(module, "slice_probabilities", device)
    with pytest.raises(
        DeviceError, match="GPU of a friend has not enough memory for one slice; choose device cpu"
    ) as said:
        predict(chest.volume, device="cuda")
    assert device.sizes == [8, 4, 2, 1]
    outcome("REFUSE", said.value)


SMALL_MEMORY = """
import resource, sys
import torch
torch.set_num_threads(1)
from napari_resunet.inference.predict import Prediction
from napari_resunet.phantom import make_phantom
volume = make_phantom(shape=(16, 128, 128), spacing_mm=(20.0, 2.8, 2.8)).volume
run = Prediction(volume, device="cpu", grid=128)
run.predict((0, 1))
def used():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used() + int(sys.argv[1]) * 2**20, resource.RLIM_INFINITY))
batch = run.predict((0, 8))
print(batch.stop, batch.notes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="has no such limit")
def test_f17_real_memory_that_runs_out_is_known_as_such(outcome) -> None:
    for megabytes in (
        "80",
        "60",
        "40",
        "30",
        "20",
        "10",
    ):  # how much is free already is another thing each time
        command = [sys.executable, "-W", "ignore", "-c", SMALL_MEMORY, megabytes]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.stdout != "8 ()\n":
            break
    assert done.stdout.startswith("8 ('memory ran out on CPU, 1 threads: slices were run "), done.stderr
    outcome("NOTE", done.stdout[3:-3])


def test_f18_memory_that_is_taken_in_the_middle_leaves_what_is_finished(
    gpu: Device, chest: Phantom, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    device = OutOfMemory(lambda call: 8 if call < 3 else 3, NO_MEMORY[0])
    monkeypatch.setattr(module, "slice_probabilities", device)
    run = Prediction(chest.volume, device="cuda")
    batches = list(run.batches())
    assert device.sizes == [8, 8, 8, 4, 2, 2, 2, 2, 2, 2]  # what was done is not done again
    assert [batch.notes for batch in batches[:2]] == [(), ()]
    assert sum(batch.stop - batch.start for batch in batches) == 28
    outcome("NOTE", batches[-1].notes[-1])


FAULTS = [
    RuntimeError(
        "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might"
    ),
    NotImplementedError("The operator 'aten::conv2d' is not currently implemented for the MPS device"),
    AssertionError("Torch not compiled with CUDA enabled"),
    OSError("libcudnn.so.9: cannot open shared object file"),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault)[:20])
def test_f19_a_gpu_that_fails_its_test_gives_way_to_the_cpu_with_the_reason(
    gpu: Device, chest: Phantom, fault: Exception, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    def fail(_device: Device) -> float:
        raise fault

    monkeypatch.setattr(devices, "_apart_from_cpu", fail)
    first = str(fault).partition("\n")[0]
    note = f"the CPU was taken: GPU of a friend fails ({first}); choose cpu"
    prob = predict(chest.volume, device="auto", slices=(8, 10))
    assert prob.run.device == "cpu"
    assert prob.notes[-1] == note
    with pytest.raises(DeviceError, match="GPU of a friend fails"):  # by name, it is never replaced
        choose_device("cuda")
    outcome("NOTE", note)


@pytest.mark.parametrize("wrong", [0.5, float("nan")])
def test_f19_a_gpu_that_computes_wrongly_gives_way_to_the_cpu(
    gpu: Device, monkeypatch: pytest.MonkeyPatch, wrong: float, outcome
) -> None:
    compute = torch.nn.functional.conv2d
    calls: list[int] = []

    def computes_wrongly(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        return compute(*arguments, **options) + (wrong if len(calls) == 2 else 0)

    devices._apart_from_cpu.cache_clear()
    monkeypatch.setattr(torch.nn.functional, "conv2d", computes_wrongly)
    device = choose_device("auto")
    devices._apart_from_cpu.cache_clear()
    assert device.name == "cpu"
    assert "GPU of a friend computes wrongly" in device.note
    outcome("NOTE", device.note)


def test_f19_a_driver_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch, outcome) -> None:
    def no_gpu() -> bool:
        warnings.warn(
            "CUDA initialization: The NVIDIA driver on your system is too old (found 11040).", stacklevel=1
        )
        return False

    monkeypatch.setattr(torch.cuda, "is_available", no_gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    device = choose_device("auto")
    assert device.name == "cpu"
    assert "driver on your system is too old (found 11040)" in device.note
    with pytest.raises(DeviceError, match="too old"):
        choose_device("cuda")
    outcome("NOTE", device.note)


def test_f19_the_test_of_a_gpu_is_passed_by_what_computes_as_the_cpu_does() -> None:
    for precision in ("float32", "bfloat16"):
        devices._apart_from_cpu.cache_clear()
        assert devices._apart_from_cpu(Device("cpu", precision, "a CPU")) <= devices._TOLERANCE / 2


def broken_on(monkeypatch: pytest.MonkeyPatch, is_broken: Callable[[Device], bool], index: int) -> None:
    """Make the network answer NaN for one slice of each batch, on devices that are broken."""
    run = module.slice_probabilities

    def gives_nan(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        output[min(index, len(output) - 1)] = torch.nan
        return output

    def run_on(network: Any, card: Any, slices: Any, *, device: Device, **options: Any) -> Answer:
        hook = network.register_forward_hook(gives_nan) if is_broken(device) else None
        try:
            return run(network, card, slices, device=device, **options)
        finally:
            if hook is not None:
                hook.remove()

    monkeypatch.setattr(module, "slice_probabilities", run_on)


GPU_IS_BROKEN = "but not on the CPU: the GPU or its driver is at fault, choose device cpu"
WEIGHTS_ARE_BROKEN = "and on the CPU in float32 as well: the weights are at fault, choose another model"


@pytest.mark.parametrize(
    ("is_broken", "blame"),
    [(lambda device: device.name == "cuda", GPU_IS_BROKEN), (lambda _device: True, WEIGHTS_ARE_BROKEN)],
    ids=["the GPU", "the weights"],
)
def test_f20_values_that_are_not_finite_stop_the_run_and_name_the_slice_and_the_fault(
    gpu: Device, chest: Phantom, is_broken: Any, blame: str, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    broken_on(monkeypatch, is_broken, 5)
    run = Prediction(chest.volume, device="cuda")
    with pytest.raises(PredictionError) as said:
        run.predict((8, 8 + BATCH))
    assert str(said.value) == f"slice 13 came out not finite on GPU of a friend in bfloat16, {blame}"
    outcome("REFUSE", said.value)


def test_f20_a_processor_that_fails_in_half_precision_is_told(
    in_float32: None, chest: Phantom, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    broken_on(monkeypatch, lambda device: device.precision == "bfloat16", 0)
    monkeypatch.setattr(devices, "_cpu_computes_bfloat16", lambda: True)
    with pytest.raises(PredictionError, match=r"slice 0 .* in bfloat16, but not in float32") as said:
        predict(chest.volume, device="cpu", start=0)
    outcome("REFUSE", said.value)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: unspecified launch failure"), RuntimeError("CUDA error: device not ready")],
)
def test_f32_a_gpu_that_is_reset_ends_the_run_with_words(
    gpu: Device, chest: Phantom, error: Exception, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    monkeypatch.setattr(module, "slice_probabilities", OutOfMemory(lambda call: 8 if call < 3 else 0, error))
    batches = Prediction(chest.volume, device="cuda").batches()
    assert len([next(batches) for _ in range(2)]) == 2
    with pytest.raises(
        DeviceError, match=r"the network failed on GPU of a friend .*; choose another device"
    ) as said:
        list(batches)
    outcome("REFUSE", said.value)
