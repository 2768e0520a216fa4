"""Whole jobs, from files to files. The command line calls these; the window calls what they are made of."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.adding_up import put_adopted, refuse_no_mask
from napari_resunet.editing.correction import compose
from napari_resunet.editing.review import Review, SliceState
from napari_resunet.errors import InputError, OutputError
from napari_resunet.inference.postprocess import finish_mask, lung_voxels, to_mask
from napari_resunet.inference.predict import Block, predict
from napari_resunet.io.atomic import replacing
from napari_resunet.io.case_file import is_case_file, open_case_ct, read_case
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.export import MASK_ENDINGS, PROBABILITY_ENDINGS, require_folder, require_writable
from napari_resunet.io.files import Receipt, read_mask, write_mask, write_probability
from napari_resunet.io.open_ct import open_ct
from napari_resunet.io.regular_file import sha256_of
from napari_resunet.io.table import append_rows
from napari_resunet.measure.agreement import Agreement, evaluate
from napari_resunet.measure.lungs import LungFigures, lung_figures
from napari_resunet.model.card import RESEARCH_ONLY, ModelCard
from napari_resunet.phantom import make_phantom
from napari_resunet.pictures import draw_overlay
from napari_resunet.record import CaseRecord, CtReference
from napari_resunet.settings import InputAnswers, LearnSettings, MaskSettings, PredictSettings, TrainSettings
from napari_resunet.track import Track, silent
from napari_resunet.volume import Mask, ProbabilityMap, Volume

_log = logging.getLogger(__name__)


def segment(
    source: Path,
    output: Path,
    *,
    predict_settings: PredictSettings | None = None,
    mask_settings: MaskSettings | None = None,
    answers: InputAnswers | None = None,
    slices: Block | None = None,
    probability: Path | None = None,
    picture: Path | None = None,
    read_track: Track = silent,
    predict_track: Track = silent,
) -> tuple[Volume, Mask, Receipt]:
    """Read a CT, find the lungs, write the mask.

    Parameters
    ----------
    source : Path
        A CT: DICOM folder or file, NIfTI, TIFF, MetaImage, NRRD; a slice as PNG or JPEG.
    output : Path
        The mask; its ending says the format. A sidecar with the same stem and ``.json`` tells how it was made.
    predict_settings, mask_settings
        The choices; defaults where not given.
    answers : InputAnswers, optional
        What only a user can know of the input.
    slices : (start, stop), optional
        Axial slices to run, counted from the lowest; all by default.
    probability : Path, optional
        Where to write the probability map as well.
    picture : Path, optional
        Where to draw the contours over the CT, as PNG.
    read_track, predict_track : Track
        Called with what is read, and with the blocks of slices.

    Returns
    -------
    tuple of Volume, Mask, Receipt
        What was read, what was found, and what was written.

    Raises
    ------
    InputError, CheckpointError, DeviceError, PredictionError, OutputError
        With one line that says what to do.
    """
    choices, mask_choices = predict_settings or PredictSettings(), mask_settings or MaskSettings()
    require_writable(output, source=source)
    if probability is not None:
        require_writable(probability, source=source, endings=PROBABILITY_ENDINGS)
    if picture is not None:
        require_folder(picture)
    volume = open_ct(source, answers, read_track)
    prob = predict(volume, **asdict(choices), slices=slices, track=predict_track)
    mask = to_mask(prob, **asdict(mask_choices))
    receipt = write_mask(mask, output)
    if probability is not None:
        write_probability(prob, probability)
    if picture is not None:
        draw_overlay(volume, mask, picture, title=f"{source.name}. {RESEARCH_ONLY}")
    return volume, mask, receipt


def export_case(
    case_path: Path, output: Path, *, split: bool | None = None, probability: Path | None = None
) -> Receipt:
    """Write the mask that a case file adds up to, without its CT: the bytes that the window would write.

    Parameters
    ----------
    case_path : Path
        A case file (.nru).
    output : Path
        The mask; its ending says the format. A sidecar tells how it was made.
    split : bool, optional
        Whether to label the right lung 1 and the left lung 2; as the case has it by default.
    probability : Path, optional
        Where to write the probability map as well.

    Returns
    -------
    Receipt
        Of the mask.

    Raises
    ------
    InputError
        If the case file cannot be read, or has no mask yet.
    OutputError
        If a file cannot be written, or is the CT itself.
    """
    record = read_case(case_path)
    _require_not_its_ct(output, case_path, record.ct)
    if probability is not None:
        _require_not_its_ct(probability, case_path, record.ct, PROBABILITY_ENDINGS)
    _require_whole(record, case_path)
    prob = _probability_map(record)
    receipt = write_mask(_mask(record, prob, split), output)
    if probability is not None:
        write_probability(prob, probability)
    return receipt


def _require_whole(record: CaseRecord, path: Path) -> None:
    lacks_probability = record.probability is None and record.done.any()
    lacks_adopted = record.adopted is None and record.adopted_name is not None
    if lacks_probability or lacks_adopted:
        raise InputError(f"{path} holds only what a hand did; open its CT in the window, save the case there")


def _require_not_its_ct(
    path: Path, case_path: Path, ct: CtReference, endings: tuple[str, ...] = MASK_ENDINGS
) -> None:
    """Refuse to write over the CT of a case: the one beside the case file, and the same file wherever it is."""
    require_writable(path, source=case_path.with_name(ct.name), endings=endings)
    if path.is_file() and sha256_of(path) == ct.sha256:
        raise OutputError(f"{path} is the CT itself, which is never written over; choose another name")


def _probability_map(record: CaseRecord) -> ProbabilityMap:
    ct = record.ct
    array = np.ascontiguousarray(ct.geometry.to_axial.undo(_probabilities(record)))
    return ProbabilityMap(array, ct.geometry, record.done, record.run, ct.source, ct.notes)


def _probabilities(record: CaseRecord) -> npt.NDArray[np.uint8]:
    return np.zeros(record.shape, np.uint8) if record.probability is None else record.probability


def _mask(record: CaseRecord, prob: ProbabilityMap, split: bool | None) -> Mask:
    settings = record.settings if split is None else replace(record.settings, split=split)
    edited = record.edits.voxels()
    return finish_mask(_lungs(record), prob, settings, edited=edited, began_from=record.adopted_name)


def _lungs(record: CaseRecord) -> npt.NDArray[np.uint8]:
    """Add up the parts of a case in axial slices, as `napari_resunet.case.Case` does."""
    settings, edits = record.settings, record.edits
    automatic = lung_voxels(_probabilities(record), threshold=settings.threshold, clean=settings.clean)
    put_adopted(record.adopted, automatic, done=record.done)
    lungs = automatic.view(np.uint8)
    lungs[edits.slices] = compose(automatic[edits.slices], edits.values)
    refuse_no_mask(lungs, done=record.done, edited=edits.voxels() > 0)
    return lungs


def evaluate_files(mask: Path, reference: Path, table: Path | None = None) -> dict[str, Agreement]:
    """Compare two mask files, and add the result to a CSV table if one is given.

    Raises
    ------
    InputError
        If a file cannot be read, or they do not lie on one grid.
    """
    results = evaluate(read_mask(mask), read_mask(reference))
    if table is not None:
        append_rows(table, agreement_rows(mask, reference, results))
    return results


def agreement_rows(mask: Path, reference: Path, results: Mapping[str, Agreement]) -> list[dict[str, Any]]:
    """Return a row for each lung, for a table."""
    names = {"mask": mask.name, "reference": reference.name}
    return [{**names, "lung": lung, **asdict(agreement)} for lung, agreement in results.items()]


def measure_files(
    source: Path,
    mask: Path,
    table: Path | None = None,
    *,
    answers: InputAnswers | None = None,
    read_track: Track = silent,
) -> list[LungFigures]:
    """Measure the lungs of a CT under a mask, and add the figures to a CSV table if one is given.

    Raises
    ------
    InputError
        If a file cannot be read, or they do not lie on one grid.
    """
    figures = lung_figures(open_ct(source, answers, read_track), read_mask(mask))
    if table is not None:
        append_rows(table, figure_rows(source, mask, figures))
    return figures


def figure_rows(source: Path, mask: Path, figures: Sequence[LungFigures]) -> list[dict[str, Any]]:
    """Return a row for each lung, for a table."""
    return [{"ct": source.name, "mask": mask.name, **asdict(lung)} for lung in figures]


def demo(
    folder: Path, *, device: str = "auto", read_track: Track = silent, predict_track: Track = silent
) -> dict[str, Any]:
    """Do the whole job on a made-up chest: write it as DICOM, read it, segment it, export, draw, compare.

    Parameters
    ----------
    folder : Path
        Is made if need be. Gets ``ct/`` (DICOM), ``lungs.nii.gz`` and ``lungs.tif`` with their sidecars,
        ``probability.nii.gz``, ``truth.nii.gz`` and ``lungs.png``.

    Returns
    -------
    dict
        ``dice`` against the true mask, ``ml`` of the right and the left lung, and the ``receipt``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made a folder ({error.strerror}); choose another") from error
    phantom = make_phantom()
    write_ct_series(phantom.volume, folder / "ct")
    _, mask, receipt = segment(
        folder / "ct",
        folder / "lungs.nii.gz",
        predict_settings=PredictSettings(device=device),
        mask_settings=MaskSettings(split=True),
        probability=folder / "probability.nii.gz",
        picture=folder / "lungs.png",
        read_track=read_track,
        predict_track=predict_track,
    )
    write_mask(mask, folder / "lungs.tif")
    write_mask(phantom.mask, folder / "truth.nii.gz")
    overlap = evaluate(mask, phantom.mask)
    return {
        "dice": overlap["lungs"].dice,
        "ml": {side: overlap[side].volume_ml for side in ("right", "left")},
        "receipt": receipt,
    }


