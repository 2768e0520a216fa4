"""Draw the README's picture of the window, from the real program and the made-up chest: ``window.png``.

Needs a screen; where there is none: ``xvfb-run -a -s "-screen 0 1600x1200x24 +extension GLX" python window.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtWidgets import QApplication

from napari_resunet.phantom import make_phantom
from napari_resunet.plugin.launch import show_widget

SLICE = 30


def main() -> None:
    viewer = napari.Viewer(show=False)
    viewer.window.show()
    viewer.window.resize(1440, 930)
    dock = show_widget(viewer)
    dock.session.show_ct(make_phantom(shape=(60, 320, 320), spacing_mm=(5.0, 1.15, 1.15)).volume)
    viewer.layers[0].name = "made-up chest CT"
    viewer.dims.set_current_step(0, SLICE)
    dock.segment.start.native.click()
    wait_until(lambda: dock.session.is_idle and dock.session.case.done.all())
    wait_until(lambda: "ml" in dock.mask.figures.value)
    viewer.screenshot(str(Path(__file__).with_name("window.png")), canvas_only=False)
    viewer.close()


def wait_until(done: Callable[[], bool], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.02)
    for _ in range(25):  # let the window draw
        QApplication.processEvents()
        time.sleep(0.02)


if __name__ == "__main__":
    main()
