"""The mask as a surface that napari can show in 3-D."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Surface

from napari_resunet.pictures import RIGHT_COLOUR
from napari_resunet.plugin.layers import placed_like

Mesh = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]


def surface_layer(mesh: Mesh, ct: Image) -> Surface:
    (vertices, faces), place = mesh, placed_like(ct)
    # the same scale along each axis: napari scales the normals too, and would light the surface wrongly
    scale = np.asarray(place.pop("scale"))
    vertices = vertices * scale / scale.max()
    look = {"name": "lung surface", "shading": "smooth", "colormap": ["black", RIGHT_COLOUR]}
    return Surface((vertices, faces), scale=[scale.max()] * 3, contrast_limits=(0, 1), **look, **place)


def meshing(mask: npt.NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> Iterator[Mesh]:
    from napari_resunet.imaging.mesh import lung_surface  # only where it is asked for

    yield lung_surface(mask, spacing_mm)