def train_model(
    data: Path,
    model_path: Path,
    *,
    settings: TrainSettings,
    texts: Mapping[str, Any] | None = None,
    corrections: Path | None = None,
    device: str = "auto",
    read_track: Track = silent,
    train_track: Track = silent,
) -> Any:
    """Train a network on a folder of CT and masks; see `napari_resunet.training.loop.train`.

    Parameters
    ----------
    data : Path
        Cases as `napari_resunet.training.cases.find_cases` describes them.
    model_path : Path
        A ``.safetensors`` file.
    settings : TrainSettings
        The recipe.
    texts : mapping, optional
        What the model card says in words: name, version, training_data, definition, licence.
    corrections : Path, optional
        A CSV that mends masks, as `napari_resunet.training.corrections` describes it; cases that are not in the
        data are logged.

    Raises
    ------
    InputError
        If the data or the corrections cannot be used.
    """
    from napari_resunet.model.device import choose_device
    from napari_resunet.training import cases, dataset, loop
    from napari_resunet.training.corrections import not_there, read_corrections
    from napari_resunet.training.provenance import record_provenance

    _require_model_name(model_path)
    require_folder(model_path)
    chosen = choose_device(device)
    mending = read_corrections(corrections) if corrections else []
    training, validation = cases.split_cases(data, settings.seed)
    missing = not_there(mending, [case.name for case in (*training, *validation)])
    if missing:
        _log.warning("%s corrects cases that are not there: %s", corrections, ", ".join(missing))
    made_from = record_provenance(
        model_path.with_suffix(".run"),
        settings=settings,
        device=chosen.label,
        training=training,
        validation=validation,
        corrections=corrections,
    )
    card = loop.new_card(settings, **{"name": model_path.stem, **(texts or {})})
    card = replace(card, recipe={"corrections": made_from["corrections"]})
    return loop.train(
        dataset.load_slices(
            training, settings.grid * (2 if settings.fine else 1), read_track, corrections=mending
        ),
        list(dataset.load_cases(validation, mending, read_track)),
        card=card,
        settings=settings,
        device=chosen,
        model_path=model_path,
        track=train_track,
    )


