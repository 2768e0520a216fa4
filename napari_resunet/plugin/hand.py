"""What a hand does in the mask layer reaches its case: stroke by stroke, told from what an undo writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
from napari.layers import Labels

from napari_resunet.case import Case
from napari_resunet.editing.history import Step
from napari_resunet.errors import InputError
from napari_resunet.plugin.layers import KEY

if TYPE_CHECKING:
    from napari_resunet.plugin.session import Session


class Hand:
    """Listens to the mask layers of a session.

    Parameters
    ----------
    session : Session
        Is told when edits became others.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layers: WeakSet[Labels] = WeakSet()
        self._heard_of = 0  # the version of the edits of the open case
        self._is_drawing = False

    def begin(self, case: Case) -> None:
        """Note which edits a case is opened with."""
        self._heard_of = case.hand_version

    def listen_to(self, layer: Labels) -> None:
        """Take in what is done in a mask layer from now on."""
        self._layers.add(layer)
        layer.events.paint.connect(self._on_stroke)
        layer.events.labels_update.connect(self._on_drawn)
        layer.events.set_data.connect(self._on_painted)
        # napari does not tell an undo from a stroke, and what it brings back may be older than the threshold
        layer.undo = partial(self._step, type(layer).undo, layer, "undo")
        layer.redo = partial(self._step, type(layer).redo, layer, "redo")

    def let_go(self) -> None:
        """Listen no more, and leave undo and redo as napari made them."""
        for layer in self._layers:
            layer.events.paint.disconnect(self._on_stroke)
            layer.events.labels_update.disconnect(self._on_drawn)
            layer.events.set_data.disconnect(self._on_painted)
            for name in ("undo", "redo"):
                vars(layer).pop(name, None)
        self._layers.clear()

    def sync(self) -> None:
        """Take in what was painted, also by those who gave the layer another array."""
        case, layer = self._session.case, self._session.mask_layer
        if case is None or layer is None:
            return
        shown = np.asarray(layer.data)
        if shown.shape != case.mask.shape:
            self._set_aside(shown)
        else:
            case.take_shown(shown)
        if layer.data is not case.mask:
            layer.data = case.mask
        self._tell(case)

    def forget_edits(self, *, keep_ticked: bool = False) -> int:
        """Set aside the edits, but those on ticked slices if so wanted; return how many voxels that were."""
        session = self._session
        if session.case is None:
            return 0
        self.sync()
        voxels = session.case.forget_edits(session.case.review.ticked if keep_ticked else None)
        session.events.hand.emit()
        return voxels

    def bring_back(self) -> int:
        """Give back the edits that were set aside last; return how many voxels they set."""
        session = self._session
        if session.case is None:
            return 0
        self.sync()
        voxels = session.case.bring_back()
        session.events.hand.emit()
        return voxels

    def _set_aside(self, shown: npt.NDArray[Any]) -> None:
        session = self._session
        session.viewer.add_labels(shown.copy(), name=f"{session.mask_layer.name} of another size")
        said = "the mask layer was given another size than its CT: that array is now a layer of its own"
        session.events.failed.emit(InputError(f"{said}, and the mask is back as it was"))

    def _tell(self, case: Case) -> None:
        session = self._session
        session.cases.keep(case)
        if case is not session.case:
            session.events.hand.emit()
        elif case.hand_version != self._heard_of:
            self._heard_of = case.hand_version
            session.events.hand.emit()

    def _step(self, step: Callable[[Labels], None], layer: Labels, how: Step) -> None:
        if layer is self._session.mask_layer:
            self.sync()
        case = layer.metadata.get(KEY)
        if self._session.is_closed or not isinstance(case, Case) or layer.data is not case.mask:
            step(layer)
            return
        with layer.events.blocker_all():  # who listens would look at a mask that is blank
            case.step(how, partial(step, layer))
        layer.refresh(extent=False)
        self._tell(case)

    def _on_stroke(self, event: Any) -> None:
        layer, case = event.source, event.source.metadata.get(KEY)
        if isinstance(case, Case) and (layer is self._session.mask_layer or layer.data is case.mask):
            case.begin_step()
            before = case.hand_version
            if layer is self._session.mask_layer:
                self.sync()  # takes in another array, too
            case.absorb_edits()  # at once: each stroke is a change of its own
            self._is_drawing = case.hand_version == before
            self._tell(case)
        self._session.events.painted.emit()

    def _on_drawn(self) -> None:
        if self._is_drawing:  # napari tells of a polygon before it has changed the data
            self._is_drawing = False
            self.sync()

    def _on_painted(self) -> None:
        self._session.events.painted.emit()
