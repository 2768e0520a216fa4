"""The organs of the phantom: each a function of patient coordinates in mm, so that any scan grid is right.

A shape is a signed distance in mm, below 0 inside. Only sums, products, roots and comparisons are taken over
arrays: these are rounded alike on every machine, so a seed gives the same bytes everywhere.

x runs to the patient's left, y to the back, z to the head; (0, 0, 0) is the middle of the chest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy

Floats = npt.NDArray[np.floating[Any]]
RIGHT, LEFT = -1, 1


@dataclass(frozen=True, eq=False)
class Points:
    """Patient points in mm; `x`, `y` and `z` broadcast against each other."""

    x: Floats
    y: Floats
    z: Floats


class Profile:
    """A smooth curve over the height z, through (z, value) knots, flat beyond the first and the last."""

    def __init__(self, *knots: tuple[float, float]) -> None:
        z, value = np.array(sorted(knots)).T
        self._z = np.arange(z[0], z[-1] + 1)
        self._value = scipy.interpolate.PchipInterpolator(z, value)(self._z)

    def __call__(self, z: npt.ArrayLike) -> Floats:
        value: Floats = np.interp(np.asarray(z), self._z, self._value).astype(np.float32)
        return value


# At heights z in mm: half width, front and back of the skin and of the chest cavity; the middle of the spine.
SKIN_WIDTH = Profile(
    (-170, 162), (-60, 168), (0, 170), (60, 176), (105, 188), (125, 176), (142, 120), (160, 74)
)
SKIN_FRONT = Profile((-170, -116), (-60, -120), (20, -118), (70, -106), (110, -82), (150, -54))
SKIN_BACK = Profile((-170, 106), (-60, 114), (20, 120), (70, 120), (110, 114), (150, 82))
CAVITY_WIDTH = Profile(
    (-170, 134), (-80, 139), (-20, 138), (30, 132), (70, 118), (100, 96), (122, 70), (160, 45)
)
CAVITY_FRONT = Profile((-170, -97), (-60, -98), (20, -92), (70, -75), (100, -54), (125, -30), (160, -18))
CAVITY_BACK = Profile((-170, 82), (-60, 90), (20, 95), (70, 92), (100, 84), (125, 68), (160, 56))
SPINE_Y = Profile((-170, 44), (-90, 52), (0, 60), (60, 58), (110, 44), (160, 22))
# How far the mediastinum reaches to each side: behind the breastbone (front) and about the windpipe (middle).
MEDIASTINUM_FRONT = Profile((-120, 14), (-50, 12), (20, 7), (60, 15), (100, 28))
MEDIASTINUM_MIDDLE = {
    RIGHT: Profile((-120, 22), (-60, 22), (-10, 27), (20, 28), (60, 29), (120, 24)),
    LEFT: Profile((-120, 28), (-60, 29), (-10, 31), (20, 34), (40, 30), (60, 37), (80, 32), (120, 24)),
}


@dataclass(frozen=True, eq=False)
class Patient:
    """What differs from one made-up patient to the next; the defaults are the average.

    Parameters
    ----------
    size : tuple of float
        Size along the patient's (x, y, z) against the average.
    fat_mm : float
        Thickness of the fat under the skin.
    dome_top_mm : dict of float
        Height of the diaphragm, right (-1) and left (1).
    apex_mm : float
        Height of the tips of the lungs.
    heart_size : float
        Against the average.
    lung_hu, blood_hu : float
        Mean of the lung without its vessels; of the blood (with some contrast agent in it).
    gas : float
        Size of the gas bubbles of stomach and bowel against the average.
    """

    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fat_mm: float = 12.0
    dome_top_mm: dict[int, float] = field(default_factory=lambda: {RIGHT: -36.0, LEFT: -48.0})
    apex_mm: float = 118.0
    heart_size: float = 1.0
    lung_hu: float = -888.0
    blood_hu: float = 130.0
    gas: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Return a patient near the average."""
        right_dome = rng.uniform(-44, -30)
        return cls(
            size=(rng.uniform(0.95, 1.04), rng.uniform(0.95, 1.04), rng.uniform(0.95, 1.03)),
            fat_mm=rng.uniform(7, 18),
            dome_top_mm={RIGHT: right_dome, LEFT: right_dome - rng.uniform(9, 15)},
            apex_mm=rng.uniform(114, 121),
            heart_size=rng.uniform(0.92, 1.08),
            lung_hu=rng.uniform(-905, -870),
            blood_hu=rng.uniform(90, 200),
            gas=rng.uniform(0.8, 1.2),
        )


