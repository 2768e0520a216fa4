"""What jobs do beside the window: generators that are given arrays and settings, and yield values.

None of them knows a layer, a widget or a case.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.journal import Abandoned
from napari_resunet.errors import InputError
from napari_resunet.inference.postprocess import lung_voxels
from napari_resunet.io.case_file import open_case_ct, read_case
from napari_resunet.io.open_ct import open_ct
from napari_resunet.record import CaseRecord, CtReference
from napari_resunet.settings import InputAnswers, PredictSettings
from napari_resunet.track import Track
from napari_resunet.volume import Run, Volume


def reading(path: Path, answers: InputAnswers, *, track: Track) -> Iterator[tuple[Volume, CaseRecord | None]]:
    yield open_ct(path, answers, track), None


def reading_case(
    path: Path, ct: Path | None, opened: Sequence[tuple[CtReference, Volume]], *, track: Track
) -> Iterator[tuple[Volume, CaseRecord]]:
    """Yield the CT of a case, which may be one of those that are `opened`, and the work on it."""
    record = read_case(path)
    known = [volume for reference, volume in opened if reference.is_same_as(record.ct)] if ct is None else []
    yield known[0] if known else open_case_ct(path, record, ct, track), record


def recovering(
    found: Abandoned, known: Volume | None, *, track: Track
) -> Iterator[tuple[Volume, CaseRecord]]:
    """Yield the CT of abandoned work, unless it is `known`, and the work."""
    record = found.record()
    if known is not None and CtReference.of(known).geometry.matches(record.ct.geometry):
        yield known, record
        return
    if found.ct_path is None:
        raise InputError(f"{found.ct_name} came from no file; open it again, then recover")
    try:
        yield open_ct(found.ct_path, record.ct.answers, track), record
    except InputError as error:
        raise InputError(f"{error}; or open {found.ct_name} where it is now, then recover") from error


def predicting(
    volume: Volume,
    settings: PredictSettings,
    slices: tuple[int, int] | None,
    start: int,
    earlier: Run | None,
    done: npt.NDArray[np.bool_],
) -> Iterator[tuple[Run, Any, int, int]]:
    """Yield the run, a batch (None at first), the slices seen and those wanted."""
    # brings torch, which takes seconds: not at start-up
    from napari_resunet.inference.predict import Prediction

    prediction = Prediction(volume, **asdict(settings), slices=slices, start=start)
    if prediction.run == earlier:
        prediction.skip(done)
    seen, wanted = 0, sum(stop - first for first, stop in prediction.blocks)
    yield prediction.run, None, seen, wanted
    for batch in prediction.batches():
        seen += batch.stop - batch.start
        yield prediction.run, batch, seen, wanted


def cleaning(
    version: int, probability: npt.NDArray[np.uint8], threshold: float, clean: bool
) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    yield version, lung_voxels(probability, threshold=threshold, clean=clean)
