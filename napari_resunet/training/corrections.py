"""A list of corrections to the masks of a training set: where they break its definition of lung, and what mends them.

A CSV with the columns ``case, slices, action, where, why``. `slices` are axial slices, counted from 0 at the lowest:
one number, or ``a:b`` without b. Positions are pixels of the native axial slice. `where` has parts that
semicolons part:

=============  ==============================================================================================
``close``      radius in mm; if wanted a box ``y0:y1,x0:x1``. Each lung is closed within the slice, holes filled.
``add``        corners of a polygon, each ``y x``
``remove``     corners of a polygon
``leave out``  nothing; the slice is not used
=============  ==============================================================================================

The first three take limits as well, such as ``hu>-700``: what lies beyond them is left as it was.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError
from napari_resunet.imaging.closing import close_pieces

Bools = npt.NDArray[np.bool_]

COLUMNS = ("case", "slices", "action", "where", "why")
ACTIONS = ("close", "add", "remove", "leave out")
_NUMBER = r"-?\d+(?:\.\d+)?"
_CORNER = re.compile(rf"({_NUMBER})\s+({_NUMBER})")
_BOX = re.compile(r"(\d+):(\d+),\s*(\d+):(\d+)")
_LIMIT = re.compile(rf"hu\s*([<>])\s*({_NUMBER})")


@dataclass(frozen=True)
class Correction:
    """One line of the list.

    Parameters
    ----------
    line : str
        File and line number, for messages.
    case : str
        Name of the case.
    first, stop : int
        Axial slices, `stop` not included.
    action : str
        One of `ACTIONS`.
    radius_mm : float
        Of a closing, else 0.
    corners : tuple of (y, x)
        Of a polygon; pixel centres are at whole numbers.
    box : (y0, y1, x0, x1), optional
        Where a closing may add.
    above_hu, below_hu : float
        Only pixels between these are changed.
    """

    line: str
    case: str
    first: int
    stop: int
    action: str
    radius_mm: float = 0.0
    corners: tuple[tuple[float, float], ...] = ()
    box: tuple[int, int, int, int] | None = None
    above_hu: float = -np.inf
    below_hu: float = np.inf


def read_corrections(path: Path) -> list[Correction]:
    """Read a list of corrections.

    Raises
    ------
    InputError
        If it cannot be read, or a line of it is not as described above.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a list of corrections: {error}") from error
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise InputError(f"{path} must have the columns {', '.join(COLUMNS)}")
    return [_parse(f"{path.name} line {number}", row) for number, row in rows]


def not_there(corrections: Sequence[Correction], names: Sequence[str]) -> list[str]:
    """Return the cases that are corrected but not among `names`, in order."""
    return sorted({correction.case for correction in corrections} - set(names))


def correct(
    name: str,
    slices: npt.NDArray[Any],
    lungs: npt.NDArray[np.uint8],
    spacing_mm: tuple[float, float],
    corrections: Sequence[Correction],
) -> tuple[npt.NDArray[np.uint8], Bools]:
    """Return the mended mask of a case, and which of its slices are to be used.

    Parameters
    ----------
    name : str
        Of the case; corrections to others are passed over.
    slices, lungs : (n, y, x) array
        HU and mask of the axial slices.
    spacing_mm : tuple of float
        Along (y, x).
    corrections : sequence of Correction
        Done one after the other.

    Raises
    ------
    InputError
        If a slice of a correction is not there.
    """
    mended, used = lungs.copy(), np.ones(len(lungs), dtype=bool)
    for correction in corrections:
        if correction.case != name:
            continue
        if correction.stop > len(lungs):
            raise InputError(f"{correction.line}: {name} has the slices 0:{len(lungs)}; correct the number")
        for k in range(correction.first, correction.stop):
            if correction.action == "leave out":
                used[k] = False
            else:
                mended[k] = _changed(mended[k] > 0, slices[k], spacing_mm, correction)
    return mended, used


def _changed(
    lung: Bools, hu: npt.NDArray[Any], spacing_mm: tuple[float, float], correction: Correction
) -> Bools:
    may_change = (hu > correction.above_hu) & (hu < correction.below_hu)
    if correction.action == "close":
        if correction.box is not None:
            y0, y1, x0, x1 = correction.box
            may_change[:y0], may_change[y1:], may_change[:, :x0], may_change[:, x1:] = (False,) * 4
        return lung | (close_pieces(lung, spacing_mm, correction.radius_mm) & may_change)
    within = _polygon(lung.shape, correction.corners) & may_change
    return lung | within if correction.action == "add" else lung & ~within


def _polygon(shape: tuple[int, ...], corners: Sequence[tuple[float, float]]) -> Bools:
    """Return the (y, x) pixels whose centres lie in a polygon, by the even-odd rule."""
    y, x = np.indices(shape)
    inside = np.zeros(shape, dtype=bool)
    for (y0, x0), (y1, x1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _parse(line: str, row: dict[str, str]) -> Correction:
    action, slices = (row["action"] or "").strip(), (row["slices"] or "").strip()
    if action not in ACTIONS:
        raise InputError(f"{line}: there is no action {action!r}; choose one of {', '.join(ACTIONS)}")
    found = re.fullmatch(r"(\d+)(?::(\d+))?", slices)
    first = int(found[1]) if found else 0
    stop = int(found[2]) if found and found[2] else first + 1
    if not found or stop <= first:
        raise InputError(f"{line}: slices are one number or a:b with a below b, not {slices!r}")
    told = _parse_where(line, row["where"] or "")
    has = (told.get("radius_mm", 0) > 0, len(told["corners"]) >= 3, bool(told["corners"]), "box" in told)
    good = {
        "close": has[0] and not has[2],
        "add": has[1] and not has[0] and not has[3],
        "remove": has[1] and not has[0] and not has[3],
        "leave out": not (row["where"] or "").strip(),
    }
    if not good[action]:
        raise InputError(
            f"{line}: {action} cannot be done at {row['where']!r}; close needs a radius in mm, "
            "add and remove need three corners or more, leave out nothing"
        )
    return Correction(line, (row["case"] or "").strip(), first, stop, action, **told)


def _parse_where(line: str, where: str) -> dict[str, Any]:
    told: dict[str, Any] = {"corners": ()}
    for part in filter(None, (part.strip() for part in where.split(";"))):
        if corner := _CORNER.fullmatch(part):
            told["corners"] += ((float(corner[1]), float(corner[2])),)
        elif box := _BOX.fullmatch(part):
            told["box"] = y0, y1, x0, x1 = tuple(int(number) for number in box.groups())
            if y0 >= y1 or x0 >= x1:
                raise InputError(
                    f"{line}: a box is y0:y1,x0:x1 with each first below its second, not {part!r}"
                )
        elif limit := _LIMIT.fullmatch(part):
            told["above_hu" if limit[1] == ">" else "below_hu"] = float(limit[2])
        elif re.fullmatch(_NUMBER, part):
            told["radius_mm"] = float(part)
        else:
            raise InputError(
                f"{line}: {part!r} is no corner, box, limit or radius; see training/corrections.py"
            )
    return told
