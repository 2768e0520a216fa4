"""The command line: arguments to settings to workflows. Only this file and its parts, `cli_*`, print and exit.

Exit codes: 0 done; 2 wrong arguments; 3 the input was refused; 4 the output could not be written; 130 interrupted.
A cohort and learn have one more: 1, not all cases are done, or the new model is no better.
Errors are one line on stderr. Progress goes to stderr, results to stdout. Heavy libraries are imported by the
command that needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_resunet import cli_cohort, cli_images, cli_learn
from napari_resunet.cli_ct import (
    FrameOption,
    GapsOption,
    OffsetOption,
    OrientationOption,
    SeriesOption,
    Source,
    SpacingOption,
    answers_of,
)
from napari_resunet.cli_options import DeviceName, DeviceOption, PresetName
from napari_resunet.cli_options import option as _option
from napari_resunet.cli_options import settings_of as _settings
from napari_resunet.cli_progress import show_progress
from napari_resunet.errors import CtMissingError, InputError, OutputError, ResUNetError
from napari_resunet.settings import InputAnswers, MaskSettings, PredictSettings, TrainSettings, explain

OpenWindow = Callable[..., None]

REFUSED, UNWRITABLE, INTERRUPTED = 3, 4, 130

_IN_ORDER = (
    *("demo", "segment", "view", "evaluate", "measure", "export", "info"),
    *("cohort", "cohort-case", "template", "learn", "train", "convert", "train-images", "segment-image"),
)


class _Commands(TyperGroup):
    """Lists the commands as a user meets them."""

    def list_commands(self, _context: Any) -> list[str]:
        return sorted(self.commands, key=_IN_ORDER.index)


app = typer.Typer(
    name="napari-resunet",
    cls=_Commands,
    help="Lung segmentation in CT with a deep Residual U-Net. For research use only; not a medical device.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.add_typer(cli_cohort.commands)
app.add_typer(cli_learn.commands)
app.add_typer(cli_images.commands)


def run(arguments: Sequence[str] | None = None, *, open_window: OpenWindow) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of the process by default.
    open_window : callable
        Opens napari; handed in, since this file does not know of windows.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        app([a for a in arguments if a != "--debug"], obj=open_window, standalone_mode=True)
    except SystemExit as done:
        return int(done.code or 0) if not isinstance(done.code, str) else 1
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, debug=debug)
    except OutputError as error:
        return _fail(str(error), UNWRITABLE, debug=debug)
    except ResUNetError as error:
        return _fail(str(error), REFUSED, debug=debug)
    return 0


def _fail(message: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"--window-hu needs two numbers such as -1000,400 (lowest, highest); got {text}"
        ) from None
    return low, high


def _slices(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise typer.BadParameter(
            f"--slices needs two numbers such as 40:60 (the second is not run); got {text}"
        ) from None
    if first >= last:
        raise typer.BadParameter(f"--slices runs from the first number up to the second; got {text}")
    return first, last


@app.command()
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
    model: Annotated[str, _option(PredictSettings, "model")] = PredictSettings.model,
    grid: Annotated[int, _option(PredictSettings, "grid")] = PredictSettings.grid,
    device: DeviceOption = DeviceName.auto,
    threshold: Annotated[float, _option(MaskSettings, "threshold")] = MaskSettings.threshold,
    clean: Annotated[bool, _option(MaskSettings, "clean", "--clean/--no-clean")] = MaskSettings.clean,
    split: Annotated[bool, _option(MaskSettings, "split", "--split/--no-split")] = MaskSettings.split,
    swap_sides: Annotated[
        bool, _option(MaskSettings, "swap_sides", "--swap-sides")
    ] = MaskSettings.swap_sides,
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
        predict_settings=_settings(PredictSettings, model=model, device=device.value, grid=grid),
        mask_settings=_settings(
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


@app.command()
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
    split: Annotated[bool | None, _option(MaskSettings, "split", "--split/--no-split")] = None,
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


@app.command()
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
    if window if window is not None else _has_display():
        context.obj(folder / "ct", mask=folder / "lungs.nii.gz")


@app.command()
def evaluate(
    mask: Annotated[Path, typer.Argument(metavar="MASK")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE")],
    table: Annotated[
        Path | None, typer.Option("--csv", help="Add the result to this table, a row a lung.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    spacing: SpacingOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Compare a mask with a reference on the same grid.

    Dice, IoU, surface distances in mm, volumes in ml.
    """
    from napari_resunet import workflows
    from napari_resunet.io import table as tables

    answers = answers_of(spacing, orientation=orientation)
    results = workflows.evaluate_files(mask, reference, table, answers=answers)
    if as_json:
        print(tables.as_json(workflows.agreement_rows(mask, reference, results)), end="")
        return
    for lung, found in results.items():
        overlap = f"Dice {found.dice:.4f}, IoU {found.iou:.4f}, NSD at 2 mm {found.nsd_2mm:.4f}"
        surfaces = f"HD95 {found.hd95_mm:.2f} mm, ASSD {found.assd_mm:.2f} mm"
        print(
            f"{lung}: {overlap}, {surfaces}, {found.volume_ml:.1f} ml, reference {found.reference_ml:.1f} ml"
        )


