"""The widget “Segment any image”: a model of train-images over any Image layer, beside the window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import napari.viewer
import numpy as np
import numpy.typing as npt
from magicgui.widgets import ComboBox, Container, FileEdit, ProgressBar, PushButton
from napari.layers import Image, Labels
from napari.utils.notifications import show_error

from napari_resunet.errors import CancelledError, ResUNetError
from napari_resunet.images.predict import image_labels, predict_image
from napari_resunet.model.card import RESEARCH_ONLY, ModelCard, read_card
from napari_resunet.plugin.forms import field_widget
from napari_resunet.plugin.jobs import Job
from napari_resunet.plugin.layers import UnitProbability, placed_like
from napari_resunet.plugin.panels.enabling import enable
from napari_resunet.plugin.panels.rows import fields, row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.software_gl import spare_programs
from napari_resunet.settings import MaskSettings, PredictSettings
from napari_resunet.track import Track


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """What a model has found in an image; slices first, though a picture has one only.

    Parameters
    ----------
    probabilities : (classes, z, y, x) array of uint8
        0-255 for 0-1.
    labels : (z, y, x) array of uint8
        The class of each pixel.
    """

    probabilities: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageRun:
    """A run that was asked for, as things stood when it began; `array` may still have to be computed."""

    array: Any
    is_rgb: bool
    model: Path
    device: str
    threshold: float


class AnyImageSegmentation(Container):
    """Segments any image with a model that was trained on its like.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        napari passes it in.
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        spare_programs()
        # napari hands in a proxy, which gives a new proxy of a layer each time: identity would be lost
        self.viewer = getattr(viewer, "__wrapped__", viewer)
        self._job: Job | None = None
        self._card: ModelCard | None = None
        self._run_on: Image | None = None
        self._run_with: ModelCard | None = None
        self.image = ComboBox(label="Image", choices=self._images, tooltip="2-D or 3-D, grey or in colour.")
        self.model = FileEdit(
            label="Model", filter="*.safetensors", tooltip="What napari-resunet train-images has made."
        )
        self.model_card = text("Choose a model that napari-resunet train-images has made.")
        self.device = field_widget(PredictSettings, "device")
        self.threshold = field_widget(MaskSettings, "threshold", widget_type="FloatSlider")
        self.threshold.tooltip = "A pixel needs at least this probability to be of a class."
        self.start = PushButton(text="Run", tooltip="Add probabilities and labels as new layers.")
        self.stop = PushButton(text="Cancel", tooltip="Stop; nothing is added.")
        self.bar = ProgressBar(value=0, max=1, visible=False)
        self.status = text()
        super().__init__(
            widgets=[
                fields(self.image, self.model),
                self.model_card,
                fields(self.device, self.threshold),
                row(self.start, self.stop),
                self.bar,
                self.status,
                text(RESEARCH_ONLY),
            ],
            labels=False,
        )
        self.native.layout().addStretch(1)  # the text would take the room that is left
        self.model.changed.connect(self._show_card)
        self.image.changed.connect(self._show_ready)
        self.start.changed.connect(self.run)
        self.stop.changed.connect(self.cancel)
        for changed in ("inserted", "removed", "renamed"):
            getattr(self.viewer.layers.events, changed).connect(self._offer_images)
        self.native.destroyed.connect(self.close_down)
        self._show_ready()

    @property
    def is_running(self) -> bool:
        return self._job is not None

    def run(self) -> None:
        """Run the model over the image that is chosen; what it finds becomes new layers."""
        layer = self.image.value
        data = layer.data[0] if layer.multiscale else layer.data
        asked = ImageRun(
            data, layer.rgb, Path(self.model.value), str(self.device.value), float(self.threshold.value)
        )
        self._run_on, self._run_with = layer, self._card
        self._job = Job(
            finding,
            asked,
            on_value=self._take,
            on_error=self._fail,
            on_end=self._end,
            on_progress=self._show_progress,
            label="segmenting",
        )
        self.status.value = "starting …"
        self._show_ready()
        self._job.start()

    def cancel(self) -> None:
        if self._job is not None:
            self._job.cancel()

    def close_down(self) -> None:
        """Hear no more from a run, and of the layers."""
        for changed in ("inserted", "removed", "renamed"):
            getattr(self.viewer.layers.events, changed).disconnect(self._offer_images)
        if self._job is not None:
            self._job.abandon()
            self._job = None

    def _images(self, _combo: Any = None) -> list[Image]:
        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def _offer_images(self) -> None:
        self.image.reset_choices()
        self._show_ready()

    def _show_card(self) -> None:
        self._card = None
        try:
            card = read_card(self.model.value)
            card.require_for_images()
        except ResUNetError as error:
            self.model_card.value = str(error)
            self.model_card.tooltip = ""
        else:
            self._card = card
            self.model_card.value = described(card)
            self.model_card.tooltip = "\n\n".join(filter(None, (card.definition, card.training_data)))
        self._show_ready()

    def _show_ready(self) -> None:
        lacks = "a model" if self._card is None else "an image layer" if self.image.value is None else ""
        at_work = "The network is at work: wait, or cancel it." if self.is_running else ""
        enable(self.start, f"Choose {lacks} first." if lacks else at_work)
        enable(self.stop, "" if self.is_running else "Nothing is at work.")
        self.bar.visible = self.is_running

    def _show_progress(self, _of_files: bool, done: int, total: int) -> None:
        self.bar.max, self.bar.value = total, done

    def _take(self, found: ClassMaps) -> None:
        layer, card = self._run_on, self._run_with
        placed, name = placed_like(layer), layer.name
        pick = 0 if layer.ndim == 2 else slice(None)
        for class_name, probabilities in zip(card.classes, found.probabilities, strict=True):
            self.viewer.add_layer(
                Image(
                    UnitProbability(probabilities[pick]),
                    name=f"{name} {class_name} probability",
                    colormap="magma",
                    blending="additive",
                    opacity=0.5,
                    contrast_limits=(0, 1),
                    visible=False,
                    **placed,
                )
            )
        labels = Labels(found.labels[pick], name=f"{name} {', '.join(card.classes)}", opacity=0.5, **placed)
        self.viewer.add_layer(labels)
        self.status.value = "; ".join(
            f"{number} {class_name}: {(found.labels == number).mean():.1%} of the image"
            for number, class_name in enumerate(card.classes, 1)
        )

    def _fail(self, error: BaseException) -> None:
        self.status.value = "cancelled" if isinstance(error, CancelledError) else str(error)
        if not isinstance(error, CancelledError):
            show_error(str(error))

    def _end(self) -> None:
        self._job = None
        self._show_ready()


def finding(asked: ImageRun, *, track: Track) -> Iterator[ClassMaps]:
    """Yield what a model finds in an image.

    Raises
    ------
    ResUNetError
        As `predict_image`.
    """
    probabilities = predict_image(
        np.asarray(asked.array), model=asked.model, device=asked.device, is_rgb=asked.is_rgb, track=track
    )
    yield ClassMaps(probabilities, image_labels(probabilities, threshold=asked.threshold))


def described(card: ModelCard) -> str:
    """Return what a model finds, and in what."""
    kind = "images in colour" if card.network.in_channels == 3 else "grey images"
    how = f"in tiles of {card.tile} pixels" if card.tile else "as a whole"
    return f"{card.name} {card.version} finds {', '.join(card.classes)} in {kind}, seen {how} at grid {card.grid}"
