"""What is noted where a file does not say how its voxels lie."""

from __future__ import annotations

from collections.abc import Iterable

_ASSUMED = "ORIENTATION ASSUMED"
_TOWARDS = {"S": "head", "I": "feet", "A": "front", "P": "back", "L": "left", "R": "right"}


def orientation_note(codes: str, orientation: str | None) -> str:
    """Return the note on a file that does not say how its voxels lie.

    Parameters
    ----------
    codes : str
        Where its array axes (z, y, x) are taken to run towards, such as ``"SPL"``.
    orientation : str or None
        What the user said of it, if anything.
    """
    z, y, x = (_TOWARDS[letter] for letter in codes)
    taken = f"slices run to the patient's {z}, rows to the {y}, columns to the {x} ({codes})"
    silent = "the file does not say how the voxels lie"
    if orientation is not None:
        return f"{silent}: {taken}, by the user's word"
    return (
        f"{_ASSUMED}: {silent}; taken as if {taken}; if that is wrong, right and left may be exchanged: "
        "say how they lie (--orientation or orientation=)"
    )


def is_assumed(notes: Iterable[str]) -> bool:
    """Whether nobody has said how the voxels lie that these notes are on."""
    return any(note.startswith(_ASSUMED) for note in notes)
