"""What the page of comparison claims for this project is backed by tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ")
]
CLAIMED = {row[0] for row in ROWS if row[1] == "Y"}
BACKED = {row[0]: re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[1]) for row in ROWS if "`tests/" in row[1]}


def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_claim_has_a_test_beside_it() -> None:
    assert len(CLAIMED) == 20
    assert set(BACKED) >= CLAIMED


def test_every_test_that_is_named_is_there() -> None:
    named = [pair for pairs in BACKED.values() for pair in pairs]
    assert len(named) >= len(BACKED)
    assert [f"{file}::{name}" for file, name in named if name not in functions_of(file)] == []
