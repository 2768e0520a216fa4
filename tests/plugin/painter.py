"""A napari that runs the network and paints until it is killed; `test_work_is_kept` starts it as a process."""

from __future__ import annotations

import json
import os
import sys
from itertools import product
from pathlib import Path
from time import monotonic, time

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtTest import QTest

from napari_resunet.io.open_ct import open_ct
from napari_resunet.plugin import launch
from napari_resunet.settings import PredictSettings

EVERY_MS = 100


def main(ct: Path, log: Path) -> None:
    viewer = napari.Viewer()
    session = launch.show_widget(viewer).session
    session.show_ct(open_ct(ct))
    session.run(PredictSettings(device="cpu"))
    deadline = monotonic() + 120
    while not session.is_idle and monotonic() < deadline:
        QTest.qWait(20)
    slices, rows, columns = session.case.mask.shape
    places = [(z, y, x) for y, x, z in product(range(20, rows, 12), range(20, columns, 12), range(slices))]
    np.random.default_rng(0).shuffle(places)
    session.mask_layer.brush_size = 8
    remaining = iter(places)

    def stroke() -> None:
        z, y, x = (int(i) for i in next(remaining))
        label = int(not session.mask_layer.data[z, y, x])
        with session.mask_layer.block_history():
            session.mask_layer.paint((z, y, x), label)
        with log.open("a") as file:
            file.write(json.dumps([time(), z, y, x, label]) + "\n")
            file.flush()
            os.fsync(file.fileno())

    timer = QTimer()
    timer.timeout.connect(stroke)
    timer.start(EVERY_MS)
    napari.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
