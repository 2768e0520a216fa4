"""Makes the network ready while a CT is read and looked at: that takes seconds, which no run has to wait for then."""

from __future__ import annotations

import sys
from importlib import import_module
from threading import Thread

from napari_resunet.errors import ResUNetError
from napari_resunet.settings import PredictSettings

_CODE = "napari_resunet.inference.predict"


def warm_up(settings: PredictSettings) -> None:
    """Import what a run needs, and load the model onto its device, beside the window; once."""
    if _CODE not in sys.modules:
        Thread(target=make_ready, args=(settings,), name="warm-up").start()


def make_ready(settings: PredictSettings) -> None:
    """Import the network's code and load a model, which the next run of it then finds ready."""
    import_module(_CODE)
    from napari_resunet.inference.ready import ready_network
    from napari_resunet.model.device import choose_device

    try:
        ready_network(settings.model, choose_device(settings.device))
    except ResUNetError:
        return  # the run will say what is wrong, where the user can see it