def learn(
    lessons: Sequence[Any],
    model_path: Path,
    *,
    settings: LearnSettings,
    held_out_names: Sequence[str] = (),
    device: str = "auto",
    keep_anyway: bool = False,
    read_track: Track = silent,
    validation_track: Track = silent,
) -> Iterator[Any]:
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
        Of `napari_resunet.training.finetune`: each step and each validation, and last what has come of it.

    Raises
    ------
    InputError, CheckpointError, OutputError
        If the cases, the parent, an earlier state or the output cannot be used.
    """
    from napari_resunet.model.checkpoint import load_model
    from napari_resunet.model.device import choose_device
    from napari_resunet.training import corrected, finetune

    _require_model_name(model_path)
    require_folder(model_path)
    finetune.refuse_parent(model_path, settings.parent)
    to_learn, held_out = corrected.hold_out(lessons, held_out_names, settings.seed)
    chosen, parent = choose_device(device), load_model(settings.parent)
    material = finetune.gather(to_learn, held_out, card=parent.card, settings=settings, track=read_track)
    tuning = finetune.FineTuning(material, parent, settings=settings, device=chosen, model_path=model_path)
    yield from tuning.steps(validation_track)
    learnt = tuning.compare()
    yield learnt if learnt.against and not keep_anyway else finetune.keep(learnt, model_path)


def lessons_of(path: Path) -> list[Any]:
    """Return what a model can learn from a case file, a pair of CT and mask, or a folder of such pairs.

    Raises
    ------
    InputError
        If it is none of these.
    """
    from napari_resunet.training import cases

    if is_case_file(path):
        return [_lesson_of_case_file(path)]
    if path.is_dir():
        return [_lesson_of_pair(case) for case in cases.find_cases(path)]
    return [_lesson_of_pair(cases.find_pair(path))]


def _lesson_of_case_file(path: Path) -> Any:
    from napari_resunet.training.corrected import Lesson

    def read(track: Track) -> Any:
        record = read_case(path)
        _require_whole(record, path)
        return corrected_case(path.name, record, open_case_ct(path, record, track=track))

    return Lesson(path.name, path.name, read)


def corrected_case(name: str, record: CaseRecord, volume: Volume) -> Any:
    """Return a case as a model learns from it, a `napari_resunet.training.corrected.CorrectedCase`.

    Slices that were ticked and are unchanged since are trusted most, then those a hand has edited, then those that
    the network has made; flagged ones, and those that nobody has touched, are not used.

    Raises
    ------
    InputError
        If nothing in it was ticked or edited.
    """
    from napari_resunet.training.corrected import AUTOMATIC, EDITED, REVIEWED, CorrectedCase

    lungs, edits = _lungs(record), np.zeros(record.shape, dtype=bool)
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


def _lesson_of_pair(case: Any) -> Any:
    from napari_resunet.training.corrected import REVIEWED, CorrectedCase, Lesson
    from napari_resunet.training.dataset import load_case

    def read(_track: Track) -> Any:
        loaded = load_case(case)
        untouched = np.zeros(loaded.lungs.shape, dtype=bool)
        trust = np.full(len(loaded.lungs), REVIEWED)
        return CorrectedCase(case.name, loaded.slices, loaded.lungs, untouched, trust)

    return Lesson(case.name, case.patient, read)


def convert_weights(foreign: Path, output: Path, told: Mapping[str, Any]) -> ModelCard:
    """Make a model file of a state dict of the same network that was trained elsewhere.

    Parameters
    ----------
    foreign : Path
        A PyTorch checkpoint (.pt, .pth), or safetensors without a card; code in it is refused and never run.
    output : Path
        A ``.safetensors`` file; an older one is replaced once the new one is whole, and gives back the same weights.
    told : mapping
        The fields of `napari_resunet.model.convert.Told`; the name of the output is the model's if none is told.

    Returns
    -------
    ModelCard
        With preset and width as found.

    Raises
    ------
    InputError
        If something is missing of what has to be told, or is not as described there.
    CheckpointError
        If the weights are refused, or fit no preset.
    OutputError
        If the model cannot be written.
    """
    from napari_resunet.model.checkpoint import save_model
    from napari_resunet.model.convert import convert, require_same, told_from

    _require_model_name(output)
    require_folder(output)
    if output.exists() and output.samefile(foreign):
        raise OutputError(
            f"{output} is what is to be converted, and is not written over; choose another name"
        )
    model = convert(foreign, told_from({"name": output.stem, **told}))
    with replacing(output) as temporary:
        card = save_model(model.network, model.card, temporary)
        require_same(model, temporary)
    return card


def _require_model_name(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise InputError(f"a model is a .safetensors file; {path.name} is not named so")


def read_texts(path: Path) -> dict[str, Any]:
    """Return the words for a model card from a JSON file.

    Raises
    ------
    InputError
        If it is not a JSON object of known fields.
    """
    known = {"name", "version", "training_data", "definition", "licence"}
    texts = read_object(path)
    if set(texts) - known:
        raise InputError(f"{path} must be a JSON object with some of: {', '.join(sorted(known))}")
    return texts


def read_object(path: Path) -> dict[str, Any]:
    """Return the fields of a JSON object in a file.

    Raises
    ------
    InputError
        If it cannot be read, or is anything else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f'{path} must be a JSON object, such as {{"grid": 128}}')
    return found
