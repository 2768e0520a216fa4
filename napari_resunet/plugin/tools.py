"""The tools that correct the mask: what each is told, what it returns, and what the user reads of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.editing.between import fill_between
from napari_resunet.editing.growing import grow_from
from napari_resunet.editing.pieces import fill_holes, keep_piece, remove_piece
from napari_resunet.editing.smoothing import smooth
from napari_resunet.editing.whole_slice import accept_model, clear_slice
from napari_resunet.inference.postprocess import label_sides
from napari_resunet.settings import ToolSettings
from napari_resunet.volume import Run

Bools = npt.NDArray[np.bool_]
Voxel = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Work:
    """What a tool is given: arrays and settings.

    Parameters
    ----------
    mask, automatic : (z, y, x) array of bool
        The mask as it is shown, and as the network alone would have it.
    run : Run, optional
        What made the probabilities.
    is_swapped : bool
        Whether right and left are labelled the other way round.
    hu : (z, y, x) array
        The CT.
    edited : (z, y, x) array of bool
        Voxels that a hand has set.
    spacing_mm : tuple of float
        Along (z, y, x).
    voxel : tuple of int
        Where the user clicked; for tools that need no click, in the slice in view.
    settings : ToolSettings
        What the tools go by.
    """

    mask: Bools
    automatic: Bools
    run: Run | None
    is_swapped: bool
    hu: npt.NDArray[Any]
    edited: Bools
    spacing_mm: tuple[float, float, float]
    voxel: Voxel
    settings: ToolSettings


def _fill_between(work: Work) -> Bools:
    slices = np.flatnonzero(work.edited.any(axis=(1, 2))).tolist()
    return fill_between(work.mask, slices, spacing_mm=work.spacing_mm, edited=work.edited)


def _grow(work: Work) -> Bools:
    limits = work.settings
    region = grow_from(
        work.hu,
        work.voxel,
        low_hu=limits.low_hu,
        high_hu=limits.high_hu,
        within_mm=limits.within_mm,
        spacing_mm=work.spacing_mm,
        in_slice=limits.in_slice,
    )
    return work.mask | region


def _swap_sides(work: Work) -> npt.NDArray[np.uint8]:
    return label_sides(work.mask, spacing_mm=work.spacing_mm, run=work.run, swap=not work.is_swapped)


@dataclass(frozen=True)
class Tool:
    """A way to change the mask.

    Parameters
    ----------
    tip : str
        What it does.
    change : callable
        Returns the new mask.
    uses : tuple of str
        The fields of `ToolSettings` it goes by.
    needs_click : bool
        Whether the user has to say where.
    labels : bool
        Whether it changes which lung is the right one, and no voxel: `change` returns the labels then.
    """

    tip: str
    change: Callable[[Work], npt.NDArray[Any]]
    uses: tuple[str, ...] = ()
    needs_click: bool = False
    labels: bool = False


TOOLS = {
    "Fill between edited slices": Tool(
        "Carry your corrections over to the slices between those you have edited, which stay as they are.",
        _fill_between,
    ),
    "Keep the clicked piece": Tool(
        "Remove all pieces but the one you click.",
        lambda work: keep_piece(work.mask, work.voxel, in_slice=work.settings.in_slice),
        ("in_slice",),
        needs_click=True,
    ),
    "Remove the clicked piece": Tool(
        "Remove the connected piece you click.",
        lambda work: remove_piece(work.mask, work.voxel, in_slice=work.settings.in_slice),
        ("in_slice",),
        needs_click=True,
    ),
    "Grow from here": Tool(
        "Add what is connected to the voxel you click, within a range of HU and a distance.",
        _grow,
        ("low_hu", "high_hu", "within_mm", "in_slice"),
        needs_click=True,
    ),
    "Fill holes": Tool(
        "Fill what the mask encloses.",
        lambda work: fill_holes(work.mask, in_slice=work.settings.in_slice),
        ("in_slice",),
    ),
    "Smooth": Tool(
        "Smooth the surface.",
        lambda work: smooth(work.mask, radius_mm=work.settings.radius_mm, spacing_mm=work.spacing_mm),
        ("radius_mm",),
    ),
    "Accept the model here": Tool(
        "Take back what was changed in the slice in view.",
        lambda work: accept_model(work.mask, work.automatic, work.voxel[0]),
    ),
    "Clear this slice": Tool(
        "Remove everything in the slice in view.", lambda work: clear_slice(work.mask, work.voxel[0])
    ),
    "Swap right and left": Tool(
        "Label the lungs the other way round, where the CT's header is wrong or the organs lie mirrored. "
        "Once more swaps them back.",
        _swap_sides,
        labels=True,
    ),
}
