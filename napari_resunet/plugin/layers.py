"""Volumes and cases as napari layers, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer
from napari.utils import DirectLabelColormap

from napari_resunet.case import Case
from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.pictures import LEFT_COLOUR, LUNG_WINDOW_HU, RIGHT_COLOUR
from napari_resunet.volume import Volume

KEY = "napari-resunet"  # in a layer's metadata: the Volume of a CT, the Case of a result
LayerData = tuple[Any, dict[str, Any], str]


class UnitProbability:
    """A uint8 map (0-255) that napari sees as probabilities from 0 to 1, converted slice by slice."""

    dtype = np.dtype(np.float32)

    def __init__(self, quantised: npt.NDArray[np.uint8]) -> None:
        self._quantised = quantised
        self.shape = quantised.shape
        self.ndim = quantised.ndim
        self.size = quantised.size

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        return np.asarray(self._quantised[key], dtype=np.float32) / np.float32(255)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return self[...].astype(dtype or self.dtype, copy=False)


def place(volume: Volume) -> dict[str, Any]:
    """Return where a layer of axial slices lies: mm along the patient's axes, oblique volumes shown straight."""
    geometry = volume.axial_geometry
    x, y, z = geometry.index_to_lps[:3, 3]
    return {
        "scale": geometry.spacing_mm,
        "translate": (float(z), float(y), float(x)),
        "units": "mm",
        "axis_labels": ("z", "y", "x"),
    }


def ct_layer_data(volume: Volume, name: str | None = None) -> LayerData:
    """Return a CT as napari wants it from a reader."""
    if name is None:
        name = "CT" if volume.source is None else volume.source.path.name
    look = {"name": name, "colormap": "gray", "contrast_limits": LUNG_WINDOW_HU, "metadata": {KEY: volume}}
    return volume.axial, {**look, **place(volume)}, "image"


def probability_layer(case: Case) -> Image:
    return Image(
        UnitProbability(case.probability),
        name="lung probability",
        colormap="magma",
        blending="additive",
        opacity=0.5,
        contrast_limits=(0, 1),
        visible=False,
        metadata={KEY: case},
        **place(case.volume),
    )


def mask_layer(case: Case) -> Labels:
    layer = Labels(
        case.mask,
        name="lung mask",
        opacity=0.45,
        colormap=DirectLabelColormap(
            color_dict={None: "transparent", 0: "transparent", 1: RIGHT_COLOUR, 2: LEFT_COLOUR}
        ),
        metadata={KEY: case},
        **place(case.volume),
    )
    layer.brush_size = 15
    return layer


def can_be_ct(layer: Layer) -> bool:
    """Whether a layer can hold a CT: a grey-scale image of slices that is not a result of ours."""
    is_image = isinstance(layer, Image) and not layer.rgb and not layer.multiscale and layer.ndim in (2, 3)
    return is_image and not isinstance(layer.metadata.get(KEY), Case)


def volume_of(layer: Layer, *, spacing_mm: tuple[float, float, float] | None = None) -> Volume:
    """Return the CT that a layer shows.

    Parameters
    ----------
    layer : napari.layers.Layer
        Opened by our reader, or any other 3-D image whose axes are (z, y, x).
    spacing_mm : tuple of float, optional
        Along (z, y, x), for a layer that does not say.

    Raises
    ------
    InputError
        If it is not a plain 3-D image.
    SpacingUnknownError
        If it does not say how large its voxels are, and `spacing_mm` does not either.
    """
    if not can_be_ct(layer):
        raise InputError(f"{layer.name} is not a grey-scale image of slices; choose the layer of the CT")
    known = layer.metadata.get(KEY)
    if (
        isinstance(known, Volume)
        and known.array.shape == known.geometry.shape
        and layer.data.shape == known.axial.shape
    ):
        return known
    array = np.asarray(layer.data)
    array = array if array.ndim == 3 else array[None]
    spacing = spacing_mm or _spacing_of(layer)
    note = f"voxel size {' × '.join(f'{mm:g}' for mm in spacing)} mm (z × y × x) taken as given; orientation assumed"
    fits = array.dtype in (np.int16, np.int8, np.uint8)
    array = array.astype(np.int16 if fits else np.float32, copy=False)
    return Volume(array, Geometry.from_spacing(array.shape, spacing), notes=(note,))


def _spacing_of(layer: Layer) -> tuple[float, float, float]:
    scale = tuple(float(s) for s in layer.scale)
    if len(scale) != 3 or all(s == 1 for s in scale):
        raise SpacingUnknownError(f"{layer.name} does not say how large its voxels are")
    return scale[0], scale[1], scale[2]
