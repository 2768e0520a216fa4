from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
import nibabel as nib
import numpy as np
import pytest
from cohort_making import PutNifti

from napari_resunet.cohort import workers
from napari_resunet.phantom import Phantom, make_phantom


@pytest.fixture(scope="session")
def small() -> Phantom:
    """The least chest in which the shipped weights find lungs: a second a case."""
    return make_phantom(shape=(12, 96, 96), spacing_mm=(25.0, 3.8, 3.8))


@pytest.fixture
def put_nifti(small: Phantom) -> PutNifti:
    """Return a function that writes the chest to a file, each time a little other, with `hu` added."""

    def put(path: Path, hu: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        array = (small.volume.array + hu).astype(np.int16)
        nib.save(nib.Nifti1Image(array.T, small.volume.geometry.ras_affine), path)
        return path

    return put


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one worker live in the test's own process: it is there at once, and knows what is patched."""

    @contextmanager
    def one(count: int, *, cuda: bool) -> Iterator[Any]:
        dask: Any = distributed
        options = {
            "processes": False,
            "n_workers": 1,
            "threads_per_worker": 1,
            "dashboard_address": "127.0.0.1:0",
        }
        with dask.LocalCluster(**options) as cluster, dask.Client(cluster) as client:
            yield client

    monkeypatch.setattr(workers, "local_workers", one)


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(count: int, *, cuda: bool) -> None:
        raise AssertionError("workers were started")

    monkeypatch.setattr(workers, "local_workers", refuse)
