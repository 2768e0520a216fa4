"""The unit of all the work: one case, from its CT to its mask, with what is known of it on disk at every moment."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from napari_resunet.cohort.figures import figures_of
from napari_resunet.cohort.find import stamp_of
from napari_resunet.cohort.guard import guarded, has_hung
from napari_resunet.cohort.manifest import (
    CASE_FILE,
    MASK,
    CaseEntry,
    Status,
    case_folder,
    in_out,
    read_entry,
    relative_path,
    write_entry,
)
from napari_resunet.cohort.plan import is_corrected, is_up_to_date, model_sha256_of
from napari_resunet.cohort.questions import ask_of_values, columns_that_answer
from napari_resunet.cohort.recipe import Recipe
from napari_resunet.errors import (
    BeingWrittenError,
    CancelledError,
    CheckpointError,
    InputError,
    ResUNetError,
    without_options,
)
from napari_resunet.inference.postprocess import to_mask
from napari_resunet.inference.predict import predict
from napari_resunet.io.atomic import replacing
from napari_resunet.io.case_file import write_case
from napari_resunet.io.files import write_mask, write_probability
from napari_resunet.io.one_writer import only_writer
from napari_resunet.io.open_ct import open_ct
from napari_resunet.io.regular_file import sha256_of
from napari_resunet.io.sidecar import program_version
from napari_resunet.measure.doubt import SliceDoubt, slice_doubt
from napari_resunet.model.card import RESEARCH_ONLY, find_model
from napari_resunet.model.checkpoint import Model, load_model
from napari_resunet.pictures import most_doubtful_slice
from napari_resunet.record import CaseRecord, CtReference
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import Mask, ProbabilityMap, Volume

T = TypeVar("T")

STOP, LOG = "stop", "case.log"
_PROBABILITY, _CASE, _PICTURE = "probability.nii.gz", "case.nru", "case.png"
_PROBABILITY_SIDECAR = "probability.json"


class BusyError(ResUNetError):
    """Another process works on the case."""


def run_case(out: Path, case_id: str, recipe: Recipe) -> CaseEntry:
    """Run one case, unless it is done already, and return what is known of it then.

    Whatever happens is on disk: ``running`` with one more attempt before the work begins, then what became of it. If
    the process is killed, or hangs and is ended, the case stays ``running``, and the next call tells that from the
    lock that nobody holds.

    Parameters
    ----------
    out : Path
        The folder of the cohort.
    case_id : str
        Of a case that is in it.
    recipe : Recipe
        What it is run with.

    Returns
    -------
    CaseEntry
        Done, asked, refused or failed; waiting if the work was stopped by a file ``stop`` in `out`.

    Raises
    ------
    InputError
        If there is no such case.
    BusyError
        If another process works on it.
    OutputError
        If not even that it failed can be written.
    """
    with only_runner(out, case_id):
        entry = read_entry(out, case_id)
        if _has_nothing_to_do(entry, recipe, out):
            return entry
        if entry.status == Status.RUNNING:
            entry = after_loss(out, entry, recipe)
        if entry.attempts >= recipe.attempts or (out / STOP).exists():
            return entry
        return _run(out, entry, recipe)


def _has_nothing_to_do(entry: CaseEntry, recipe: Recipe, out: Path) -> bool:
    is_settled = is_corrected(entry) or is_up_to_date(entry, recipe, out, model_sha256_of(recipe))
    return is_settled and stamp_of(Path(entry.source)) == entry.input_stamp


@contextmanager
def only_runner(out: Path, case_id: str) -> Iterator[None]:
    """Hold the right to work on a case; the system frees it when its process ends, however.

    Raises
    ------
    BusyError
        If another process holds it.
    """
    with ExitStack() as held:
        try:
            held.enter_context(only_writer(case_folder(out, case_id) / CASE_FILE))
        except BeingWrittenError as error:
            raise BusyError(f"another process works on case {case_id}; wait until it is done") from error
        yield


def after_loss(out: Path, entry: CaseEntry, recipe: Recipe) -> CaseEntry:
    """Write what becomes of a case whose process is gone: it waits for another attempt, or has failed."""
    log = case_folder(out, entry.id) / LOG
    why = f"took longer than {recipe.timeout_s:g} s" if has_hung(log) else "its process died"
    told = (
        f"{why} (attempt {entry.attempts} of {recipe.attempts}); what it was at is in {LOG} beside the mask"
    )
    is_lost = entry.attempts >= recipe.attempts
    remedy = "; look at the CT, or give more memory or time, and run again with --retry" if is_lost else ""
    status = Status.FAILED if is_lost else Status.WAITING
    entry = replace(
        entry, status=status, reason=told + remedy, log=relative_path(entry.id, LOG), ended=_now()
    )
    write_entry(out, entry)
    return entry


def _run(out: Path, entry: CaseEntry, recipe: Recipe) -> CaseEntry:
    begun = replace(
        entry,
        status=Status.RUNNING,
        attempts=entry.attempts + 1,
        started=_now(),
        ended="",
        reason="",
        answer_with=(),
        host=socket.gethostname(),
        package_version=program_version(),
    )
    write_entry(out, begun)
    log = case_folder(out, entry.id) / LOG
    try:
        with guarded(log, recipe.timeout_s):
            ended = _worked(out, begun, recipe)
    except (KeyboardInterrupt, CancelledError) as stopped:
        ended = replace(begun, status=Status.WAITING, attempts=entry.attempts)
        write_entry(out, replace(ended, ended=_now()))
        if isinstance(stopped, KeyboardInterrupt):
            raise
        return ended
    except Exception as error:
        ended = replace(begun, **_verdict(error), log=relative_path(entry.id, LOG) if log.exists() else "")
    ended = replace(ended, ended=_now())
    write_entry(out, ended)
    return ended


def _verdict(error: Exception) -> dict[str, Any]:
    """Return what an error makes of a case."""
    columns = columns_that_answer(error)
    if columns:
        return {"status": Status.ASKED, "reason": _one_line(error), "answer_with": columns, "attempts": 0}
    if isinstance(error, InputError) and not isinstance(error, CheckpointError):
        return {"status": Status.REFUSED, "reason": _one_line(error), "attempts": 0}
    if isinstance(error, ResUNetError):
        return {"status": Status.FAILED, "reason": _one_line(error)}
    told = f"{type(error).__name__}: {_one_line(error)}; see {LOG}, then run again with --retry"
    return {"status": Status.FAILED, "reason": told}


def _worked(out: Path, entry: CaseEntry, recipe: Recipe) -> CaseEntry:
    """Do the work on a case, and return it as done."""
    clock = _Clock()
    folder, source = case_folder(out, entry.id), Path(entry.source)
    stop_if_told = _stopper(out)
    model = _model(recipe.predict.model)
    stamp = stamp_of(source)
    volume = open_ct(source, entry.answers, stop_if_told)
    sha256 = "" if volume.source is None else volume.source.sha256
    if _is_done(entry, recipe, out, sha256, model):
        return replace(entry, status=Status.DONE, input_stamp=stamp, attempts=0)
    if not volume.hu_confirmed:
        ask_of_values(volume)
    clock.stop("seconds_read")

    choices = asdict(recipe.predict) | {"model": model}
    prob = predict(volume, **choices, track=stop_if_told)
    mask = to_mask(prob, **asdict(recipe.mask))
    clock.stop("seconds_predict")

    receipt = write_mask(mask, folder / MASK)
    written = {"mask": MASK, "probability": "", "case_file": "", "picture": ""}
    if recipe.probability:
        write_probability(prob, folder / _PROBABILITY)
        written["probability"] = _PROBABILITY
    if recipe.case_file:
        write_case(_untouched(volume, prob, recipe.mask), folder / _CASE)
        written["case_file"] = _CASE
    clock.stop("seconds_write")

    doubt = _doubt(prob, recipe.mask.threshold)
    figures: dict[str, Any] = figures_of(volume, mask, run=prob.run, swap_sides=recipe.mask.swap_sides)
    figures |= _doubt_figures(doubt, mask.axial)
    notes = prob.notes
    if recipe.picture:
        problem = _draw(volume, mask, doubt, folder / _PICTURE, _title(entry.id, model, figures))
        written["picture"] = "" if problem else _PICTURE
        notes += (problem,) if problem else ()
    _remove_unwritten(folder, written)
    results: dict[str, Any] = {name: file and relative_path(entry.id, file) for name, file in written.items()}
    return replace(
        entry,
        status=Status.DONE,
        attempts=0,
        input_sha256=sha256,
        input_stamp=stamp,
        model=model.card.name,
        model_sha256=model.card.sha256,
        settings=recipe.settings,
        **results,
        log="",
        mask_sha256=receipt.sha256,
        **figures,
        **clock.seconds,
        seconds_all=clock.all,
        device=f"{prob.run.device} in {prob.run.precision}" if prob.run else "",
        notes=notes,
        reviewed=False,
        reviewed_at="",
        rejected="",
        version=1 if entry.version <= 1 else entry.version + 1,  # a corrected one keeps its file
        edited_voxels=0,
    )


def _remove_unwritten(folder: Path, written: Mapping[str, str]) -> None:
    """Remove what an earlier run wrote besides its mask, which is another now."""
    stale = {_PROBABILITY, _CASE, _PICTURE} - set(written.values())
    if _PROBABILITY in stale:
        stale.add(_PROBABILITY_SIDECAR)
    for name in stale:
        (folder / name).unlink(missing_ok=True)


def _is_done(entry: CaseEntry, recipe: Recipe, out: Path, sha256: str, model: Model) -> bool:
    """Whether the mask that is there was made of these bytes, by this model, with these settings."""
    mask = in_out(out, entry.mask)
    return (
        (entry.input_sha256, entry.model_sha256) == (sha256, model.card.sha256)
        and recipe.is_served_by(entry.settings)
        and mask is not None
        and mask.is_file()
        and (is_corrected(entry) or sha256_of(mask) == entry.mask_sha256)
    )


class _Clock:
    """Takes the time of one step after the other, in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, Any] = {}
        self._begun = self._last = time.perf_counter()

    def stop(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now

    @property
    def all(self) -> float:
        return round(time.perf_counter() - self._begun, 3)


def _stopper(out: Path) -> Any:
    """Return a tracker that ends the work when there is a file called ``stop`` in the cohort's folder."""

    def track(steps: Sequence[T], /) -> Iterable[T]:
        for step in steps:
            if (out / STOP).exists():
                raise CancelledError("the cohort was stopped")
            yield step

    return track


def _model(name: str) -> Model:
    """Return the model, loaded once in a process as long as its file stays the same."""
    status = find_model(name).stat()
    return _loaded(name, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded(name: str, _size: int, _changed: int) -> Model:
    return load_model(name)


def _doubt(prob: ProbabilityMap, threshold: float) -> SliceDoubt:
    geometry = prob.geometry.axial
    return slice_doubt(prob.axial, threshold=threshold, spacing_mm=geometry.spacing_mm, done=prob.done)


def _doubt_figures(doubt: SliceDoubt, labels: npt.NDArray[Any]) -> dict[str, Any]:
    """Return doubt in figures; the worst slice is the one that the picture shows and the review begins with."""
    by_slice = doubt.total
    some = by_slice[by_slice > 0]
    worst = most_doubtful_slice(by_slice, labels)
    return {
        "doubt_mean": float(some.mean()) if some.size else 0.0,
        "doubt_worst": 0.0 if worst is None else float(by_slice[worst]),
        "doubt_worst_slice": worst,
        "doubt_slices": tuple(None if np.isnan(value) else round(float(value), 4) for value in by_slice),
    }


def _untouched(volume: Volume, prob: ProbabilityMap, settings: MaskSettings) -> CaseRecord:
    """Return the case as the window has it before anybody has touched it."""
    probability = np.ascontiguousarray(prob.axial)
    return CaseRecord.untouched(CtReference.of(volume), settings, prob.run, prob.done, probability)


def _draw(volume: Volume, mask: Mask, doubt: SliceDoubt, path: Path, title: str) -> str:
    """Draw the picture of a case; return why there is none. No mask is lost for want of a picture."""
    from napari_resunet.pictures import draw_case

    try:
        with replacing(path) as temporary:
            draw_case(volume, mask, doubt.total, temporary, title=title)
    except Exception as error:
        return f"no picture could be drawn ({_one_line(error)})"
    return ""


def _title(case_id: str, model: Model, figures: dict[str, Any]) -> str:
    found = f"{figures['ml_total']:,.0f} ml, doubt up to {figures['doubt_worst']:.2f}"
    return f"{case_id}: {found}. {model.card.name}. {RESEARCH_ONLY}"


def _one_line(error: Exception) -> str:
    return " ".join(without_options(error).split())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
