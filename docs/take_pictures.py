"""Take the pictures of the window that the README and the docs show, from the real program and the made-up chest.

``python docs/take_pictures.py`` renews ``docs/pictures``. ``--states OUT`` takes one of every state of the window and
of every section instead, in napari's dark and light theme; with ``QT_SCALE_FACTOR=2`` before it, as on a screen of
twice the resolution. Needs a screen; where there is none, ``xvfb-run -a -s "-screen 0 2800x2000x24 +extension GLX"``
before it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import QTimer
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QApplication, QWidget

from napari_resunet.phantom import make_phantom
from napari_resunet.plugin.launch import show_widget
from napari_resunet.plugin.section import Section

PICTURES = Path(__file__).with_name("pictures")
SLICE, PAINTED_SLICE = 30, 24
SIZE = 1280, 800
ANIMATION_WIDTH = 960
MS_PER_FRAME, MS_LAST_FRAME, RUN_FRAMES = 350, 2500, 6
PATIENCE = 300  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--states", type=Path, metavar="OUT", help="a folder for pictures of every state")
    out = parser.parse_args().states
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_RESUNET_STATE"] = folder  # no journal of the user's own is offered
        if out is None:
            PICTURES.mkdir(exist_ok=True)
            take_pictures(Window("dark"), Path(folder))
            return
        for theme in ("dark", "light"):
            (out / theme).mkdir(parents=True, exist_ok=True)
            take_states(Window(theme), out / theme, Path(folder))


class Window:
    """napari with the widget in it, driven as a person would.

    Parameters
    ----------
    theme : str
        napari's: ``"dark"`` or ``"light"``.
    """

    def __init__(self, theme: str) -> None:
        self.viewer = napari.Viewer(show=False)
        self.viewer.theme = theme
        self.viewer.window.show()
        self.viewer.window.resize(*SIZE)
        self.dock = show_widget(self.viewer)
        self.session = self.dock.session
        self.sections = {section.title: section for section in self.dock.findChildren(Section)}
        self.rest()

    @property
    def native(self) -> QWidget:
        return self.viewer.window._qt_window

    def rest(self, seconds: float = 1.0) -> None:
        """Let timers run out and the window draw."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.02)

    def wait(self, done: Callable[[], bool], *, rest: float = 1.0) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                raise TimeoutError("the window did not come to the state that was to be shown")
            QApplication.processEvents()
            time.sleep(0.02)
        self.rest(rest)

    def open_chest(self) -> None:
        chest = make_phantom(shape=(56, 320, 320), spacing_mm=(5.5, 1.15, 1.15)).volume
        self.session.show_ct(chest, name="made-up chest CT")
        self.session.show_slice(SLICE)
        self.rest()

    def press_run(self) -> None:
        self.dock.segment.start.native.click()

    def run(self) -> None:
        self.press_run()
        self.wait(lambda: self.session.is_idle and bool(self.session.case.done.all()))
        self.wait(lambda: "ml" in self.dock.mask.figures.value)

    def stroke(self) -> Iterator[None]:
        """Paint along the edge of the right lung, a step at a time: one stroke."""
        self.session.show_slice(PAINTED_SLICE)
        layer = self.session.mask_layer
        self.viewer.layers.selection.active = layer
        layer.mode, layer.brush_size = "paint", 14
        columns = np.flatnonzero(layer.data[PAINTED_SLICE, 175] > 0)
        with layer.block_history():
            for row in range(150, 200, 5):
                layer.paint((PAINTED_SLICE, row, columns[0] - 2), 1)
                yield
        layer.mode = "pan_zoom"

    def paint(self) -> None:
        for _ in self.stroke():
            pass
        self.rest()

    def unfold(self, *titles: str) -> None:
        """Unfold these sections and fold the others."""
        for title, section in self.sections.items():
            (section.expand if title in titles else section.collapse)(animate=False)
        self.rest()

    def preview(self, tool: str) -> None:
        self.dock.correct.tool.value = tool
        self.dock.correct.look.native.click()
        self.wait(lambda: self.session.correcting.preview_layer is not None)

    def review(self, slices: int) -> None:
        for _ in range(slices):
            self.dock.review.go_on()
            self.dock.review.tick.native.click()
        self.rest()

    def measure(self) -> None:
        self.dock.measure.measure.native.click()
        self.wait(lambda: "ml" in self.dock.measure.figures.value)

    def picture(self, widget: QWidget | None = None) -> QImage:
        return (widget or self.native).grab().toImage()

    def close(self) -> None:
        self.session.close()
        self.wait(lambda: self.session.is_idle)
        self.viewer.close()


