"""Where the voxels of a volume lie in the patient."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import GeometryError

if TYPE_CHECKING:
    from collections.abc import Sequence

# RAS points +x right, +y anterior; LPS the opposite of both. The flip is its own inverse.
LPS_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_LETTERS = (("R", "L"), ("A", "P"), ("I", "S"))
# An axis that is further than this from the patient's, or from a right angle, is worth a word (0.06 degrees).
_STRAIGHT_RAD = 1e-3


def _axes_of(orientation: str) -> npt.NDArray[np.float64]:
    """Return unit vectors in LPS of the array axes that run towards the patient's directions, one a column."""
    axes = np.zeros((3, 3))
    for axis, letter in enumerate(orientation.upper()):
        for patient, (minus, plus) in enumerate(_LETTERS):
            if letter in (minus, plus) and axis < 3:
                axes[patient, axis] = 1 if letter == plus else -1
    if len(orientation) != 3 or (np.abs(axes).sum(axis=1) != 1).any():
        raise GeometryError(
            "an orientation is three letters, one of each of L or R, A or P, S or I, such as SPL; "
            f"got {orientation!r}"
        )
    return axes


@dataclass(frozen=True)
class AxisOrder:
    """A re-ordering of array axes that copies nothing: transpose, then flip.

    Parameters
    ----------
    axes : tuple of int
        Source axis that becomes axis 0, 1, 2.
    flips : tuple of bool
        Whether the new axis runs against the source's.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @property
    def is_identity(self) -> bool:
        return self.axes == (0, 1, 2) and not any(self.flips)

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of `array` in this order."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array.transpose(self.axes)[steps]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of `array`, which is in this order, in the source's order again."""
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array[steps].transpose(np.argsort(self.axes))


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of a volume lie in the patient.

    Parameters
    ----------
    shape : tuple of int
        Number of voxels along (z, y, x).
    index_to_lps : (4, 4) array of float
        Takes a voxel index (z, y, x, 1) to a patient point (x, y, z, 1) in mm,
        in the DICOM frame: +x left, +y posterior, +z superior.

    Raises
    ------
    GeometryError
        If the matrix has another shape, holds a value that is not finite, or flattens the volume.
    """

    shape: tuple[int, int, int]
    index_to_lps: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"a volume needs at least one voxel along each of z, y, x; got {self.shape}")
        matrix = np.array(self.index_to_lps, dtype=np.float64)  # our own copy
        if matrix.shape != (4, 4):
            raise GeometryError(f"index_to_lps must be 4x4, got {matrix.shape}")
        if not np.isfinite(matrix).all():
            raise GeometryError(f"index_to_lps holds values that are not finite:\n{matrix}")
        if not np.array_equal(matrix[3], [0, 0, 0, 1]):
            raise GeometryError(f"the last row of index_to_lps must be 0 0 0 1, got {matrix[3]}")
        lengths = np.linalg.norm(matrix[:3, :3], axis=0)
        if lengths.min() == 0 or abs(np.linalg.det(matrix[:3, :3] / lengths)) < 1e-6:
            raise GeometryError(f"index_to_lps flattens the volume:\n{matrix}")
        matrix.flags.writeable = False
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "index_to_lps", matrix)

    def __str__(self) -> str:
        voxels, spacing = (
            " x ".join(f"{each:g}" for each in row) for row in (self.shape, np.round(self.spacing_mm, 3))
        )
        return f"{voxels} voxels of {spacing} mm ({self.axis_codes})"

    @classmethod
    def from_spacing(
        cls, shape: Sequence[int], spacing_mm: Sequence[float], orientation: str | None = None
    ) -> Self:
        """Return the geometry of a volume of known spacing (z, y, x) that lies straight, its first voxel at 0.

        `orientation` is where its array axes run towards, as in `axis_codes`; ``"SPL"`` unless given.
        """
        z, y, x = shape
        try:
            steps = [float(s) for s in spacing_mm]
        except TypeError as error:
            raise TypeError(
                f"spacing is three lengths in mm such as (2.5, 0.7, 0.7); got {spacing_mm!r}"
            ) from error
        if len(steps) != 3 or not np.isfinite(steps).all() or min(steps) <= 0:
            raise GeometryError(f"spacing must be three lengths above 0 mm, got {tuple(spacing_mm)}")
        matrix = np.eye(4)
        matrix[:3, :3] = _axes_of(orientation or "SPL") * steps
        return cls((z, y, x), matrix)

    @classmethod
    def from_ras_affine(cls, shape_xyz: Sequence[int], affine: npt.ArrayLike) -> Self:
        """Return the geometry of a NIfTI array (i, j, k), whose affine goes to RAS mm, once transposed to (k, j, i)."""
        i, j, k = shape_xyz
        matrix = LPS_FLIP @ np.asarray(affine, dtype=np.float64)
        return cls((k, j, i), matrix[:, [2, 1, 0, 3]])

    @property
    def ras_affine(self) -> npt.NDArray[np.float64]:
        """The (4, 4) affine from NIfTI indices (i, j, k) = (x, y, z) to RAS mm."""
        # + 0.0 turns -0.0 into 0.0
        return LPS_FLIP @ self.index_to_lps[:, [2, 1, 0, 3]] + 0.0

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Length of one step along (z, y, x) in mm."""
        z, y, x = np.linalg.norm(self.index_to_lps[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in mm³, right for sheared (tilted) volumes too."""
        return float(abs(np.linalg.det(self.index_to_lps[:3, :3])))

    @cached_property
    def directions(self) -> npt.NDArray[np.float64]:
        """Unit vectors in LPS of the array axes (z, y, x), one a column."""
        columns: npt.NDArray[np.float64] = self.index_to_lps[:3, :3] / np.array(self.spacing_mm)
        return columns

    @cached_property
    def axis_codes(self) -> str:
        """The patient's direction each array axis (z, y, x) runs towards, such as ``"SPL"``."""
        codes = ["", "", ""]
        for patient, axis in enumerate(self._nearest_axes):
            codes[axis] = _LETTERS[patient][int(self.directions[patient, axis] > 0)]
        return "".join(codes)

    @property
    def is_oblique(self) -> bool:
        """Whether an array axis does not run along an axis of the patient (rotated or tilted)."""
        return bool((1 - np.abs(self.directions).max(axis=0) > _STRAIGHT_RAD**2 / 2).any())

    @property
    def is_sheared(self) -> bool:
        """Whether the array axes are not at right angles, as with gantry tilt."""
        gram = self.directions.T @ self.directions
        return bool(np.abs(gram - np.eye(3)).max() > _STRAIGHT_RAD)

    @cached_property
    def _nearest_axes(self) -> tuple[int, int, int]:
        """Array axis that runs best along the patient's x, y and z."""
        fits = np.abs(self.directions)
        # rounded: half-way between two axes the array's own order, which comes first, has to win
        orders = itertools.permutations((2, 1, 0))
        best = max(orders, key=lambda order: round(sum(float(fits[i, order[i]]) for i in range(3)), 9))
        return best[0], best[1], best[2]

    @cached_property
    def to_axial(self) -> AxisOrder:
        """The order that makes the array axes run to superior, posterior and left, as nearly as they can.

        In it each slice is axial, its top is the patient's front and its left side the patient's right,
        and slice 0 is the lowest: the way a radiologist looks at it.
        """
        x, y, z = self._nearest_axes
        axes = (z, y, x)
        flips = tuple(bool(self.directions[2 - i, axis] < 0) for i, axis in enumerate(axes))
        return AxisOrder(axes, (flips[0], flips[1], flips[2]))

    @cached_property
    def axial(self) -> Geometry:
        """That of the axial slices: this one in the order of `to_axial`."""
        return self.reordered(self.to_axial)

    def reordered(self, order: AxisOrder) -> Geometry:
        """Return the geometry of an array to which ``order.apply`` was done."""
        shape = tuple(self.shape[axis] for axis in order.axes)
        change = np.zeros((4, 4))
        change[3, 3] = 1
        for new, (axis, flip) in enumerate(zip(order.axes, order.flips, strict=True)):
            change[axis, new] = -1 if flip else 1
            change[axis, 3] = shape[new] - 1 if flip else 0
        return Geometry((shape[0], shape[1], shape[2]), self.index_to_lps @ change)

    def corners_lps(self) -> npt.NDArray[np.float64]:
        """Return the centres of the 8 corner voxels as an (8, 3) array of LPS points in mm."""
        last = [n - 1 for n in self.shape]
        index = np.array([(*corner, 1) for corner in itertools.product(*((0, n) for n in last))], dtype=float)
        points: npt.NDArray[np.float64] = (self.index_to_lps @ index.T).T[:, :3]
        return points

    def distance_mm(self, other: Geometry) -> float:
        """Return the largest distance in mm between the corners of two geometries of one shape."""
        return float(np.linalg.norm(self.corners_lps() - other.corners_lps(), axis=1).max())

    def matches(self, other: Geometry, *, within_mm: float = 1e-2) -> bool:
        """Whether both have the same voxels in the same places."""
        return self.shape == other.shape and self.distance_mm(other) <= within_mm
