"""A model over an image that is no CT: probabilities of its classes, and labels from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.images.slices import as_slices, image_probabilities, limits_of, scaled
from napari_resunet.inference.ready import ready_network
from napari_resunet.model.checkpoint import Model
from napari_resunet.model.device import choose_device
from napari_resunet.settings import MaskSettings
from napari_resunet.track import Track, silent
from napari_resunet.volume import threshold_level

_BATCH = 4  # slices, which may be large and of several classes


def predict_image(
    array: npt.NDArray[Any],
    *,
    model: str | Path | Model,
    device: str = "auto",
    is_rgb: bool | None = None,
    track: Track = silent,
) -> npt.NDArray[np.uint8]:
    """Return how sure a model is of each of its classes, pixel by pixel of an image that is no CT.

    Parameters
    ----------
    array : (y, x) or (z, y, x) array, with a last axis of 3 or 4 if in colour
        Each slice is resized to the grid of the model, as a whole or in overlapping tiles as the card says, and the
        answer back.
    model : str, Path or Model
        What `napari-resunet train-images` has made.
    device : str
        ``"auto"``, ``"cuda"``, ``"mps"`` or ``"cpu"``.
    is_rgb : bool, optional
        Whether the last axis is colour; by default if it has 3 or 4 entries.
    track : Track
        Called with the first slice of each batch.

    Returns
    -------
    (classes, z, y, x) array of uint8
        0-255 for a probability of 0-1; one picture has one slice.

    Raises
    ------
    InputError
        If the array is no image, or in colour and the model is for grey ones.
    CheckpointError
        If the model cannot be loaded, or is for CT.
    DeviceError
        If the device is not there.
    PredictionError
        If the network's answer is not finite.
    """
    chosen = choose_device(device)
    ready = ready_network(model, chosen)
    card = ready.card
    card.require_for_images()
    slices = as_slices(array, channels=card.network.in_channels, is_rgb=is_rgb)
    limits = limits_of(slices, card)
    found = np.empty((len(card.classes), *slices.shape[:3]), dtype=np.uint8)
    for start in track(range(0, len(slices), _BATCH)):
        part = scaled(slices[start : start + _BATCH], limits)
        found[:, start : start + _BATCH] = image_probabilities(ready.network, card, part, chosen).swapaxes(
            0, 1
        )
    return found


def image_labels(
    probabilities: npt.NDArray[np.uint8], *, threshold: float = MaskSettings.threshold
) -> npt.NDArray[np.uint8]:
    """Return the class of each pixel: the most probable one of those that reach the threshold, else 0.

    Parameters
    ----------
    probabilities : (classes, z, y, x) array of uint8
        As `predict_image` returns them.
    threshold : float
        From 0.01 to 0.99.

    Returns
    -------
    (z, y, x) array of uint8
        1 for the first class; of two that are equally probable the first is taken.

    Raises
    ------
    ValueError
        If the threshold is out of its limits.
    """
    level = threshold_level(MaskSettings(threshold=threshold).threshold)
    labels = np.empty(probabilities.shape[1:], dtype=np.uint8)
    for z in range(len(labels)):
        one = probabilities[:, z]
        labels[z] = np.where(one.max(axis=0) >= level, one.argmax(axis=0) + 1, 0)
    return labels
