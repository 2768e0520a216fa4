"""A table of what bad input gets and what survives a fault, written by the tests that plant it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WORDS = ("OK", "NOTE", "ASK", "REFUSE")
FILE = Path(__file__).parent.parent / "build" / "outcomes.md"
_PROPERTY = "outcome"


class Outcome:
    """Takes the outcome of one test named ``test_b17_...``, ``test_f04_...`` or, for two rows, ``test_b02_b03_...``."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        found = re.match(r"test_((?:[bf]\d\d_)+)", request.node.name)
        assert found, f"{request.node.name} must begin with test_bNN_ or test_fNN_"
        self._rows = found[1].upper().rstrip("_").split("_")
        self._said = request.node.user_properties

    def __call__(self, word: str, message: object = "") -> None:
        """Note the outcome word, and what the user is told, as a property that comes back from other processes too."""
        text = " ".join(str(message).split()).replace("|", "\\|")
        for row in self._rows:
            assert word in WORDS or row.startswith("F"), word
            self._said.append((_PROPERTY, (row, word, text)))


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Outcome:
    return Outcome(request)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = sorted(
        (*said, report.nodeid)
        for report in terminalreporter.getreports("passed")
        for name, said in report.user_properties
        if name == _PROPERTY
    )
    if not rows:
        return
    lines = ["| row | outcome | what the user is told | test |", "|---|---|---|---|"]
    lines += [f"| {row} | {word} | {text} | `{test}` |" for row, word, text, test in rows]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    count = len({row for row, *_ in rows})
    terminalreporter.write_line(f"{count} rows of bad input and faults: {FILE}")
