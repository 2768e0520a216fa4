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
    label : str
        What stands in napari's activity bar.
    """

    def __init__(
        self,
        generator: Generator,
        *arguments: Any,
        on_value: Callable[[Any], None],
        on_error: Callable[[BaseException], None],
        on_end: Callable[[], None],
        label: str = "",
    ) -> None:
        self._on_value, self._on_error, self._on_end = on_value, on_error, on_end
        self._worker: GeneratorWorker = create_worker(
            _guarded,
            generator,
            *arguments,
            _start_thread=False,
            _ignore_errors=True,  # else raised in the event loop too, where nobody can catch it
            _progress={"total": 0, "desc": label},
        )
        # bound methods, which Qt does not keep alive: neither does the worker then keep the window
        self._worker.yielded.connect(self._take_value)
        self._worker.errored.connect(self._take_error)
        self._worker.finished.connect(self._take_end)

    def start(self) -> None:
        self._worker.start()

    def cancel(self, *, mute: bool = False) -> None:
        """Ask it to stop after the value it is working on; `mute` it to hear no more values or errors from it."""
        if mute:
            self._on_value = self._on_error = _ignore
        self._worker.quit()

    def abandon(self) -> None:
        """Cancel it and never hear from it again."""
        self.cancel(mute=True)
        self._on_end = _ignore

    def _take_value(self, value: Any) -> None:
        self._on_value(value)

    def _take_error(self, error: BaseException) -> None:
        self._on_error(error)

    def _take_end(self) -> None:
        self._on_end()


def _ignore(*_: Any) -> None:
    pass


def _guarded(generator: Generator, *arguments: Any) -> Iterator[Any]:
    # napari takes a RuntimeError in a generator for the end of an abort, and reports nothing
    try:
        yield from generator(*arguments)
    except ResUNetError:
        raise
    except RuntimeError as error:
        raise PredictionError(f"the work stopped: {error}") from error
