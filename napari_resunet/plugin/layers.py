"""Volumes and cases as napari layers, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image, Labels, Layer
from napari.utils import DirectLabelColormap

from napari_resunet.case import Case
from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.orientation import orientation_note
from napari_resunet.pictures import LEFT_COLOUR, LUNG_WINDOW_HU, RIGHT_COLOUR
from napari_resunet.plugin.lazy import Loaded, as_ct_values, is_lazy, said_of_failed
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Volume

KEY = "napari-resunet"  # in a layer's metadata: the Volume of a CT, the Case of a result
RECORD = "napari-resunet record"  # in that of a CT from a case file, until a session takes it in
LayerData = tuple[Any, dict[str, Any], str]

_UNKNOWN_ORIGIN = "taken from a layer of unknown origin"


class UnitProbability:
    """A uint8 map (0-255) that napari sees as probabilities from 0 to 1, converted slice by slice."""

    dtype = np.dtype(np.float32)

    def __init__(self, quantised: npt.NDArray[np.uint8]) -> None:
        self._quantised = quantised
        self.shape = quantised.shape
        self.ndim = quantised.ndim
        self.size = quantised.size

    def is_of(self, quantised: npt.NDArray[np.uint8]) -> bool:
        return self._quantised is quantised

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


def shows_ct(layer: Layer, volume: Volume) -> bool:
    """Whether a layer shows a CT: that very volume, or one read from the same bytes with the same answers."""
    held = layer.metadata.get(KEY)
    if held is volume or not isinstance(held, Volume):
        return held is volume
    same_bytes = None not in (held.source, volume.source) and held.source.sha256 == volume.source.sha256
    return same_bytes and held.answers == volume.answers and held.geometry.matches(volume.geometry)


def probability_layer(case: Case, ct: Image) -> Image:
    return Image(
        UnitProbability(case.probability),
        name="lung probability",
        colormap="magma",
        blending="additive",
        opacity=0.5,
        contrast_limits=(0, 1),
        visible=False,
        metadata={KEY: case},
        **placed_like(ct),
    )


def mask_layer(case: Case, ct: Image) -> Labels:
    layer = Labels(
        case.mask,
        name="lung mask",
        opacity=0.45,
        # any label above 0 is lung, and has to be seen as such
        colormap=DirectLabelColormap(
            color_dict={None: RIGHT_COLOUR, 0: "transparent", 1: RIGHT_COLOUR, 2: LEFT_COLOUR}
        ),
        metadata={KEY: case},
        **placed_like(ct),
    )
    layer.brush_size = 15
    return layer


def named_apart(layer: Layer, ct: Image, others: Iterable[Layer]) -> Layer:
    """Return a result layer, which says of which CT it is where the result of another has its name."""
    if any(other.name == layer.name for other in others):
        layer.name = f"{layer.name} of {ct.name}"
    return layer


def placed_like(ct: Image) -> dict[str, Any]:
    """Return where the CT's layer lies, by whatever means, so that a result lies on it."""
    known = ct.as_layer_data_tuple()[1]
    return {
        name: known[name]
        for name in ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
    }


def shows(layer: Layer, case: Case) -> bool:
    """Whether a layer is the live result of a case, and not a copy that somebody made of it."""
    data = layer.data
    return data is case.mask or (isinstance(data, UnitProbability) and data.is_of(case.probability))


def can_be_ct(layer: Layer) -> bool:
    """Whether a layer can hold a CT: a grey-scale image of slices that is not a result of ours."""
    is_image = isinstance(layer, Image) and not layer.rgb and not layer.multiscale and layer.ndim == 3
    return is_image and not isinstance(layer.metadata.get(KEY), Case)


