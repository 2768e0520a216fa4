from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from napari_resunet.errors import CancelledError, CheckpointError, DeviceError, InputError
from napari_resunet.geometry import AxisOrder
from napari_resunet.inference import predict as module
from napari_resunet.inference.predict import BATCH, Batch, Prediction, predict
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import Model
from napari_resunet.model.device import Device
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet
from napari_resunet.phantom import make_phantom
from napari_resunet.volume import Volume

T = TypeVar("T")
SETTINGS = NetworkSettings(units=(1, 1, 1, 1), width=4)
CARD = ModelCard("tiny", "1", "custom", SETTINGS, 32, (-1000.0, 400.0), sha256="0123")
COUNT = 19  # three blocks, the last of three slices


@functools.cache
def tiny() -> Model:
    torch.manual_seed(0)
    network = ResUNet(SETTINGS)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # one look gives the statistics
    with torch.no_grad():
        network(torch.rand(4, 1, 32, 32))
    return Model(network.eval(), CARD)


@functools.cache
def ct() -> Volume:
    return make_phantom(shape=(COUNT, 64, 64), spacing_mm=(14, 5.75, 5.75)).volume


@functools.cache
def whole() -> npt.NDArray[np.uint8]:
    return predict(ct(), model=tiny(), device="cpu", grid=32).array


def prediction(volume: Volume | None = None, **options: Any) -> Prediction:
    return Prediction(volume or ct(), **{"model": tiny(), "device": "cpu", "grid": 32, **options})


@st.composite
def wanted(draw: Any) -> tuple[int, tuple[int, int], int]:
    count = draw(st.integers(1, 60))
    first = draw(st.integers(0, count - 1))
    return count, (first, draw(st.integers(first + 1, count))), draw(st.integers(0, count - 1))


@given(wanted())
def test_blocks_cover_every_slice_once_from_the_start_outwards(asked: Any) -> None:
    count, (first, last), start = asked
    blocks = module._blocks(count, (first, last), start=start)
    assert sorted(z for block in blocks for z in range(*block)) == list(range(first, last))
    assert all(0 < stop - begin <= BATCH for begin, stop in blocks)

    def away(block: tuple[int, int]) -> int:
        return min(abs(z - start) for z in range(*block))

    assert [away(block) for block in blocks] == sorted(map(away, blocks))
    if first <= start < last:
        assert start in range(*blocks[0])


@given(wanted())
def test_a_slice_shares_its_block_with_the_same_slices_wherever_a_run_begins(asked: Any) -> None:
    count, (first, last), start = asked
    everything = module._blocks(count, (0, count), start=0)
    for begin, stop in module._blocks(count, (first, last), start=start):
        assert any(b <= begin and stop <= s for b, s in everything)


@pytest.mark.parametrize("slices", [(0, 0), (3, 3), (5, 4), (-1, 4), (0, COUNT + 1), (40, 50)])
def test_slices_that_are_not_in_the_volume_are_refused(slices: tuple[int, int]) -> None:
    first, last = slices
    with pytest.raises(
        InputError,
        match=f"slices {first}:{last} are not in a volume of 19 axial slices; give two numbers from 0:19",
    ):
        prediction(slices=slices)


@pytest.mark.parametrize("grid", [0, -16, 8, 100])
def test_a_grid_that_the_network_cannot_halve_is_refused(grid: int) -> None:
    with pytest.raises(InputError, match=f"the grid must be a multiple of 16, got {grid}"):
        prediction(grid=grid)


def test_the_same_bytes_come_from_every_start() -> None:
    assert len(np.unique(whole())) > 20  # there is something to compare
    for start in (0, 18):
        again = predict(ct(), model=tiny(), device="cpu", grid=32, start=start)
        np.testing.assert_array_equal(again.array, whole())


def test_a_run_begins_in_the_middle_unless_it_is_told_where() -> None:
    assert prediction().blocks == [(8, 16), (0, 8), (16, 19)]
    assert prediction(start=18).blocks == [(16, 19), (8, 16), (0, 8)]
    assert prediction(start=0).blocks == [(0, 8), (8, 16), (16, 19)]


def test_slices_that_were_not_asked_for_are_zero_and_not_done() -> None:
    part = predict(ct(), model=tiny(), device="cpu", grid=32, slices=(8, 11))
    assert np.flatnonzero(part.done).tolist() == [8, 9, 10]
    assert part.array[8:11].any()
    assert not part.array[:8].any()
    assert not part.array[11:].any()


def test_all_slices_are_done_by_default() -> None:
    prob = predict(ct(), model=tiny(), device="cpu", grid=32)
    assert prob.done.all()
    assert prob.geometry is ct().geometry
    assert prob.source is ct().source


def test_a_whole_block_alone_is_the_same_as_within_a_run() -> None:
    part = predict(ct(), model=tiny(), device="cpu", grid=32, slices=(8, 16))
    np.testing.assert_array_equal(part.array[8:16], whole()[8:16])


def test_the_batches_of_a_run_are_what_predict_puts_together() -> None:
    found = np.zeros(ct().array.shape, np.uint8)
    batches: list[Batch] = list(prediction().batches())
    for batch in batches:
        found[batch.start : batch.stop] = batch.probabilities
    assert [(batch.start, batch.stop) for batch in batches] == prediction().blocks
    np.testing.assert_array_equal(found, whole())


