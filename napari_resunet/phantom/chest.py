"""A made-up chest CT whose lungs are known: for the sample, the demo and the tests."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_resunet.geometry import Geometry
from napari_resunet.phantom.anatomy import LEFT, RIGHT, Floats, Patient
from napari_resunet.phantom.painting import Canvas, Scene, paint
from napari_resunet.volume import Mask, Source, Volume

RIGHT_LUNG, LEFT_LUNG = 1, 2
PADDING_HU = -1024
_CENTRE_LPS_MM = (0.0, 14.0, 0.0)
_SLAB = 8  # planes painted together: few enough to stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Phantom:
    """A CT and its true lungs.

    Parameters
    ----------
    volume : Volume
        int16 HU; -1024 outside the round field of view.
    mask : Mask
        0; 1 in the right lung and 2 in the left, their vessels included, their main bronchi not.
    """

    volume: Volume
    mask: Mask


def make_phantom(
    *,
    shape: tuple[int, int, int] = (56, 160, 160),
    spacing_mm: tuple[float, float, float] = (5.5, 2.3, 2.3),
    seed: int = 0,
    oblique_deg: float = 0.0,
    noise_hu: float = 20.0,
) -> Phantom:
    """Make a chest CT of a patient who does not exist.

    Parameters
    ----------
    shape : tuple of int
        Voxels along (z, y, x): to the head, the back and the left.
    spacing_mm : tuple of float
        Size of a voxel along (z, y, x). The lungs fit into 240 mm of height and 290 mm of width;
        what is outside the grid is cut off.
    seed : int
        Draws the patient (size, proportions, vessels) and the noise. The same seed gives the same bytes.
    oblique_deg : float
        Angle by which the scan is turned about the patient's x and z. The patient stays where they are.
    noise_hu : float
        Standard deviation of the noise.

    Returns
    -------
    Phantom
        The CT, and its true lungs on the same grid: 1 right, 2 left.
    """
    rng = np.random.default_rng(seed)
    patient = Patient.draw(rng)
    geometry = _scan_geometry(shape, spacing_mm, oblique_deg)
    scene = Scene.draw(patient, rng, edge_mm=1.2 * min(spacing_mm))
    array = np.empty(shape, dtype=np.int16)
    labels = np.empty(shape, dtype=np.uint8)
    seen = _field_of_view(geometry)
    for start in range(0, shape[0], _SLAB):
        planes = slice(start, min(start + _SLAB, shape[0]))
        hu, lungs = _scan(scene, geometry, planes)
        noise = np.stack([_noise(seen.shape, noise_hu, rng) for _ in hu])
        array[planes] = np.where(seen, _even(hu + noise), PADDING_HU)
        labels[planes] = np.where(seen, lungs, 0)
    source = Source(Path("phantom"), "phantom", hashlib.sha256(array.tobytes()).hexdigest())
    return Phantom(Volume(array, geometry, source=source), Mask(labels, geometry, source=source))


def _scan_geometry(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], oblique_deg: float
) -> Geometry:
    """Return a grid about the middle of the chest, turned about x, then about z."""
    cos, sin = math.cos(math.radians(oblique_deg)), math.sin(math.radians(oblique_deg))
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    straight = Geometry.from_spacing(shape, spacing_mm).index_to_lps
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x @ straight[:3, :3]
    matrix[:3, 3] = _CENTRE_LPS_MM - matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, matrix)


def _field_of_view(geometry: Geometry) -> npt.NDArray[np.bool_]:
    """Return which pixels of a slice are within the largest circle in it."""
    _, rows, columns = geometry.shape
    _, dy, dx = geometry.spacing_mm
    y = (np.arange(rows) - (rows - 1) / 2)[:, None] * dy
    x = (np.arange(columns) - (columns - 1) / 2)[None, :] * dx
    inside_circle: npt.NDArray[np.bool_] = y * y + x * x <= (min(rows * dy, columns * dx) / 2) ** 2
    return inside_circle


def _noise(shape: tuple[int, ...], sigma_hu: float, rng: np.random.Generator) -> Floats:
    """Return the noise of a slice, neighbours alike; in whole numbers until the end, to be exact."""
    first, second = rng.integers(-512, 512, size=(2, *shape), dtype=np.int32, endpoint=True)
    draws = first + second
    for axis in (0, 1):
        draws = 2 * draws + np.roll(draws, 1, axis) + np.roll(draws, -1, axis)
    sigma = math.sqrt(2 * (1025**2 - 1) / 12 * 36)  # two even draws, then (1, 2, 1) along both axes
    noise: Floats = draws.astype(np.float32) * np.float32(sigma_hu / sigma)
    return noise


def _even(hu: Floats) -> Floats:
    """Return whole even HU, which compress well, within the limits of a scanner."""
    return (2 * np.rint(hu / 2)).clip(PADDING_HU, 3071)


def _scan(scene: Scene, geometry: Geometry, planes: slice) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Return HU and labels of some planes; where these are thicker than a pixel, the mean of thinner ones."""
    dz, dy, dx = geometry.spacing_mm
    layers = min(max(round(dz / min(dy, dx)), 1), 4)
    shifts = [(layer + 0.5) / layers - 0.5 for layer in range(layers)]
    painted = [paint(Canvas(scene, geometry, planes, shift)) for shift in shifts]
    hu, right, left = (
        np.mean(parts, axis=0)
        for parts in zip(*((one.hu, one.lungs[RIGHT], one.lungs[LEFT]) for one in painted), strict=True)
    )
    # Half a voxel is enough to be lung; the lung with the larger share has it.
    labels = np.where(right + left >= 0.5, np.where(right >= left, RIGHT_LUNG, LEFT_LUNG), 0)
    return hu, labels.astype(np.uint8)