def volume_of(layer: Layer, answers: InputAnswers | None = None, *, loaded: Loaded | None = None) -> Volume:
    """Return the CT that a layer shows.

    Parameters
    ----------
    layer : napari.layers.Layer
        Opened by our reader, or any other 3-D image whose axes are (z, y, x).
    answers : InputAnswers, optional
        Voxel size and orientation, for a layer of unknown origin.
    loaded : Loaded, optional
        Its voxels, where the layer computes them when they are looked at.

    Raises
    ------
    InputError
        If it is not a plain 3-D image, or is turned by its own transform.
    SpacingUnknownError
        If it does not say how large its voxels are, and `answers` do not either.
    """
    known = layer.metadata.get(KEY)
    if isinstance(known, Volume) and _shows_volume(layer, known):
        return known
    answers = answers or InputAnswers()
    geometry = geometry_of(layer, answers)
    loaded = loaded or Loaded(as_ct_values(layer.data))
    notes = (_UNKNOWN_ORIGIN, orientation_note(geometry.axis_codes, answers.orientation), *loaded.notes)
    return Volume(loaded.array, geometry, notes=notes, answers=answers)


def geometry_of(layer: Layer, answers: InputAnswers) -> Geometry:
    """Return where the voxels of a layer of unknown origin lie.

    Raises
    ------
    InputError
        As `volume_of`.
    """
    if not can_be_ct(layer):
        raise InputError(f"{layer.name} is not a grey-scale image of slices; choose the layer of the CT")
    _refuse_turned(layer)
    spacing = answers.spacing_mm or _spacing_of(layer)
    geometry = Geometry.from_spacing(layer.data.shape, spacing, answers.orientation)
    if answers != InputAnswers():
        return geometry
    matrix = geometry.index_to_lps.copy()
    z, y, x = (float(mm) for mm in layer.translate * _mm_per_unit(layer))
    matrix[:3, 3] = x, y, z
    return Geometry(geometry.shape, matrix)


def laid_anew(volume: Volume, answers: InputAnswers) -> Volume:
    """Return a CT that came from a layer as the user says now that it lies."""
    spacing = answers.spacing_mm or volume.geometry.spacing_mm
    geometry = Geometry.from_spacing(volume.array.shape, spacing, answers.orientation)
    kept = [note for note in volume.notes if said_of_failed([note])]
    notes = (_UNKNOWN_ORIGIN, orientation_note(geometry.axis_codes, answers.orientation), *kept)
    return replace(volume, geometry=geometry, notes=notes, answers=answers)


def _shows_volume(layer: Layer, volume: Volume) -> bool:
    """Whether a layer still shows the volume it was made from, and no other plugin gave it other data."""
    data = layer.data
    return not is_lazy(data) and data.shape == volume.axial.shape and np.may_share_memory(data, volume.array)


def _refuse_turned(layer: Layer) -> None:
    straight = np.allclose(layer.rotate, np.eye(3)) and not np.any(layer.shear)
    is_sound = bool(np.all(np.isfinite(layer.scale)) and np.all(np.isfinite(layer.translate)))
    is_sound = is_sound and min(layer.scale) > 0
    if not straight or not np.allclose(layer.affine.affine_matrix, np.eye(4)) or not is_sound:
        raise InputError(
            f"{layer.name} is turned or mirrored by its own transform, so its place in the patient is unclear; "
            "open its file with “Open file…” or “Open folder…”"
        )


def _spacing_of(layer: Layer) -> tuple[float, float, float]:
    """Return the voxel size in mm that a layer states: in a unit of length, or as a scale without one."""
    if all(scale == 1 for scale in layer.scale):
        raise SpacingUnknownError(f"{layer.name} does not say how large its voxels are")
    z, y, x = (float(mm) for mm in layer.scale * _mm_per_unit(layer))
    return z, y, x


def _mm_per_unit(layer: Layer) -> npt.NDArray[np.float64]:
    # a scale without a unit ("pixel") is what plugins that know no units mean as mm
    is_length = [unit.is_compatible_with("mm") for unit in layer.units]
    factors = [
        (1 * unit).to("mm").magnitude if known else 1.0
        for unit, known in zip(layer.units, is_length, strict=True)
    ]
    return np.array(factors)
