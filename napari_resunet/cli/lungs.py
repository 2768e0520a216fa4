"""The commands for one CT and its mask: demo, segment, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_resunet.cli.ct import (
    FrameOption,
    GapsOption,
    OffsetOption,
    OrientationOption,
    SeriesOption,
    Source,
    SpacingOption,
    answers_of,
)
from napari_resunet.cli.display import has_display
from napari_resunet.cli.options import DeviceName, DeviceOption, option, settings_of, two_numbers
from napari_resunet.cli.progress import show_progress
from napari_resunet.settings import MaskSettings, PredictSettings

commands = typer.Typer()


@commands.command()
def demo(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="Where the files and pictures go.")
    ] = Path("demo"),
    device: DeviceOption = DeviceName.auto,
    window: Annotated[
        bool | None,
        typer.Option(
            "--window/--no-window", help="Open napari with the result; by default where there is a display."
        ),
    ] = None,
) -> None:
    """Do the main job on a made-up chest.

    DICOM in, lungs found, NIfTI, TIFF and a picture out.
    """
    from napari_resunet import workflows

    result = workflows.demo(
        folder,
        device=device.value,
        read_track=show_progress("reading"),
        predict_track=show_progress("segmenting"),
    )
    print(result["receipt"])
    print(f"Dice against the true lungs of the made-up chest: {result['dice']:.4f}")
    print(f"right lung {result['ml']['right']:.0f} ml, left lung {result['ml']['left']:.0f} ml")
    print(f"look at {folder / 'lungs.png'}")
    if window if window is not None else has_display():
        context.obj(folder / "ct", mask=folder / "lungs.nii.gz")


@commands.command()
def segment(
    source: Source,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The mask: .nii.gz, .nii, .tif, .nrrd, .seg.nrrd, .mha; .dcm if the CT is DICOM.",
        ),
    ],
    model: Annotated[str, option(PredictSettings, "model")] = PredictSettings.model,
    grid: Annotated[int, option(PredictSettings, "grid")] = PredictSettings.grid,
    device: DeviceOption = DeviceName.auto,
    threshold: Annotated[float, option(MaskSettings, "threshold")] = MaskSettings.threshold,
    clean: Annotated[bool, option(MaskSettings, "clean", "--clean/--no-clean")] = MaskSettings.clean,
    split: Annotated[bool, option(MaskSettings, "split", "--split/--no-split")] = MaskSettings.split,
    swap_sides: Annotated[bool, option(MaskSettings, "swap_sides", "--swap-sides")] = MaskSettings.swap_sides,
    slices: Annotated[
        str | None,
        typer.Option(metavar="A:B", help="Axial slices to run, counted from the lowest, B not included."),
    ] = None,
    probability: Annotated[Path | None, typer.Option(help="Write the probability map here as well.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the contours over the CT into this PNG.")] = None,
    spacing: SpacingOption = None,
    series: SeriesOption = None,
    hu_offset: OffsetOption = None,
    accept_gaps: GapsOption = False,
    frame: FrameOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Find the lungs in a CT and write their mask.

    A sidecar beside it tells how it was made.
    """
    from napari_resunet import workflows

    if swap_sides and not split:
        raise typer.BadParameter("--swap-sides says which lung is which; give --split too")
    is_new = not output.exists()
    _, mask, receipt = workflows.segment(
        source,
        output,
        predict_settings=settings_of(PredictSettings, model=model, device=device.value, grid=grid),
        mask_settings=settings_of(
            MaskSettings, threshold=threshold, clean=clean, split=split, swap_sides=swap_sides
        ),
        answers=answers_of(spacing, series, hu_offset, accept_gaps, frame, orientation),
        slices=_slices(slices),
        probability=probability,
        picture=picture,
        read_track=show_progress("reading"),
        predict_track=show_progress("segmenting"),
    )
    for note in mask.history["notes_on_the_ct"]:
        print(f"note: {note}", file=sys.stderr)
    if not is_new:
        print(f"note: an older {output.name} was replaced", file=sys.stderr)
    if not mask.array.any():
        print("note: no lung was found; look at the CT, its HU (info) and the slices run", file=sys.stderr)
    run, ran = mask.history["run"], sum(stop - first for first, stop in mask.history["slices_run"])
    if ran < mask.history["slices"]:
        print(f"note: {ran} of {mask.history['slices']} slices were run", file=sys.stderr)
    print(f"ran on {run['device']} in {run['precision']}", file=sys.stderr)
    print(receipt)


@commands.command()
def export(
    case: Annotated[Path, typer.Argument(metavar="CASE", help="A case file (.nru) that the window saved.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The mask: .nii.gz, .nii, .tif, .nrrd, .seg.nrrd, .mha; a .dcm needs the CT: use view.",
        ),
    ],
    split: Annotated[bool | None, option(MaskSettings, "split", "--split/--no-split")] = None,
    probability: Annotated[Path | None, typer.Option(help="Write the probability map here as well.")] = None,
) -> None:
    """Write the mask of a saved case, corrections included.

    It is the mask that the window would write; the CT is not needed.
    """
    from napari_resunet import workflows

    is_new = not output.exists()
    receipt = workflows.export_case(case, output, split=split, probability=probability)
    if not is_new:
        print(f"note: an older {output.name} was replaced", file=sys.stderr)
    if not receipt.voxels:
        print("note: the mask is empty", file=sys.stderr)
    print(receipt)


def _slices(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    such_as = "40:60 (the second is not run)"
    first, last = two_numbers(text, "--slices", such_as, int, ":")
    if first >= last:
        raise typer.BadParameter(f"--slices runs from the first number up to the second; got {text}")
    return first, last
