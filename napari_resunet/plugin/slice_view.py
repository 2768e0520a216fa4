"""What a viewer shows in 2-D, and where napari keeps its camera and its caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari.components import ViewerModel
from napari.layers import Layer


@dataclass(frozen=True, eq=False)
class SliceView:
    """What a viewer showed in 2-D, so that it can be shown again."""

    viewer: ViewerModel
    visible: tuple[Layer, ...]
    active: Layer | None
    point: tuple[float, ...]
    centre: tuple[float, ...]
    zoom: float

    @classmethod
    def of(cls, viewer: ViewerModel) -> SliceView:
        visible = tuple(layer for layer in viewer.layers if layer.visible)
        camera = camera_of(viewer)
        return cls(
            viewer, visible, viewer.layers.selection.active, viewer.dims.point, camera.center, camera.zoom
        )

    def hide(self) -> None:
        for layer in self.visible:
            layer.visible = False

    def show(self) -> None:
        for layer in self.visible:
            layer.visible = True

    def bring_back(self) -> None:
        viewer, camera = self.viewer, camera_of(self.viewer)
        viewer.dims.ndisplay = 2
        camera.center, camera.zoom = self.centre, self.zoom
        self.show()

    def go_to_place(self) -> None:
        dims = self.viewer.dims
        if dims.ndim == len(self.point):
            dims.set_point(range(dims.ndim), self.point)
        if self.active in self.viewer.layers:
            self.viewer.layers.selection.active = self.active


def camera_of(viewer: ViewerModel) -> Any:
    # where it lives since napari 0.9, and before
    return getattr(viewer, "scene", viewer).camera


def caption_of(viewer: ViewerModel) -> Any:
    """Return the text in the corner of the picture."""
    # where it lives since napari 0.9, and before
    return viewer.canvas.overlays.text if hasattr(viewer, "canvas") else viewer.text_overlay
