"""Long work beside the window: one job at a time, its answers on the main thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from napari.qt.threading import GeneratorWorker, create_worker

from napari_resunet.errors import PredictionError, ResUNetError

Generator = Callable[..., Iterator[Any]]


class Job:
    """A generator that runs in a thread; each value it yields arrives on the main thread.

    Parameters
    ----------
    generator : callable
        Given the arguments, returns the generator.
    on_value, on_error, on_end : callable
        Called on the main thread: with each value; with an error; and last, always.
    total : int
        How many values will come, for napari's activity bar.
    label : str
        What stands there.
    """

    def __init__(
        self,
        generator: Generator,
        *arguments: Any,
        on_value: Callable[[Any], None],
        on_error: Callable[[BaseException], None],
        on_end: Callable[[], None],
        total: int = 0,
        label: str = "",
    ) -> None:
        self._worker: GeneratorWorker = create_worker(
            _guarded,
            generator,
            *arguments,
            _start_thread=False,
            _ignore_errors=True,  # else raised in the event loop too, where nobody can catch it
            _progress={"total": total, "desc": label},
        )
        self._worker.yielded.connect(on_value)
        self._worker.errored.connect(on_error)
        self._worker.finished.connect(on_end)

    def start(self) -> None:
        self._worker.start()

    def cancel(self) -> None:
        """Ask it to stop after the value it is working on."""
        self._worker.quit()

    @property
    def is_running(self) -> bool:
        return bool(self._worker.is_running)


def _guarded(generator: Generator, *arguments: Any) -> Iterator[Any]:
    # napari takes a RuntimeError in a generator for the end of an abort, and reports nothing
    try:
        yield from generator(*arguments)
    except ResUNetError:
        raise
    except RuntimeError as error:
        raise PredictionError(f"the work stopped: {error}") from error
