"""The mask as a surface in 3-D, and back to the slices."""

from __future__ import annotations

from typing import Any

from napari.layers import Surface
from psygnal import Signal, SignalGroup

from napari_resunet.plugin.jobs import Job
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.slice_view import SliceView, camera_of
from napari_resunet.plugin.surface import Mesh, meshing, surface_layer

# along (z, y, x): seen from the front, head up
_FRONTAL = {"view_direction": (0, 1, 0), "up_direction": (1, 0, 0)}


class SurfaceViewEvents(SignalGroup):
    """What the surface tells its panel."""

    coming = Signal()  # the view is about to be in 3-D
    said = Signal(str)  # what there is to say of it; it may have come or gone


class SurfaceView:
    """Shows the mask of one session as a surface in 3-D.

    Parameters
    ----------
    session : Session
        Whose mask is looked at.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events = SurfaceViewEvents()
        self.layer: Surface | None = None
        self._job: Job | None = None
        self._slices: SliceView | None = None  # to come back to
        session.events.case.connect(self.hide)
        session.events.mask.connect(self._on_mask)

    def close(self) -> None:
        """Let go of the viewer, which is left as it was."""
        # first of all: the widgets that listen may be gone already
        for signal in self.events.signals.values():
            signal.disconnect()
        self.session.events.case.disconnect(self.hide)
        self.session.events.mask.disconnect(self._on_mask)
        self.hide()

    @property
    def is_idle(self) -> bool:
        return self._job is None

    def toggle(self) -> None:
        """Show the mask as a surface in 3-D; if that is so or on its way, go back to the slices."""
        if self.layer is not None or self._job is not None:
            self.hide()
        else:
            self._build()

    def _build(self) -> None:
        case = self.session.open_case()
        if case is None:
            return
        self.session.sync()
        work = (case.mask > 0, case.volume.axial_geometry.spacing_mm)  # a copy: painting goes on meanwhile
        ears = {"on_value": self._show, "on_error": self._fail, "on_end": self._on_end}
        self._job = Job(meshing, *work, **ears, label="building the surface")
        self.events.said.emit("building the surface …")
        self._job.start()

    def _fail(self, error: Exception) -> None:
        self.session.events.failed.emit(error)
        self._job = None
        self.events.said.emit(str(error))  # in full: a notification is cut after a few words

    def _on_end(self) -> None:
        self._job = None

    def _show(self, mesh: Mesh) -> None:
        self.events.coming.emit()
        viewer = self.session.viewer
        self._slices = SliceView.of(viewer)
        self._slices.hide()  # first: a whole CT in 3-D would take seconds
        viewer.dims.ndisplay = 3
        self.layer = surface_layer(mesh, self.session.ct_layer)
        viewer.add_layer(self.layer)
        camera_of(viewer).set_view_direction(**_FRONTAL)
        viewer.reset_view(reset_camera_angle=False)
        viewer.layers.events.removed.connect(self._on_layer_removed)
        viewer.dims.events.ndisplay.connect(self._on_ndisplay, position="last")
        self.events.said.emit("Drag to turn the surface.")

    def _on_layer_removed(self, event: Any) -> None:
        if event.value is self.layer:
            self._slices.show()  # napari may crash when it draws nothing but a brush after a surface is gone
            self.hide()

    def _on_ndisplay(self) -> None:
        """Take napari's own button for 2-D as a way back too."""
        if self.session.viewer.dims.ndisplay == 2:
            self.hide()

    def _on_mask(self) -> None:
        if self.layer is not None:
            self.events.said.emit("The mask has changed since this surface was built.")

    def hide(self) -> None:
        """Go back to the slices as they were, and forget a surface that is being built."""
        if self._job is not None:
            self._job.abandon()
            self._job = None
        layer, self.layer = self.layer, None
        slices, self._slices = self._slices, None
        viewer = self.session.viewer
        if slices is not None:
            viewer.layers.events.removed.disconnect(self._on_layer_removed)
            viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)
            layer.visible = False
            slices.bring_back()
            if layer in viewer.layers:
                viewer.layers.remove(layer)  # last: see above
            slices.go_to_place()
        self.events.said.emit("")
