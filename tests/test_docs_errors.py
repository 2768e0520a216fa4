"""The page of errors names every class, each with a message that the code can give."""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from napari_resunet import errors
from napari_resunet.io.dicom_choice import SeriesChoiceError

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^#|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))
CLASSES = {name for name, _ in inspect.getmembers(errors, inspect.isclass)} | {SeriesChoiceError.__name__}
NEVER_RAISED = {"ResUNetError"}
LEAST_FIXED = 15  # letters of a message that are the same each time


@cache
def templates() -> list[re.Pattern[str]]:
    """Every text of the package as a pattern, with anything where a value is filled in."""
    found = []
    for file in (ROOT / "napari_resunet").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            fixed = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            words = [part for part in fixed if isinstance(part, str)]
            if len("".join(words)) >= LEAST_FIXED:
                pattern = "".join(re.escape(part) if isinstance(part, str) else ".*" for part in fixed)
                found.append(re.compile(pattern))
    return found


def test_every_error_has_its_section_and_no_other() -> None:
    assert set(SECTIONS) == CLASSES


@pytest.mark.parametrize("name", sorted(CLASSES - NEVER_RAISED))
def test_each_error_is_shown_with_a_message_of_the_code_and_a_remedy(name: str) -> None:
    (example,) = re.findall(r"^> (.+)$", SECTIONS[name], flags=re.MULTILINE)
    assert any(template.fullmatch(example) for template in templates()), example
    assert "Remedy: " in SECTIONS[name]


def test_the_exit_codes_are_those_of_the_command_line() -> None:
    from napari_resunet import cli

    told = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, flags=re.MULTILINE)}
    own = {cli.cohort.NOT_ALL_DONE, cli.learn.NO_BETTER, cli.REFUSED, cli.UNWRITABLE, cli.INTERRUPTED}
    assert told == {0, 2, *own}
