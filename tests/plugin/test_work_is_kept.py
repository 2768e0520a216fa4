"""What a person has done by hand survives whatever comes: a working day on a CT, and a process that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep, time

import numpy as np
import pytest

from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.open_ct import open_ct
from napari_resunet.settings import PredictSettings, ToolSettings

PAINTER = Path(__file__).with_name("painter.py")
AT_MOST_LOST_S = 10
REAL = "test/lung-dx/A0002_B40f_ct.nii.gz"


@pytest.fixture
def made_up_ct(tmp_path: Path, chest) -> Path:
    write_ct_series(chest.volume, tmp_path / "ct")
    return tmp_path / "ct"


@pytest.fixture
def ct(made_up_ct: Path) -> Path:
    """A real CT where there is one, else a made-up one."""
    folder = os.environ.get("NAPARI_RESUNET_DATA")
    return Path(folder) / REAL if folder else made_up_ct


def idle(qtbot, dock) -> None:
    qtbot.waitUntil(lambda: dock.session.is_idle and not dock.mask._rest.isActive(), timeout=120_000)


class Hand:
    """Paints, and remembers what."""

    def __init__(self, session) -> None:
        self.session = session
        self.painted: dict[int, tuple[np.ndarray, int]] = {}

    def paint(self, z: int, label: int, at: tuple[int, int]) -> None:
        layer = self.session.mask_layer
        before = layer.data[z] > 0
        with layer.block_history():
            layer.paint((z, *at), label)
        self.painted[z] = ((layer.data[z] > 0) != before, label)

    def finds_everything(self) -> bool:
        self.session.sync()
        shown, edit = self.session.case.mask, self.session.case.edit
        return all(
            (shown[z][voxels] == label).all() and (edit[z][voxels] == (1 if label else -1)).all()
            for z, (voxels, label) in self.painted.items()
        )


def test_a_day_of_work_changes_no_painted_voxel(made_up_ct: Path, open_widget, qtbot) -> None:
    dock = open_widget()
    session = dock.session
    session.opening.open(made_up_ct)
    idle(qtbot, dock)
    session.run(PredictSettings(device="cpu"))
    idle(qtbot, dock)

    # paint on five slices: add where there is no lung, erase where there is
    hand = Hand(session)
    session.mask_layer.brush_size = 9
    slices = np.linspace(3, len(session.case.done) - 4, 5).astype(int)
    for number, z in enumerate(slices):
        lung = np.argwhere(session.case.mask[z])
        erases = number % 2 and len(lung)
        hand.paint(int(z), 0 if erases else 1, tuple(lung[len(lung) // 2]) if erases else (12, 12))
    assert all(voxels.any() for voxels, _ in hand.painted.values())
    assert hand.finds_everything()

    session.correcting.use("Fill between edited slices", ToolSettings())
    idle(qtbot, dock)
    session.correcting.apply()
    assert hand.finds_everything()
    filled = session.case.edit.copy()

    for threshold in np.linspace(0.05, 0.95, 20):
        dock.mask.threshold.value = float(threshold)
        assert hand.finds_everything()
    idle(qtbot, dock)
    np.testing.assert_array_equal(session.case.edit, filled)

    for _ in range(10):
        session.mask_layer.undo()
    assert session.case.voxels_edited == 0
    for _ in range(10):
        session.mask_layer.redo()
    np.testing.assert_array_equal(session.case.edit, filled)
    assert hand.finds_everything()

    session.run(PredictSettings(device="cpu", grid=256))
    idle(qtbot, dock)
    assert session.case.run.grid == 256
    np.testing.assert_array_equal(session.case.edit, filled)
    assert hand.finds_everything()


def test_a_process_that_is_killed_loses_seconds_and_the_next_one_recovers_the_rest(
    ct: Path, open_widget, qtbot, tmp_path: Path
) -> None:
    log = tmp_path / "strokes"
    log.touch()
    painter = subprocess.Popen([sys.executable, "-W", "ignore", PAINTER, ct, log])
    deadline = monotonic() + 180
    while monotonic() < deadline and painter.poll() is None and _painting_for(log) < AT_MOST_LOST_S + 3:
        sleep(0.05)
    assert painter.poll() is None, "the painter ended by itself"
    killed_at = time()
    painter.send_signal(signal.SIGKILL)
    painter.wait()

    dock = open_widget()
    assert not dock.recover.native.isHidden()
    assert "Unsaved work was found" in dock.recover.words.value
    dock.recover.recover.native.click()
    idle(qtbot, dock)
    case = dock.session.case
    assert np.array_equal(case.volume.array, open_ct(ct).array)
    assert case.done.all()
    made = [json.loads(line) for line in log.read_text().splitlines()]
    there = [case.mask[z, y, x] == label and case.edit[z, y, x] != 0 for _, z, y, x, label in made]
    lost = [killed_at - when for (when, *_), is_there in zip(made, there, strict=True) if not is_there]
    assert len(made) > 30
    assert max(lost, default=0) <= AT_MOST_LOST_S
    assert dock.recover.native.isHidden()


def _painting_for(log: Path) -> float:
    lines = log.read_text().splitlines()
    return json.loads(lines[-1])[0] - json.loads(lines[0])[0] if len(lines) > 1 else 0.0
