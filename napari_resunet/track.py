"""Progress and cancelling for long work, in one small protocol.

A tracker is called with the steps and gives them back one by one; it may show how far the work is, and it
raises to stop it. ``tqdm.tqdm`` is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Gives back the steps it is called with, one by one, and raises to stop the work."""

    def __call__(self, steps: Sequence[T], /) -> Iterable[T]: ...


def silent(steps: Sequence[T], /) -> Iterable[T]:
    """Track nothing."""
    return steps
