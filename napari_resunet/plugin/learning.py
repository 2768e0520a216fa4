"""A model learns beside the window: from which cases, how far it is, what has come of it, and whether to use it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psygnal import Signal, SignalGroup

from napari_resunet.errors import CancelledError, ResUNetError
from napari_resunet.plugin.jobs import Job
from napari_resunet.plugin.session import Session
from napari_resunet.record import CaseRecord
from napari_resunet.settings import LearnSettings
from napari_resunet.track import Track
from napari_resunet.volume import Volume

AT_RANDOM = "at random"


@dataclass(frozen=True, eq=False)
class OpenCase:
    """The open case as it was when the learning began."""

    name: str
    record: CaseRecord
    volume: Volume


@dataclass(frozen=True)
class Order:
    """What was asked for.

    Parameters
    ----------
    cases : tuple of Path and OpenCase
        What to learn from.
    settings : LearnSettings
        The recipe.
    held_out : str
        The name of a case, or `AT_RANDOM`.
    device : str
        Where to learn.
    model_path : Path
        The model to be.
    """

    cases: tuple[Path | OpenCase, ...]
    settings: LearnSettings
    held_out: str
    device: str
    model_path: Path


class LearningEvents(SignalGroup):
    """What a learning tells its panel."""

    cases = Signal()  # others are learnt from
    state = Signal()  # it began, ended, was stopped, or its result was decided on
    told = Signal(str)  # how far it is, or why it ended
    curve = Signal()  # one more step or validation


class Learning:
    """Lets a model learn from corrected cases.

    Parameters
    ----------
    session : Session
        Whose open case may be one of them.

    Attributes
    ----------
    files : list of Path
        Case files to learn from.
    with_open : bool
        Whether to learn from the open case too.
    losses : list of (int, float)
        Step and training loss of each step since it was started.
    lines : list of LearnProgress
        The validations.
    learnt : Learnt, optional
        What has come of it, until the person decides.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events = LearningEvents()
        self.files: list[Path] = []
        self.with_open = False
        self.losses: list[tuple[int, float]] = []
        self.lines: list[Any] = []
        self.learnt: Any = None
        self._job: Job | None = None
        self._order: Order | None = None
        self._is_stopping = self._was_stopped = False
        session.events.case.connect(self._on_case)
        session.on_close.append(self._let_go)

    # ---- what to learn from

    @property
    def open_name(self) -> str | None:
        """What the CT of the open case is called."""
        case = self.session.case
        return None if case is None else case.reference.name

    @property
    def names(self) -> list[str]:
        """The cases to learn from."""
        own = [self.open_name] if self.with_open and self.open_name is not None else []
        return [*own, *(path.name for path in self.files)]

    def add_files(self, paths: Sequence[Path]) -> None:
        self.files += [path for path in paths if path not in self.files]
        self.events.cases.emit()

    def remove(self, names: Sequence[str]) -> None:
        self.files = [path for path in self.files if path.name not in names]
        if self.open_name in names:
            self.with_open = False
        self.events.cases.emit()

    def take_open(self, take: bool) -> None:
        """Say whether to learn from the open case too."""
        self.with_open = take
        self.events.cases.emit()

    def _on_case(self) -> None:
        if self.session.case is None:
            self.with_open = False
        self.events.cases.emit()

    # ---- the work

    @property
    def is_running(self) -> bool:
        return self._job is not None

    @property
    def is_stopping(self) -> bool:
        return self._is_stopping

    @property
    def can_resume(self) -> bool:
        return self._was_stopped and not self.is_running

    @property
    def model_path(self) -> Path | None:
        """Where the newest model is to be."""
        return None if self._order is None else self._order.model_path

    def start(self, settings: LearnSettings, *, held_out: str, device: str, model_path: Path) -> None:
        """Let a model learn; where the same was stopped before, it goes on there."""
        cases: list[Path | OpenCase] = [*self.files]
        case = self.session.case
        if self.with_open and case is not None:
            self.session.sync()
            cases.insert(0, OpenCase(case.reference.name, case.record(), case.volume))
        self._order = Order(tuple(cases), settings, held_out, device, model_path)
        self.losses = []
        self._begin()

    def resume(self) -> None:
        """Go on where it was stopped."""
        if self.can_resume:
            self._begin()

    def _begin(self) -> None:
        if self._job is not None or self._order is None:
            return
        self.lines, self.learnt = [], None
        self._is_stopping = self._was_stopped = False
        self._job = Job(
            _learning,
            self._order,
            on_value=self._on_value,
            on_error=self._on_error,
            on_end=self._on_end,
            on_progress=self._on_progress,
            label="learning",
        )
        self.events.told.emit("reading the cases …")
        self.events.curve.emit()
        self.events.state.emit()
        self._job.start()

    def stop(self) -> None:
        """Stop after the step that is being made; what was learnt so far is kept."""
        if self._job is not None and not self._is_stopping:
            self._is_stopping = True
            self._job.cancel()
            self.events.told.emit("stopping …")
            self.events.state.emit()

    def _on_progress(self, _of_files: bool, done: int, total: int) -> None:
        if not self.lines and not self.losses:
            self.events.told.emit(f"getting ready: {done} of {total}")

    def _on_value(self, told: Any) -> None:
        if hasattr(told, "against"):  # the last one: its class brings torch
            self.learnt = told
            return
        if told.line is not None:
            self.lines.append(told.line)
        else:
            self.losses.append((told.done, told.loss))
        self.events.curve.emit()
        if not self._is_stopping and told.done:
            self.events.told.emit(f"step {told.done} of {told.of}")

    def _on_error(self, error: BaseException) -> None:
        if isinstance(error, CancelledError):
            return
        self.events.told.emit(str(error))
        self._order = None
        self.session.events.failed.emit(error)

    def _on_end(self) -> None:
        self._job = None
        self._was_stopped, self._is_stopping = self._is_stopping and self.learnt is None, False
        if self._was_stopped:
            self.events.told.emit("stopped; what was learnt so far is kept, and Resume goes on from there")
        elif self.learnt is not None:
            self.events.told.emit(said_of(self.learnt))
        self.events.state.emit()

    # ---- what comes of it

    def use(self) -> Path | None:
        """Return the new model, which is written first if the comparison did not speak for it."""
        learnt, path = self.learnt, self.model_path
        if learnt is None or path is None:
            return None
        if learnt.model is None:
            from napari_resunet.training.comparison import keep

            try:
                keep(learnt, path)
            except ResUNetError as error:
                self.session.events.failed.emit(error)
                return None
        self._decided(f"{path.name} is the model that Segment runs now")
        return path

    def forget(self) -> None:
        """Leave the model as it was; files that are written stay."""
        if self.learnt is not None:
            self._decided("the old model stays; the new one was not chosen")

    def _decided(self, words: str) -> None:
        self.learnt = None
        self.events.told.emit(words)
        self.events.state.emit()

    def _let_go(self) -> None:
        for signal in self.events.signals.values():
            signal.disconnect()
        if self._job is not None:
            self._job.abandon()  # it saves its state when its step is made
            self._job = None


def said_of(learnt: Any) -> str:
    """Return in words what has come of a learning."""
    if learnt.against:
        return f"Not better: {'; '.join(learnt.against)}. It was not written; “Use this model” writes it all the same."
    if not learnt.held_out:
        return "Written. No case was held out (that takes three), so whether it is better is not known."
    return f"Written. It is better on {', '.join(learnt.held_out)}, which it has not seen."


def _learning(order: Order, *, track: Track) -> Iterator[Any]:
    """Yield each step, each validation, and last what has come of it."""
    # brings torch, which takes seconds: not at start-up
    from napari_resunet.lessons import corrected_case, learn, lessons_of
    from napari_resunet.training.corrected import Lesson

    def lessons() -> Iterator[Lesson]:
        for case in order.cases:
            if isinstance(case, OpenCase):
                # as a default: else all would read the last one
                yield Lesson(
                    case.name,
                    case.name,
                    lambda _, case=case: corrected_case(case.name, case.record, case.volume),
                )
            else:
                yield from lessons_of(case)

    yield from learn(
        list(lessons()),
        order.model_path,
        settings=order.settings,
        held_out_names=() if order.held_out == AT_RANDOM else (order.held_out,),
        device=order.device,
        read_track=track,
        validation_track=track,
    )
