"""What is dropped or opened while the widget is there: it reads it beside the window, and asks what is open."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QApplication, QMainWindow, QWidget

from napari_resunet.io.case_file import is_case_file
from napari_resunet.io.kind import can_read, kind_of

if TYPE_CHECKING:
    from napari_resunet.plugin.dock import LungSegmentation

_CT_ONLY = ("DICOM", "NIfTI", "NRRD", "MetaImage")  # a TIFF may be a picture of anything
_widgets: WeakSet[LungSegmentation] = WeakSet()


class Drops(QObject):
    """Opens what is dropped on a widget, and the CTs and cases that are dropped on its window.

    All else that is dropped on the window is left to napari, and so is everything while Alt or Shift is held.

    Parameters
    ----------
    widget : LungSegmentation
        Opens files.
    window : QWidget, optional
        napari's part of the window that takes drops.
    """

    def __init__(self, widget: LungSegmentation, window: QWidget | None) -> None:
        super().__init__(widget)
        self._widget = widget
        self._places = [widget] if window is None else [widget, window]
        _widgets.add(widget)
        widget.setAcceptDrops(True)
        for place in self._places:
            place.installEventFilter(self)

    def let_go(self) -> None:
        """Take no more."""
        _widgets.discard(self._widget)
        for place in self._places:
            with contextlib.suppress(RuntimeError):  # the window may be gone
                place.removeEventFilter(self)
        self._places.clear()

    def eventFilter(self, place: QObject, event: QEvent) -> bool:  # noqa: N802 Qt's name
        is_ours = place is self._widget
        if is_ours and event.type() == QEvent.Type.DragEnter and event.mimeData().hasUrls():
            event.accept()
            return True
        if event.type() != QEvent.Type.Drop:
            return False
        path = _one_of(_paths(event))
        if path is None or not (is_ours or _is_for_us(path)):
            return False
        event.accept()
        self._widget.open(path)
        return True


def widget_that_asks() -> LungSegmentation | None:
    """Return the widget that a question can be asked in; None if there is none, or it is unclear which one."""
    if len(_widgets) != 1:
        return None
    (widget,) = _widgets
    shown = [w for w in QApplication.topLevelWidgets() if isinstance(w, QMainWindow) and w.isVisible()]
    # a reader is not told which window it reads for
    return widget if all(window is widget.main_window for window in shown) else None


def _paths(event: QEvent) -> list[Path]:
    return [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]


def _one_of(paths: Sequence[Path]) -> Path | None:
    """Return what several paths are together: slices of one folder are the folder."""
    folders = {path.parent for path in paths}
    if len(paths) > 1 and len(folders) == 1 and all(_is_dicom(path) for path in paths):
        return folders.pop()
    return paths[0] if len(paths) == 1 else None


def _is_dicom(path: Path) -> bool:
    return path.is_file() and can_read(path) and kind_of(path) == "DICOM"


def _is_for_us(path: Path) -> bool:
    held = QGuiApplication.keyboardModifiers()
    if held & (Qt.KeyboardModifier.AltModifier | Qt.KeyboardModifier.ShiftModifier):
        return False
    return is_case_file(path) or (can_read(path) and kind_of(path) in _CT_ONLY)
