"""Long work beside the window: one job at a time, its answers on the main thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, TypeVar

from napari.qt.threading import GeneratorWorker, create_worker
from qtpy.QtCore import QObject, Qt, Signal

from napari_resunet.errors import CancelledError, PredictionError

T = TypeVar("T")
Generator = Callable[..., Iterator[Any]]
_TELL_S = 0.05  # the window cannot show more


class Tracking(QObject):
    """A tracker for work in a thread: tells on the main thread how far it is, and stops it when it is asked to.

    `told` is given whether the steps are files that are looked at, how many are done, and how many there are.
    """

    told = Signal(bool, int, int)

    def __init__(self) -> None:
        super().__init__()
        self._stopped = Event()

    def stop(self) -> None:
        self._stopped.set()

    def __call__(self, steps: Sequence[T], /) -> Iterator[T]:
        last = 0.0
        for done, step in enumerate(steps):
            if self._stopped.is_set():
                raise CancelledError("the reading was cancelled")
            if monotonic() - last > _TELL_S:
                last = monotonic()
                self.told.emit(isinstance(step, Path), done, len(steps))
            yield step


class _Worker(GeneratorWorker):
    """Lets its generator go when it is cancelled, and with it the network, though napari may keep the worker."""

    def work(self) -> Any:
        try:
            return super().work()
        finally:
            self._gen.close()


class Job:
    """A generator that runs in a thread; each value it yields arrives on the main thread.

    Parameters
    ----------
    generator : callable
        Given the arguments, returns the generator.
    on_value, on_error, on_end : callable
        Called on the main thread: with each value; with an error; and last, always.
    on_progress : callable, optional
        Called with what `Tracking` tells; the generator is then given a tracker as ``track``.
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
        on_progress: Callable[[bool, int, int], None] | None = None,
        label: str = "",
    ) -> None:
        self._on_value, self._on_error, self._on_end = on_value, on_error, on_end
        self._on_progress = on_progress
        self._tracking = None if on_progress is None else Tracking()
        if self._tracking is not None:
            self._tracking.told.connect(self._take_progress, Qt.ConnectionType.QueuedConnection)
            generator = partial(generator, track=self._tracking)
        self._worker: GeneratorWorker = create_worker(
            _guarded,
            generator,
            *arguments,
            _worker_class=_Worker,
            _start_thread=False,
            _progress={"total": 0, "desc": label},
        )
        # bound methods, which Qt does not keep alive: neither does the worker then keep the window
        self._worker.yielded.connect(self._take_value)
        self._worker.finished.connect(self._take_end)

    def start(self) -> None:
        _at_work.add(self)
        self._worker.start()

    def cancel(self, *, mute: bool = False) -> None:
        """Ask it to stop after the value it is working on; `mute` it to hear no more values or errors from it."""
        if mute:
            self._on_value = self._on_error = self._on_progress = _ignore
        if self._tracking is not None:
            self._tracking.stop()
        self._worker.quit()

    def abandon(self) -> None:
        """Cancel it and never hear from it again."""
        self.cancel(mute=True)
        self._on_end = _ignore

    def _take_progress(self, of_files: bool, done: int, total: int) -> None:
        self._on_progress(of_files, done, total)

    def _take_value(self, value: Any) -> None:
        if isinstance(value, _Failed):
            self._on_error(value.error)
        else:
            self._on_value(value)

    def _take_end(self) -> None:
        _at_work.discard(self)
        self._on_end()


_at_work: set[Job] = set()  # PySide6 calls a bound method also when what it is bound to is gone


def _ignore(*_: Any) -> None:
    pass


@dataclass(frozen=True)
class _Failed:
    error: Exception


def _guarded(generator: Generator, *arguments: Any) -> Iterator[Any]:
    """Yield what a generator yields, and last the error that ended it.

    As an error, napari takes a RuntimeError for the end of an abort, and fails itself at any other under PySide6.
    """
    try:
        yield from generator(*arguments)
    except RuntimeError as error:
        stopped = PredictionError(f"the work stopped: {error}")
        stopped.__cause__ = error
        yield _Failed(stopped)
    except Exception as error:
        yield _Failed(error)
