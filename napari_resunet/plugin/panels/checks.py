"""The checks of a CT as lines of text: the worst first, those that are well in one line."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from napari_resunet.errors import without_options
from napari_resunet.preflight import Check

# seen on dark and on light
_MARKS = {
    "refuse": ("✕", "#e5484d"),
    "ask": ("?", "#e08a1e"),
    "note": ("•", "#8b95a5"),
    "ok": ("✓", "#3fa05a"),
}
_LINE = '<p style="margin: 3px 0 3px 14px; text-indent: -14px"><span style="color: {}">{}</span>&nbsp; {}</p>'


def check_lines(checks: Iterable[Check], notes: Iterable[str] = ()) -> str:
    """Return checks, and what the reader noted beside them, as rich text."""
    by_level: dict[str, list[str]] = {level: [] for level in _MARKS}
    for check in checks:
        said = check.name if check.level == "ok" else f"<b>{_title(check)}</b>: {_shown(check.text)}"
        by_level[check.level].append(said)
    by_level["note"] += [_shown(note) for note in notes]
    well = by_level["ok"]
    by_level["ok"] = [f"{', '.join(well)}: all right"] if well else []
    return "".join(_LINE.format(colour, mark, said) for (mark, colour), said in _pairs(by_level))


def _pairs(by_level: dict[str, list[str]]) -> Iterable[tuple[tuple[str, str], str]]:
    return ((_MARKS[level], said) for level, lines in by_level.items() for said in lines)


def _title(check: Check) -> str:
    return check.name[:1].upper() + check.name[1:]


def _shown(words: str) -> str:
    return escape(without_options(words), quote=False)
