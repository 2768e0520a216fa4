"""Where the network runs, and in which number format."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from napari_resunet.errors import DeviceError


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
    """

    name: str
    precision: str
    label: str

    @property
    def torch(self) -> torch.device:
        return torch.device(self.name)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which the network runs."""
        dtype = getattr(torch, self.precision)
        return torch.autocast(self.name, dtype=dtype, enabled=dtype is not torch.float32)


def choose_device(name: str = "auto") -> Device:
    """Return the device called `name`; ``"auto"`` takes CUDA, else MPS, else the CPU.

    Raises
    ------
    DeviceError
        If the device asked for is not there.
    """
    if name not in ("auto", "cuda", "mps", "cpu"):
        raise DeviceError(f"there is no device {name!r}: choose auto, cuda, mps or cpu")
    if name in ("auto", "cuda") and torch.cuda.is_available():
        precision = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        return Device("cuda", precision, torch.cuda.get_device_name())
    if name == "cuda":
        raise DeviceError("torch finds no CUDA GPU; choose auto or cpu, or install a torch built for CUDA")
    if name in ("auto", "mps") and torch.backends.mps.is_available():
        return Device("mps", "float32", "Apple GPU")
    if name == "mps":
        raise DeviceError("torch finds no Apple GPU (MPS); choose auto or cpu")
    precision = "bfloat16" if _cpu_computes_bfloat16() else "float32"
    return Device("cpu", precision, f"CPU, {torch.get_num_threads()} threads")


def _cpu_computes_bfloat16() -> bool:
    # Without these instructions bfloat16 is emulated, and slower than float32.
    checks = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(check is not None and check() for check in checks)
