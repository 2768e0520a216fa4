"""Training slices in memory, and batches drawn from them.

Slices are kept at twice the finest grid, cropped to the body with room around it, so that augmentation moves and
turns them at a finer size than the network sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from napari_resunet.errors import GeometryError, InputError
from napari_resunet.hu import implausible_hu
from napari_resunet.imaging.body import body_box
from napari_resunet.io.files import read_mask, read_volume
from napari_resunet.io.image_file import read_labels
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.model.slices import Crop, shrink
from napari_resunet.track import Track, silent
from napari_resunet.training.cases import TrainingCase
from napari_resunet.training.corrections import Correction, correct

OVERSIZE = 2
ROOM = 0.15  # of the body box, on each side


@dataclass(frozen=True, eq=False)
class LabelledCase:
    """A case in memory, on its native grid.

    Parameters
    ----------
    case : TrainingCase
        Where it came from.
    slices : (n, y, x) array
        HU of the axial slices, front up.
    lungs : (n, y, x) array of uint8
        1 where there is lung.
    box : tuple of int
        The body: (y0, y1, x0, x1).
    """

    case: TrainingCase
    slices: npt.NDArray[Any]
    lungs: npt.NDArray[np.uint8]
    box: Crop


def load_case(case: TrainingCase, corrections: Sequence[Correction] = ()) -> LabelledCase:
    """Read a case, its mask mended by those of the `corrections` that are for it, without the slices they leave out.

    Raises
    ------
    GeometryError
        If the mask does not lie on the grid of the CT.
    InputError
        If the values of the CT cannot be HU, or a correction is for a slice that is not there.
    """
    volume = read_volume(case.image)
    if finding := implausible_hu(volume.array):
        raise InputError(
            f"{case.image}: {finding.fact}; a network learns from HU: write the CT in HU, or leave it out"
        )
    if case.mask is None:
        lungs = np.zeros(volume.array.shape, dtype=np.uint8)
    elif case.mask.suffix == ".png":
        lungs = (read_labels(case.mask) > 0).astype(np.uint8)[None]
    else:
        mask = read_mask(case.mask)
        refuse_other_grid(mask.geometry, volume.geometry, what=case.mask.name)
        lungs = mask.array
    if lungs.shape != volume.array.shape:
        raise GeometryError(f"{case.mask} is {lungs.shape}, its CT {volume.array.shape}")
    slices = volume.axial
    axial = volume.geometry.to_axial.apply(lungs > 0).astype(np.uint8)
    _, y_mm, x_mm = volume.axial_geometry.spacing_mm
    mended, used = correct(case.name, slices, axial, (y_mm, x_mm), corrections)
    return LabelledCase(case, slices[used], mended[used], body_box(slices))


def load_cases(
    cases: Sequence[TrainingCase], corrections: Sequence[Correction] = (), track: Track = silent
) -> Iterator[LabelledCase]:
    """Read cases one after the other; one of which the corrections leave no slice is passed over."""
    loaded = (load_case(case, corrections) for case in track(cases))
    return (case for case in loaded if len(case.slices))


@dataclass(frozen=True, eq=False)
class Slices:
    """Training slices of one size, and how likely each is to be drawn.

    Parameters
    ----------
    hu : (n, 1, s, s) Tensor of int16
        Images.
    lungs : (n, c, s, s) Tensor of uint8
        Share of lung in each pixel, 0-255; further channels go wherever the mask goes.
    chance : (n,) array
        In proportion.
    margin : float
        Part of each side that lies outside of the body box.
    """

    hu: Tensor
    lungs: Tensor
    chance: npt.NDArray[np.float64]
    margin: float = ROOM / (1 + 2 * ROOM)

    def draw(
        self, rng: np.random.Generator, count: int, *, hardness: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.int64]:
        """Return which `count` slices come next; `hardness`, (n,), makes some likelier than the others."""
        chance = self.chance if hardness is None else self.chance * hardness
        return rng.choice(len(self.hu), size=count, p=chance / chance.sum())

    def take(self, chosen: npt.NDArray[np.int64], side: int) -> tuple[Tensor, Tensor]:
        """Return images in HU (n, 1, side, side) and shares of lung, 0-1, (n, c, side, side), both float32.

        The side of what is kept is `side` or a multiple of it.
        """
        index = torch.from_numpy(chosen)
        by = self.hu.shape[-1] // side
        hu, lungs = self.hu[index].float(), self.lungs[index].float() / 255
        return (hu, lungs) if by == 1 else (functional.avg_pool2d(hu, by), functional.avg_pool2d(lungs, by))


def load_slices(
    cases: Sequence[TrainingCase], grid: int, track: Track = silent, *, corrections: Sequence[Correction] = ()
) -> Slices:
    """Read all cases and return their slices, ready to be drawn from for a grid of `grid` pixels or coarser.

    A case of n slices is drawn from with a weight of the square root of n: neighbours in one chest teach less
    than another person.
    """
    hu, lungs, weights = [], [], []
    for loaded in load_cases(cases, corrections, track):
        images, shares = slices_of(loaded.slices, loaded.lungs, loaded.box, grid)
        hu.append(images)
        lungs.append(shares)
        weights += [len(loaded.slices) ** -0.5] * len(loaded.slices)
    chance = np.array(weights) / np.sum(weights)
    return Slices(torch.cat(hu), torch.cat(lungs), chance)


def slices_of(
    slices: npt.NDArray[Any], lungs: npt.NDArray[np.uint8], box: Crop, grid: int
) -> tuple[Tensor, Tensor]:
    """Return HU and share of lung of axial slices as `Slices` keeps them for a grid."""
    crop, side = _with_room(box), OVERSIZE * grid
    images = _resized(slices, crop, side).round().to(torch.int16)
    return images, (_resized(lungs, crop, side) * 255).round().to(torch.uint8)


def _with_room(box: Crop) -> Crop:
    """Return the box grown by `ROOM`; it may leave the picture."""
    y0, y1, x0, x1 = box
    room_y, room_x = round(ROOM * (y1 - y0)), round(ROOM * (x1 - x0))
    return y0 - room_y, y1 + room_y, x0 - room_x, x1 + room_x


def _resized(slices: npt.NDArray[Any], crop: Crop, side: int) -> Tensor:
    y0, y1, x0, x1 = crop
    rows, columns = slices.shape[1:]
    inside = slices[:, max(y0, 0) : y1, max(x0, 0) : x1]
    beyond = ((0, 0), (max(-y0, 0), max(y1 - rows, 0)), (max(-x0, 0), max(x1 - columns, 0)))
    filler = -1024 if slices.dtype.kind != "u" else 0
    # values far below air are padding: clipped first, or they would smear into the body when resized
    clipped = np.clip(np.nan_to_num(inside, nan=filler), filler, np.iinfo(np.int16).max).astype(np.float32)
    padded = np.pad(clipped, beyond, constant_values=filler)
    return shrink(torch.from_numpy(padded)[:, None], side)
