"""Many cases: found, probed, shared out to workers, and put together; whatever dies on the way, the disk knows."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import distributed

from napari_resunet.cohort import workers as workplaces
from napari_resunet.cohort.find import Found, find_cts
from napari_resunet.cohort.manifest import (
    CASES,
    COHORT_FILE,
    CaseEntry,
    Status,
    read_entries,
    read_entry,
    write_entry,
)
from napari_resunet.cohort.plan import against_disk, already_probed, refuse_unusable, with_answers
from napari_resunet.cohort.probe import Probed, merge_split_series, probe
from napari_resunet.cohort.recipe import Recipe, write_recipe
from napari_resunet.cohort.run import STOP, BusyError, after_loss, only_runner, run_case
from napari_resunet.cohort.summary import write_summary
from napari_resunet.errors import BeingWrittenError, DeviceError, InputError, ResUNetError
from napari_resunet.io.atomic import replacing
from napari_resunet.io.folders import made_folder
from napari_resunet.io.one_writer import only_writer

dask: Any = distributed  # its functions have no types
Future = Any
Client = Any

WAITING_LIST = "waiting.txt"
_AHEAD = 2  # cases given to each worker: one to work on, one to take next
_LOOK_S = 0.5
_TABLE_EVERY_S, _TABLE_SHARE = 15.0, 0.05
_STOP_S = 20.0
_GONE = "the scheduler is gone; start it again, then the same command goes on where it was"
_AT_ONCE = 20  # CTs probed in one task
_UNBEGUN = 20
_LOST = (dask.KilledWorker, dask.CancelledError)  # of a worker that is gone


@dataclass(frozen=True)
class Standing:
    """How far a cohort is.

    Parameters
    ----------
    counts : mapping of Status to int
        How many cases stand where.
    newest : CaseEntry, optional
        What has just ended.
    workers : int
        How many there are.
    dashboard : str
        The address of dask's page; "" if it has none.
    passed_over : tuple of Path
        Files that were taken for masks or probability maps; told once, before anything is run.
    """

    counts: dict[Status, int]
    newest: CaseEntry | None = None
    workers: int = 0
    dashboard: str = ""
    passed_over: tuple[Path, ...] = ()


Report = Callable[[Standing], None]


def run_cohort(
    source: str,
    out: Path,
    recipe: Recipe,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    answers: Path | None = None,
    retry: bool = False,
    prepare_only: bool = False,
    report: Report = lambda _: None,
) -> list[CaseEntry]:
    """Run every case that is not done yet.

    Parameters
    ----------
    source : str
        As `napari_resunet.cohort.find.find_cts` takes it.
    out : Path
        Where everything is written; made if need be.
    recipe : Recipe
        What each case is run with.
    workers : int
        How many processes of this machine work.
    scheduler : str, optional
        The address of a dask scheduler whose workers do the work instead; they must see the same paths.
    answers : Path, optional
        A table with answers to what was asked.
    retry : bool
        Whether to try again what was refused or failed.
    prepare_only : bool
        Write what is to be done, also as ``waiting.txt`` with an id a line, and do nothing of it.
    report : callable
        Is given a `Standing` now and then.

    Returns
    -------
    list of CaseEntry
        All cases that were found, as they stand at the end, without the doubt of each slice.

    Raises
    ------
    InputError
        If there is no CT, or a table cannot be used.
    OutputError
        If `out` cannot be written, or another program works on it.
    KeyboardInterrupt
        When the user stops it; then no case is left as running.
    """
    out, recipe = out.absolute(), recipe.with_absolute_model()
    if Path(source).resolve() == out.resolve():
        raise InputError(f"{source} holds the CTs; give another folder for the results, such as {out}-lungs")
    with _only_coordinator(out), _Job(out, recipe, report, _places(workers, scheduler, recipe)) as job:
        planned = job.plan(source, answers, retry=retry)
        write_recipe(out, recipe)
        if prepare_only:
            job.write_waiting(planned)
        else:
            job.run([entry.id for entry in planned if entry.status == Status.WAITING])
        write_summary(out)
        return [_without_lists(read_entry(out, entry.id)) for entry in planned]


def _places(
    workers: int, scheduler: str | None, recipe: Recipe
) -> Callable[[], AbstractContextManager[Client]]:
    cuda = recipe.predict.device == "cuda"
    if scheduler is not None:
        return lambda: workplaces.workers_of(scheduler, cuda=cuda)
    return lambda: workplaces.local_workers(workers, cuda=cuda)


@contextmanager
def _only_coordinator(out: Path) -> Iterator[None]:
    made_folder(out / CASES)
    with ExitStack() as held:
        try:
            held.enter_context(only_writer(out / COHORT_FILE))
        except BeingWrittenError as error:
            told = f" ({error.holder})" if error.holder else ""
            raise BeingWrittenError(
                f"{out} is being worked on by another cohort command{told}; wait until it is done, or stop it",
                holder=error.holder,
            ) from error
        (out / STOP).unlink(missing_ok=True)
        yield


class _Job:
    """One command at work: starts the workers when there is something to do, and leaves a clean state."""

    def __init__(
        self, out: Path, recipe: Recipe, report: Report, places: Callable[[], AbstractContextManager[Client]]
    ) -> None:
        self._out, self._recipe, self._report, self._places = out, recipe, report, places
        self._held = ExitStack()
        self._client: Client | None = None
        self._status: dict[str, Status] = {}
        self._counts = dict.fromkeys(Status, 0)
        self._next_table = 0.0
        self._unbegun = 0  # tasks, one after the other, that were lost before their case was begun

    def __enter__(self) -> _Job:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def client(self) -> Client:
        if self._client is None:
            self._client = self._held.enter_context(self._places())
        return self._client

    # ---- what there is to do

    def plan(self, source: str, answers: Path | None, *, retry: bool) -> list[CaseEntry]:
        """Find and probe what there is, write each case as it stands, and return them."""
        refuse_unusable(self._recipe, answers)  # before all CTs are looked at
        known = {entry.id: _without_lists(self._settled(entry)) for entry in read_entries(self._out)}
        passed_over: list[Path] = []
        new, kept = already_probed(find_cts(source, self._out, passed_over.append), known.values())
        wanted = with_answers([*kept, *self._probed(new)], answers)
        planned = against_disk(wanted, known, self._recipe, self._out, retry=retry)
        for entry in planned:
            if entry != known.get(entry.id):
                write_entry(self._out, entry)
        for entry in planned:
            self._note(entry)
        self._report(Standing(self._counts.copy(), passed_over=tuple(passed_over)))
        return planned

    def _settled(self, entry: CaseEntry) -> CaseEntry:
        """Return a case; one that a killed command left as running has lost an attempt."""
        if entry.status != Status.RUNNING:
            return entry
        try:
            with only_runner(self._out, entry.id):
                entry = read_entry(self._out, entry.id)
                is_lost = entry.status == Status.RUNNING
                return after_loss(self._out, entry, self._recipe) if is_lost else entry
        except BusyError:  # a worker that nobody hears of any more is still at it
            return entry

    def _probed(self, found: Sequence[Found]) -> list[CaseEntry]:
        if not found:
            return []
        parts = [found[first : first + _AT_ONCE] for first in range(0, len(found), _AT_ONCE)]
        futures = self.client.map(_probe_all, parts, pure=False)
        try:
            cases: list[Probed] = [case for part in self.client.gather(futures) for case in part]
        except Exception as error:  # what is in a CT never raises
            raise _unfit_worker(error) from error
        return merge_split_series(cases)

    def _is_at_work(self, case_id: str) -> bool:
        if read_entry(self._out, case_id).status != Status.RUNNING:
            return False
        try:
            with only_runner(self._out, case_id):
                return False
        except BusyError:
            return True

    # ---- doing it

    def run(self, ids: Sequence[str]) -> None:
        """Run cases until each is done, or cannot be."""
        if not ids:
            return
        client, pending, flying = self.client, deque(ids), dict[Future, str]()
        self._tell(None)
        try:
            while pending or flying:
                room = _AHEAD * max(1, len(client.nthreads())) - len(flying)
                for _ in range(min(room, len(pending))):
                    case_id = pending.popleft()
                    flying[self._submit(client, case_id)] = case_id
                ended = _ended(flying)
                if client.status != "running":
                    raise DeviceError(_GONE)
                for future in ended:
                    entry = self._outcome(future, flying.pop(future))
                    self._note(entry)
                    if entry.status in (Status.WAITING, Status.RUNNING):
                        pending.append(entry.id)
                    self._tell(entry)
                self._write_now_and_then()
                if (self._out / STOP).exists():  # somebody on another machine wants it to end
                    raise KeyboardInterrupt
        except OSError as error:  # of dask, when its scheduler is gone
            self._stop(flying)
            raise DeviceError(_GONE) from error
        except BaseException:
            self._stop(flying)
            raise

    def _submit(self, client: Client, case_id: str) -> Future:
        needs = {workplaces.GPU: 1} if self._recipe.predict.device == "cuda" else None
        return client.submit(
            run_case,
            self._out,
            case_id,
            self._recipe,
            resources=needs,
            pure=False,
            key=f"case-{case_id}-{time.monotonic_ns()}",
        )

    def _outcome(self, future: Future, case_id: str) -> CaseEntry:
        """Return how a case stands after its task has ended, in whatever way."""
        error = None if future.status == "finished" else future.exception()
        if error is None and future.status == "finished":
            self._unbegun = 0
            ended: CaseEntry = future.result()
            return ended
        if error is not None and not isinstance(error, (BusyError, *_LOST)):  # a case never raises by itself
            raise _unfit_worker(error) from error
        entry = read_entry(self._out, case_id)
        self._count_unbegun(error, entry)
        entry = self._settled(entry)
        if entry.status == Status.RUNNING:
            time.sleep(_LOOK_S)
        return entry

    def _count_unbegun(self, error: BaseException | None, entry: CaseEntry) -> None:
        """Give up where worker after worker dies before it has begun with a case, which no case counts."""
        self._unbegun = self._unbegun + 1 if error is not None and entry.status == Status.WAITING else 0
        if self._unbegun > _UNBEGUN:
            raise _unfit_worker(error)

    def _note(self, entry: CaseEntry) -> None:
        """Count where a case stands; what else is known of it is on disk."""
        if entry.id in self._status:
            self._counts[self._status[entry.id]] -= 1
        self._counts[entry.status] += 1
        self._status[entry.id] = entry.status

    def _tell(self, newest: CaseEntry | None) -> None:
        workers = len(self.client.nthreads())
        self._report(Standing(self._counts.copy(), newest, workers, _dashboard(self.client)))

    def _write_now_and_then(self) -> None:
        """Write table and page, but spend little of the time on it."""
        begun = time.monotonic()
        if begun >= self._next_table:
            write_summary(self._out)
            took = time.monotonic() - begun
            self._next_table = begun + max(_TABLE_EVERY_S, took / _TABLE_SHARE)

    def write_waiting(self, planned: Sequence[CaseEntry]) -> None:
        """Write the ids of what is to be run, one a line, for other programs to share out."""
        ids = [entry.id for entry in planned if entry.status == Status.WAITING]
        with replacing(self._out / WAITING_LIST) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")

    def _stop(self, flying: dict[Future, str]) -> None:
        """Let the workers put down what they do, and leave no case as running."""
        (self._out / STOP).touch()
        end = time.monotonic() + _STOP_S
        while any(map(self._is_at_work, flying.values())) and time.monotonic() < end:
            time.sleep(_LOOK_S / 5)
        with contextlib.suppress(Exception):  # whatever is the matter, the state on disk is put in order
            self._held.close()
        for case_id in flying.values():
            entry = read_entry(self._out, case_id)
            if entry.status == Status.RUNNING:
                given_back = max(0, entry.attempts - 1)
                write_entry(self._out, replace(entry, status=Status.WAITING, attempts=given_back))
        (self._out / STOP).unlink(missing_ok=True)
        write_summary(self._out)


def _without_lists(entry: CaseEntry) -> CaseEntry:
    """Return a case without what is long: a hundred thousand of them have to fit into the memory."""
    return replace(entry, doubt_slices=())


def _dashboard(client: Client) -> str:
    """Return the address of dask's page, which there is only with bokeh."""
    return (client.dashboard_link or "") if find_spec("bokeh") else ""


def _probe_all(found: Sequence[Found]) -> list[Probed]:
    return [case for each in found for case in probe(each)]


def _unfit_worker(error: BaseException | None) -> ResUNetError:
    """Return the error of a worker that cannot work on any case, with what it needs."""
    told = f"{type(error).__name__}: {error}".partition("\n")[0]
    return DeviceError(
        f"a worker could not begin with a case ({told}); each worker needs the same napari-resunet, the folders of CTs "
        "and results under the same paths, and the model"
    )


def _ended(flying: dict[Future, Any]) -> list[Future]:
    """Return tasks that have ended, after waiting for one for a moment."""
    with contextlib.suppress(TimeoutError, dask.CancelledError):  # cancelled: by a scheduler that goes
        dask.wait(list(flying), timeout=_LOOK_S, return_when="FIRST_COMPLETED")
    return [future for future in flying if future.done()]
