"""The three middle planes of a CT, small, as they would lie: to see which orientation is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from magicgui.widgets import Container, Label
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap

from napari_resunet.geometry import Geometry
from napari_resunet.plugin.panels.rows import row
from napari_resunet.plugin.panels.text import text

_SIDE = 150  # pixels of the longer side of a plane
_DARKEST, _BRIGHTEST = 2, 99  # per cent of the values
Plane = npt.NDArray[np.uint8]


class Preview(Container):  # type: ignore[misc]
    """Axial, coronal and sagittal plane, with what is where if the orientation is right.

    Parameters
    ----------
    array : (z, y, x) array
        In the order of its file.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self.planes: list[Plane] = []
        self._pictures = [Label() for _ in range(3)]
        words = (
            "If it is right you see: patient's front up and right on the left; head up and right on the left; head up "
            "and front on the left."
        )
        super().__init__(widgets=[row(*self._pictures), text(words)], labels=False)
        for picture in self._pictures:
            picture.native.setFixedSize(_SIDE, _SIDE)
            picture.native.setAlignment(Qt.AlignmentFlag.AlignCenter)

    def show_as(self, axes: str | None, spacing_mm: tuple[float, ...]) -> None:
        """Show the planes as they lie if the array's axes run towards `axes`."""
        lengths = spacing_mm if min(spacing_mm) > 0 else (1.0, 1.0, 1.0)  # not said yet
        geometry = Geometry.from_spacing(self._array.shape, lengths, axes)
        self.planes = list(middle_planes(self._array, geometry))
        for picture, plane in zip(self._pictures, self.planes, strict=True):
            picture.native.setPixmap(_as_pixmap(plane))


def middle_planes(array: npt.NDArray[Any], geometry: Geometry) -> tuple[Plane, Plane, Plane]:
    """Return the axial, the coronal and the sagittal middle plane as grey pictures, true to scale.

    Parameters
    ----------
    array : (z, y, x) array
        In the order of `geometry`.
    geometry : Geometry
        How it lies.
    """
    axial = geometry.to_axial.apply(array)
    z, y, x = (n // 2 for n in axial.shape)
    sizes = np.multiply(axial.shape, geometry.axial.spacing_mm)
    planes = axial[z], axial[::-1, y], axial[::-1, :, x]  # head up
    sides = sizes[[1, 2]], sizes[[0, 2]], sizes[[0, 1]]
    one, two, three = (
        _grey(plane, side * _SIDE / sizes.max()) for plane, side in zip(planes, sides, strict=True)
    )
    return one, two, three


def _as_pixmap(plane: Plane) -> QPixmap:
    rows, columns = plane.shape
    image = QImage(plane.tobytes(), columns, rows, columns, QImage.Format.Format_Grayscale8)
    return QPixmap.fromImage(image)  # a copy


def _grey(plane: npt.NDArray[Any], size: npt.NDArray[np.float64]) -> Plane:
    """Return a plane in so many pixels, from black to white."""
    picked = [
        (np.arange(max(round(pixels), 1)) * n / max(round(pixels), 1)).astype(int)
        for n, pixels in zip(plane.shape, size.tolist(), strict=True)
    ]
    values = np.nan_to_num(plane[np.ix_(*picked)].astype(np.float64))
    low, high = np.percentile(values, (_DARKEST, _BRIGHTEST))
    return (255 * np.clip((values - low) / max(high - low, 1e-9), 0, 1)).astype(np.uint8)
