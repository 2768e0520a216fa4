"""What flows from file to file: a CT, a probability map, a mask. Each knows where its voxels lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import GeometryError, InputError
from napari_resunet.geometry import Geometry
from napari_resunet.hu import judge_hu
from napari_resunet.settings import InputAnswers


@dataclass(frozen=True, eq=False)
class Source:
    """The file or series a volume was read from.

    Parameters
    ----------
    path : Path
        The file, or the folder of a DICOM series.
    format : str
        ``"NIfTI"``, ``"DICOM"``, ``"TIFF"``, ``"MetaImage"``, ``"NRRD"``, ``"PNG"``, ``"JPEG"`` or ``"phantom"``.
    sha256 : str
        Of the bytes read; of a series, of its files one after the other in the order of the slices.
    files : tuple of Path
        Every file that was read: a mask is never written over one of them.
    nifti_header : bytes, optional
        The header block of a NIfTI source, so that an export can repeat its affines and codes to the bit.
    """

    path: Path
    format: str
    sha256: str
    files: tuple[Path, ...] = ()
    nifti_header: bytes | None = None


def threshold_level(threshold: float) -> int:
    """Return the least value of a uint8 probability (0-255) that is at least `threshold` (0-1)."""
    return math.ceil(round(threshold * 255, 6))


_COMES_FROM = {"Volume": "read_volume(path)", "ProbabilityMap": "predict(volume)", "Mask": "to_mask(prob)"}


def refuse_other_kind(value: object, kind: type, *, needed_by: str) -> None:
    """Raise TypeError, with what gives such a value, if it is not of that kind.

    A probability map read as a mask would be lung wherever its probability is not nought.
    """
    if not isinstance(value, kind):
        told = f"{needed_by} needs a {kind.__name__}, such as {_COMES_FROM[kind.__name__]} gives"
        raise TypeError(f"{told}; got {type(value).__name__}")


def _check_array(array: npt.NDArray[Any], geometry: Geometry, dtypes: tuple[str, ...], what: str) -> None:
    if array.shape != geometry.shape:
        raise GeometryError(f"{what} has shape {array.shape}, its geometry {geometry.shape}")
    if array.dtype.name not in dtypes:
        raise InputError(f"{what} must hold {' or '.join(dtypes)}, got {array.dtype}")


def _named(source: Source | None) -> str:
    return "" if source is None else f", {source.path.name}"


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT in Hounsfield units.

    Parameters
    ----------
    array : (z, y, x) array of int16 or float32
        HU, in the order of the source file.
    geometry : Geometry
        Where the voxels lie.
    notes : tuple of str
        What the reader had to decide, in plain words.
    source : Source, optional
        Where it came from.
    hu_confirmed : bool
        Whether the user has said that the values are HU, even if they do not look like it.
    answers : InputAnswers
        What the user said of it, so that it can be opened again in the same way.
    """

    array: npt.NDArray[Any]
    geometry: Geometry
    notes: tuple[str, ...] = ()
    source: Source | None = None
    hu_confirmed: bool = False
    answers: InputAnswers = field(default_factory=InputAnswers)

    def __post_init__(self) -> None:
        _check_array(self.array, self.geometry, ("int16", "float32"), "a volume")

    def __repr__(self) -> str:
        return f"<Volume of {self.geometry}, {self.array.dtype}{_named(self.source)}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        return self.geometry.shape

    @property
    def axial(self) -> npt.NDArray[Any]:
        """A view of the array as axial slices, lowest first, front up, patient's right on the left."""
        return self.geometry.to_axial.apply(self.array)

    @property
    def axial_geometry(self) -> Geometry:
        """Where the voxels of `axial` lie."""
        return self.geometry.axial

    def with_hu_offset(self, offset: float) -> Volume:
        """Return this volume with `offset` added to every value, which is then HU by the user's word."""
        answers = replace(self.answers, hu_offset=(self.answers.hu_offset or 0) + offset)
        asked = {finding.text for finding in judge_hu(self.array) if finding.level == "ask"}
        notes = tuple(note for note in self.notes if note not in asked)  # what was asked is answered now
        if not offset:
            note = "the values are HU by the user's word"
            return replace(self, hu_confirmed=True, notes=(*notes, note), answers=answers)
        shifted = self.array.astype(np.float32) + np.float32(offset)  # exact for whole numbers of this size
        limits = np.iinfo(np.int16)
        fits = self.array.dtype == np.int16 and float(offset).is_integer()
        fits = fits and limits.min <= shifted.min() and shifted.max() <= limits.max
        array = shifted.astype(np.int16 if fits else np.float32)
        note = f"{offset:g} was added to every value, by the user's word"
        return replace(self, array=array, hu_confirmed=True, notes=(*notes, note), answers=answers)


@dataclass(frozen=True)
class Run:
    """What made a probability map.

    Parameters
    ----------
    model, model_sha256 : str
        Name of the weights, and the checksum of the weights that were loaded.
    grid : int
        Side in pixels of the square each slice was resized to.
    device, precision : str
        Where and in which number format the network ran, such as ``"cpu"`` and ``"bfloat16"``.
    crop : tuple of int
        Rows and columns of the axial slices that the network saw: (y0, y1, x0, x1).
    """

    model: str
    model_sha256: str
    grid: int
    device: str
    precision: str
    crop: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class ProbabilityMap:
    """How sure the network is that a voxel is lung.

    Parameters
    ----------
    array : (z, y, x) array of uint8
        0-255 for a probability of 0-1, on the grid of the CT.
    geometry : Geometry
        That of the CT.
    done : (n,) array of bool
        Which axial slices (lowest first) the network has seen; the rest is 0.
    run : Run, optional
        What made it.
    source : Source, optional
        The CT.
    notes : tuple of str
        What was noted of the CT.
    """

    array: npt.NDArray[np.uint8]
    geometry: Geometry
    done: npt.NDArray[np.bool_]
    run: Run | None = None
    source: Source | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_array(self.array, self.geometry, ("uint8",), "a probability map")

    def __repr__(self) -> str:
        ran = f"{np.count_nonzero(self.done)} of {len(self.done)} slices run"
        by = "" if self.run is None else f" by {self.run.model} on {self.run.device}"
        return f"<ProbabilityMap of {self.geometry}, {ran}{by}{_named(self.source)}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        return self.geometry.shape

    @property
    def axial(self) -> npt.NDArray[np.uint8]:
        """A view of the array as axial slices, lowest first."""
        return self.geometry.to_axial.apply(self.array)


@dataclass(frozen=True, eq=False)
class Mask:
    """Which voxels are lung.

    Parameters
    ----------
    array : (z, y, x) array of uint8
        0 and 1; or 0, 1 (right lung) and 2 (left lung).
    geometry : Geometry
        That of the CT.
    source : Source, optional
        The CT.
    history : mapping
        How it was made, for the sidecar: run, settings, edits by hand.
    """

    array: npt.NDArray[np.uint8]
    geometry: Geometry
    source: Source | None = None
    history: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_array(self.array, self.geometry, ("uint8",), "a mask")

    def __repr__(self) -> str:
        return f"<Mask of {self.geometry}, {self.volume_ml:,.1f} ml{_named(self.source)}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along (z, y, x)."""
        return self.geometry.shape

    @property
    def axial(self) -> npt.NDArray[np.uint8]:
        """A view of the array as axial slices, lowest first."""
        return self.geometry.to_axial.apply(self.array)

    @property
    def volume_ml(self) -> float:
        return float(np.count_nonzero(self.array) * self.geometry.voxel_volume_mm3 / 1000)
