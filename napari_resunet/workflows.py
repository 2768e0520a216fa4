"""Whole jobs, from files to files. The command line calls these; the window calls what they are made of."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from napari_resunet.errors import InputError, OutputError
from napari_resunet.inference.postprocess import to_mask
from napari_resunet.inference.predict import Block, predict
from napari_resunet.io.atomic import replacing
from napari_resunet.io.case_file import read_case
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.export import (
    MASK_ENDINGS,
    PROBABILITY_ENDINGS,
    require_different,
    require_not_ct,
    require_writable,
)
from napari_resunet.io.files import Receipt, write_mask, write_probability
from napari_resunet.io.folders import made_folder, require_folder
from napari_resunet.io.open_ct import open_ct, open_mask
from napari_resunet.io.regular_file import sha256_of
from napari_resunet.io.table import append_rows
from napari_resunet.measure.agreement import Agreement, evaluate
from napari_resunet.measure.lungs import LungFigures, lung_figures
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.model.card import RESEARCH_ONLY, ModelCard, read_card, require_model_name
from napari_resunet.phantom import make_phantom
from napari_resunet.pictures import draw_overlay
from napari_resunet.record import CtReference
from napari_resunet.saved_case import mask_of, probability_map_of, require_whole
from napari_resunet.settings import InputAnswers, MaskSettings, PredictSettings, TrainSettings
from napari_resunet.track import Track, silent
from napari_resunet.volume import Mask, Volume

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
    require_different(output, probability)
    if probability is not None:
        require_writable(probability, source=source, endings=PROBABILITY_ENDINGS)
    if picture is not None:
        _require_picture(picture, source)
    read_card(choices.model).require_window_hu()
    volume = open_ct(source, answers, read_track)
    prob = predict(volume, **asdict(choices), slices=slices, track=predict_track)
    mask = to_mask(prob, **asdict(mask_choices))
    receipt = write_mask(mask, output)
    if probability is not None:
        write_probability(prob, probability)
    if picture is not None:
        with replacing(picture) as temporary:
            draw_overlay(volume, mask, temporary, title=f"{source.name}. {RESEARCH_ONLY}")
    return volume, mask, receipt


def _require_picture(path: Path, source: Path) -> None:
    if path.suffix.lower() != ".png":
        raise OutputError(f"{path} is no .png; give the picture that ending")
    require_not_ct(path, source)


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
    require_different(output, probability)
    record = read_case(case_path)
    _require_not_its_ct(output, case_path, record.ct)
    if probability is not None:
        _require_not_its_ct(probability, case_path, record.ct, PROBABILITY_ENDINGS)
    require_whole(record, case_path)
    prob = probability_map_of(record)
    receipt = write_mask(mask_of(record, prob, split), output)
    if probability is not None:
        write_probability(prob, probability)
    return receipt


def _require_not_its_ct(
    path: Path, case_path: Path, ct: CtReference, endings: tuple[str, ...] = MASK_ENDINGS
) -> None:
    """Refuse to write over the CT of a case: the one beside the case file, and the same file wherever it is."""
    require_writable(path, source=case_path.with_name(ct.name), endings=endings)
    if path.is_file() and sha256_of(path) == ct.sha256:
        raise OutputError(f"{path} is the CT itself, which is never written over; choose another name")


def evaluate_files(
    mask: Path, reference: Path, table: Path | None = None, *, answers: InputAnswers | None = None
) -> dict[str, Agreement]:
    """Compare two mask files, and add the result to a CSV table if one is given.

    `answers` say how large the voxels are where the files do not.

    Raises
    ------
    InputError
        If a file cannot be read, or they do not lie on one grid.
    """
    ours, theirs = open_mask(mask, answers), open_mask(reference, answers)
    remedy = "write both on the grid of one CT"
    refuse_other_grid(ours.geometry, theirs.geometry, what=mask.name, other=reference.name, remedy=remedy)
    results = evaluate(ours, theirs)
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
    figures = lung_figures(open_ct(source, answers, read_track), open_mask(mask, answers))
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
    made_folder(folder)
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
    """Train a network on a folder of CT and masks, and calibrate its probabilities on the validation cases.

    See `napari_resunet.training.loop.train` and `napari_resunet.training.calibration`.

    Parameters
    ----------
    data : Path
        Cases as `napari_resunet.training.cases.find_cases` describes them.
    model_path : Path
        A ``.safetensors`` file.
    settings : TrainSettings
        The recipe.
    texts : mapping, optional
        What the model card says in words: name, version, training_data, definition, known_failures, licence.
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
    from napari_resunet.training.calibration import temper
    from napari_resunet.training.corrections import not_there, read_corrections
    from napari_resunet.training.provenance import record_provenance

    require_model_name(model_path)
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
    slices = dataset.load_slices(
        training, settings.grid * (2 if settings.fine else 1), read_track, corrections=mending
    )
    others = list(dataset.load_cases(validation, mending, read_track))
    curve = loop.train(
        slices,
        others,
        card=card,
        settings=settings,
        device=chosen,
        model_path=model_path,
        track=train_track,
    )
    temper(model_path, others, chosen)
    return curve


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

    require_model_name(output)
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


def read_texts(path: Path) -> dict[str, Any]:
    """Return the words for a model card from a JSON file.

    Raises
    ------
    InputError
        If it is not a JSON object of known fields.
    """
    known = {"name", "version", "training_data", "definition", "known_failures", "licence"}
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
