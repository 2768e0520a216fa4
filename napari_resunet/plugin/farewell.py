"""The question at the end: what becomes of work that is in no file yet."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QMessageBox, QWidget


class Farewell(QObject):
    """Watches a main window, and asks before it closes over unsaved work.

    Parameters
    ----------
    window : QWidget
        The main window. One that is not shown is closed by a script, and nobody is asked; of one that is shown Qt does
        not tell who closes it.
    unsaved : callable
        Returns the names of the CTs with unsaved work.
    save : callable
        Asks where to, saves, and returns whether all is saved now.
    discard : callable
        Lets the work go.
    """

    def __init__(
        self,
        window: QWidget,
        *,
        unsaved: Callable[[], list[str]],
        save: Callable[[], bool],
        discard: Callable[[], None],
    ) -> None:
        super().__init__(window)
        self._unsaved, self._save, self._discard = unsaved, save, discard
        window.installEventFilter(self)

    def let_go(self) -> None:
        """Watch no more."""
        with contextlib.suppress(RuntimeError):  # the window may be gone, and with it this watcher
            self.parent().removeEventFilter(self)
            self.setParent(None)

    def eventFilter(self, window: QObject, event: QEvent) -> bool:  # noqa: N802 Qt's name
        if event.type() == QEvent.Type.Close and window.isVisible() and not self._may_close(window):
            event.ignore()
            return True
        return False

    def _may_close(self, window: QWidget) -> bool:
        names = self._unsaved()
        if not names:
            return True
        buttons = QMessageBox.StandardButton
        box = QMessageBox(
            QMessageBox.Icon.Question,
            "Unsaved work",
            f"Your edits or ticks on {', '.join(names)} are in no file yet.",
            buttons.Save | buttons.Discard | buttons.Cancel,
            window,
        )
        box.setInformativeText("Save them as a case file, which also keeps the review?")
        answer = box.exec()
        if answer == buttons.Save:
            return self._save()
        if answer == buttons.Discard:
            self._discard()
            return True
        return False
