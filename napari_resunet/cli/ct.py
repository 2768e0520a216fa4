"""What the command line asks of a CT: its options, and what their answers mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_resunet.errors import GeometryError
from napari_resunet.settings import InputAnswers

Source = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="A CT: DICOM folder or file, NIfTI, TIFF, MetaImage, NRRD; a slice as PNG.",
    ),
]
SpacingOption = Annotated[
    str | None, typer.Option(metavar="Z,Y,X", help="Voxel size in mm, for a file that does not say.")
]
SeriesOption = Annotated[
    str | None,
    typer.Option(
        metavar="UID",
        help="Which DICOM series: its SeriesInstanceUID or the end of it, #2 for its second stack.",
    ),
]
GapsOption = Annotated[
    bool,
    typer.Option("--accept-gaps", help="Read a DICOM series although slices are missing or unevenly spaced."),
]
OffsetOption = Annotated[
    float | None,
    typer.Option(
        metavar="HU", help="Added to every value so that it is HU (such as -1024); 0 says that they are HU."
    ),
]
FrameOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Which volume of a file that holds several; the first is 0."),
]
OrientationOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPL",
        help="Where slices, rows and columns run towards, for a file that does not say: S or I, A or P, L or R.",
    ),
]


def answers_of(
    spacing: str | None = None,
    series: str | None = None,
    hu_offset: float | None = None,
    accept_gaps: bool = False,
    frame: int | None = None,
    orientation: str | None = None,
) -> InputAnswers:
    """Return what the options say of a CT; what cannot be meant is a wrong argument."""
    return InputAnswers(_spacing(spacing), series, hu_offset, accept_gaps, frame, _orientation(orientation))


def _spacing(text: str | None) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        z, y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"--spacing needs three numbers in mm such as 2.5,0.7,0.7 (z,y,x); got {text}"
        ) from None
    return z, y, x


def _orientation(text: str | None) -> str | None:
    """Return the letters in capitals; what is none of the 48 orientations is a wrong argument."""
    from napari_resunet.geometry import Geometry

    if text is None:
        return None
    try:
        return Geometry.from_spacing((1, 1, 1), (1, 1, 1), text or " ").axis_codes
    except GeometryError as error:
        raise typer.BadParameter(f"--orientation: {error}") from None
