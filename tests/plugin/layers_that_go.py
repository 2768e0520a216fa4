"""Adds a labels layer, hides it, deletes it and draws, eight times, as a child of `test_software_gl`."""

from __future__ import annotations

import os
import sys

import napari
import numpy as np
from qtpy.QtTest import QTest

from napari_resunet.plugin.software_gl import spare_programs

if sys.argv[1] == "spare":
    spare_programs()
viewer = napari.Viewer(show=True)
values = np.random.default_rng(0).integers(-1000, 400, (28, 96, 96)).astype(np.int16)
image = viewer.add_image(values)
for _ in range(8):
    labels = viewer.add_labels((values > 0).astype(np.uint8))
    QTest.qWait(40)
    labels.visible = False
    QTest.qWait(40)
    viewer.layers.remove(labels)
    del labels
    QTest.qWait(40)
    image.refresh()
    QTest.qWait(40)
sys.stdout.write("drawn to the end")
sys.stdout.flush()
os._exit(0)