def root(a: Floats) -> Floats:
    out: Floats = np.sqrt(a)
    return out


def size(a: Floats) -> Floats:
    out: Floats = np.abs(a)
    return out


def inside(distance: Floats, edge_mm: float) -> Floats:
    """Return how much of a voxel is inside a shape, 0 to 1, where an edge is `edge_mm` wide."""
    share: Floats = np.clip(np.float32(0.5) - distance / np.float32(edge_mm), 0, 1)
    return share


def both(*distances: Floats, blend_mm: float = 0.0) -> Floats:
    """Return the intersection of shapes, its edges rounded over `blend_mm`."""
    joined = distances[0]
    for other in distances[1:]:
        larger = np.maximum(joined, other)
        if blend_mm:
            near = np.maximum(np.float32(blend_mm) - size(joined - other), 0)
            larger += near * near / np.float32(4 * blend_mm)
        joined = larger
    return joined


def either(first: Floats, second: Floats) -> Floats:
    """Return the union of two shapes."""
    union: Floats = np.minimum(first, second)
    return union


def ellipsoid(p: Points, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> Floats:
    """Return the distance, along the ray from the centre, to an ellipsoid."""
    x, y, z = (
        np.float32(1 / r) * (a - np.float32(c))
        for a, c, r in zip((p.x, p.y, p.z), centre, radii, strict=True)
    )
    relative = root(x * x + y * y + z * z)
    return (relative - 1) * np.float32(min(radii))


def oval(x: Floats, y: Floats, width: Floats, front: Floats, back: Floats, *, box: float) -> Floats:
    """Return the distance within the slice to an oval, from an ellipse (box 0) towards a rounded box (1)."""
    y = y - (front + back) / 2
    u, v = x / width, y / ((back - front) / 2)
    u, v = u * u, v * v
    relative = np.float32(1 - box) * root(u + v) + np.float32(box) * root(root(u * u + v * v))
    radius = root(x * x + y * y)
    return radius - radius / np.maximum(relative, np.float32(1e-3))


def skin(p: Points) -> Floats:
    """The trunk with a groove down the back, and the arms, raised beside the neck."""
    trunk = oval(p.x, p.y, SKIN_WIDTH(p.z), SKIN_FRONT(p.z), SKIN_BACK(p.z), box=0.3)
    groove = np.maximum(1 - size(p.x) / 40, 0) * (p.y > 0)
    x, y = size(p.x) - (136 + np.float32(0.25) * (p.z - 100)), p.y - np.float32(12)
    arm = both(root(x * x + y * y) - np.float32(50), 92 - p.z, blend_mm=40)
    return -both(-(trunk + 7 * groove * groove), -arm, blend_mm=30)


def cavity(p: Points) -> Floats:
    """The space within the ribs, from the neck down into the belly."""
    return oval(p.x, p.y, CAVITY_WIDTH(p.z), CAVITY_FRONT(p.z), CAVITY_BACK(p.z), box=0.5)


def dome(p: Points, patient: Patient, side: int) -> Floats:
    """One half of the diaphragm: below 0 beneath it. Flat on top, steep at the ribs, deepest at the back."""
    s = np.float32(1 / 68) * (p.x * side - 68)
    t = np.float32(1 / 98) * (p.y + 24)
    q = s * s + t * t
    top = np.float32(patient.dome_top_mm[side])
    rise = 2 * (22 + 2 * 36 * q)  # of the drop 22 q + 36 q², against q
    slope_s, slope_t = rise * s * np.float32(1 / 68), rise * t * np.float32(1 / 98)
    steepness = root(1 + slope_s * slope_s + slope_t * slope_t)
    distance: Floats = (p.z - top + q * (22 + 36 * q)) / steepness
    return distance


def diaphragm(p: Points, patient: Patient) -> Floats:
    """Both halves: below 0 beneath either."""
    return either(dome(p, patient, RIGHT), dome(p, patient, LEFT))


def heart(p: Points, patient: Patient) -> Floats:
    """An egg that points to the patient's left, front and feet."""
    x, y, z = p.x - np.float32(24), p.y + np.float32(30), p.z + np.float32(22)
    long = np.float32(0.72) * x - np.float32(0.52) * y - np.float32(0.46) * z
    across = np.float32(0.59) * x + np.float32(0.80) * y + np.float32(0.02) * z
    up = np.float32(0.36) * x - np.float32(0.29) * y + np.float32(0.89) * z
    radius = np.float32(49 * patient.heart_size)
    scaled = root(np.square(long * np.float32(0.72)) + across * across + np.square(up * np.float32(0.95)))
    distance: Floats = scaled - radius * (1 - np.float32(0.0016) * long)
    return distance


def descending_aorta(p: Points) -> Floats:
    x, y = p.x - np.float32(22), p.y - (SPINE_Y(p.z) - np.float32(17))
    return both(root(x * x + y * y) - np.float32(12), p.z - np.float32(56))


def spine(p: Points, *, grow_mm: float = 0.0) -> Floats:
    """The column of vertebral bodies and discs, without their processes."""
    x, y = np.float32(1 / (19 + grow_mm)) * p.x, np.float32(1 / (16 + grow_mm)) * (p.y - SPINE_Y(p.z))
    return (root(x * x + y * y) - 1) * np.float32(17 + grow_mm)


def beside_spine(p: Points) -> Floats:
    """The wedge of muscle and rib heads behind the spine, which makes the lung's back a gutter."""
    return (size(p.x) - 19 - np.float32(0.6) * np.maximum(p.y - SPINE_Y(p.z) - 4, 0)) * np.float32(0.85)


def mediastinum(p: Points, side: int) -> Floats:
    """The space between the lungs, seen from one of them."""
    front, middle = MEDIASTINUM_FRONT(p.z), MEDIASTINUM_MIDDLE[side](p.z)
    back = np.clip((p.y + 62) / 62, 0, 1)
    return p.x * side - (front + (middle - front) * (back * back * (3 - 2 * back)))


def lung(p: Points, patient: Patient, side: int) -> Floats:
    """One lung: what of the cavity is above the diaphragm and beside the mediastinum."""
    s, t = p.x * side - np.float32(50), p.y - np.float32(18)
    bent = 0.013
    apex = (p.z - np.float32(patient.apex_mm) + bent * (s * s + t * t)) / root(
        1 + 4 * bent * bent * (s * s + t * t)
    )
    return both(
        cavity(p),
        apex,
        -dome(p, patient, side),
        -mediastinum(p, side),
        4 - heart(p, patient),
        3 - descending_aorta(p),
        -spine(p, grow_mm=7),
        -both(beside_spine(p), SPINE_Y(p.z) - p.y),
        np.float32(-116) - p.z,
        blend_mm=7,
    )


def vertebral_level(z: Floats) -> Floats:
    """Distance along z from the middle of the nearest vertebra, 0 to 12.5 mm."""
    return size(z - 25 * np.rint(z / 25))


def vertebral_arch(p: Points) -> Floats:
    """The ring about the canal, with spinous and transverse processes at each level."""
    y = p.y - (SPINE_Y(p.z) + np.float32(25))
    ring = size(root(p.x * p.x + y * y) - np.float32(12)) - np.float32(3)
    level = vertebral_level(p.z) - np.float32(9)
    spinous = both(size(p.x) - np.float32(3), size(y - 20) - np.float32(11))
    transverse = both(size(y + size(p.x) * np.float32(-0.25) - 2) - 4, size(size(p.x) - 22) - np.float32(11))
    return either(ring, both(either(spinous, transverse), level))


def spinal_canal(p: Points) -> Floats:
    y = p.y - (SPINE_Y(p.z) + np.float32(25))
    return root(p.x * p.x + y * y) - np.float32(9.5)


def sternum(p: Points) -> Floats:
    wide = 15 + 13 * np.clip((p.z - 45) / 25, 0, 1)
    deep = size(p.y - (CAVITY_FRONT(p.z) - np.float32(9))) - np.float32(5)
    return both(size(p.x) - wide, deep, size(p.z - 20) - np.float32(70), blend_mm=5)


def scapulae(p: Points) -> Floats:
    """Two thin blades upon the ribs at the back."""
    blade = size(cavity(p) - np.float32(21) - np.float32(0.03) * size(p.z - 60)) - np.float32(3)
    place = both(size(p.y - 62) - np.float32(34), size(p.z - 65) - np.float32(55), 78 - size(p.x))
    return both(blade, place)


def liver(p: Points, patient: Patient) -> Floats:
    """Under the right half of the diaphragm, with a lobe over to the left."""
    lobe = p.x - (30 - np.float32(0.55) * (p.y + 30) + np.float32(0.6) * (p.z + 90))
    lower_edge = -154 - np.float32(0.45) * p.y - p.z
    return both(
        cavity(p) + 5, diaphragm(p, patient) + 4, lobe, lower_edge, -spine(p, grow_mm=12), blend_mm=10
    )


def spleen(p: Points) -> Floats:
    return both(ellipsoid(p, (98, 42, -95), (28, 40, 45)), cavity(p) + 5)


def kidneys(p: Points) -> Floats:
    beside = Points(size(p.x), p.y, p.z)
    return ellipsoid(beside, (58, 46, -150), (26, 24, 42))


def stomach(p: Points, patient: Patient) -> Floats:
    return both(ellipsoid(p, (62, -18, -98), (44, 52, 40)), diaphragm(p, patient) + 5, blend_mm=6)


def stomach_gas(p: Points, patient: Patient) -> Floats:
    """The bubble at the front of the stomach of a patient who lies on the back: its lower face is level."""
    level = p.y - np.float32(-36 + 14 * (patient.gas - 1))
    return both(stomach(p, patient) + np.float32(4), level, blend_mm=2)


def bowel(p: Points, patient: Patient) -> list[Floats]:
    """Loops of gut in the lower slices."""
    places = (
        (96, -42, -124, 19),
        (70, -74, -140, 17),
        (28, -70, -150, 21),
        (-22, -78, -156, 18),
        (-84, -50, -160, 22),
        (40, -30, -156, 17),
        (100, 0, -146, 18),
    )
    return [
        both(ellipsoid(p, (x, y, z), (r, 0.8 * r, 1.1 * r)), diaphragm(p, patient) + 6, cavity(p) + 6)
        for x, y, z, r in places
    ]


def table(p: Points) -> Floats:
    """Two thin curved sheets below the patient."""
    bend = np.float32(0.0007) * p.x * p.x
    upper = size(p.y - 124 + bend) - np.float32(1.2)
    lower = size(p.y - 152 + np.float32(2.0) * bend) - np.float32(1.2)
    return both(either(upper, lower), size(p.x) - np.float32(205))


def fissure(p: Points, side: int) -> Floats:
    """Where the lobes of one lung touch: a slanting sheet, and on the right a level one in front of it."""
    slant = size(
        p.z - 18 + np.float32(0.85 if side == RIGHT else 0.95) * (p.y - np.float32(-8))
    ) * np.float32(0.75)
    if side == LEFT:
        return slant - np.float32(0.6)
    level = both(size(p.z - 12 - np.float32(0.02) * p.y) - np.float32(0.6), p.y + np.float32(1))
    return either(slant - np.float32(0.6), level)
