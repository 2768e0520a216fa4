"""The command line: arguments to settings to workflows. Only this folder prints, and one file of it a subject.

Exit codes: 0 done; 2 wrong arguments; 3 the input was refused; 4 the output could not be written; 130 interrupted.
A cohort and learn have one more: 1, not all cases are done, or the new model is no better.
Errors are one line on stderr. Progress goes to stderr, results to stdout. Heavy libraries are imported by the
command that needs them, so that ``--help`` is there at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_resunet.cli import cohort, figures, images, learn, lungs, models, view
from napari_resunet.errors import OutputError, ResUNetError

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
for subject in (lungs, view, figures, cohort, learn, models, images):
    app.add_typer(subject.commands)


def run(arguments: Sequence[str] | None = None, *, open_window: OpenWindow) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; those of the process by default.
    open_window : callable
        Opens napari; handed in, since the command line does not know of windows.
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
