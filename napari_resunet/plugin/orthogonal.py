"""The coronal and the sagittal view beside the axial one, which another plugin draws."""

from __future__ import annotations

from importlib.util import find_spec

from napari.components import ViewerModel

from napari_resunet.plugin.slice_view import camera_of


def has_orthogonal_views() -> bool:
    """Whether the plugin that draws orthogonal views is installed."""
    return find_spec("napari_orthogonal_views") is not None


def toggle_orthogonal_views(viewer: ViewerModel) -> None:
    """Show or hide the coronal and the sagittal view."""
    from napari_orthogonal_views.ortho_view_manager import _get_manager  # by this name in its manual

    manager = _get_manager(viewer)
    if manager.is_shown():
        manager.hide()
    else:
        manager.show()
        coronal = manager.bottom_widget.vm_container.viewer_model
        camera_of(coronal).orientation2d = "up", "right"  # head up
