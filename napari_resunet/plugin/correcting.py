"""Tools at work on the mask: what one would change is shown first, then applied as one step.

A step enters napari's own history as a single change of the voxels that differ, so that one Ctrl+Z takes it back; what
it changed counts as set by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.utils import DirectLabelColormap
from psygnal import Signal, SignalGroup

from napari_resunet.editing.changes import changed_voxels
from napari_resunet.errors import InputError
from napari_resunet.imaging.sides import LEFT, RIGHT
from napari_resunet.pictures import LEFT_COLOUR, RIGHT_COLOUR
from napari_resunet.plugin.jobs import Job
from napari_resunet.plugin.layers import placed_like
from napari_resunet.plugin.tools import TOOLS, Voxel, Work
from napari_resunet.settings import ToolSettings

if TYPE_CHECKING:
    from napari_resunet.plugin.session import Session

Bools = npt.NDArray[np.bool_]
Indices = tuple[npt.NDArray[np.intp], ...]

ADDED, REMOVED = 1, 2
_SIDES = {None: "transparent", 0: "transparent", RIGHT: RIGHT_COLOUR, LEFT: LEFT_COLOUR}
ADDED_COLOUR, REMOVED_COLOUR = "#00c853", "#d500f9"
_COLOURS = {None: "transparent", 0: "transparent", ADDED: ADDED_COLOUR, REMOVED: REMOVED_COLOUR}


class CorrectingEvents(SignalGroup):
    """What the tools tell their panel."""

    state = Signal(str)  # what the user can do next, or what would change


class Correcting:
    """The tools of one session: at most one of them waits for a click, works, or shows what it would change.

    Parameters
    ----------
    session : Session
        Whose mask is corrected.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events = CorrectingEvents()
        self.preview_layer: Labels | None = None
        self._armed: Callable[[Voxel], None] | None = None
        self._armed_layer: Labels | None = None
        self._apply: Callable[[], None] | None = None
        self._job: Job | None = None
        self._again: Callable[[], None] | None = None
        self._said = ""
        self._mode_before = "pan_zoom"
        session.events.case.connect(self.discard)
        session.events.layers.connect(self._look_for_layer)

    @property
    def is_idle(self) -> bool:
        return self._job is None

    @property
    def has_begun(self) -> bool:
        """Whether a tool shows something, works, or waits for a click."""
        return self.preview_layer is not None or self._job is not None or self._armed is not None

    def use(self, name: str, settings: ToolSettings) -> None:
        """Show what a tool would change; one that needs a click waits for it, and once more after each step."""
        self.discard()
        if self.session.open_case() is None:
            return
        self.session.show_layers()
        self._mode_before = self.session.mask_layer.mode
        if TOOLS[name].needs_click:
            self._again = partial(self.use, name, settings)
            self._arm(partial(self._preview, name, settings))
        else:
            self._preview(name, settings, (self.session.slice_in_view, 0, 0))

    def _arm(self, preview: Callable[[Voxel], None]) -> None:
        layer = self.session.mask_layer
        self._armed, self._armed_layer = preview, layer
        self.session.viewer.layers.selection.active = layer
        layer.mode = "pan_zoom"  # a click with the brush would paint
        layer.mouse_drag_callbacks.append(self._on_click)
        layer.events.mode.connect(self._on_mode)
        self.events.state.emit("Click a voxel in the picture.")

    def _look_for_layer(self) -> None:
        if self._armed_layer is not None and self._armed_layer not in self.session.viewer.layers:
            self.discard()

    def _on_mode(self) -> None:
        """Let the brush go before the tool, if the user takes it up."""
        self._mode_before = self._armed_layer.mode
        self.discard()

    def _on_click(self, layer: Labels, event: Any) -> None:
        point = np.round(layer.world_to_data(event.position)).astype(int)
        if self._armed is None or not all(0 <= i < n for i, n in zip(point, layer.data.shape, strict=True)):
            return
        preview = self._armed
        self._disarm()
        preview((int(point[0]), int(point[1]), int(point[2])))

    def _disarm(self) -> None:
        self._armed = None
        layer, self._armed_layer = self._armed_layer, None
        if layer is not None:
            layer.mouse_drag_callbacks.remove(self._on_click)
            layer.events.mode.disconnect(self._on_mode)
            layer.mode = self._mode_before

    def _preview(self, name: str, settings: ToolSettings, voxel: Voxel) -> None:
        self.session.sync()
        case = self.session.case
        work = Work(
            mask=case.mask > 0,
            automatic=case.automatic.copy(),
            run=case.run,
            is_swapped=case.settings.swap_sides,
            hu=case.volume.axial,
            edited=case.edit != 0,
            spacing_mm=case.volume.axial_geometry.spacing_mm,
            voxel=voxel,
            settings=settings,
        )
        tool = TOOLS[name]
        generator, on_value = (
            (_labelling, self._show_labels) if tool.labels else (_changing, self._show_changes)
        )
        ears = {"on_value": on_value, "on_error": self._fail, "on_end": self._on_end}
        self._job = Job(generator, tool.change, work, **ears, label=name.lower())
        self.events.state.emit("working …")
        self._job.start()

    def _fail(self, error: Exception) -> None:
        words = str(error)
        self._said = words[:1].upper() + words[1:]
        if not isinstance(error, InputError):  # advice stands in the panel, in full
            self.session.events.failed.emit(error)

    def _on_end(self) -> None:
        self._job = None
        if self._apply is None:
            self.events.state.emit(self._said)

    def _show_changes(self, changes: tuple[Indices, npt.NDArray[np.uint8]]) -> None:
        indices, values = changes
        if not len(values):
            self._said = "This changes nothing."
            return
        shown = np.zeros(self.session.case.mask.shape, dtype=np.uint8)
        shown[indices] = np.where(values > 0, ADDED, REMOVED)
        added = int(np.count_nonzero(values))
        said = f"{added:,} voxels to add (green), {len(values) - added:,} to remove (magenta)"
        self._show(shown, _COLOURS, partial(self._change_voxels, changes), said)

    def _show_labels(self, labels: npt.NDArray[np.uint8]) -> None:
        if not labels.any():
            self._said = "There is no lung to label yet."
            return
        self._show(labels, _SIDES, self._swap, "As it would be: right lung orange, left lung blue")

    def _show(
        self,
        shown: npt.NDArray[np.uint8],
        colours: dict[int | None, str],
        apply: Callable[[], None],
        said: str,
    ) -> None:
        self._apply = apply
        mask = self.session.mask_layer
        self.preview_layer = self.session.viewer.add_labels(
            shown,
            name="preview",
            colormap=DirectLabelColormap(color_dict=colours),
            opacity=0.7,
            **placed_like(self.session.ct_layer),
        )
        self.session.viewer.layers.selection.active = mask
        mask.mode = self._mode_before  # which the preview, while it was active, took away
        self.events.state.emit(said)

    def apply(self) -> None:
        """Change the mask as shown, in one step that one Ctrl+Z takes back."""
        apply, again = self._apply, self._again
        self.discard()
        if apply is None or self.session.case is None:
            return
        self.session.show_layers()
        self.session.sync()
        apply()
        self.session.sync()
        self.session.events.painted.emit()
        if again is not None:
            again()

    def _change_voxels(self, changes: tuple[Indices, npt.NDArray[np.uint8]]) -> None:
        self.session.mask_layer.data_setitem(*changes)

    def _swap(self) -> None:
        """Label the sides the other way round; no voxel changes, so napari's history has no part in it."""
        self.session.case.swap_sides()

    def discard(self) -> None:
        """Let go of what was shown, and of a tool that waits or works."""
        self._disarm()
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._apply, self._again, self._said = None, None, ""
        layer, self.preview_layer = self.preview_layer, None
        if layer is not None and layer in self.session.viewer.layers:
            self.session.viewer.layers.remove(layer)
        self.events.state.emit("")


def _changing(change: Callable[[Work], Bools], work: Work) -> Iterator[tuple[Indices, npt.NDArray[np.uint8]]]:
    indices, values = changed_voxels(work.mask, change(work))
    yield indices, values.astype(np.uint8)


def _labelling(
    change: Callable[[Work], npt.NDArray[np.uint8]], work: Work
) -> Iterator[npt.NDArray[np.uint8]]:
    yield change(work)
