"""Writes docs/reference.md from the code: the commands from their options, the Python API from its docstrings.

``python docs/make_reference.py`` brings the page up to date; a test fails where it is not.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from docstring_parser import Docstring, DocstringStyle, parse
from typer.main import get_command

import napari_resunet
from napari_resunet.cli import app
from napari_resunet.cohort.manifest import CaseEntry
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_list import SeriesInfo
from napari_resunet.io.export import Receipt
from napari_resunet.measure.agreement import Agreement
from napari_resunet.measure.lungs import LungFigures
from napari_resunet.model.checkpoint import Model
from napari_resunet.phantom import Phantom
from napari_resunet.volume import Mask, ProbabilityMap, Volume

PAGE = Path(__file__).with_name("reference.md")
RETURNED = (
    Volume,
    ProbabilityMap,
    Mask,
    Geometry,
    Receipt,
    Agreement,
    LungFigures,
    SeriesInfo,
    Model,
    Phantom,
)
HEAD = """\
# Reference

Made from the code by `python docs/make_reference.py`; not to be edited by hand.
For research use only; not a medical device.

- [Command line](#command-line)
- [Python](#python): `import napari_resunet as nru`
- [What the functions give](#what-the-functions-give)
- [What is known of a case of a cohort](#what-is-known-of-a-case-of-a-cohort): the columns of `manifest.csv`
"""
CASE = """\
## What is known of a case of a cohort

`manifest.csv` has a column for each, but for the lists and what only a program needs; besides, `unusual` says why its
volumes stand out of the cohort. `cases/ID/case.json` has all.
"""
EXIT_CODES = """\
Exit codes: 0 done; 1 not all cases of a cohort are done, or `learn` made no better model; 2 wrong
arguments; 3 the input was refused; 4 the output could not be written; 130 interrupted.
What is refused is one line on stderr; `napari-resunet --debug COMMAND` shows the traceback as well.
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, "## Command line\n", EXIT_CODES, *_commands(), "## Python\n", *_functions()]
    return "\n".join([*parts, "## What the functions give\n", *_classes(), CASE, _case()])


def _commands() -> Iterator[str]:
    group: Any = get_command(app)
    for name in group.list_commands(None):  # in the order of the help
        command = group.commands[name]
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        options = [each for each in command.params if each.param_type_name == "option"]
        needed = [f"{each.opts[0]} {each.name.upper()}" for each in options if each.required]
        usage = " ".join([name, *(each.metavar for each in arguments), *needed])
        rows = [(_flags(each), each.help or "", _default(each)) for each in (*arguments, *options)]
        yield f"### `napari-resunet {usage}`\n\n{_one_line(command.help)}\n"
        yield _table(("Option", "What it is", "Default"), rows)


def _flags(option: Any) -> str:
    if option.param_type_name == "argument":
        return f"`{option.metavar}`"
    flags = [*option.opts, *option.secondary_opts]
    takes = f" {option.metavar}" if option.metavar else ""
    return ", ".join(f"`{flag}{takes}`" for flag in flags)


def _default(option: Any) -> str:
    default = option.default.value if isinstance(option.default, Enum) else option.default
    if option.required:
        return "required"
    if default is True or default is False:
        return "on" if default else "off"
    return "" if default in (None, "", [], ()) else f"`{default}`"


def _functions() -> Iterator[str]:
    for name in napari_resunet.__all__:
        subject = getattr(napari_resunet, name)
        if not inspect.isclass(subject):
            yield from _described(f"nru.{name}", subject)


def _classes() -> Iterator[str]:
    for kind in RETURNED:
        yield from _described(kind.__name__, kind, is_class=True)


def _case() -> str:
    told = parse(inspect.getdoc(CaseEntry) or "", style=DocstringStyle.NUMPYDOC)
    rows = [(f"`{each.arg_name}`", each.type_name or "", each.description or "") for each in told.params]
    return _table(("Name", "Type", "What it is"), rows)


def _described(name: str, subject: Callable[..., Any], *, is_class: bool = False) -> Iterator[str]:
    """Return what the docstring of a function or class says: its words, what it takes, gives and raises."""
    told = parse(inspect.getdoc(subject) or "", style=DocstringStyle.NUMPYDOC)
    yield f"### `{name}{'' if is_class else _call(subject)}`\n"
    yield "\n\n".join(filter(None, [told.short_description, told.long_description])) + "\n"
    if told.params:
        rows = [(f"`{each.arg_name}`", each.type_name or "", each.description or "") for each in told.params]
        yield _table(("Attribute" if is_class else "Parameter", "Type", "What it is"), rows)
    if is_class:
        yield from _properties(subject)
    yield from _gives_and_raises(told)


def _call(function: Callable[..., Any]) -> str:
    """Return the names and defaults of what a function takes; the types stand in the table."""
    shown, is_keyword = [], False
    for each in inspect.signature(function).parameters.values():
        if each.kind is each.KEYWORD_ONLY and not is_keyword:
            shown.append("*")
            is_keyword = True
        default = getattr(
            each.default, "__name__", repr(each.default)
        )  # a function has an address in its repr
        shown.append(each.name if each.default is each.empty else f"{each.name}={default}")
    return f"({', '.join(shown)})"


def _properties(kind: type[Any]) -> Iterator[str]:
    found = inspect.getmembers(kind, lambda member: isinstance(member, property | cached_property))
    rows = [(f"`{name}`", _one_line(inspect.getdoc(member))) for name, member in found if name[0] != "_"]
    if rows:
        yield _table(("Property", "What it is"), rows)


def _gives_and_raises(told: Docstring) -> Iterator[str]:
    if told.returns is not None:
        words = [told.returns.type_name or "", told.returns.description or ""]
        yield f"Returns {_one_line('. '.join(filter(None, words)))}\n"
    for each in told.raises:
        yield f"Raises `{each.type_name}`. {_one_line(each.description)}\n"


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
