"""The phantom's painter: mixes the HU of each organ into some planes of a scan, soft at the edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from napari_resunet.geometry import Geometry
from napari_resunet.phantom import anatomy, tubes
from napari_resunet.phantom.anatomy import LEFT, RIGHT, Floats, Patient, Points, inside

AIR_HU = -1000


@dataclass(frozen=True, eq=False)
class Scene:
    """A patient, their tubes by name, and how soft an edge is."""

    patient: Patient
    tubes: dict[str, tubes.Pieces]
    edge_mm: float

    @classmethod
    def draw(cls, patient: Patient, rng: np.random.Generator, *, edge_mm: float) -> Self:
        bone, cartilage = tubes.ribs()
        all_tubes = {
            "ribs": bone,
            "cartilage": cartilage,
            "shoulders": tubes.shoulders(),
            "airways": tubes.airways(),
            "great vessels": tubes.great_vessels(),
            "esophagus": tubes.esophagus(),
            "vessels": tubes.join(tubes.vessel_tree(patient, side, rng) for side in (RIGHT, LEFT)),
        }
        return cls(patient, all_tubes, edge_mm)


class Canvas:
    """Some planes of the scan while they are painted."""

    def __init__(self, scene: Scene, geometry: Geometry, planes: slice, shift: float) -> None:
        self.patient, self.tubes, self.edge_mm = scene.patient, scene.tubes, scene.edge_mm
        # The patient's size is undone here, so that every shape can be that of the average patient.
        self.index_to_mm = np.diag([*(1 / s for s in scene.patient.size), 1]) @ geometry.index_to_lps
        self.index_to_mm[:, 3] += self.index_to_mm[:, 0] * (planes.start + shift)
        self.shape = (planes.stop - planes.start, *geometry.shape[1:])
        self.points = Points(*(self._coordinate(row) for row in self.index_to_mm[:3]))
        self.hu = np.full(self.shape, AIR_HU, dtype=np.float32)
        self.lungs: dict[int, Floats] = {}

    def _coordinate(self, row: npt.NDArray[np.float64]) -> Floats:
        """Return x, y or z, of length 1 along axes that do not change it: straight scans are quick."""
        total = np.full((1, 1, 1), row[3])
        for axis, step in enumerate(row[:3]):
            if abs(step) > 1e-9:
                size = [1, 1, 1]
                size[axis] = self.shape[axis]
                total = total + step * np.arange(self.shape[axis]).reshape(size)
        return total.astype(np.float32)

    def paint(self, distance: Floats, hu: float | Floats) -> None:
        self.blend(inside(distance, self.edge_mm), hu)

    def blend(self, share: Floats, hu: float | Floats) -> None:
        self.hu += share * (hu - self.hu)

    def tube(self, name: str, *, grow_mm: float = 0.0) -> Floats:
        """Return how much of each voxel is in the tubes called `name`."""
        pieces = self.tubes[name]
        share = np.zeros(self.shape, dtype=np.float32)
        for piece, box in self._boxes(pieces, grow_mm):
            x, y, z = (_cut(a, box) for a in (self.points.x, self.points.y, self.points.z))
            covered = _tube_share(x, y, z, piece, float(piece[6]) + grow_mm, self.edge_mm)
            np.maximum(share[box], covered, out=share[box])
        return share

    def _boxes(
        self, pieces: tubes.Pieces, grow_mm: float
    ) -> Iterator[tuple[tubes.Pieces, tuple[slice, slice, slice]]]:
        """Yield each piece that reaches these planes, and the box of voxels it may touch."""
        mm_to_index = np.linalg.inv(self.index_to_mm)
        reach = (pieces[:, 6:] + grow_mm + self.edge_mm) * np.linalg.norm(mm_to_index[:3, :3], axis=1)
        ends = [pieces[:, k : k + 3] @ mm_to_index[:3, :3].T + mm_to_index[:3, 3] for k in (0, 3)]
        low = np.maximum(np.floor(np.minimum(*ends) - reach), 0).astype(int)
        high = np.minimum(np.ceil(np.maximum(*ends) + reach) + 1, self.shape).astype(int)
        for k in np.flatnonzero((low < high).all(axis=1)):
            z, y, x = (slice(int(a), int(b)) for a, b in zip(low[k], high[k], strict=True))
            yield pieces[k], (z, y, x)


def _cut(coordinate: Floats, box: tuple[slice, slice, slice]) -> Floats:
    return coordinate[tuple(s if n > 1 else slice(None) for s, n in zip(box, coordinate.shape, strict=True))]


def _tube_share(
    x: Floats, y: Floats, z: Floats, piece: tubes.Pieces, radius_mm: float, edge_mm: float
) -> Floats:
    """Return how much of each voxel one piece fills: of a tube thinner than a voxel, its true share."""
    x, y, z = x - np.float32(piece[0]), y - np.float32(piece[1]), z - np.float32(piece[2])
    run = [np.float32(b - a) for a, b in zip(piece[:3], piece[3:6], strict=True)]
    square = max(run[0] * run[0] + run[1] * run[1] + run[2] * run[2], np.float32(1e-6))
    along = np.clip((x * run[0] + y * run[1] + z * run[2]) / square, 0, 1)
    x, y, z = x - along * run[0], y - along * run[1], z - along * run[2]
    away = np.sqrt(x * x + y * y + z * z) - np.float32(radius_mm)
    # the soft edge adds edge²/12 to radius² in the tube's cross-section: taken off again
    return inside(away, edge_mm) * np.float32(radius_mm**2 / (radius_mm**2 + edge_mm**2 / 12))


def paint(canvas: Canvas) -> Canvas:
    """Paint the patient from the outside in; what comes later covers what was there."""
    _paint_table(canvas)
    _paint_chest_wall(canvas)
    _paint_belly(canvas)
    _paint_mediastinum(canvas)
    _paint_lungs(canvas)
    _paint_spine(canvas)
    _paint_airways(canvas)
    return canvas


def _paint_table(canvas: Canvas) -> None:
    canvas.paint(anatomy.table(canvas.points), -150)


def _paint_chest_wall(canvas: Canvas) -> None:
    p, fat_mm = canvas.points, np.float32(canvas.patient.fat_mm)
    skin, cavity = anatomy.skin(p), anatomy.cavity(p)
    canvas.paint(skin, 20)
    canvas.paint(skin + 2, -105)
    canvas.paint(skin + fat_mm * (np.float32(0.8) + np.abs(p.x) / 250), 50)
    canvas.paint(np.abs(cavity - 15) - np.float32(1.5), -70)  # fat between the layers of muscle
    canvas.paint(anatomy.both(anatomy.scapulae(p), skin + 8), 330)
    canvas.blend(canvas.tube("shoulders"), 380)
    canvas.blend(canvas.tube("shoulders", grow_mm=-3), 180)
    canvas.blend(canvas.tube("ribs"), 560)
    canvas.blend(canvas.tube("ribs", grow_mm=-2), 220)
    canvas.blend(canvas.tube("cartilage"), 110)
    canvas.paint(anatomy.sternum(p), 320)
    canvas.paint(anatomy.sternum(p) + 3, 150)
    canvas.paint(cavity, -95)
    canvas.paint(anatomy.both(cavity, anatomy.beside_spine(p), anatomy.SPINE_Y(p.z) - p.y), 50)


def _paint_belly(canvas: Canvas) -> None:
    p, patient = canvas.points, canvas.patient
    inner = anatomy.cavity(p)
    below = anatomy.diaphragm(p, patient)
    canvas.paint(anatomy.both(inner, below, -4 - below), 45)
    canvas.paint(anatomy.both(anatomy.liver(p, patient), below + 2), 95)
    canvas.paint(anatomy.both(anatomy.spleen(p), below + 3), 100)
    canvas.paint(anatomy.kidneys(p), 130)
    canvas.paint(anatomy.stomach(p, patient), 45)
    canvas.paint(anatomy.stomach(p, patient) + 4, 15)
    canvas.paint(anatomy.stomach_gas(p, patient), -985)
    for number, loop in enumerate(anatomy.bowel(p, patient)):
        canvas.paint(loop, 40)
        canvas.paint(loop + np.float32(3), 10)
        if number % 3 != 2:
            canvas.paint(anatomy.both(loop + np.float32(4 / patient.gas), p.y + 24), -980)


def _paint_mediastinum(canvas: Canvas) -> None:
    p, patient = canvas.points, canvas.patient
    above = -anatomy.diaphragm(p, patient)
    heart = anatomy.both(anatomy.heart(p, patient), above)
    canvas.paint(heart, 60)
    for centre, radii in (
        ((34, -30, -28), (26, 23, 24)),
        ((2, -44, -22), (24, 19, 26)),
        ((-16, -14, -12), (21, 22, 27)),
    ):
        pool = anatomy.both(anatomy.ellipsoid(p, centre, radii), anatomy.heart(p, patient) + 5)
        canvas.paint(pool, patient.blood_hu)
    canvas.blend(canvas.tube("esophagus"), 40)
    canvas.blend(canvas.tube("esophagus", grow_mm=-4.5), -300)
    canvas.paint(anatomy.descending_aorta(p), patient.blood_hu + 15)
    canvas.blend(canvas.tube("great vessels"), patient.blood_hu)


def _paint_lungs(canvas: Canvas) -> None:
    p, patient = canvas.points, canvas.patient
    tissue = np.float32(patient.lung_hu) + np.float32(0.4) * p.y  # the weight of the lung: denser at the back
    for side in (RIGHT, LEFT):
        share = inside(anatomy.lung(p, patient, side), canvas.edge_mm)
        seam = inside(anatomy.fissure(p, side), canvas.edge_mm)
        canvas.blend(share, tissue + 90 * seam)
        canvas.lungs[side] = share
    canvas.blend(canvas.tube("vessels"), 30)


def _paint_spine(canvas: Canvas) -> None:
    p = canvas.points
    body, level = anatomy.spine(p), anatomy.vertebral_level(p.z)
    canvas.paint(anatomy.vertebral_arch(p), 380)
    canvas.paint(body, 90)
    canvas.paint(anatomy.both(body, level - np.float32(10)), 420)
    canvas.paint(anatomy.both(body + 2, level - np.float32(8.5)), 190)
    canvas.paint(anatomy.spinal_canal(p), 25)


def _paint_airways(canvas: Canvas) -> None:
    wall = canvas.tube("airways", grow_mm=1.6)
    canvas.blend(wall, 35)
    canvas.blend(canvas.tube("airways"), -990)
    for side in (RIGHT, LEFT):
        canvas.lungs[side] = canvas.lungs[side] * (1 - wall)
