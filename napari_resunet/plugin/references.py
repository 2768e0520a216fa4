"""References to compare the mask with: a layer of labels, as a mask on the grid of the CT."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer

from napari_resunet.geometry import Geometry
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.volume import Mask, Volume


def can_be_reference(layer: Layer) -> bool:
    """Whether a layer is one of labels in 3-D."""
    return isinstance(layer, Labels) and not layer.multiscale and layer.ndim == 3


def reference_of(layer: Labels, ct: Image, volume: Volume) -> Mask:
    """Return the mask that a layer of labels shows, in the order of the CT's source.

    Where exactly the labels 1 and 2 occur they are the right and the left lung; otherwise all above 0 is lung.

    Parameters
    ----------
    layer : napari.layers.Labels
        Made by anybody.
    ct : napari.layers.Image
        The layer of the CT.
    volume : Volume
        The CT that it shows.

    Raises
    ------
    GeometryError
        If the layer has another shape than the CT, or does not lie where the CT does.
    """
    labels = np.asarray(layer.data)
    refuse_other_grid(
        _geometry_of(labels.shape, layer, ct, volume.axial_geometry),
        volume.axial_geometry,
        what=f"the layer “{layer.name}”",
        other="the CT",
        remedy="choose a layer on the grid of the CT, or the file of the reference",
    )
    axial = _right_left_or_lung(labels)
    return Mask(np.ascontiguousarray(volume.geometry.to_axial.undo(axial)), volume.geometry)


def _geometry_of(shape: tuple[int, ...], layer: Labels, ct: Image, axial: Geometry) -> Geometry:
    """Return where the voxels of a layer lie, by where they are seen in the layer of the CT."""
    # a layer without a unit of length is taken to be in that of the CT
    factors = [
        (1 * own).to(unit).magnitude if own.is_compatible_with(unit) else 1.0
        for own, unit in zip(layer.units, ct.units, strict=True)
    ]
    index = np.vstack([np.eye(3), np.zeros(3)])  # one step along each axis, and the first voxel
    seen = np.array([ct.world_to_data(np.multiply(layer.data_to_world(i), factors)) for i in index])
    layer_to_ct = np.eye(4)
    layer_to_ct[:3] = np.vstack([seen[:3] - seen[3], seen[3]]).T
    return Geometry((shape[0], shape[1], shape[2]), axial.index_to_lps @ layer_to_ct)


def _right_left_or_lung(labels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    has_sides = bool((labels == 1).any() and (labels == 2).any() and not (labels > 2).any())
    return np.where(labels > 0, labels, 0).astype(np.uint8) if has_sides else (labels > 0).view(np.uint8)
