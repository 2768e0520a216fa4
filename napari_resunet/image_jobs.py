"""Whole jobs on images that are no CT, from files to files: training a model, and segmenting an image with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.io.export import ending_of, require_writable, sidecar_of
from napari_resunet.io.folders import require_folder
from napari_resunet.io.image_file import LABEL_ENDINGS, read_image, require_fits, write_labels
from napari_resunet.io.regular_file import sha256_of
from napari_resunet.io.sidecar import write_sidecar
from napari_resunet.model.card import read_card, require_model_name
from napari_resunet.settings import ImageTask, MaskSettings, TrainSettings
from napari_resunet.track import Track, silent


def train_image_model(
    data: Path,
    model_path: Path,
    *,
    settings: TrainSettings,
    task: ImageTask | None = None,
    texts: Mapping[str, Any] | None = None,
    device: str = "auto",
    read_track: Track = silent,
    train_track: Track = silent,
) -> Any:
    """Train a network from scratch on a folder of images and masks; see `napari_resunet.images.learn`.

    Parameters
    ----------
    data : Path
        Pairs as `napari_resunet.images.pairs.find_pairs` describes them. The network has three input channels where
        an image is in colour, else one.
    model_path : Path
        A ``.safetensors`` file.
    settings : TrainSettings
        The recipe.
    task : ImageTask, optional
        What is to be found, and how images are scaled; one class and percentiles 1 and 99 by default.
    texts : mapping, optional
        What the model card says in words: name, version, training_data, definition, licence.

    Returns
    -------
    list of napari_resunet.training.learner.Progress
        The curve.

    Raises
    ------
    InputError
        If the data cannot be used.
    CheckpointError
        If a training of that name was begun with other settings or data.
    OutputError
        If the model cannot be written.
    """
    from napari_resunet.images import dataset, learn, pairs
    from napari_resunet.model.device import choose_device
    from napari_resunet.training.provenance import record_provenance

    require_model_name(model_path)
    require_folder(model_path)
    chosen = choose_device(device)
    training, validation = pairs.split_pairs(data, settings.seed)
    record_provenance(
        model_path.with_suffix(".run"),
        settings=settings,
        device=chosen.label,
        training=training,
        validation=validation,
        corrections=None,
    )
    channels = 3 if dataset.is_any_in_colour((*training, *validation)) else 1
    card = learn.new_image_card(
        settings, task or ImageTask(), channels=channels, **{"name": model_path.stem, **(texts or {})}
    )
    finest = settings.grid * (2 if settings.fine else 1)
    return learn.train_on_images(
        dataset.load_image_slices(training, card, finest, read_track),
        list(dataset.load_images(validation, card, read_track)),
        card=card,
        settings=settings,
        device=chosen,
        model_path=model_path,
        track=train_track,
    )


def segment_image(
    source: Path,
    output: Path,
    *,
    model: str,
    device: str = "auto",
    threshold: float = MaskSettings.threshold,
    track: Track = silent,
) -> npt.NDArray[np.uint8]:
    """Segment an image that is no CT, write its labels and a sidecar that tells how they were made, and return them.

    Parameters
    ----------
    source : Path
        What `napari_resunet.io.image_file.read_image` reads.
    output : Path
        A TIFF, or a PNG for one picture.
    model : str
        A weights file.

    Raises
    ------
    InputError, CheckpointError, DeviceError, PredictionError, OutputError
        With one line that says what to do.
    """
    from napari_resunet.images.predict import image_labels, predict_image

    require_writable(output, source=source, endings=LABEL_ENDINGS)
    card = read_card(model)
    image = read_image(source)
    is_one_picture = image.array.ndim - image.is_rgb == 2
    require_fits(output, 1 if is_one_picture else len(image.array))
    probabilities = predict_image(image.array, model=model, device=device, is_rgb=image.is_rgb, track=track)
    labels = image_labels(probabilities, threshold=threshold)
    labels = labels[0] if is_one_picture else labels
    write_labels(labels, output)
    write_sidecar(
        sidecar_of(output, ending_of(output, LABEL_ENDINGS)),
        {
            "output": {
                "name": output.name,
                "sha256": sha256_of(output),
                "classes": ["background", *card.classes],
            },
            "source": {"name": source.name, "sha256": sha256_of(source) if source.is_file() else None},
            "model": {"name": card.name, "version": card.version, "sha256": card.sha256},
            "settings": {"threshold": threshold, "device": device},
        },
    )
    return labels
