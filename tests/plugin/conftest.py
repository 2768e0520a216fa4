"""What most tests of the window start from: a session without a window, the widget in one, and a CT in files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from napari.components import ViewerModel

from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.plugin import launch
from napari_resunet.plugin.session import Session


@pytest.fixture(autouse=True)
def windows_remember(quick_network: None) -> None:
    """Most tests of the window are of what becomes of the network's answer."""


@pytest.fixture
def unstyled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows without napari's style, which costs a quarter of the time of a test that does not look at them."""
    monkeypatch.setattr("napari._qt.qt_main_window.get_stylesheet", lambda *_, **__: "")


@pytest.fixture(scope="session")
def chest_series(tmp_path_factory: pytest.TempPathFactory, chest) -> Path:
    """The small chest as a DICOM series that no test changes."""
    folder = tmp_path_factory.mktemp("chest") / "ct"
    write_ct_series(chest.volume, folder)
    return folder


@pytest.fixture
def ct(tmp_path: Path, chest_series: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(chest_series, tmp_path / "ct")


@pytest.fixture
def session(qtbot):
    """A session without a window, in which nothing is open."""
    session = Session(ViewerModel())
    yield session
    session.close()
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)


@pytest.fixture
def open_widget(make_napari_viewer, qtbot):
    """Opens a viewer with the widget in it, notes its errors and questions, and closes all of them."""
    docks = []

    def opens(viewer=None):
        docks.append(launch.show_widget(viewer or make_napari_viewer()))
        docks[-1].errors = []
        docks[-1].session.events.failed.connect(docks[-1].errors.append)
        docks[-1].asked = []
        docks[-1].session.events.asks.connect(docks[-1].asked.append)
        return docks[-1]

    yield opens
    for dock in docks:
        dock.session.close()
        qtbot.waitUntil(lambda dock=dock: dock.session.is_idle, timeout=60_000)


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def dock(open_widget, viewer):
    """The widget, to run on the CPU."""
    dock = open_widget(viewer)
    dock.segment.device.value = "cpu"
    return dock
