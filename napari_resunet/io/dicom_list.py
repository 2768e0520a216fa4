"""What DICOM series there are, for a user to choose from: known from the headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_resunet.io.dicom_files import counted, scan
from napari_resunet.io.dicom_headers import SliceHeader
from napari_resunet.io.dicom_kinds import oddities, sort_out
from napari_resunet.io.dicom_place import (
    describe_unevenness,
    describe_unplaced,
    heights,
    sort_slices,
    tilt_degrees,
)
from napari_resunet.io.dicom_stacks import Stack, find_stacks, plane
from napari_resunet.io.dicom_steps import SAME_MM, Steps
from napari_resunet.track import Track, silent

_TILTED_DEGREES = 0.1


@dataclass(frozen=True)
class SeriesInfo:
    """What the headers of a series say, without anything about the patient.

    Parameters
    ----------
    key : str
        What `read_volume` takes as ``series``: the SeriesInstanceUID, and ``#2`` for the second stack of a series
        that is more than one volume.
    modality, description, kernel, image_type : str
        As the scanner wrote them, "" where it did not.
    stack : str
        What tells this stack from the others of its series; "" if it is the only one.
    plane : str
        ``"axial"``, ``"coronal"`` or ``"sagittal"``, with ``", oblique"`` where it is turned by more than 5 degrees.
    slices : int
        Slices or frames; files, of what is no CT.
    size : tuple of int
        Rows and columns; (0, 0) of what is no image.
    spacing_mm : tuple of float, optional
        Along (z, y, x), as far as the headers say: z from the positions, of a single slice its thickness.
    thickness_mm : float, optional
        Of a slice.
    date : str
        Of the scan, as ``"2024-01-31"``; "" if it is not said.
    odd : tuple of str
        What to know before choosing: gaps, tilt, slices that are there twice, and so on.
    left_out : str
        Why it cannot be read as a CT, such as ``"localizer"`` or ``"dose report"``; "" if it can.
    """

    key: str
    modality: str
    description: str
    kernel: str
    image_type: str
    stack: str
    plane: str
    slices: int
    size: tuple[int, int]
    spacing_mm: tuple[float, float, float] | None
    thickness_mm: float | None
    date: str
    odd: tuple[str, ...]
    left_out: str

    def __str__(self) -> str:
        if self.left_out:
            return f"{self.description or 'no description'}, {counted(self.slices, self.left_out)}"
        size = "{} x {}".format(*self.size)
        said = f"{self.description or 'no description'}, {counted(self.slices, 'slice')} of {size}"
        if self.spacing_mm:
            said += f", {self.spacing_mm[0]:.4g} mm {'apart' if self.slices > 1 else 'thick'}"
        if self.kernel:
            said += f", kernel {self.kernel}"
        new = [words for words in (self.stack, *self.odd) if words and words not in said]
        return ", ".join([said, *new])


def list_series(path: str | Path, *, track: Track = silent) -> list[SeriesInfo]:
    """Return the DICOM series that a folder, a DICOMDIR or a file holds; only headers are read.

    Parameters
    ----------
    path : str or Path
        Subfolders of a folder are searched only if it has no DICOM files itself.
    track : Track
        Is given the files that are looked at.

    Returns
    -------
    list of SeriesInfo
        First those that can be read as a CT, by their series numbers; then what else there is.

    Raises
    ------
    InputError
        If there is no DICOM file.
    """
    headers, _ = scan(Path(path), track)
    slices, others = [], dict[tuple[str, str], list[SliceHeader]]()
    for header in headers:
        frames, reasons = sort_out(header)
        slices += frames
        for reason in reasons:
            others.setdefault((header.text("SeriesInstanceUID"), reason), []).append(header)
    beside = {uid: counted(len(files), reason) for (uid, reason), files in others.items()}
    readable = [describe_stack(stack, beside.get(stack.uid, "")) for stack in find_stacks(slices)]
    return readable + [_describe_other(uid, reason, files) for (uid, reason), files in others.items()]


def describe_stack(stack: Stack, beside: str = "") -> SeriesInfo:
    """Return what the headers of a stack say; `beside` is what else its series holds."""
    first = stack.slices[0]
    z_mm, odd = _spacing(stack.slices)
    pixel_mm = first.pixel_spacing_mm
    spacing = None if z_mm is None or pixel_mm is None else (z_mm, float(pixel_mm[0]), float(pixel_mm[1]))
    return SeriesInfo(
        key=stack.key,
        modality=first.text("Modality"),
        description=first.text("SeriesDescription"),
        kernel=first.text("ConvolutionKernel"),
        image_type=first.text("ImageType"),
        stack=stack.label,
        plane=plane(first),
        slices=len(stack.slices),
        size=first.size,
        spacing_mm=spacing,
        thickness_mm=first.length_mm("SliceThickness"),
        date=_date(first),
        odd=(*odd, *oddities(stack.slices), *([f"{beside} in the same series"] if beside else [])),
        left_out="",
    )


def _spacing(slices: Sequence[SliceHeader]) -> tuple[float | None, list[str]]:
    """Return how far slices lie apart as a rule, and what is odd about where they lie."""
    if unplaced := describe_unplaced(slices):
        return None, [unplaced]
    ordered = sort_slices(slices, slices[0].path.parent)
    apart = np.diff(heights(ordered), prepend=-np.inf) > SAME_MM
    places = [header for header, is_new in zip(ordered, apart, strict=True) if is_new]
    repeated = len(ordered) - len(places)
    odd = [f"{counted(repeated, 'slice')} where another one lies"] if repeated else []
    if len(places) == 1:
        return places[0].length_mm("SliceThickness") or places[0].length_mm("SpacingBetweenSlices"), odd
    odd += filter(None, [describe_unevenness(places)])
    if (tilt := tilt_degrees(places)) > _TILTED_DEGREES:
        odd.append(f"gantry tilted by {tilt:.1f} degrees")
    return Steps(np.diff(heights(places))).usual_mm, odd


def _describe_other(uid: str, reason: str, files: Sequence[SliceHeader]) -> SeriesInfo:
    first = files[0]
    return SeriesInfo(
        key=uid,
        modality=first.text("Modality"),
        description=first.text("SeriesDescription"),
        kernel=first.text("ConvolutionKernel"),
        image_type=first.text("ImageType"),
        stack="",
        plane=plane(first),
        slices=len(files),
        size=first.size if first.is_image else (0, 0),
        spacing_mm=None,
        thickness_mm=None,
        date=_date(first),
        odd=(),
        left_out=reason,
    )


def _date(header: SliceHeader) -> str:
    for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        digits = header.text(keyword)
        if len(digits) == 8 and digits.isdecimal():
            return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}"
    return ""
