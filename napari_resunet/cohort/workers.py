"""Who does the work: processes on this machine, or the workers of a scheduler that stands already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import distributed
from dask import config
from distributed import WorkerPlugin

from napari_resunet.errors import InputError

dask: Any = distributed  # its functions have no types

GPU = "GPU"
_CONNECT_S = 30


@contextmanager
def local_workers(count: int, *, cuda: bool) -> Iterator[Any]:
    """Start single-threaded workers as processes of their own, each with its share of the cores; end them after.

    A worker that dies is started anew. Its tasks are not given to others unasked: what a case does to its worker is
    counted by the case.

    Parameters
    ----------
    count : int
        How many.
    cuda : bool
        Whether each offers a GPU; where there are several, the workers share them out.
    """
    threads = str(max(1, (os.cpu_count() or 1) // count))
    environment = dict.fromkeys(
        (
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
        ),
        threads,
    )
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.comm.timeouts.connect": f"{_CONNECT_S}s",
        # dask has every freed array given back to the system at once, so that each layer of a network pays for new
        # memory: twice the time of a case
        "distributed.nanny.pre-spawn-environ": {},
    }
    with ExitStack() as held:
        held.enter_context(config.set(settings))
        cluster = held.enter_context(
            dask.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                memory_limit=0,  # a CT takes what it takes: no worker is to be paused for it
                silence_logs="CRITICAL",
                resources={GPU: 1} if cuda else None,
                env=environment,
            )
        )
        client = held.enter_context(dask.Client(cluster, set_as_default=False))
        if cuda:
            client.register_plugin(OneGpuEach())
        held.enter_context(client.as_current())
        yield client


class OneGpuEach(WorkerPlugin):
    """Lets a worker see one GPU only, in turn by the number of the worker."""

    name = "one GPU each"

    def setup(self, worker: Any) -> None:
        import torch

        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        there = seen.split(",") if seen else [str(index) for index in range(torch.cuda.device_count())]
        if there:
            os.environ["CUDA_VISIBLE_DEVICES"] = there[int(worker.name) % len(there)]


@contextmanager
def workers_of(address: str, *, cuda: bool) -> Iterator[Any]:
    """Connect to a scheduler that stands, and leave it standing after.

    Raises
    ------
    InputError
        If it cannot be reached or has no workers, or a worker has several threads, or none offers a GPU where one is
        needed.
    """
    try:
        client = dask.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"no dask scheduler answers at {address} ({error}); start one with dask scheduler"
        ) from error
    with client, client.as_current():
        try:
            client.wait_for_workers(1, timeout=_CONNECT_S)
        except TimeoutError as error:
            raise InputError(
                f"the scheduler at {address} has no workers; start them with {_start(address)}"
            ) from error
        _require_fit(client.scheduler_info(n_workers=-1)["workers"], address, cuda=cuda)
        yield client


def _start(address: str) -> str:
    return f"dask worker {address} --nthreads 1"


def _require_fit(workers: dict[str, Any], address: str, *, cuda: bool) -> None:
    start = _start(address)
    if any(worker["nthreads"] != 1 for worker in workers.values()):
        raise InputError(f"a worker of {address} has several threads; start each with {start}")
    if cuda and not any(worker.get("resources", {}).get(GPU) for worker in workers.values()):
        raise InputError(f"no worker of {address} offers a GPU; start them with {start} --resources GPU=1")