def take_pictures(window: Window, folder: Path) -> None:
    """Take those of the README and the docs."""
    window.open_chest()
    frames = [window.picture()]
    window.press_run()
    for share in np.linspace(0.1, 1.0, RUN_FRAMES):
        window.wait(lambda share=share: window.session.case.done.mean() >= share, rest=0.0)
        frames.append(window.picture())
    window.wait(lambda: "ml" in window.dock.mask.figures.value)
    window.picture().save(str(PICTURES / "window.png"))
    for threshold in (0.3, 0.1, 0.5, 0.8, 0.95, 0.5):
        window.dock.mask.threshold.value = threshold
        window.rest(0.8)
        frames.append(window.picture())
    for _ in window.stroke():
        window.rest(0.1)
        frames.append(window.picture())
    window.rest()
    window.session.mask_layer.undo()
    window.rest()
    frames.append(window.picture())
    write_animation(frames, PICTURES / "window.gif")

    window.paint()
    window.unfold("Mask", "Correct")
    window.preview("Smooth")
    window.picture().save(str(PICTURES / "correction.png"))
    window.dock.correct.discard.native.click()
    window.unfold("Review", "Measure", "Export")
    window.review(3)
    window.measure()
    window.session.saving.export(folder / "lungs.nii.gz", split=True)
    window.picture().save(str(PICTURES / "review.png"))
    window.close()


def write_animation(frames: list[QImage], path: Path) -> None:
    """Write frames as a GIF that repeats, all in the colours of the last."""
    images = [_small(frame) for frame in frames]
    colours = images[-1].quantize(128)
    first, *others = (image.quantize(palette=colours, dither=Image.Dither.NONE) for image in images)
    durations = [MS_PER_FRAME] * (len(frames) - 1) + [MS_LAST_FRAME]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)


def _small(frame: QImage) -> Image.Image:
    frame = frame.convertToFormat(QImage.Format.Format_RGB888)
    width, height = frame.width(), frame.height()
    rows = np.frombuffer(frame.constBits().asstring(frame.sizeInBytes()), np.uint8)
    rgb = rows.reshape(height, frame.bytesPerLine())[:, : 3 * width].reshape(height, width, 3)
    size = ANIMATION_WIDTH, round(ANIMATION_WIDTH * height / width)
    return Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS)


def take_states(window: Window, out: Path, folder: Path) -> None:
    """Take one of every state of the window, and of every section in it."""

    def take(state: str, widget: QWidget | None = None) -> None:
        window.picture(widget).save(str(out / f"{state}.png"))

    def take_sections(state: str) -> None:
        window.unfold(*window.sections)
        for title, section in window.sections.items():
            take(f"{state} {title}", section)

    def take_dialog(state: str) -> None:
        dialog = QApplication.activeModalWidget()
        take(state, dialog)
        dialog.reject()

    take("1 empty")
    take_sections("1 empty")
    window.unfold("CT", "Segment", "Mask", "Export")
    unplaced = window.viewer.add_image(np.zeros((8, 64, 64), np.float32), name="array without a place")
    QTimer.singleShot(1500, lambda: take_dialog("2 question"))
    window.session.choose(unplaced)
    window.rest(3)
    window.viewer.layers.remove(unplaced)
    window.open_chest()
    take("3 open")
    window.press_run()
    window.wait(lambda: window.session.case.done.sum() > 20)
    take("4 running")
    window.wait(lambda: window.session.is_idle)
    take("5 done")
    window.paint()
    take("6 painted")
    take_sections("6 painted")
    window.unfold("View", "Correct")
    window.dock.view.outline.value = True
    window.preview("Smooth")
    take("7 preview")
    window.dock.correct.discard.native.click()
    window.dock.view.outline.value = False
    window.unfold("Review", "Measure")
    window.review(4)
    window.measure()
    window.dock.export.split.value = True
    take("8 review")
    window.session.saving.export(folder / "lungs.nii.gz", split=True)
    take_sections("9 exported")
    window.dock.learn.open_case.value = True
    take("9 learn", window.sections["Learn"])
    broken = folder / "broken.nii.gz"
    broken.write_bytes(b"no CT")
    window.dock.open(broken)
    window.rest(2)
    take("10 refused")
    window.close()


if __name__ == "__main__":
    main()
