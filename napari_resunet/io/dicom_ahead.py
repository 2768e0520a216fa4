"""Files read ahead in a few threads, in their order, and never far ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
THREADS = 4  # reading waits for the disk more than for the processor
_AHEAD = 16  # what is read but not yet taken lies in memory


def read_ahead(read: Callable[[T], R], items: Iterable[T]) -> Generator[R]:
    """Give back ``read(item)`` for each item, in their order; closing it drops what has not begun."""
    pool = ThreadPoolExecutor(THREADS)
    waiting = deque[Future[R]]()
    try:
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
