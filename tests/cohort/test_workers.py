"""The workers that a command starts on its own machine."""

from __future__ import annotations

import os

import pytest

from napari_resunet.cohort.workers import local_workers


def _environment() -> dict[str, str]:
    return dict(os.environ)


def test_a_worker_keeps_freed_memory_and_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    with local_workers(1, cuda=False) as client:
        (environment,) = client.run(_environment).values()
    # with it, which is dask's default, each layer of a network pays for new memory: twice the time
    assert "MALLOC_TRIM_THRESHOLD_" not in environment
    assert environment["OMP_NUM_THREADS"] == "6"
