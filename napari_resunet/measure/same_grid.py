"""Whether two things can be compared voxel by voxel."""

from __future__ import annotations

from napari_resunet.errors import GeometryError
from napari_resunet.geometry import Geometry


def refuse_other_grid(
    first: Geometry,
    second: Geometry,
    *,
    what: str = "the mask",
    other: str = "the other",
    remedy: str = "export it on the grid of that CT",
) -> None:
    """Raise if two geometries are not of the same voxels in the same places; nothing is resampled silently.

    Parameters
    ----------
    first, second : Geometry
        Of what has to lie on the grid of the second, and of the second.
    what, other : str
        Their names for the message.
    remedy : str
        What to do, for the message.

    Raises
    ------
    GeometryError
        With the difference in voxels or mm, and what to do.
    """
    if first.shape != second.shape:
        raise GeometryError(f"{what} has {first.shape} voxels (z, y, x), {other} {second.shape}; {remedy}")
    if not first.matches(second):
        distance = first.distance_mm(second)
        raise GeometryError(f"{what} lies {distance:.2f} mm beside {other} at a corner; {remedy}")
