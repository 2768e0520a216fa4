"""What a CUDA GPU is asked to do, on a machine that has none: its memory is that of the CPU."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from napari_resunet.inference.predict import Batch, Prediction
from napari_resunet.model.device import Device
from napari_resunet.model.slices import from_grid, to_grid

CUDA, CPU = Device("cuda", "bfloat16", "pretended"), Device("cpu", "bfloat16", "a CPU")
CROP = (2, 30, 4, 40)


class Events:
    """The copies and waits that were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        move, empty = torch.Tensor.to, torch.empty
        monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: self.note("pinned", tensor))

        def to(tensor: torch.Tensor, target: Any, *rest: Any, **options: Any) -> torch.Tensor:
            if not isinstance(target, torch.device):
                return move(tensor, target, *rest, **options)
            return self.note(f"sent {tensor.dtype}, non_blocking={options.get('non_blocking')}", tensor)

        def pinned(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
            return self.note("room" if pin_memory else "", empty(*shape, **options))

        monkeypatch.setattr(torch.Tensor, "to", to)
        monkeypatch.setattr(torch, "empty", pinned)
        monkeypatch.setattr(torch.cuda, "Event", lambda: self)

    def note(self, what: str, value: Any = None) -> Any:
        self.seen += [what] if what else []
        return value

    def record(self) -> None:
        self.note("recorded")

    def synchronize(self) -> None:
        self.note("waited")


def test_slices_are_sent_as_they_are_from_pinned_memory_without_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slices = np.random.default_rng(0).integers(-1000, 400, (3, 32, 48)).astype(np.int16)
    options: Any = {"crop": CROP, "grid": 16, "window_hu": (-1000.0, 400.0)}
    expected = to_grid(slices, **options)
    events = Events(monkeypatch)
    found = to_grid(slices, **options, device=CUDA)
    assert events.seen == ["pinned", "sent torch.int16, non_blocking=True"]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [">i2", ">f4"])
def test_values_in_the_byte_order_of_another_machine_are_turned_before_they_are_sent(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    slices = np.arange(16 * 16).reshape(1, 16, 16)
    options: Any = {"crop": (0, 16, 0, 16), "grid": 16, "window_hu": (0.0, 256.0)}
    Events(monkeypatch)
    found = to_grid(slices.astype(dtype), **options, device=CUDA)
    torch.testing.assert_close(found, to_grid(slices, **options))


def test_the_answer_is_waited_for_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(2, 1, 16, 16)
    expected = from_grid(logits, crop=CROP, shape=(32, 48))
    events = Events(monkeypatch)
    found = from_grid(logits, crop=CROP, shape=(32, 48), device=CUDA)
    assert events.seen == ["room", "recorded", "waited"]
    np.testing.assert_array_equal(found, expected)


class Blocks:
    """A prediction whose blocks take as long as they are told to."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.blocks = [(8 * n, 8 * n + 8) for n in range(5)]
        self.begun: list[int] = []
        self.second = threading.Event()

    def predict(self, block: tuple[int, int]) -> Batch:
        self.begun.append(block[0])
        if block[0] == 8:
            self.second.set()
        if block[0] == 0 and self._device is CUDA:
            assert self.second.wait(20)  # else the second one waits for the first
        if block[0] == 24:
            raise ValueError("the fourth block")
        return Batch(*block, np.zeros((8, 1, 1), np.uint8))


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_while_a_gpu_works_on_a_block_the_next_is_made_ready_and_the_order_stays(device: Device) -> None:
    run: Any = Blocks(device)
    batches = Prediction.batches(run)
    assert [next(batches).start for _ in range(3)] == [0, 8, 16]
    with pytest.raises(ValueError, match="the fourth block"):
        next(batches)
    if device is CPU:  # where nothing runs ahead
        assert run.begun == [0, 8, 16, 24]


def test_a_run_that_is_let_go_begins_no_more_blocks() -> None:
    run: Any = Blocks(CUDA)
    batches = Prediction.batches(run)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert set(run.begun) <= {0, 8, 16}
