"""A CT that is larger than the memory: its slices are read a few at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest

from napari_resunet.geometry import AxisOrder
from napari_resunet.inference.predict import BATCH, predict
from napari_resunet.phantom import make_phantom
from napari_resunet.preflight import preflight
from napari_resunet.volume import ProbabilityMap, Volume

COUNT = 20
CT = make_phantom(shape=(COUNT, 64, 64), spacing_mm=(14, 5.75, 5.75)).volume
WHOLE = predict(CT, device="cpu", grid=32).array


class InAFile:
    """What zarr and h5py offer: a shape and slicing. Counts how often each slice is read, and refuses large reads."""

    def __init__(self, array: npt.NDArray[Any], *, most: int = BATCH) -> None:
        self._array, self._most = array, most
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.reads = np.zeros(array.shape[0], int)

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, part: Any) -> npt.NDArray[Any]:
        found = self._array[part]
        if found.size > self._most * self._array[0].size:
            raise MemoryError(f"{part} is too large to be read at once")
        first = part[0] if isinstance(part, tuple) else part
        self.reads[first] += 1
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        raise MemoryError("the CT was read as a whole")


def run(array: Any, like: Volume = CT, **options: Any) -> ProbabilityMap:
    return predict(Volume(array, like.geometry), device="cpu", grid=32, **options)


def test_a_ct_that_cannot_be_read_as_a_whole_gets_the_same_result() -> None:
    in_a_file = InAFile(CT.array)
    np.testing.assert_array_equal(run(in_a_file).array, WHOLE)
    assert in_a_file.reads.max() <= 4  # to judge it, a sample of it, to find the body, for the network


def test_some_slices_of_a_ct_are_all_that_the_network_reads_of_it() -> None:
    in_a_file = InAFile(CT.array)
    run(in_a_file, slices=(8, 11))
    before = InAFile(CT.array)
    with pytest.raises(ValueError, match="out must be uint8"):
        run(before, out=np.zeros(3, np.uint8))
    assert not before.reads.any()
    assert (in_a_file.reads[8:11] == in_a_file.reads[0] + 1).all()


@pytest.mark.parametrize("flips", [(True, False, False), (True, True, True)])
def test_a_ct_in_a_file_that_runs_downwards_gets_the_same_result(flips: Any) -> None:
    order = AxisOrder((0, 1, 2), flips)
    stored = np.ascontiguousarray(order.apply(CT.array))
    found = predict(Volume(InAFile(stored), CT.geometry.reordered(order)), device="cpu", grid=32)
    np.testing.assert_array_equal(found.axial, WHOLE)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_a_dask_array_is_computed_slice_by_slice(axes: Any) -> None:
    order = AxisOrder(axes, (False, True, False))
    stored = np.ascontiguousarray(order.apply(CT.array))
    computed: list[int] = []

    def block(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
        computed.append(part.size)
        return part

    lazy = da.from_array(stored, chunks=(4, *stored.shape[1:]))
    lazy = da.map_blocks(block, lazy, dtype=stored.dtype, meta=np.empty((0, 0, 0), stored.dtype))
    volume = Volume(lazy, CT.geometry.reordered(order))
    np.testing.assert_array_equal(predict(volume, device="cpu", grid=32).axial, WHOLE)
    assert computed


def test_what_is_checked_before_a_run_does_not_read_a_ct_as_a_whole() -> None:
    whole = da.from_array(InAFile(CT.array), chunks=(4, 64, 64), asarray=False, fancy=False)
    assert preflight(Volume(whole, CT.geometry)) == preflight(CT)


def test_the_result_can_lie_in_a_file(tmp_path: Path) -> None:
    there = np.memmap(tmp_path / "lung.u8", np.uint8, "w+", shape=CT.array.shape)
    assert run(CT.array, out=there).array is there
    there.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "lung.u8", np.uint8), WHOLE.ravel())


SHAPE = (300, 512, 512)
LITTLE_MEMORY = """
import resource, sys
import numpy as np
import torch
from napari_resunet.geometry import Geometry
from napari_resunet.inference.predict import predict
from napari_resunet.volume import Volume
torch.set_num_threads(1)
path, shape = sys.argv[1], tuple(map(int, sys.argv[3:]))
ct = np.memmap(path, np.int16, "r", shape=shape)
first = Volume(ct[:8].copy(), Geometry.from_spacing((8, *shape[1:]), (1.0, 0.7, 0.7)))
predict(first, device="cpu", grid=32)
out = np.memmap(path + ".lung", np.uint8, "w+", shape=shape)
pages = int(open("/proc/self/statm").read().split()[5])  # data and stacks, without files
most = pages * resource.getpagesize() + int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
volume = Volume(ct, Geometry.from_spacing(shape, (1.0, 0.7, 0.7)))
print(predict(volume, device="cpu", grid=32, out=out).done.sum())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="has no such limit")
def test_a_ct_of_three_times_the_memory_is_run_from_a_file_into_a_file(tmp_path: Path) -> None:
    one = make_phantom(shape=(10, 512, 512), spacing_mm=(30.0, 0.7, 0.7)).volume.array
    there = np.memmap(tmp_path / "ct.i16", np.int16, "w+", shape=SHAPE)
    for z in range(0, SHAPE[0], len(one)):
        there[z : z + len(one)] = one
    there.flush()
    megabytes = there.nbytes // 3 // 2**20
    command = [sys.executable, "-W", "ignore", "-c", LITTLE_MEMORY]
    command += [str(tmp_path / "ct.i16"), str(megabytes), *map(str, SHAPE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout == "300\n", done.stderr
