"""A table of what bad input gets and what survives a fault, written by the tests that plant it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

WORDS = ("OK", "NOTE", "ASK", "REFUSE")
FILE = Path(__file__).parent.parent / "build" / "outcomes.md"
_ROWS: dict[str, list[tuple[str, str, str]]] = {}


class Outcome:
    """Takes the outcome of one test named ``test_b17_...`` or ``test_f04_...``."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        found = re.match(r"test_([bf]\d\d)_", request.node.name)
        assert found, f"{request.node.name} must begin with test_bNN_ or test_fNN_"
        self._row, self._test = found[1].upper(), request.node.nodeid

    def __call__(self, word: str, message: object = "") -> None:
        """Note the outcome word, and what the user is told."""
        assert word in WORDS or self._row.startswith("F"), word
        text = " ".join(str(message).split()).replace("|", "\\|")
        _ROWS.setdefault(self._row, []).append((word, text, self._test))


@pytest.fixture
def outcome(request: pytest.FixtureRequest) -> Outcome:
    return Outcome(request)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _ROWS:
        return
    lines = ["| row | outcome | what the user is told | test |", "|---|---|---|---|"]
    lines += [
        f"| {row} | {word} | {text} | `{test}` |" for row in sorted(_ROWS) for word, text, test in _ROWS[row]
    ]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
    terminalreporter.write_line(f"{len(_ROWS)} rows of bad input and faults: {FILE}")
