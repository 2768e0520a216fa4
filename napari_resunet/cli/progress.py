"""How far a command is, drawn on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def show_progress(label: str) -> Callable[[Sequence[T]], Iterable[T]]:
    """Return a tracker that draws a progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return lambda steps: track(steps, description=label, console=console, disable=not console.is_terminal)
