"""Compressed DICOM pixels, decoded in processes of their own: damage in them cannot end this one.

The libraries that decode them are written in C and C++, and are given bytes that anyone may have made. A process that
crashes, hangs or wants too much memory is ended, and its file refused.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import psutil  # type: ignore[import-untyped]

from napari_resunet.errors import InputError
from napari_resunet.io.dicom_frames import decoder_for, is_compressed, syntax_of
from napari_resunet.io.dicom_headers import SliceHeader

FRAME_SECONDS = 60.0
MEMORY_BYTES = 2 << 30  # of one process; it takes 0.15 GiB with a slice of 512 x 512
_COMMAND = (sys.executable, "-P", "-m", "napari_resunet.io.dicom_child")
_MOST_PROCESSES = 4
_SLICES_A_PROCESS = 16  # fewer do not make up for the time that one takes to start
_POLL_SECONDS = 0.05
_REMEDY = "copy or export it again"


def needs_decoding(header: SliceHeader) -> bool:
    """Whether the pixels of a slice are compressed."""
    return is_compressed(syntax_of(header.tags))


def require_decoder(header: SliceHeader) -> None:
    """Refuse a slice that nothing installed can decode.

    Raises
    ------
    InputError
        Naming what to install.
    """
    syntax = syntax_of(header.tags)
    if is_compressed(syntax) and decoder_for(syntax) is None:
        raise InputError(
            f"{header.path} is compressed as {syntax.name}, and no decoder for it is installed; "
            'pip install "napari-resunet[codecs]", or export it uncompressed'
        )


def decode(headers: Sequence[SliceHeader]) -> Generator[npt.NDArray[Any]]:
    """Give the stored numbers (y, x) of compressed slices, in their order; closing it ends the processes.

    Raises
    ------
    InputError
        If a slice is damaged, takes too long or wants too much memory, or no decoder for it is installed.
    """
    for header in headers:
        require_decoder(header)
    processes = max(1, min(_MOST_PROCESSES, os.cpu_count() or 1, len(headers) // _SLICES_A_PROCESS))
    children: list[_Child] = []
    try:
        for first in range(processes):
            children.append(_Child(headers[first::processes]))
        for header, child in zip(headers, itertools.cycle(children)):
            yield child.next(header)
    finally:
        for child in children:
            child.stop()


class _Child:
    """One process, which decodes slices one after the other."""

    def __init__(self, headers: Sequence[SliceHeader]) -> None:
        self._process = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # finds what we find
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._reader = ThreadPoolExecutor(1)
        self._most_bytes = MEMORY_BYTES + max(header.path.stat().st_size for header in headers)
        by_file = itertools.groupby(headers, key=lambda header: header.path)
        jobs = [[os.fspath(path), [header.frame for header in group]] for path, group in by_file]
        with suppress(OSError), _pipe(self._process.stdin) as stdin:  # one that has ended is found out below
            stdin.write(json.dumps(jobs).encode())

    def next(self, header: SliceHeader) -> npt.NDArray[Any]:
        """Return the numbers of the next slice, which is `header`."""
        answer = self._reader.submit(self._read, header)
        end = time.monotonic() + FRAME_SECONDS
        while not answer.done():
            wait([answer], _POLL_SECONDS)
            if time.monotonic() > end:
                raise InputError(f"{header.path} is not decoded after {FRAME_SECONDS:g} s; {_REMEDY}")
            if self._used_bytes() > self._most_bytes:
                size = f"{self._most_bytes / 2**30:.1f} GiB"
                raise InputError(f"{header.path} takes more than {size} of memory to decode; {_REMEDY}")
        return answer.result()

    def _read(self, header: SliceHeader) -> npt.NDArray[Any]:
        pipe = _pipe(self._process.stdout)
        line = pipe.readline()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            raise InputError(f"{header.path} ended the program that decodes it (code {code}); {_REMEDY}")
        said = json.loads(line)
        if "error" in said:
            raise InputError(f"{header.path} has truncated or damaged pixels ({said['error']}); {_REMEDY}")
        dtype, shape = np.dtype(said["dtype"]), tuple(said["shape"])
        refuse_other_size(header, shape)
        return np.frombuffer(pipe.read(dtype.itemsize * math.prod(shape)), dtype).reshape(shape)

    def _used_bytes(self) -> int:
        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:  # it has ended
            return 0

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.wait()
        self._reader.shutdown()
        _pipe(self._process.stdout).close()


def refuse_other_size(header: SliceHeader, shape: tuple[int, ...]) -> None:
    """Refuse pixels that are not as many as the header says.

    Raises
    ------
    InputError
        Naming both.
    """
    if shape != header.size:
        raise InputError(f"{header.path} holds {shape} pixels, its header says {header.size}; {_REMEDY}")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:  # never for a process that was given one
        raise OSError("the decoding process has no pipe")
    return pipe