def test_what_is_done_is_skipped_block_by_block() -> None:
    run = prediction()
    done = np.zeros(COUNT, bool)
    done[:8] = done[16:18] = True  # the first block, and a part of the last
    run.skip(done)
    assert run.blocks == [(8, 16), (16, 19)]
    run.skip(np.ones(COUNT, bool))
    assert list(run.batches()) == []


def test_a_cancelled_run_stops_where_it_was() -> None:
    seen: list[Any] = []

    def track(steps: Sequence[T], /) -> Iterator[T]:
        for step in steps[:2]:
            seen.append(step)
            yield step
        raise CancelledError("stopped by the user")

    with pytest.raises(CancelledError, match="stopped by the user"):
        predict(ct(), model=tiny(), device="cpu", grid=32, track=track)
    assert seen == [(8, 16), (0, 8)]


@pytest.mark.parametrize(
    "order",
    [
        AxisOrder((0, 1, 2), (False, True, False)),
        AxisOrder((0, 1, 2), (True, True, True)),
        AxisOrder((2, 1, 0), (False, False, False)),
        AxisOrder((1, 2, 0), (True, False, True)),
    ],
)
def test_a_ct_stored_in_another_order_gets_the_same_result_in_that_order(order: AxisOrder) -> None:
    volume = ct()
    stored = Volume(np.ascontiguousarray(order.apply(volume.array)), volume.geometry.reordered(order))
    prob = predict(stored, model=tiny(), device="cpu", grid=32)
    assert prob.array.shape == stored.array.shape
    np.testing.assert_array_equal(prob.array, order.apply(whole()))
    np.testing.assert_array_equal(prob.axial, whole())


def test_slices_are_counted_from_the_lowest_in_a_file_that_runs_downwards() -> None:
    order = AxisOrder((0, 1, 2), (True, False, False))
    stored = Volume(order.apply(ct().array), ct().geometry.reordered(order))
    part = predict(stored, model=tiny(), device="cpu", grid=32, slices=(8, 16))
    assert np.flatnonzero(part.done).tolist() == list(range(8, 16))
    np.testing.assert_array_equal(part.array[::-1][8:16], whole()[8:16])


def test_the_run_says_what_made_it() -> None:
    run = prediction().run
    assert (run.model, run.model_sha256, run.grid, run.device) == ("tiny", "0123", 32, "cpu")
    assert run.precision in ("float32", "bfloat16")
    y0, y1, x0, x1 = run.crop
    assert 0 <= y0 < y1 <= 64
    assert 0 <= x0 < x1 <= 64


def test_outside_of_the_crop_nothing_is_lung() -> None:
    y0, y1, x0, x1 = prediction().run.crop
    outside = whole().copy()
    outside[:, y0:y1, x0:x1] = 0
    assert not outside.any()


def test_values_that_cannot_be_hu_are_refused_unless_the_user_says_that_they_are() -> None:
    array = np.maximum(ct().array, -1000) + np.int16(1024)
    array[0, 0, 0] = 3000  # bone
    stored = Volume(array, ct().geometry)
    with pytest.raises(InputError, match="offset of -1024"):
        predict(stored, model=tiny(), device="cpu", grid=32)
    assert prediction(replace(stored, hu_confirmed=True)).blocks


def test_an_unknown_model_and_an_unknown_device_are_refused() -> None:
    with pytest.raises(CheckpointError, match="there is no model 'lungs'"):
        prediction(model="lungs")
    with pytest.raises(DeviceError, match="there is no device 'tpu'"):
        prediction(device="tpu")


def test_a_model_can_be_given_by_its_name() -> None:
    assert prediction(model="lung-ct").run.model == "lung-ct"


class SmallMemory:
    """A network on a device on which only so many slices fit at once; its answer is the last 8 bits of the image."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.sizes: list[int] = []

    def __call__(self, _network: Any, _card: Any, slices: Any, **_options: Any) -> npt.NDArray[np.uint8]:
        self.sizes.append(len(slices))
        if len(slices) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return np.asarray(slices & 255, dtype=np.uint8)


def test_where_memory_runs_out_the_batch_is_halved_and_the_result_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = SmallMemory(2)
    monkeypatch.setattr(module, "slice_probabilities", memory)
    found = predict(ct(), model=tiny(), device="cpu", grid=32)
    assert memory.sizes == [8, 4, *[2] * 4, *[2] * 4, 2, 1]  # and does not grow again
    assert found.done.all()
    np.testing.assert_array_equal(found.array, ct().array & 255)


def test_where_not_one_slice_fits_another_device_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SmallMemory(0)
    monkeypatch.setattr(module, "slice_probabilities", memory)
    with pytest.raises(DeviceError, match="has not enough memory for one slice; choose a smaller grid"):
        prediction().predict((0, 8))
    assert memory.sizes == [8, 4, 2, 1]


def test_after_a_failure_cuda_is_asked_to_give_back_what_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = itertools.count()
    monkeypatch.setattr(module, "slice_probabilities", SmallMemory(2))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: next(emptied))
    run = prediction()
    run._device = Device("cuda", "float32", "pretended")
    run.predict((0, 8))
    assert next(emptied) == 2  # from 8 to 4 to 2
