"""The phantom's tubes: ribs, airways and blood vessels as straight pieces with round ends.

A piece is a row of seven numbers in mm: both ends (x, y, z) and the radius.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from napari_resunet.phantom.anatomy import (
    CAVITY_BACK,
    CAVITY_FRONT,
    CAVITY_WIDTH,
    LEFT,
    RIGHT,
    SPINE_Y,
    Patient,
    Points,
    lung,
)

Pieces = npt.NDArray[np.float64]
_HILUM = {RIGHT: (-32.0, 18.0, 8.0), LEFT: (38.0, 22.0, 12.0)}


def path(*points: Sequence[float], radius: float) -> Pieces:
    """Return the pieces of a tube of one radius through `points`."""
    return np.array([[*a, *b, radius] for a, b in itertools.pairwise(points)], dtype=np.float64)


def join(tubes: Iterable[Pieces]) -> Pieces:
    return np.concatenate(list(tubes))


def _rib_point(side: int, angle: float, z: float, outside_mm: float) -> tuple[float, float, float]:
    """Return the point so far outside the chest cavity, `angle` round from the back."""
    width, front, back = (float(edge(z)) for edge in (CAVITY_WIDTH, CAVITY_FRONT, CAVITY_BACK))
    sin, cos = math.sin(angle), math.cos(angle)
    u, v = (sin / width) ** 2, (cos / ((back - front) / 2)) ** 2
    radius = 2 / (math.sqrt(u + v) + math.sqrt(math.sqrt(u * u + v * v))) + outside_mm
    return side * sin * radius, (front + back) / 2 + cos * radius, z


def _rib(number: int, side: int) -> list[tuple[float, float, float]]:
    """Return points along rib 1 (top) to 12, from the spine round to the front, falling as it goes."""
    top = 124 - 21.5 * (number - 1)
    end = math.pi * (0.94 if number <= 7 else (0.86, 0.80, 0.72, 0.55, 0.42)[number - 8])
    fall = min(24 + 13 * number, 88)
    angles = [0.2 + (end - 0.2) * step / 22 for step in range(23)]
    head = (side * 20.0, float(SPINE_Y(top)) + 12, top + 2)
    return [head, *(_rib_point(side, angle, top - fall * (angle / math.pi), 6.5) for angle in angles)]


def ribs() -> tuple[Pieces, Pieces]:
    """Return the bony ribs and the cartilage by which they reach the sternum."""
    bone, cartilage = [], []
    for side in (RIGHT, LEFT):
        for number in range(1, 13):
            points = _rib(number, side)
            bony = 18 if number > 1 else 16
            bone.append(path(*points[: bony + 1], radius=4.4))
            cartilage.append(path(*points[bony:], radius=4.6))
    return join(bone), join(cartilage)


def shoulders() -> Pieces:
    """Return collar bones and the heads of the arm bones, arms raised."""
    bones = []
    for side in (RIGHT, LEFT):
        bones.append(path((side * 24, -50, 104), (side * 70, -45, 120), (side * 122, 0, 136), radius=5.5))
        bones.append(path((side * 146, 12, 126), (side * 150, 12, 140), radius=21))
        bones.append(path((side * 150, 12, 140), (side * 158, 12, 180), radius=11))
    return join(bones)


def airways() -> Pieces:
    """Return the windpipe, both main bronchi and a little of their branches: what is air but not lung."""
    carina = (-1, 20, 44)
    trachea = path((0, -24, 175), (0, -10, 125), (-1, 8, 85), carina, radius=8.5)
    right = path(carina, (-14, 22, 26), (-28, 25, 6), radius=6.5)
    left = path(carina, (18, 24, 32), (44, 28, 14), radius=5.8)
    lower = join(
        [
            path((-28, 25, 6), (-38, 32, -22), radius=4.2),
            path((-14, 22, 26), (-40, 20, 32), radius=3.8),
            path((44, 28, 14), (50, 36, -16), radius=3.8),
            path((44, 28, 14), (58, 14, 28), radius=3.4),
        ]
    )
    return join([trachea, right, left, lower])


def great_vessels() -> Pieces:
    """Return the vessels of the mediastinum and the neck, but for the long straight part of the aorta."""
    return join(
        [
            path(
                (-4, -20, 0),
                (-12, -24, 28),
                (-8, -18, 52),
                (4, -4, 64),
                (16, 20, 65),
                (22, 39, 54),
                radius=13,
            ),
            path((10, -38, 6), (14, -22, 24), (24, 0, 30), radius=12.5),
            path((24, 0, 30), (40, 18, 30), _HILUM[LEFT], radius=9.5),
            path((18, -12, 24), (-10, 4, 20), (-30, 12, 16), radius=9.5),
            path((-22, -4, -6), (-24, -6, 40), (-22, -12, 84), radius=9),
            path((-22, -12, 84), (8, -26, 88), (34, -18, 108), radius=6.5),
            path((-22, -12, 84), (-36, -16, 118), (-34, -6, 175), radius=6.5),
            path((-6, -10, 66), (-18, -8, 100), (-26, -2, 175), radius=5),
            path((8, 4, 68), (18, -2, 105), (26, -4, 175), radius=4),
            path((18, 20, 68), (24, 14, 105), (70, 0, 128), radius=5),
            path((34, -18, 108), (34, -8, 175), radius=6),
            path((-24, 14, -10), (-24, 20, -60), (-18, 24, -175), radius=11),
            path((-46, 24, 4), (-6, 16, -10), (46, 28, 2), radius=7),
        ]
    )


def esophagus() -> Pieces:
    return path((4, 6, 175), (6, 24, 100), (7, 38, 40), (4, 36, -30), (14, 20, -80), radius=6.5)


def _spots(patient: Patient, side: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return up to `count` points in one lung, those nearest the hilum first."""
    box = rng.random((6 * count, 3)) * [140, 190, 240] + [0, -98, -118]
    box[:, 0] *= side
    x, y, z = box.T.astype(np.float32)
    spots = box[lung(Points(x, y, z), patient, side) < -3][:count]
    away = np.square(spots - np.array(_HILUM[side])).sum(axis=1)
    return spots[np.argsort(away, kind="stable")]


def vessel_tree(patient: Patient, side: int, rng: np.random.Generator, *, count: int = 900) -> Pieces:
    """Return the vessels of one lung: a tree from the hilum to points all over it.

    Each point joins the tree where that makes its way to the hilum short; a branch is as thick as the
    number of tips that it feeds asks for.
    """
    spots = _spots(patient, side, count, rng)
    nodes = np.concatenate([[_HILUM[side]], spots])
    way = np.zeros(len(nodes))
    parent = np.zeros(len(nodes), dtype=int)
    for new in range(1, len(nodes)):
        steps = np.sqrt(np.square(nodes[:new] - nodes[new]).sum(axis=1))
        parent[new] = np.argmin(steps + 0.55 * way[:new])
        way[new] = way[parent[new]] + steps[parent[new]]
    tips = np.ones(len(nodes))
    for new in range(len(nodes) - 1, 0, -1):
        tips[parent[new]] += tips[new]
    radius = np.minimum(0.75 * tips**0.36, 6.0)
    return np.concatenate([nodes[parent[1:]], nodes[1:], radius[1:, None]], axis=1)
