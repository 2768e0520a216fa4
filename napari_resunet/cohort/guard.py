"""Watch over the work on one case: what kills or hangs the process leaves its traceback in a file."""

from __future__ import annotations

import contextlib
import faulthandler
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_resunet.errors import ResUNetError

_HUNG = "Timeout ("  # as faulthandler begins


@contextmanager
def guarded(log: Path, timeout_s: float) -> Iterator[None]:
    """End this process with a traceback in `log` if the body takes too long; keep one too of whatever kills it.

    The clock is a thread of the interpreter in C: it goes off even where no Python runs any more. What the body
    raises is written to the log, unless it is an error made for users, which says all. A log without anything in it
    is removed.
    """
    said_all: ResUNetError | None = None
    was_enabled = faulthandler.is_enabled()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        file.flush()
        faulthandler.enable(file)
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=file)
        try:
            yield
        except Exception as error:
            if not isinstance(error, ResUNetError):
                file.write(traceback.format_exc())
                raise
            said_all = error
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
            if was_enabled and sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)
    with contextlib.suppress(OSError):
        log.unlink()
    if said_all is not None:
        raise said_all


def has_hung(log: Path) -> bool:
    """Whether the last that a log tells of is a process that took too long."""
    try:
        last = log.read_text(encoding="utf-8", errors="replace").rpartition("\n--- ")[2]
    except OSError:
        return False
    return _HUNG in last