@app.command()
def measure(
    source: Source,
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="A mask of this CT.")],
    table: Annotated[
        Path | None, typer.Option("--csv", help="Add the figures to this table, a row a lung.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    spacing: SpacingOption = None,
    series: SeriesOption = None,
    hu_offset: OffsetOption = None,
    accept_gaps: GapsOption = False,
    frame: FrameOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Measure the lungs: volume, HU, emphysema-like voxels.

    ml, mean and 15th percentile of HU, share of emphysema-like voxels, right, left and both.
    """
    from napari_resunet import workflows
    from napari_resunet.io import table as tables

    answers = answers_of(spacing, series, hu_offset, accept_gaps, frame, orientation)
    figures = workflows.measure_files(
        source, mask, table, answers=answers, read_track=show_progress("reading")
    )
    if as_json:
        print(tables.as_json(workflows.figure_rows(source, mask, figures)), end="")
        return
    for lung in figures:
        print(f"{lung.name}: {lung}")


@app.command()
def info(
    subject: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A CT, a mask, a case file, a weights file or a model's name."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    spacing: SpacingOption = None,
    series: SeriesOption = None,
    hu_offset: OffsetOption = None,
    accept_gaps: GapsOption = False,
    frame: FrameOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Show facts on a CT, mask, case, model or this machine."""
    from napari_resunet import facts

    answers = answers_of(spacing, series, hu_offset, accept_gaps, frame, orientation)
    told = facts.tell(subject, answers)
    if as_json:
        print(json.dumps(told, indent=2))
        return
    checks = told.pop("checks", [])
    for line in _lines(told):
        print(line)
    for check in checks:
        print(f"{check['level']:6} {check['name']}: {check['text']}")


def _lines(told: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Return facts as lines; what a name holds that has names itself stands below it, indented."""
    for name, value in told.items():
        if value in ("", None, [], {}):
            continue
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
            for number, each in enumerate(value, 1):
                yield f"{indent}{name} {number}:"
                yield from _lines(each, indent + "  ")
        else:
            yield f"{indent}{name}: {value if isinstance(value, str) else json.dumps(value)}"


@app.command()
def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="A folder with NAME_ct.nii.gz, or a DICOM folder NAME_dicom, beside NAME_lungs.nii.gz.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model, a .safetensors file.")],
    card: Annotated[Path | None, typer.Option(help="JSON with the model card's words.")] = None,
    corrections: Annotated[
        Path | None, typer.Option(help="A CSV that mends masks: case, slices, action, where, why.")
    ] = None,
    device: DeviceOption = DeviceName.auto,
    preset: Annotated[PresetName, _option(TrainSettings, "preset")] = PresetName.paper,
    width: Annotated[int, _option(TrainSettings, "width")] = TrainSettings.width,
    grid: Annotated[int, _option(TrainSettings, "grid")] = TrainSettings.grid,
    fine: Annotated[float, _option(TrainSettings, "fine")] = TrainSettings.fine,
    steps: Annotated[int, _option(TrainSettings, "steps")] = TrainSettings.steps,
    batch: Annotated[int, _option(TrainSettings, "batch")] = TrainSettings.batch,
    hard: Annotated[float, _option(TrainSettings, "hard")] = TrainSettings.hard,
    without: Annotated[str, _option(TrainSettings, "without")] = TrainSettings.without,
    learning_rate: Annotated[float, _option(TrainSettings, "learning_rate")] = TrainSettings.learning_rate,
    weight_decay: Annotated[float, _option(TrainSettings, "weight_decay")] = TrainSettings.weight_decay,
    ema: Annotated[float, _option(TrainSettings, "ema")] = TrainSettings.ema,
    validate_every: Annotated[int, _option(TrainSettings, "validate_every")] = TrainSettings.validate_every,
    seed: Annotated[int, _option(TrainSettings, "seed")] = TrainSettings.seed,
) -> None:
    """Train a network, or go on where a training was cut off."""
    from napari_resunet import workflows

    settings = _settings(
        TrainSettings,
        preset=preset.value,
        width=width,
        grid=grid,
        fine=fine,
        steps=steps,
        batch=batch,
        hard=hard,
        without=without,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        ema=ema,
        validate_every=validate_every,
        seed=seed,
    )
    curve = workflows.train_model(
        data,
        output,
        settings=settings,
        texts=workflows.read_texts(card) if card else None,
        corrections=corrections,
        device=device.value,
        read_track=show_progress("reading"),
        train_track=show_progress("training"),
    )
    best = max(curve, key=lambda line: line.dice)
    found = f"validation Dice {best.dice:.4f} at step {best.step} of {settings.steps}"
    print(f"{output}: {found}; curve in {output.with_suffix('.run')}")


@app.command()
def convert(
    foreign: Annotated[
        Path,
        typer.Argument(
            metavar="FOREIGN",
            help="A PyTorch state dict (.pt, .pth) of the same network, or safetensors without a card.",
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The model, a .safetensors file.")],
    card: Annotated[
        Path | None, typer.Option(help="JSON with the fields of the options below, which go before it.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the model; that of the output without its ending by default.")
    ] = None,
    window_hu: Annotated[
        str | None, typer.Option(metavar="LOW,HIGH", help="HU that became 0 and 1 when it was trained.")
    ] = None,
    grid: Annotated[
        int | None, typer.Option(help="Side in pixels of the images it was trained on; a multiple of 16.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which on a voxel is lung.")
    ] = None,
    definition: Annotated[str | None, typer.Option(help="What counts as lung; or unknown.")] = None,
    training_data: Annotated[str | None, typer.Option(help="What it has seen; or unknown.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights; or unknown.")] = None,
) -> None:
    """Make a model of weights that were trained elsewhere.

    They must be of the same network; code in the file is never run.
    """
    from napari_resunet import workflows

    options = {
        "name": name,
        "window_hu": _window(window_hu),
        "grid": grid,
        "threshold": threshold,
        "definition": definition,
        "training_data": training_data,
        "licence": licence,
    }
    told = workflows.read_object(card) if card else {}
    told |= {field: value for field, value in options.items() if value is not None}
    made = workflows.convert_weights(foreign, output, told)
    low, high = made.require_window_hu()
    print(f"{output}: {made.preset}, {made.network.width} filters, grid {made.grid}, {low:g} to {high:g} HU")
    choices = f"--threshold {made.recipe['threshold']:g}"
    if made.grid in explain(PredictSettings, "grid")["options"]:
        choices = f"--grid {made.grid} {choices}"
    print(f"note: use it with napari-resunet segment CT -o MASK --model {output} {choices}", file=sys.stderr)


@app.command()
def view(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A CT: DICOM folder or file, NIfTI, TIFF, MetaImage, NRRD; a case file (.nru); a cohort's folder.",
        ),
    ],
    mask: Annotated[Path | None, typer.Option("--mask", help="A mask of this CT to correct.")] = None,
    ct: Annotated[
        Path | None, typer.Option("--ct", help="Of a case file, the CT; beside it by default.")
    ] = None,
    next_case: Annotated[
        bool, typer.Option("--next", help="Of a cohort, the most doubtful case that is not reviewed yet.")
    ] = False,
    case: Annotated[str | None, typer.Option("--case", metavar="ID", help="Of a cohort, this case.")] = None,
    spacing: SpacingOption = None,
    series: SeriesOption = None,
    hu_offset: OffsetOption = None,
    accept_gaps: GapsOption = False,
    frame: FrameOption = None,
    orientation: OrientationOption = None,
) -> None:
    """Open a CT, a saved case or the cases of a cohort in napari."""
    from napari_resunet.cohort.manifest import case_ids
    from napari_resunet.io.case_file import is_case_file

    answers = answers_of(spacing, series, hu_offset, accept_gaps, frame, orientation)
    holds_cases, of_one_ct = bool(case_ids(source)), mask or ct or answers != InputAnswers()
    if (holds_cases and of_one_ct) or (not holds_cases and (next_case or case)) or (next_case and case):
        raise typer.BadParameter("--next or --case, and nothing else, go with the folder of a cohort")
    if holds_cases:
        _view_cohort(context, source, case, next_case=next_case)
        return
    _require_display()
    if is_case_file(source):
        if mask is not None or answers != InputAnswers():
            raise typer.BadParameter("a case file knows its mask and its CT; give nothing but --ct with it")
        _view_case(context, source, ct)
    elif ct is not None:
        raise typer.BadParameter("--ct says where the CT of a case file is; INPUT is none")
    else:
        context.obj(source, mask=mask, answers=answers)


def _require_display() -> None:
    if not _has_display():
        raise InputError("there is no display to open a window on; use segment with --picture")


def _view_cohort(context: typer.Context, out: Path, case: str | None, *, next_case: bool) -> None:
    """Open a case of a cohort, and the next ones after it; without a choice, tell what there is."""
    from napari_resunet.cohort import reviewing

    if next_case:
        following = reviewing.next_open(reviewing.in_order_of_doubt(out))
        case = None if following is None else following.id
    if case is None:
        print(reviewing.summary(out))
        print(f"look at {out / 'index.html'}; open cases with --next or --case ID", file=sys.stderr)
        return
    _require_display()
    context.obj(out, cohort_case=case)


def _view_case(context: typer.Context, case: Path, ct: Path | None) -> None:
    """Open a case on its CT; another one is refused before there is a window."""
    from napari_resunet.io.case_file import find_case_ct, open_case_ct, read_case

    record = read_case(case)
    try:
        found = find_case_ct(case, record, ct)
    except CtMissingError as error:
        raise InputError(f"{error}: --ct PATH") from error
    volume = open_case_ct(case, record, found, show_progress("reading"))
    context.obj(found, volume=volume, record=record)


def _print_version(asked: bool) -> None:
    if asked:
        import napari_resunet

        print(napari_resunet.__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Hold the options that every command has."""


def _has_display() -> bool:
    import os

    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )
