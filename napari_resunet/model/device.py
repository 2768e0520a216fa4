"""Where the network runs, and in which number format."""

from __future__ import annotations

import functools
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from napari_resunet.errors import DeviceError

# of a small convolution whose weights sum up to 1; bfloat16 rounds each factor by 2**-9, and the result
_TOLERANCE = 4 * 2.0**-9


@dataclass(frozen=True)
class Device:
    """Where the network runs, and in which number format.

    Parameters
    ----------
    name : {"cuda", "mps", "cpu"}
        The kind of device.
    precision : {"float32", "bfloat16", "float16"}
        Of the convolutions; sums and results are float32.
    label : str
        The device in words.
    note : str
        Why it is not the one that would have been taken; empty if it is.
    """

    name: str
    precision: str
    label: str
    note: str = ""

    @property
    def torch(self) -> torch.device:
        return torch.device(self.name)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the network runs."""
        dtype = getattr(torch, self.precision)
        return torch.autocast(self.name, dtype=dtype, enabled=dtype is not torch.float32)


def choose_device(name: str = "auto") -> Device:
    """Return the device called `name`; ``"auto"`` takes CUDA, else MPS, else the CPU.

    A GPU is tried out first, with a small convolution that the CPU does too. Where it fails, ``"auto"`` takes the
    CPU, and the device says why.

    Raises
    ------
    DeviceError
        If the device asked for is not there, or fails.
    """
    if name not in ("auto", "cuda", "mps", "cpu"):
        raise DeviceError(f"there is no device {name!r}: choose auto, cuda, mps or cpu")
    if name == "cpu":
        return _cpu()
    try:
        gpu = _gpu(name)
    except DeviceError as error:
        if name != "auto":
            raise
        return replace(_cpu(), note=f"the CPU was taken: {error}")
    return gpu or _cpu()


def _gpu(name: str) -> Device | None:
    """Return a GPU that works; None if ``"auto"`` finds none at all."""
    why = _why_no_cuda() if name in ("auto", "cuda") else ""
    if name in ("auto", "cuda") and why is None:
        try:
            precision = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
            label = torch.cuda.get_device_name()
        except RuntimeError as error:
            raise DeviceError(f"the CUDA GPU cannot be used ({_first_line(error)}); choose cpu") from error
        return _tried_out(Device("cuda", precision, label))
    if name == "cuda":
        reason = f" ({why})" if why else ""
        raise DeviceError(
            f"torch finds no CUDA GPU{reason}; choose auto or cpu, or install a torch built for CUDA"
        )
    if torch.backends.mps.is_available():
        return _tried_out(Device("mps", "float32", "Apple GPU"))
    if name == "mps":
        raise DeviceError("torch finds no Apple GPU (MPS); choose auto or cpu")
    if why:
        raise DeviceError(f"the CUDA GPU cannot be used ({why})")
    return None


def _why_no_cuda() -> str | None:
    """Return None if there is a CUDA GPU; else what torch warns of, such as a driver that is too old."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            return None
    return _first_line(caught[0].message) if caught else ""


def _cpu() -> Device:
    precision = "bfloat16" if _cpu_computes_bfloat16() else "float32"
    return Device("cpu", precision, f"CPU, {torch.get_num_threads()} threads")


def _tried_out(device: Device) -> Device:
    """Return a GPU that computes as the CPU does.

    Raises
    ------
    DeviceError
        With what is wrong with it.
    """
    try:
        apart = _apart_from_cpu(device)
    # a driver that is too old, no kernel for this card, an operation that is not there, a library that is missing
    except (RuntimeError, AssertionError, OSError) as error:
        raise DeviceError(f"{device.label} fails ({_first_line(error)}); choose cpu") from error
    if not apart <= _TOLERANCE:  # not a number is no answer, either
        raise DeviceError(f"{device.label} computes wrongly (off by {apart:.2g} in a test); choose cpu")
    return device


@functools.cache  # what raises is tried again
def _apart_from_cpu(device: Device) -> float:
    """Return how far a small convolution on a device is from that on the CPU, with factors up to 1."""
    image = torch.linspace(-1, 1, 2 * 32 * 32).reshape(1, 2, 32, 32)
    weights = torch.full((1, 2, 3, 3), 1 / 18)
    expected = functional.conv2d(image, weights)
    with torch.inference_mode(), device.autocast():
        found = functional.conv2d(image.to(device.torch), weights.to(device.torch))
    return float((found.float().cpu() - expected).abs().max())


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0].rstrip(" .:")


def _cpu_computes_bfloat16() -> bool:
    # Without these instructions bfloat16 is emulated, and slower than float32.
    checks = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(check is not None and check() for check in checks)
