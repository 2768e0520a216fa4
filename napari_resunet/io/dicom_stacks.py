"""The stacks of slices among DICOM files, one of which is a CT: series, and what one series mixes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_resunet.io.dicom_headers import SliceHeader
from napari_resunet.io.dicom_place import heights
from napari_resunet.io.dicom_steps import SAME_MM
from napari_resunet.io.dicom_unplaced import PLACING

# What may tell two phases or reconstructions of one series apart, with the words for it; the first that does so wins.
_TELLING = {
    "TemporalPositionIndex": "time",
    "TemporalPositionIdentifier": "time",
    "AcquisitionNumber": "acquisition",
    "FrameAcquisitionNumber": "acquisition",
    "NominalPercentageOfCardiacPhase": "% of the heart beat",
    "ConvolutionKernel": "kernel",
    "ImageType": "type",
    "KVP": "kV",
    "ContrastBolusAgent": "contrast",
    "AcquisitionTime": "acquired at",
}
_ALIKE = 1e-3  # mm, or of a unit vector
_STRAIGHT = np.cos(np.radians(5))


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices of one series that may make up one volume.

    Parameters
    ----------
    uid : str
        SeriesInstanceUID.
    number : int
        Which stack of the series it is, from 1; 0 if it is the only one.
    label : str
        What tells it from the others of its series.
    slices : tuple of SliceHeader
        In the order they were found.
    """

    uid: str
    number: int
    label: str
    slices: tuple[SliceHeader, ...]

    @property
    def key(self) -> str:
        """What a user gives to choose it: the UID, and ``#2`` if it is the second stack of its series."""
        return f"{self.uid}#{self.number}" if self.number else self.uid


def find_stacks(slices: Iterable[SliceHeader]) -> list[Stack]:
    """Return the stacks that slices make up, in the order of their series numbers.

    A series is more than one stack if its slices differ in size, orientation or pixel spacing, or if a tag tells
    apart those that lie at one place, as with two phases.
    """
    by_uid: dict[str, list[SliceHeader]] = {}
    for header in slices:
        by_uid.setdefault(header.text("SeriesInstanceUID"), []).append(header)
    ordered = sorted(by_uid.items(), key=lambda item: (item[1][0].number("SeriesNumber") or 0, item[0]))
    return [stack for uid, headers in ordered for stack in _stacks_of(uid, headers)]


def _stacks_of(uid: str, headers: Sequence[SliceHeader]) -> list[Stack]:
    grids = _grids(headers)
    parts = [
        (", ".join(filter(None, (grid_label, phase_label))), phase)
        for grid_label, grid in grids
        for phase_label, phase in _phases(grid)
    ]
    alone = len(parts) == 1
    return [
        Stack(uid, 0 if alone else number, label, tuple(part))
        for number, (label, part) in enumerate(parts, 1)
    ]


def _grids(headers: Sequence[SliceHeader]) -> list[tuple[str, list[SliceHeader]]]:
    """Return slices by size, orientation and pixel spacing; one that does not say stays with the first."""
    grids: list[list[SliceHeader]] = []
    for header in headers:
        for grid in grids:
            if not _differences(grid[0], header):
                grid.append(header)
                break
        else:
            grids.append([header])
    if len(grids) == 1:
        return [("", grids[0])]
    differing = {name for grid in grids[1:] for name in _differences(grids[0][0], grid[0])}
    return [(", ".join(_shown(grid[0], name) for name in sorted(differing)), grid) for grid in grids]


def _differences(one: SliceHeader, other: SliceHeader) -> list[str]:
    names = [] if one.size == other.size else ["size"]
    for name in ("orientation", "pixel_spacing_mm"):
        values = getattr(one, name), getattr(other, name)
        if not any(value is None for value in values) and np.abs(values[0] - values[1]).max() > _ALIKE:
            names.append(name)
    return names


def _shown(header: SliceHeader, name: str) -> str:
    if name == "size":
        return "{} x {}".format(*header.size)
    if name == "pixel_spacing_mm":
        spacing = header.pixel_spacing_mm
        return "no pixel spacing" if spacing is None else "pixels of {:.4g} x {:.4g} mm".format(*spacing)
    return plane(header)


def plane(header: SliceHeader) -> str:
    """Return "axial", "coronal" or "sagittal", whichever a slice is nearest to; "" if it does not say."""
    if header.orientation is None:
        return ""
    normal = np.cross(*header.orientation)
    nearest = ("sagittal", "coronal", "axial")[int(np.abs(normal).argmax())]
    return nearest if np.abs(normal).max() > _STRAIGHT else f"{nearest}, oblique"


def _phases(headers: list[SliceHeader]) -> list[tuple[str, list[SliceHeader]]]:
    """Return slices of one grid by the first tag that leaves no two at one place; all if there is none."""
    by_stack = _by_value(headers, "StackID")
    if len(by_stack) > 1:
        return [
            (", ".join(filter(None, (f"stack {value}", label))), phase)
            for value, stack in sorted(by_stack.items(), key=_rank)
            for label, phase in _phases_of_stack(stack)
        ]
    return _phases_of_stack(headers)


def _phases_of_stack(headers: list[SliceHeader]) -> list[tuple[str, list[SliceHeader]]]:
    if any(getattr(header, name) is None for header in headers for name in PLACING):
        return [("", headers)]
    most = _most_at_one_place(headers)
    for keyword, words in _TELLING.items() if most > 1 else ():
        groups = _by_value(headers, keyword)
        if len(groups) == most and all(_most_at_one_place(group) == 1 for group in groups.values()):
            return [
                (f"{words} {value or 'not said'}", group)
                for value, group in sorted(groups.items(), key=_rank)
            ]
    return [("", headers)]


def _rank(item: tuple[str, Any]) -> tuple[int, str]:
    return len(item[0]), item[0]  # 2 before 10


def _by_value(headers: Iterable[SliceHeader], keyword: str) -> dict[str, list[SliceHeader]]:
    groups: dict[str, list[SliceHeader]] = {}
    for header in headers:
        groups.setdefault(header.text(keyword), []).append(header)
    return groups


def _most_at_one_place(headers: Sequence[SliceHeader]) -> int:
    """Return how many different slices (files copied under two names are one) lie at one place at most."""
    different = {(header.text("SOPInstanceUID") or header.path, header.frame): header for header in headers}
    at = np.sort(heights(list(different.values())))
    place = np.concatenate([[0], np.cumsum(np.diff(at) > SAME_MM)])
    return int(np.bincount(place).max())
