"""A short round of a widget used at random; `monkey.py` does long ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from monkey import Monkey, play
from qtpy.QtWidgets import QMessageBox

pytestmark = pytest.mark.usefixtures("unstyled")


def test_whatever_is_done_in_whatever_order_no_edit_is_lost_and_nothing_fails(
    make_napari_viewer, qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QMessageBox, "exec", lambda _box: QMessageBox.StandardButton.Discard)
    monkey = Monkey(make_napari_viewer(show=True), tmp_path, seed=0)
    diary = play(monkey, actions=35)
    assert diary.faults == []
    assert len(diary.done) > 12
    monkey.dock.session.close()
    qtbot.waitUntil(lambda: monkey.dock.session.is_idle, timeout=60_000)
