"""A model learns from corrected cases: what they teach, and the whole job of it. Brings torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.review import Review, SliceState
from napari_resunet.io.case_file import is_case_file, open_case_ct, read_case
from napari_resunet.io.folders import require_folder
from napari_resunet.model.card import require_model_name
from napari_resunet.model.checkpoint import load_model
from napari_resunet.model.device import choose_device
from napari_resunet.record import CaseRecord
from napari_resunet.saved_case import lungs_of, require_whole
from napari_resunet.settings import LearnSettings
from napari_resunet.track import Track, silent
from napari_resunet.training import cases, comparison, finetune
from napari_resunet.training.corrected import (
    AUTOMATIC,
    EDITED,
    REVIEWED,
    CorrectedCase,
    Lesson,
    hold_out,
)
from napari_resunet.training.dataset import load_case
from napari_resunet.volume import Volume


def learn(
    lessons: Sequence[Lesson],
    model_path: Path,
    *,
    settings: LearnSettings,
    held_out_names: Sequence[str] = (),
    device: str = "auto",
    keep_anyway: bool = False,
    read_track: Track = silent,
    validation_track: Track = silent,
) -> Iterator[finetune.Step | comparison.Learnt]:
    """Let a model learn from corrected cases, and keep the result if it is better than its parent.

    Whoever asks for no more steps, or closes the generator, stops it; the same call goes on there.

    Parameters
    ----------
    lessons : sequence of Lesson
        As `lessons_of` and `napari_resunet.cohort.corrected.reviewed_lessons` return them.
    model_path : Path
        A ``.safetensors`` file. It is written only if the result is better, or with `keep_anyway`; else the result
        stays beside it, in a folder of that name ending in ``.run``.
    settings : LearnSettings
        The recipe.
    held_out_names : sequence of str
        Cases to compare on; see `napari_resunet.training.corrected.hold_out`.
    read_track, validation_track : Track
        Given the slices that are read, and the cases of each validation.

    Yields
    ------
    Step or Learnt
        Each step and each validation, and last what has come of it.

    Raises
    ------
    InputError, CheckpointError, OutputError
        If the cases, the parent, an earlier state or the output cannot be used.
    """
    require_model_name(model_path)
    require_folder(model_path)
    finetune.refuse_parent(model_path, settings.parent)
    to_learn, held_out = hold_out(lessons, held_out_names, settings.seed)
    chosen, parent = choose_device(device), load_model(settings.parent)
    parent.card.require_window_hu()
    material = finetune.gather(to_learn, held_out, card=parent.card, settings=settings, track=read_track)
    tuning = finetune.FineTuning(material, parent, settings=settings, device=chosen, model_path=model_path)
    yield from tuning.steps(validation_track)
    learnt = tuning.compare()
    yield learnt if learnt.against and not keep_anyway else comparison.keep(learnt, model_path)


def lessons_of(path: Path) -> list[Lesson]:
    """Return what a model can learn from a case file, a pair of CT and mask, or a folder of such pairs.

    Raises
    ------
    InputError
        If it is none of these.
    """
    if is_case_file(path):
        return [_lesson_of_case_file(path)]
    if path.is_dir():
        return [_lesson_of_pair(case) for case in cases.find_cases(path)]
    return [_lesson_of_pair(cases.find_pair(path))]


def _lesson_of_case_file(path: Path) -> Lesson:
    def read(track: Track) -> CorrectedCase:
        record = read_case(path)
        require_whole(record, path)
        return corrected_case(path.name, record, open_case_ct(path, record, track=track))

    return Lesson(path.name, path.name, read)


def corrected_case(name: str, record: CaseRecord, volume: Volume) -> CorrectedCase:
    """Return a case as a model learns from it.

    Slices that were ticked and are unchanged since are trusted most, then those a hand has edited, then those that
    the network has made; flagged ones, and those that neither hand nor network has touched, are not used.

    Raises
    ------
    InputError
        If nothing in it was ticked or edited.
    """
    lungs, edits = lungs_of(record), np.zeros(record.shape, dtype=bool)
    edits[record.edits.slices] = record.edits.values != 0
    edited: npt.NDArray[np.bool_] = np.zeros(len(lungs), dtype=bool)
    edited[record.edits.slices] = record.edits.values.any(axis=(1, 2))
    review = Review(len(lungs))
    review.marks, review.seen = record.marks, record.seen
    states = review.states(lungs, edited)
    trust = np.where(record.done, AUTOMATIC, 0.0)
    trust[states == SliceState.EDITED] = EDITED
    trust[states == SliceState.REVIEWED] = REVIEWED
    trust[states == SliceState.FLAGGED] = 0.0
    return CorrectedCase(name, volume.axial, lungs, edits, trust)


def _lesson_of_pair(case: cases.TrainingCase) -> Lesson:
    def read(_track: Track) -> CorrectedCase:
        loaded = load_case(case)
        untouched = np.zeros(loaded.lungs.shape, dtype=bool)
        trust = np.full(len(loaded.lungs), REVIEWED)
        return CorrectedCase(case.name, loaded.slices, loaded.lungs, untouched, trust)

    return Lesson(case.name, case.patient, read)
