"""What the window does: opens a CT, runs the network, follows threshold and brush, exports.

It holds the one open case and its layers. Panels call it and listen to it; they keep no state of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from psygnal import Signal, SignalGroup

from napari_resunet.case import Case
from napari_resunet.errors import InputError, ResUNetError
from napari_resunet.imaging.intensity import refuse_implausible_hu
from napari_resunet.io.files import Receipt, write_mask, write_probability
from napari_resunet.io.open_ct import open_ct
from napari_resunet.plugin.jobs import Generator, Job
from napari_resunet.plugin.layers import KEY, ct_layer_data, mask_layer, probability_layer, volume_of
from napari_resunet.settings import InputAnswers, PredictSettings
from napari_resunet.volume import Mask, Run, Volume

_log = logging.getLogger(__name__)


class SessionEvents(SignalGroup):
    """What a session tells its panels."""

    case = Signal()  # another CT is open, or none
    layers = Signal()  # layers came or went
    question = Signal(str)  # what only the user can know of the CT; empty once answered
    running = Signal(bool)
    progress = Signal(int, int, float)  # slices done, slices in all, seconds left
    mask = Signal()
    painted = Signal()
    ran = Signal(str)  # how a run ended
    failed = Signal(object)  # an error


class Session:
    """The open case of one viewer.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the layers go.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.events = SessionEvents()
        self.case: Case | None = None
        self.ct_layer: Image | None = None
        self.probability_layer: Image | None = None
        self.mask_layer: Labels | None = None
        # what was painted on a CT is there again when the user comes back to it
        self._cases: WeakKeyDictionary[Layer, Case] = WeakKeyDictionary()
        self._job: Job | None = None
        self._then: Callable[[], None] | None = None
        self._error: Exception | None = None
        self._cleaning: Job | None = None
        self._run: Run | None = None
        self._started = 0.0
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        self._adopt_one_of(viewer.layers)

    # ---- the CT

    def open(self, path: Path, answers: InputAnswers | None = None) -> None:
        """Read a CT beside the window and show it."""
        if self._is_busy():
            return
        self._start(
            _reading, path, answers or InputAnswers(), on_value=self.show_ct, label=f"reading {path.name}"
        )

    def show_ct(self, volume: Volume) -> None:
        """Add a CT as a layer, and open it."""
        data, look, _ = ct_layer_data(volume)
        self.adopt(self.viewer.add_image(data, **look))

    def adopt(self, layer: Layer | None, *, spacing_mm: tuple[float, float, float] | None = None) -> None:
        """Make a layer the open CT; if it is so already, nothing happens."""
        if layer is None or (layer is self.ct_layer and self.case is not None):
            return
        if self.is_running:
            self.cancel()
        if self.ct_layer is not None:
            self.sync()
        try:
            case = self._cases.get(layer) or Case(volume_of(layer, spacing_mm=spacing_mm))
        except ResUNetError as error:
            self.events.failed.emit(error)
            return
        self._let_go()
        self._cases[layer] = self.case = case
        self.ct_layer = layer
        self.probability_layer, self.mask_layer = self._result_layers(case)
        case.events.mask.connect(self._on_mask)
        case.events.probability.connect(self._on_probability)
        self.events.case.emit()
        self._ask_about_hu()

    def _let_go(self) -> None:
        """Leave the open case as it is; it is found again when its CT layer is chosen."""
        if self.case is not None:
            self.case.events.mask.disconnect(self._on_mask)
            self.case.events.probability.disconnect(self._on_probability)
        self.case = self.ct_layer = self.probability_layer = self.mask_layer = None

    def _result_layers(self, case: Case) -> tuple[Image | None, Labels | None]:
        """Return the probability and the mask layer of a case that are still in the viewer."""
        found: dict[type[Layer], Layer] = {}
        for layer in self.viewer.layers:
            if layer.metadata.get(KEY) is case:
                found[type(layer)] = layer
        return found.get(Image), found.get(Labels)

    def answer_hu(self, offset: float) -> None:
        """Take the user's word that the values are HU once `offset` is added."""
        if self.case is None or self.ct_layer is None:
            return
        layer, volume = self.ct_layer, self.case.volume.with_hu_offset(offset)
        layer.data, layer.metadata[KEY] = volume.axial, volume
        self._let_go()
        del self._cases[layer]
        self.adopt(layer)

    def _ask_about_hu(self) -> None:
        question = ""
        if self.case is not None and not self.case.volume.hu_confirmed:
            try:
                refuse_implausible_hu(self.case.volume.array)
            except InputError as error:
                question = str(error)
        self.events.question.emit(question)

    # ---- the run

    @property
    def is_running(self) -> bool:
        return self._job is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing at all is at work, not even the clean-up."""
        return self._job is None and self._cleaning is None

    def run(self, settings: PredictSettings, slices: tuple[int, int] | None = None) -> None:
        """Run the network over the open CT, from the slice in view outwards.

        Slices that the same model has seen at the same grid are not run again.
        """
        if self.case is None:
            self.events.failed.emit(InputError("there is no CT yet: open one first"))
            return
        if self._is_busy():
            return
        self.sync()
        self._ensure_layers()
        case = self.case
        work = (
            case.volume,
            settings,
            slices,
            self.slice_in_view,
            case.run,
            case.done.copy(),
        )
        self._started = monotonic()
        # the answers are meant for this case: should another be open by then, they are thrown away
        on_value, then = partial(self._on_prediction, case), partial(self._after_run, case)
        self._start(_predicting, *work, on_value=on_value, then=then, label="finding lungs")

    def cancel(self) -> None:
        """Stop after the slices that are being worked on; finished slices stay."""
        if self._job is not None:
            self._job.cancel()

    @property
    def slice_in_view(self) -> int:
        """The axial slice that the viewer shows."""
        if self.ct_layer is None:
            return 0
        point = np.asarray(self.ct_layer.world_to_data(self.viewer.dims.point[-self.ct_layer.ndim :]))
        return int(np.clip(round(point[0]), 0, self.ct_layer.data.shape[0] - 1))

    def _on_prediction(self, case: Case, answer: tuple[Run, Any, int, int]) -> None:
        run, batch, seen, wanted = answer
        if case is not self.case:
            return
        self.sync()
        if batch is None:
            case.begin(run)
            self._run = run
            return
        case.accept(self._run, batch)
        seconds_left = (monotonic() - self._started) / max(seen, 1) * (wanted - seen)
        self.events.progress.emit(seen, wanted, seconds_left)

    def _after_run(self, case: Case) -> None:
        if case is self.case:
            self.events.ran.emit(f"{int(case.done.sum())} of {len(case.done)} slices segmented")
            self.settle()

    # ---- the mask

    def set_threshold(self, threshold: float) -> None:
        """Show the mask at another threshold at once; clean-up follows with `settle`."""
        if self.case is not None:
            self.sync()
            self.case.set_threshold(threshold)

    def set_clean(self, clean: bool) -> None:
        """Switch the clean-up on or off."""
        if self.case is not None:
            self.case.change_settings(clean=clean)
            self.settle()

    def settle(self) -> None:
        """Clean the mask up beside the window, as the settings want it."""
        if self.case is None:
            return
        self.sync()
        case = self.case
        work = (case.version, case.probability, case.settings.threshold, case.settings.clean)
        failed, end = self.events.failed.emit, self._after_cleaning
        self._cleaning = Job(_cleaning, *work, on_value=self._on_cleaned, on_error=failed, on_end=end)
        self._cleaning.start()

    def _on_cleaned(self, answer: tuple[int, npt.NDArray[np.bool_]]) -> None:
        if self.case is not None:
            self.sync()
            self.case.accept_automatic(*answer)

    def _after_cleaning(self) -> None:
        self._cleaning = None
        for layer in (self.probability_layer, self.mask_layer):
            if layer is not None:
                layer.refresh(
                    extent=False
                )  # with its thumbnail, which is not worth the time while a slider moves

    def adopt_mask(self, mask: Mask) -> None:
        """Show a mask made elsewhere, to be corrected."""
        if self.case is not None:
            self._ensure_layers()
            self.case.adopt(mask)

    def sync(self) -> None:
        """Take in what was painted, also by those who gave the layer another array."""
        if self.case is None or self.mask_layer is None:
            return
        shown = np.asarray(self.mask_layer.data)
        if shown.shape != self.case.mask.shape:
            self.mask_layer.data = self.case.mask
            self.events.failed.emit(
                InputError("the mask layer had another size than its CT; it was put back")
            )
            return
        self.case.take_shown(shown)
        if shown is not self.case.mask:
            self.mask_layer.data = self.case.mask

    # ---- the files

    def export(self, path: Path, *, split: bool = False, probability: bool = False) -> Receipt | None:
        """Write the mask as it is shown, and the probability map beside it if asked for."""
        try:
            if self.case is None:
                raise InputError("there is no CT yet: open one first")
            self.sync()
            receipt = write_mask(self.case.finished_mask(split=split), path)
            if probability:
                write_probability(self.case.probability_map(), _beside(path, "_probability"))
        except ResUNetError as error:
            self.events.failed.emit(error)
            return None
        return receipt

    def close(self) -> None:
        """Stop all work and let go of the viewer."""
        for job in (self._job, self._cleaning):
            if job is not None:
                job.cancel()
        self.viewer.layers.events.inserted.disconnect(self._on_layer_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_layer_removed)

    # ---- layers and jobs

    def _ensure_layers(self) -> None:
        if self.case is None:
            return
        if self.probability_layer is None:
            self.probability_layer = probability_layer(self.case)
            self.viewer.add_layer(self.probability_layer)
        if self.mask_layer is None:
            self.mask_layer = mask_layer(self.case)
            self.mask_layer.events.paint.connect(self._on_painted)
            self.mask_layer.events.set_data.connect(self._on_painted)
            self.viewer.add_layer(self.mask_layer)

    def _on_probability(self, _first: int, _last: int) -> None:
        if self.probability_layer is not None:
            self.probability_layer.refresh(extent=False, thumbnail=False)

    def _on_mask(self) -> None:
        if self.mask_layer is not None:
            self.mask_layer.refresh(extent=False, thumbnail=False)
        self.events.mask.emit()

    def _on_painted(self) -> None:
        self.events.painted.emit()

    def _on_layer_inserted(self, event: Any) -> None:
        self._adopt_one_of([event.value])
        self.events.layers.emit()

    def _adopt_one_of(self, layers: Iterable[Layer]) -> None:
        """Open the newest CT that our reader brought; a layer of unknown origin waits to be chosen."""
        for layer in reversed(list(layers)):
            if isinstance(layer.metadata.get(KEY), Volume) and not self.is_running:
                self.adopt(layer)
                return

    def _on_layer_removed(self, event: Any) -> None:
        layer = event.value
        if layer is self.mask_layer:
            self.sync()
            self.mask_layer = None
        elif layer is self.probability_layer:
            self.probability_layer = None
        elif layer is self.ct_layer:
            self.cancel()
            self._let_go()
            self.events.case.emit()
        self.events.layers.emit()

    def _is_busy(self) -> bool:
        if self.is_running:
            self.events.failed.emit(InputError("the last job is still at work: wait for it, or cancel it"))
        return self.is_running

    def _start(
        self,
        generator: Generator,
        *arguments: Any,
        on_value: Callable[[Any], None],
        then: Callable[[], None] | None = None,
        label: str,
    ) -> None:
        self._then = then
        ears = {"on_value": on_value, "on_error": self._note_error, "on_end": self._on_job_end}
        self._job = Job(generator, *arguments, **ears, label=label)
        self.events.running.emit(True)
        self._job.start()

    def _note_error(self, error: Exception) -> None:
        if not isinstance(error, ResUNetError):
            _log.error("a job failed", exc_info=error)
        # told when the job has ended: whoever hears of it may want to start the next one
        self._error = error

    def _on_job_end(self) -> None:
        self._job, then, self._then = None, self._then, None
        error, self._error = self._error, None
        self.events.running.emit(False)
        if then is not None:
            then()
        if error is not None:
            self.events.failed.emit(error)


def _reading(path: Path, answers: InputAnswers) -> Iterator[Volume]:
    yield open_ct(path, answers)


def _predicting(
    volume: Volume,
    settings: PredictSettings,
    slices: tuple[int, int] | None,
    start: int,
    earlier: Run | None,
    done: npt.NDArray[np.bool_],
) -> Iterator[tuple[Run, Any, int, int]]:
    """Yield the run, a batch (None at first), the slices seen and those wanted."""
    from napari_resunet.inference.predict import (
        Prediction,
    )  # brings torch, which takes seconds: not at start-up

    prediction = Prediction(volume, **asdict(settings), slices=slices, start=start)
    if prediction.run == earlier:
        prediction.skip(done)
    seen, wanted = 0, sum(stop - first for first, stop in prediction.blocks)
    yield prediction.run, None, seen, wanted
    for batch in prediction.batches():
        seen += batch.stop - batch.start
        yield prediction.run, batch, seen, wanted


def _cleaning(
    version: int, probability: npt.NDArray[np.uint8], threshold: float, clean: bool
) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    from napari_resunet.inference.postprocess import lung_voxels

    yield version, lung_voxels(probability, threshold=threshold, clean=clean)


def _beside(path: Path, suffix: str) -> Path:
    """Return ``lungs_probability.nii.gz`` for ``lungs.nii.gz``."""
    stem, dot, endings = path.name.partition(".")
    return path.with_name(stem + suffix + dot + endings)
