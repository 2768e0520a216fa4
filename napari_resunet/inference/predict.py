"""The network over a CT, in batches of axial slices, from the slice in view outwards."""

from __future__ import annotations

import copy
import logging
import operator
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from napari_resunet.errors import DeviceError, InputError, NotFiniteError, PredictionError
from napari_resunet.hu import refuse_implausible_hu
from napari_resunet.imaging.body import LEAST_SIDE, body_box
from napari_resunet.inference.axial import AxialSlices
from napari_resunet.inference.ready import ready_network
from napari_resunet.model.checkpoint import Model
from napari_resunet.model.device import Device, choose_device
from napari_resunet.model.slices import Crop, slice_probabilities
from napari_resunet.settings import PredictSettings
from napari_resunet.track import Track, silent
from napari_resunet.volume import ProbabilityMap, Run, Volume, refuse_other_kind

_log = logging.getLogger(__name__)
# what torch says besides its OutOfMemoryError: for a CPU and its oneDNN, an Apple GPU, the libraries of a CUDA GPU
_NO_MEMORY = ("can't allocate memory", "could not create a primitive", "out of memory", "ALLOC_FAILED")
_PLAIN_CPU = Device("cpu", "float32", "the CPU")

BATCH = 8
Block = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some axial slices that the network has seen.

    Parameters
    ----------
    start, stop : int
        Which slices, lowest first.
    probabilities : (stop - start, y, x) array of uint8
        0-255 for 0-1.
    notes : tuple of str
        What has been noted of the run so far: another device than wanted, smaller batches.
    """

    start: int
    stop: int
    probabilities: npt.NDArray[np.uint8]
    notes: tuple[str, ...] = ()


class Prediction:
    """A run that is ready to start: the model on its device, the crop and the order of the slices are known.

    Parameters
    ----------
    volume : Volume
        The CT in HU.
    model : str, Path or Model
        A built-in name, a weights file, or a loaded model.
    device : str
        ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``.
    grid : int
        Side of the square that each slice is resized to; a multiple of 16.
    slices : (start, stop), optional
        Axial slices to run, counted from the lowest; all by default.
    start : int, optional
        Axial slice to begin at; the middle by default.

    Raises
    ------
    InputError
        If the values cannot be HU and the user has not said that they are, or `slices` is not in the volume.
    CheckpointError
        If the model cannot be loaded, or is not for CT.
    DeviceError
        If the device is not there.
    """

    def __init__(
        self,
        volume: Volume,
        *,
        model: str | Path | Model = "lung-ct",
        device: str = "auto",
        grid: int = 128,
        slices: Block | None = None,
        start: int | None = None,
    ) -> None:
        refuse_other_kind(volume, Volume, needed_by="predict")
        if not volume.hu_confirmed:
            refuse_implausible_hu(volume.array)
        self._hu = AxialSlices(volume)
        _refuse_small(self._hu.shape[1:])
        count = len(self._hu)
        self.blocks = _blocks(
            count, (0, count) if slices is None else slices, start=count // 2 if start is None else start
        )
        self._device = choose_device(device)
        self._model = ready_network(model, self._device)
        self._model.card.require_window_hu()
        multiple = self._model.plain.settings.multiple
        if grid < 1 or grid % multiple:
            raise InputError(f"the grid must be a multiple of {multiple}, got {grid}")
        self.run = Run(
            model=self._model.card.name,
            model_sha256=self._model.card.sha256,
            grid=grid,
            device=self._device.name,
            precision=self._device.precision,
            crop=body_box(self._hu),
        )
        self._most = BATCH
        if self._device.note:
            _log.warning(self._device.note)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user has to know of this run: another device than wanted, smaller batches."""
        most = f"memory ran out on {self._device.label}: slices were run {self._most} at a time, not {BATCH}"
        return (*filter(None, [self._device.note]), *([most] if self._most < BATCH else []))

    def skip(self, done: npt.NDArray[np.bool_]) -> None:
        """Leave out the blocks whose slices are all `done`."""
        self.blocks = [block for block in self.blocks if not done[slice(*block)].all()]

    def batches(self) -> Iterator[Batch]:
        """Run the blocks one by one; while a CUDA GPU works on one, the next is made ready."""
        if self._device.torch.type == "cuda":
            yield from _ahead(self.predict, self.blocks)
        else:
            yield from map(self.predict, self.blocks)

    def predict(self, block: Block) -> Batch:
        """Run one block of slices.

        Raises
        ------
        PredictionError
            If the network's answer is not finite, naming the slice.
        DeviceError
            If not even one slice fits into the memory of the device.
        """
        start, stop = block
        found = []
        while start < stop:
            part = self._hu[start : min(stop, start + self._most)]
            try:
                found.append(self._probabilities(part))
            except NotFiniteError as error:
                z = start + error.index
                raise PredictionError(self._why_not_finite(z)) from error
            # whatever a driver, a kernel or an allocator has to say
            except (MemoryError, RuntimeError) as error:
                self._take_smaller_batches(error, len(part))
            else:
                start += len(part)
        return Batch(block[0], stop, np.concatenate(found), self.notes)

    def _probabilities(self, slices: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
        return self._on(self._device, self._model.network, slices)

    def _on(
        self, device: Device, network: nn.Module, slices: npt.NDArray[np.generic]
    ) -> npt.NDArray[np.uint8]:
        crop: Crop = self.run.crop
        return slice_probabilities(
            network, self._model.card, slices, crop=crop, grid=self.run.grid, device=device
        )

    def _why_not_finite(self, z: int) -> str:
        """Run one slice again on the CPU in full precision, to tell a bad device from bad weights."""
        device = self._device
        said = f"slice {z} came out not finite on {device.label} in {device.precision}"
        try:
            on_cpu = copy.deepcopy(self._model.plain).float().cpu()
            self._on(_PLAIN_CPU, on_cpu, self._hu[z : z + 1])
        except NotFiniteError:
            return (
                f"{said}, and on the CPU in float32 as well: the weights are at fault, choose another model"
            )
        if device.name == "cpu":
            return f"{said}, but not in float32: this processor is at fault, choose another device"
        return f"{said}, but not on the CPU: the GPU or its driver is at fault, choose device cpu"

    def _take_smaller_batches(self, error: Exception, failed: int) -> None:
        label = self._device.label
        if not _is_out_of_memory(error):
            raise DeviceError(f"the network failed on {label} ({error}); choose another device") from error
        if failed == 1:
            other = "choose a smaller grid" if self._device.name == "cpu" else "choose device cpu"
            raise DeviceError(f"{label} has not enough memory for one slice; {other}") from error
        self._most = min(self._most, failed // 2)  # not halved twice for two blocks at work
        _log.warning("memory ran out on %s: going on with %d slices at a time", label, self._most)
        if self._device.name == "cuda":
            torch.cuda.empty_cache()
        elif self._device.name == "mps":
            torch.mps.empty_cache()


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in _NO_MEMORY)


def predict(
    volume: Volume,
    *,
    model: str | Path | Model = PredictSettings.model,
    device: str = PredictSettings.device,
    grid: int = PredictSettings.grid,
    slices: Block | None = None,
    start: int | None = None,
    track: Track = silent,
    out: npt.NDArray[np.uint8] | None = None,
) -> ProbabilityMap:
    """Return how sure the network is, voxel by voxel, that there is lung.

    Parameters
    ----------
    volume : Volume
        The CT in HU. Its array may lie in a file (`numpy.memmap`) or be read when it is looked at (dask, zarr): a few
        slices are read at a time, three times over, and never all at once.
    model : str, Path or Model
        A built-in name, a weights file, or a loaded model.
    device : str
        ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``.
    grid : int
        Side of the square that each slice is resized to; a multiple of 16.
    slices : (start, stop), optional
        Axial slices to run, counted from the lowest; all by default.
    start : int, optional
        Axial slice to begin at; the middle by default.
    track : Track, optional
        Called with the blocks of slices; raises to cancel.
    out : array of uint8, optional
        Where to put the probabilities: as large as the CT, and 0 where no slice is asked for. A `numpy.memmap` where
        they are too many for the memory; a new array by default.

    Returns
    -------
    ProbabilityMap
        On the grid of the CT; slices that were not asked for are 0.

    Raises
    ------
    InputError
        If the volume cannot be a chest: too small, or its values are not HU.
    CheckpointError
        If the model is not there, is damaged, or is for other images.
    DeviceError, PredictionError
        If the device is not there, or the network fails on it.
    TypeError, ValueError
        If an argument is none that can be meant.
    """
    if out is not None and (out.shape != volume.array.shape or out.dtype != np.uint8):
        raise ValueError(f"out must be uint8 of shape {volume.array.shape}, got {out.dtype} of {out.shape}")
    prediction = Prediction(volume, model=model, device=device, grid=grid, slices=slices, start=start)
    array = np.zeros(volume.array.shape, dtype=np.uint8) if out is None else out
    axial = volume.geometry.to_axial.apply(array)
    done = np.zeros(len(axial), dtype=bool)
    # the tracker first: it may stop the work before a batch is begun
    for _, batch in zip(track(prediction.blocks), prediction.batches(), strict=True):
        axial[batch.start : batch.stop] = batch.probabilities
        done[batch.start : batch.stop] = True
    notes = (*volume.notes, *prediction.notes)
    return ProbabilityMap(array, volume.geometry, done, prediction.run, volume.source, notes)


def _refuse_small(shape: tuple[int, ...]) -> None:
    if min(shape) < LEAST_SIDE:
        rows, columns = shape
        raise InputError(
            f"axial slices of {rows} x {columns} voxels are too small for a chest ({LEAST_SIDE} are the least); "
            "check the order of the axes, or export the CT at its full size"
        )


def _blocks(count: int, wanted: Block, *, start: int) -> list[Block]:
    """Return the blocks of slices to do, from `start` outwards.

    Blocks begin at multiples of the batch size wherever a run begins, so that a slice shares its batch with the same
    neighbours and gets the same bits, in a window and on the command line.
    """
    try:
        first, last = map(operator.index, wanted)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"slices are two whole numbers (start, stop) such as (24, 32); got {wanted!r}"
        ) from error
    if not 0 <= first < last <= count:
        raise InputError(
            f"slices {first}:{last} are not in a volume of {count} axial slices; give two numbers from 0:{count}, the "
            "first below the second"
        )
    begins = range(first - first % BATCH, last, BATCH)
    blocks = [(max(begin, first), min(begin + BATCH, last)) for begin in begins]
    return sorted(blocks, key=lambda block: (max(block[0] - start, start - block[1] + 1, 0), block[0]))


def _ahead(work: Callable[[Block], Batch], blocks: list[Block]) -> Iterator[Batch]:
    """Yield what `work` makes of the blocks, in their order, with one more at work than is waited for."""
    with ThreadPoolExecutor(2, thread_name_prefix="slices") as pool:
        at_work: deque[Future[Batch]] = deque()
        try:
            for block in blocks:
                at_work.append(pool.submit(work, block))
                if len(at_work) > 1:
                    yield at_work.popleft().result()
            while at_work:
                yield at_work.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
