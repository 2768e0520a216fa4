"""Brings the network's code in while the user looks at a CT: it takes seconds, which no run has to wait for then."""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Thread

_CODE = "napari_resunet.inference.predict"


def warm_up() -> None:
    """Import what a run needs beside the window; once."""
    if _CODE not in sys.modules:
        Thread(target=import_module, args=(_CODE,), name="warm-up").start()
