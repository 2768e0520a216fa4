"""What the window works on: the one open case, its layers in the viewer, and the one job at work.

It shows a CT, and runs the network over it. The rest is done by what it is made of: `opening` reads files, `adopting`
takes in work made elsewhere, `masking` follows threshold and clean-up, `hand` what is painted, `correcting` the tools,
and `saving` writes; `cases` finds again what was open before. Panels call them and listen to the session; they keep no
state of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from psygnal import Signal, SignalGroup

from napari_resunet.case import Case
from napari_resunet.errors import InputError, ResUNetError
from napari_resunet.plugin.adopting import Adopting
from napari_resunet.plugin.asked import Asked
from napari_resunet.plugin.cases import Cases
from napari_resunet.plugin.correcting import Correcting
from napari_resunet.plugin.hand import Hand
from napari_resunet.plugin.jobs import Generator, Job
from napari_resunet.plugin.layers import (
    KEY,
    RECORD,
    ct_layer_data,
    mask_layer,
    named_apart,
    probability_layer,
    shows,
    volume_of,
)
from napari_resunet.plugin.lazy import Loaded, is_lazy, said_of_failed
from napari_resunet.plugin.masking import Masking
from napari_resunet.plugin.opening import Opening
from napari_resunet.plugin.preferences import preferred_mask
from napari_resunet.plugin.saving import Saving
from napari_resunet.plugin.slice_view import camera_of
from napari_resunet.plugin.work import predicting
from napari_resunet.preflight import Check, preflight
from napari_resunet.record import CaseRecord
from napari_resunet.settings import KEEP_EDITS, KEEP_TICKED, InputAnswers, PredictSettings, RunSettings
from napari_resunet.volume import Run, Volume

_log = logging.getLogger(__name__)


class SessionEvents(SignalGroup):
    """What a session tells its panels."""

    case = Signal()  # another CT is open, or none
    layers = Signal()  # layers came or went
    running = Signal(bool)
    reading = Signal(str, int, int)  # how far the reading of a file is: in words, steps done, steps in all
    progress = Signal(int, int, float)  # slices done, slices in all, seconds left
    mask = Signal()
    painted = Signal()
    ran = Signal(str)  # how a run ended
    hand = Signal()  # edits, ticks or flags became others
    kept = Signal()  # they are in a file now
    recovered = Signal(object)  # the abandoned work that was taken in
    asks = Signal(object)  # what only the user can say, as `Asked`
    failed = Signal(object)  # an error that no answer mends


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
        self.cases = Cases(viewer)
        self.ct_layer: Image | None = None
        self.probability_layer: Image | None = None
        self.mask_layer: Labels | None = None
        self._checks: WeakKeyDictionary[Volume, tuple[Check, ...]] = WeakKeyDictionary()
        self.on_close: list[Callable[[], None]] = []
        self._job: Job | None = None
        self._then: Callable[[], None] | None = None
        self._error: Exception | None = None
        self._failed = False  # the job that ended last
        self._is_closed = False
        self._started = 0.0
        viewer.layers.events.inserted.connect(self._on_layer_inserted)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        self.opening, self.adopting, self.saving = Opening(self), Adopting(self), Saving(self)
        self.masking, self.hand, self.correcting = Masking(self), Hand(self), Correcting(self)
        self._adopt_one_of(viewer.layers)

    # ---- the CT

    def show_ct(
        self,
        volume: Volume,
        record: CaseRecord | None = None,
        *,
        is_in_file: bool = True,
        name: str | None = None,
    ) -> bool:
        """Add a CT as a layer, and open it, with the work on it that a record holds.

        Parameters
        ----------
        volume : Volume
            The CT. If it is open already, its layer is chosen.
        record : CaseRecord, optional
            Work to go on with.
        is_in_file : bool
            Whether that work is in a file already.
        name : str, optional
            Of its layer; that of its file by default.

        Returns
        -------
        bool
            Whether all went well.
        """
        known = self.cases.layer_of(volume, record)
        if known is None:
            data, look, _ = ct_layer_data(volume, name)
            known = self.viewer.add_image(data, **look)
        self.choose(known)
        return record is None or self.adopting.take_in(record, is_in_file=is_in_file)

    def choose(self, layer: Layer | None, answers: InputAnswers | None = None) -> None:
        """Make a layer the open CT; if it is so already, nothing happens. What it leaves open is asked."""
        if layer is None or (layer is self.ct_layer and self.case is not None):
            return
        try:
            case = self.cases.of(layer)
            if case is None and is_lazy(layer.data):
                self.opening.open_lazy(layer, answers or InputAnswers())
                return
            case = case or Case(volume_of(layer, answers), preferred_mask())
        except ResUNetError as error:
            ask = partial(Asked, take=partial(self.choose, layer), answers=answers or InputAnswers())
            self.opening.ask_or_fail(error, ask)
            return
        self._open_as(layer, case)

    def open_layer(self, layer: Layer, answers: InputAnswers, *, loaded: Loaded) -> None:
        """Make a lazy layer the open CT, whose slices were read meanwhile."""
        self._open_as(layer, Case(volume_of(layer, answers, loaded=loaded), preferred_mask()))

    def _open_as(self, layer: Layer, case: Case) -> None:
        if layer.metadata.get(KEY) is None and not case.volume.geometry.to_axial.is_identity:
            self.show_ct(case.volume, name=f"{layer.name}, axial")  # the layer itself is not in axial slices
            return
        if self.is_running:
            self.cancel()
        if self.ct_layer is not None:
            self.sync()
        self._let_go()
        self.case, self.ct_layer = case, layer
        self.cases.add(layer, case)
        self.hand.begin(case)
        layer.events.mode.connect(self._keep_in_place)
        for found in self.viewer.layers:
            if shows(found, case):
                self._take_result_layer(found)
        case.events.mask.connect(self._on_mask)
        case.events.probability.connect(self._on_probability)
        self.events.case.emit()
        self._bring_into_view()  # of which panels hear that know the case by now
        if case.done.any():
            self.masking.settle()
        if RECORD in layer.metadata:
            self.adopting.take_in(layer.metadata.pop(RECORD))

    def _bring_into_view(self) -> None:
        """Show the open CT and its mask; hide the other CTs and what was found in them, which may lie elsewhere."""
        for layer in self.viewer.layers:
            if layer in (self.ct_layer, self.mask_layer):
                layer.visible = True
            elif isinstance(layer.metadata.get(KEY), (Volume, Case)) and not shows(layer, self.case):
                layer.visible = False
        point = self.viewer.dims.point[-self.ct_layer.ndim :]
        z = self.ct_layer.world_to_data(point)[0]
        if not -0.5 <= z < len(self.ct_layer.data) - 0.5:
            self.show_slice(len(self.ct_layer.data) // 2)
            self.viewer.reset_view()  # for which hidden layers count too
            camera_of(self.viewer).center = tuple(self.ct_layer.extent.world.mean(axis=0))

    def _let_go(self) -> None:
        """Leave the open case as it is; it is found again when its CT layer is chosen."""
        if self.case is not None:
            self.case.events.mask.disconnect(self._on_mask)
            self.case.events.probability.disconnect(self._on_probability)
        for layer in filter(None, (self.ct_layer, self.probability_layer, self.mask_layer)):
            layer.events.mode.disconnect(self._keep_in_place)
        self.case = self.ct_layer = self.probability_layer = self.mask_layer = None

    def answer_hu(self, offset: float) -> None:
        """Take the user's word that the values are HU once `offset` is added; what was painted stays."""
        if self.case is None or self.ct_layer is None:
            return
        self.cancel()
        self.sync()
        volume = self.case.volume.with_hu_offset(offset)
        self.ct_layer.data, self.ct_layer.metadata[KEY] = volume.axial, volume
        self.cases.add(self.ct_layer, self.case)
        self.case.restate(volume)
        self.events.case.emit()

    def open_case(self) -> Case | None:
        """Return the open case, and tell so if there is none."""
        if self.case is None:
            self.events.failed.emit(InputError("there is no CT yet: open one first"))
        return self.case

    @property
    def checks(self) -> tuple[Check, ...]:
        """What is known of the open CT before the network runs; nothing if there is none."""
        if self.case is None:
            return ()
        volume = self.case.volume
        if volume not in self._checks:
            self._checks[volume] = preflight(volume)
        return self._checks[volume]

    # ---- the run

    @property
    def is_closed(self) -> bool:
        return self._is_closed

    @property
    def is_running(self) -> bool:
        return self._job is not None

    @property
    def is_idle(self) -> bool:
        """Whether nothing at all is at work, not even the clean-up or a tool."""
        return self._job is None and self.masking.is_idle and self.correcting.is_idle

    def run(
        self,
        settings: PredictSettings,
        slices: tuple[int, int] | None = None,
        *,
        edits: str = RunSettings.edits,
    ) -> None:
        """Run the network over the open CT, from the slice in view outwards.

        Slices that the same model has seen at the same grid are not run again. What becomes of the edits by hand, one
        of the options of `RunSettings.edits`, is done when the network is ready to run, and not if it fails to be.
        """
        case = self.open_case()
        if case is None or self.is_busy() or self._has_open_question():
            return
        self.sync()
        self.show_layers()
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
        on_value, then = partial(self._on_prediction, case, edits), partial(self._after_run, case)
        self.start(predicting, *work, on_value=on_value, then=then, label="finding lungs")

    def _has_open_question(self) -> bool:
        """Tell what has to be said of the values of the open CT before a run; return whether there is anything."""
        asked = [check for check in self.checks if check.level == "ask" and "hu_offset" in check.answers]
        for check in asked:
            self.events.failed.emit(InputError(f"{check.text}; say so under CT first"))
        return bool(asked)

    def cancel(self) -> None:
        """Stop after the slices that are being worked on; finished slices stay. A file being read is not opened."""
        if self._job is not None:
            self._job.cancel(mute=self.opening.is_reading)

    @property
    def slice_in_view(self) -> int:
        """The axial slice that the viewer shows."""
        if self.ct_layer is None:
            return 0
        point = np.asarray(self.ct_layer.world_to_data(self.viewer.dims.point[-self.ct_layer.ndim :]))
        return int(np.clip(round(point[0]), 0, self.ct_layer.data.shape[0] - 1))

    def show_slice(self, z: int) -> None:
        """Bring an axial slice into view."""
        if self.ct_layer is not None:
            self.viewer.dims.set_point(self.viewer.dims.ndim - 3, self.ct_layer.data_to_world((z, 0, 0))[0])

    def _on_prediction(self, case: Case, edits: str, answer: tuple[Run, Any, int, int]) -> None:
        run, batch, seen, wanted = answer
        if case is not self.case:
            return
        self.sync()
        if batch is None:
            if edits != KEEP_EDITS:
                self.hand.forget_edits(keep_ticked=edits == KEEP_TICKED)
            case.begin(run)
            return
        case.accept(run, batch)
        seconds_left = (monotonic() - self._started) / max(seen, 1) * (wanted - seen)
        self.events.progress.emit(seen, wanted, seconds_left)

    def _after_run(self, case: Case) -> None:
        if case is not self.case:
            self.events.ran.emit(f"the run on {case.reference.name} ended: that CT is not open any more")
            return
        where = "" if case.run is None else f" on {case.run.device} in {case.run.precision}"
        said = [f"{int(case.done.sum())} of {len(case.done)} slices segmented{where}", *case.run_notes]
        if self._failed:
            said.insert(0, "The run failed; the mask is as it was before, or as far as it came")
        elif case.slices_missing:
            said.append(f"{case.slices_missing} are not run yet")
        said += filter(None, [said_of_failed(case.volume.notes)])
        if self.mask_layer is None:
            said.append("its layer was deleted: Run shows it again")
        self.events.ran.emit("; ".join(said))
        self.masking.settle()

    def sync(self) -> None:
        """Take in what was painted, also by those who gave the layer another array."""
        self.hand.sync()

    def close(self) -> None:
        """Stop all work and let go of the viewer; done once, however often it is asked for."""
        if self._is_closed:
            return
        self._is_closed = True
        for close in self.on_close:
            close()
        self.on_close.clear()
        # first of all: the widgets that listen may be gone already
        for signal in (*self.events.signals.values(), *self.correcting.events.signals.values()):
            signal.disconnect()
        if self._job is not None:
            self._job.abandon()
        self._job = None
        self.masking.abandon()
        self.correcting.discard()
        self.hand.let_go()
        self._let_go()
        self.viewer.layers.events.inserted.disconnect(self._on_layer_inserted)
        self.viewer.layers.events.removed.disconnect(self._on_layer_removed)

    # ---- layers and jobs

    def show_layers(self) -> None:
        """Add the probability and the mask of the open case to the viewer, where they are not in it."""
        if self.case is None or self.ct_layer is None:
            return
        if self.probability_layer is None:
            self._add_result_layer(probability_layer(self.case, self.ct_layer))
        if self.mask_layer is None:
            self._add_result_layer(mask_layer(self.case, self.ct_layer))

    def _add_result_layer(self, layer: Layer) -> None:
        self._take_result_layer(named_apart(layer, self.ct_layer, self.viewer.layers))
        self.viewer.add_layer(layer)

    def _take_result_layer(self, layer: Layer) -> None:
        if isinstance(layer, Labels):
            self.mask_layer = layer
            self.hand.listen_to(layer)
        else:
            self.probability_layer = layer
        layer.events.mode.connect(self._keep_in_place)

    def _keep_in_place(self) -> None:
        """Leave napari's tool for moving layers: CT and mask lie where the file says, and one upon the other."""
        for layer in filter(None, (self.ct_layer, self.probability_layer, self.mask_layer)):
            if layer.mode == "transform":
                layer.mode = "pan_zoom"
                told = f"{layer.name} stays where its file says: napari's transform tool is not for it; to paint, "
                self.events.failed.emit(InputError(f"{told}choose the layer of the mask first"))

    def _on_probability(self, _first: int, _last: int) -> None:
        if self.probability_layer is not None:
            self.probability_layer.refresh(extent=False, thumbnail=False)

    def _on_mask(self) -> None:
        if self.mask_layer is not None:
            self.mask_layer.refresh(extent=False, thumbnail=False)
        self.events.mask.emit()

    def _on_layer_inserted(self, event: Any) -> None:
        self._adopt_one_of([event.value])
        self.events.layers.emit()

    def _adopt_one_of(self, layers: Iterable[Layer]) -> None:
        """Open the newest CT that our reader brought; a layer of unknown origin waits to be chosen."""
        for layer in reversed(list(layers)):
            volume = layer.metadata.get(KEY)
            is_copy = any(
                volume is other.metadata.get(KEY) for other in self.viewer.layers if other is not layer
            )
            if isinstance(volume, Volume) and not is_copy and not self.is_running:
                self.choose(layer)
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
            self.sync()
            self._let_go()
            self.events.case.emit()
        self.cases.lose(layer)
        self.events.layers.emit()

    def is_busy(self) -> bool:
        """Return whether a job is at work, and tell so if it is."""
        if self.is_running:
            self.events.failed.emit(InputError("the last job is still at work: wait for it, or cancel it"))
        return self.is_running

    def start(
        self,
        generator: Generator,
        *arguments: Any,
        then: Callable[[], None] | None = None,
        label: str,
        **ears: Callable[..., None],
    ) -> None:
        """Start a job; `then` is called when it has ended."""
        self._then = then
        ears |= {"on_error": self._note_error, "on_end": self._on_job_end}
        self._job = Job(generator, *arguments, **ears, label=label)
        self.events.running.emit(True)
        self._job.start()

    def _note_error(self, error: Exception) -> None:
        if not isinstance(error, ResUNetError) or isinstance(error.__cause__, RuntimeError):
            _log.error("a job failed", exc_info=error)
        # told when the job has ended: whoever hears of it may want to start the next one
        self._error = error

    def _on_job_end(self) -> None:
        self._job, then, self._then = None, self._then, None
        ask = self.opening.end()
        error, self._error = self._error, None
        self._failed = error is not None
        self.events.running.emit(False)
        if then is not None:
            then()
        if error is not None:
            self.opening.ask_or_fail(error, ask)
