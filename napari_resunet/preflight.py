"""What is looked at in a CT before the network runs over it: each check with its answer, in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_resunet.geometry import Geometry
from napari_resunet.hu import HuFinding, judge_hu, where_air_and_tissue_lie
from napari_resunet.imaging.body import LEAST_SIDE
from napari_resunet.imaging.lung_ends import shows_lung
from napari_resunet.io.orientation import is_assumed
from napari_resunet.volume import Volume

_FINE_MM, _THICK_MM, _SHORT_MM = 0.35, 5.5, 150.0
_FIELD_MM = (120.0, 800.0)  # what a slice through an adult's chest can measure


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
        What: ``"voxel size"``, ``"orientation"``, ``"tilt"``, ``"gaps"``, ``"HU"``, ``"padding"``,
        ``"not numbers"``, ``"coverage"`` or ``"size"``.
    level : str
        ``"ok"``; ``"note"``: good to know; ``"ask"``: the user should say; ``"refuse"``: it cannot be segmented.
    text : str
        What was found and, if need be, what to do.
    answers : tuple of str
        The fields of `InputAnswers` with which the user can answer.
    hu_offset : float, optional
        The answer that is most likely right, where it is one to ``"hu_offset"``.
    """

    name: str
    level: str
    text: str
    answers: tuple[str, ...] = ()
    hu_offset: float | None = None


def preflight(volume: Volume) -> tuple[Check, ...]:
    """Check a CT before the network runs over it.

    Quick: of the values it takes a sample. What it calls ``"refuse"``, `predict` refuses; so it does for HU that
    are to be asked about.

    Parameters
    ----------
    volume : Volume
        As it was read, notes and answers included.

    Returns
    -------
    tuple of Check
        In a fixed order; those of padding and of what is not a number only where there is some.
    """
    geometry = volume.axial_geometry
    return (
        _voxel_size(geometry, volume),
        _orientation(volume),
        _tilt(geometry),
        _gaps(volume),
        *_values(volume),
        _coverage(volume, geometry),
        _size(geometry),
    )


def _voxel_size(geometry: Geometry, volume: Volume) -> Check:
    z, y, x = geometry.spacing_mm
    size = f"{x:.3g} x {y:.3g} x {z:.3g} mm"
    rows, columns = geometry.shape[1] * y, geometry.shape[2] * x
    said = " by the user's word" if volume.answers.spacing_mm is not None else ""
    if not all(_FIELD_MM[0] <= side <= _FIELD_MM[1] for side in (rows, columns)):
        text = f"{size}{said}, so that a slice measures {columns:.0f} x {rows:.0f} mm: is that a whole chest?"
        return Check("voxel size", "note", text)
    if min(y, x) < _FINE_MM:
        return Check("voxel size", "note", f"{size}{said}: finer than the CT that the model learned from")
    if z > _THICK_MM:
        text = f"{size}{said}: thick slices, so contours jump from slice to slice and 3-D clean-up is rough"
        return Check("voxel size", "note", text)
    return Check("voxel size", "note" if said else "ok", size + said)


def _orientation(volume: Volume) -> Check:
    codes = volume.geometry.axis_codes
    if is_assumed(volume.notes):
        text = (
            f"not in the file, assumed axial, lowest slice first ({codes}): right and left may be exchanged"
        )
        return Check("orientation", "ask", text, ("orientation",))
    if volume.answers.orientation is not None:
        return Check("orientation", "note", f"{codes} by the user's word")
    return Check("orientation", "ok", codes)


def _tilt(geometry: Geometry) -> Check:
    if geometry.is_sheared:
        normal = np.cross(geometry.directions[:, 2], geometry.directions[:, 1])
        cosine = abs(float(normal @ geometry.directions[:, 0])) / float(np.linalg.norm(normal))
        degrees = math.degrees(math.acos(min(1.0, cosine)))
        text = f"tilted gantry ({degrees:.1f} degrees): shown straight, measured and exported as scanned"
        return Check("tilt", "note", text)
    if geometry.is_oblique:
        return Check("tilt", "note", "oblique: shown straight, measured and exported as scanned")
    return Check("tilt", "ok", "none")


def _gaps(volume: Volume) -> Check:
    accepted = [note for note in volume.notes if ": accepted by the user's word" in note]
    return Check("gaps", "note", accepted[0]) if accepted else Check("gaps", "ok", "none")


def _values(volume: Volume) -> list[Check]:
    """Return the check of the HU first, then those of what is padding or no number."""
    findings = judge_hu(volume.array)
    on_hu = [_as_check(finding) for finding in findings if finding.subject == "HU"]
    others = [_as_check(finding) for finding in findings if finding.subject != "HU"]
    if volume.hu_confirmed:
        on_hu = [Check("HU", "note", "taken as HU by the user's word")]
    if not on_hu:
        at = zip(("air", "tissue"), where_air_and_tissue_lie(volume.array), strict=True)
        found = [f"{name} at about {hu}" for name, hu in at if hu is not None]
        on_hu = [Check("HU", "ok", ", ".join(found) or "plausible")]
    return on_hu + others


def _as_check(finding: HuFinding) -> Check:
    answers = ("hu_offset",) if finding.level == "ask" else ()
    return Check(finding.subject, finding.level, finding.text, answers, finding.hu_offset)


def _coverage(volume: Volume, geometry: Geometry) -> Check:
    slices = geometry.shape[0]
    tall = f"{slices * geometry.spacing_mm[0]:.0f} mm in {slices} slices"
    if slices == 1:
        return Check("coverage", "note", "a single slice: no 3-D clean-up, ml of this slice only")
    ends = {"lowest": volume.axial[0], "highest": volume.axial[-1]}
    cut = [name for name, plane in ends.items() if shows_lung(plane)]
    if cut:
        text = f"{tall}; lung goes on beyond the {' and the '.join(cut)} slice: ml are of the part scanned"
        return Check("coverage", "note", text)
    if slices * geometry.spacing_mm[0] < _SHORT_MM:
        return Check("coverage", "note", f"only {tall}: is all of the lungs inside?")
    return Check("coverage", "ok", tall)


def _size(geometry: Geometry) -> Check:
    slices, rows, columns = geometry.shape
    text = f"{slices} axial slices of {columns} x {rows}"
    if min(rows, columns) < LEAST_SIDE:
        remedy = "check the order of the axes, or export the CT at its full size"
        return Check(
            "size", "refuse", f"{text}: too small for a chest ({LEAST_SIDE} are the least); {remedy}"
        )
    return Check("size", "ok", text)
