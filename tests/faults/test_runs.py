"""What happens to a run when something is done to the window meanwhile, or something goes wrong."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_resunet.editing.journal import abandoned
from napari_resunet.inference import predict as module
from napari_resunet.plugin.autosave import Autosave
from napari_resunet.plugin.session import Session
from napari_resunet.settings import PredictSettings
from napari_resunet.volume import Volume

CPU = PredictSettings(device="cpu")
BOX = tuple(np.mgrid[5:6, 2:8, 2:8].reshape(3, -1))  # 36 voxels of air in a corner
AT_ONCE = 10_000


class Network:
    """Finds air, one batch each time it is let; `faults` says what goes wrong at which call."""

    def __init__(self) -> None:
        self.calls = 0
        self.faults: dict[int, Exception] = {}
        self._turns = threading.Semaphore(0)

    def let(self, batches: int = AT_ONCE) -> None:
        self._turns.release(batches)

    def __call__(self, _network: Any, _card: Any, slices: Any, **_options: Any) -> Any:
        assert self._turns.acquire(timeout=60)
        self.calls += 1
        if self.calls in self.faults:
            raise self.faults[self.calls]
        return air(slices)


def air(slices: Any) -> Any:
    return np.where(slices < -500, np.uint8(200), np.uint8(0))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(module, "slice_probabilities", network)
    return network


@pytest.fixture
def predictions(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref]:
    """Every prediction that was made, weakly held: with it go its network and what it took of a GPU."""
    made = []

    class Watched(module.Prediction):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(weakref.ref(self))

    monkeypatch.setattr(module, "Prediction", Watched)
    return made


class Heard:
    def __init__(self, session: Session) -> None:
        self.errors: list[Exception] = []
        self.said: list[str] = []
        self.seen = 0
        session.events.failed.connect(self.errors.append)
        session.events.ran.connect(self.said.append)
        session.events.progress.connect(self._progress)

    def _progress(self, seen: int, _wanted: int, _left: float) -> None:
        self.seen = seen


@pytest.fixture
def session(qtbot, network: Network, chest):
    session = Session(ViewerModel())
    session.show_ct(Volume(chest.volume.array.copy(), chest.volume.geometry))
    yield session
    network.let()
    session.close()
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)


@pytest.fixture
def heard(session) -> Heard:
    return Heard(session)


def begun(session, heard: Heard, network: Network, qtbot) -> None:
    """Run until the first batch is shown, and hold the second."""
    session.run(CPU)
    network.let(1)
    qtbot.waitUntil(lambda: heard.seen > 0, timeout=30_000)


def ended(session, network: Network, qtbot) -> None:
    network.let()
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)


def test_f10_a_cancelled_run_stops_within_a_batch_keeps_whole_slices_and_is_resumed(
    session, heard, network, predictions, chest, qtbot, outcome
) -> None:
    begun(session, heard, network, qtbot)
    session.cancel()
    ended(session, network, qtbot)
    case = session.case
    done = case.done.copy()
    assert network.calls <= 2
    assert 8 <= done.sum() <= 16
    expected = air(chest.volume.axial)
    assert np.array_equal(case.probability[done], expected[done])
    assert not case.probability[~done].any()
    gc.collect()
    assert [made() for made in predictions] == [None]
    said = heard.said[-1]
    before = network.calls
    session.run(CPU)
    ended(session, network, qtbot)
    assert case.done.all()
    assert network.calls - before == 4 - done.sum() // 8
    assert np.array_equal(case.probability, expected)
    outcome("finished slices kept", said)


def test_f11_a_run_whose_ct_is_deleted_ends_and_says_why(session, heard, network, qtbot, outcome) -> None:
    begun(session, heard, network, qtbot)
    session.viewer.layers.remove(session.ct_layer)
    ended(session, network, qtbot)
    assert session.case is None
    assert not heard.errors
    assert heard.said[-1].endswith("ended: that CT is not open any more")
    assert network.calls <= 2
    outcome("run ended", heard.said[-1])


@pytest.mark.parametrize("which", ["mask_layer", "probability_layer"])
def test_f12_a_result_layer_that_is_deleted_in_a_run_comes_back_with_all_of_it(
    session, heard, network, qtbot, which: str, outcome
) -> None:
    begun(session, heard, network, qtbot)
    session.viewer.layers.remove(getattr(session, which))
    ended(session, network, qtbot)
    assert not heard.errors
    assert session.case.done.all()
    said, calls = heard.said[-1], network.calls
    assert ("its layer was deleted: Run shows it again" in said) == (which == "mask_layer")
    session.run(CPU)
    ended(session, network, qtbot)
    assert network.calls == calls  # nothing had to be run again
    assert getattr(session, which) in session.viewer.layers
    assert session.mask_layer.data.any()
    assert np.array_equal(session.mask_layer.data, session.case.mask)
    outcome("result kept", said)


def replace_the_data(session) -> None:
    session.ct_layer.data = np.full_like(session.ct_layer.data, 40)


def rename(session) -> None:
    session.ct_layer.name = "lung mask"


def reorder(session) -> None:
    session.viewer.layers.move(0, len(session.viewer.layers))


@pytest.mark.parametrize("do", [replace_the_data, rename, reorder])
def test_f13_what_is_done_to_the_layers_in_a_run_does_not_reach_its_result(
    session, heard, network, chest, qtbot, do: Any, outcome
) -> None:
    layer = session.mask_layer
    begun(session, heard, network, qtbot)
    do(session)
    layer = session.mask_layer
    ended(session, network, qtbot)
    assert not heard.errors
    assert np.array_equal(session.case.probability, air(chest.volume.axial))
    assert session.mask_layer is layer
    assert np.array_equal(layer.data, session.case.mask)
    outcome("captured CT", heard.said[-1])


CLOSING = """
import sys
import napari, numpy as np
from qtpy.QtCore import QTimer
from napari_resunet.editing.journal import abandoned, journal_root
from napari_resunet.phantom import make_phantom
from napari_resunet.plugin.dock import LungSegmentation
from napari_resunet.settings import PredictSettings

chest = make_phantom(shape=(16, 96, 96), spacing_mm=(19.0, 3.8, 3.8))
viewer = napari.Viewer(show=False)
widget = LungSegmentation(viewer)
viewer.window.add_dock_widget(widget)
session = widget.session
session.show_ct(chest.volume)
session.show_layers()
session.mask_layer.data_setitem(tuple(np.mgrid[5:6, 2:8, 2:8].reshape(3, -1)), 1)
def end():
    if sys.argv[1] == "window":
        viewer.close()
    app.quit()
def close(*_):
    session.events.progress.disconnect(close)
    QTimer.singleShot(0, end)
app = napari.qt.get_qapp()
session.events.progress.connect(close)
session.run(PredictSettings(device="cpu"))
app.exec()
assert session.case is None, "not closed"
(left,) = abandoned(journal_root())
assert left.record().edits.voxels() == 36
print("closed")
"""


@pytest.mark.parametrize("how", ["window", "application"])
def test_f14_a_window_that_is_closed_in_a_run_ends_well_and_keeps_what_was_painted(
    how: str, tmp_path, monkeypatch, outcome
) -> None:
    monkeypatch.setenv("NAPARI_RESUNET_STATE", str(tmp_path))
    command = [sys.executable, "-W", "ignore", "-c", CLOSING, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "closed\n", done.stderr
    assert done.returncode == 0, done.stderr  # a call to Qt after its end would crash
    assert "Traceback" not in done.stderr
    outcome("strokes kept", "Recover?")


def test_f15_a_second_run_is_refused_while_one_is_at_work(session, heard, network, qtbot, outcome) -> None:
    begun(session, heard, network, qtbot)
    session.run(CPU)
    assert session.is_running
    (error,) = heard.errors
    assert str(error) == "the last job is still at work: wait for it, or cancel it"
    ended(session, network, qtbot)
    assert network.calls == 4
    assert session.case.done.all()
    outcome("refused", error)


def test_f16_strokes_in_a_run_win_over_what_it_finds(session, heard, network, qtbot, outcome) -> None:
    begun(session, heard, network, qtbot)
    case, layer = session.case, session.mask_layer
    seen, unseen = np.flatnonzero(case.done)[4], np.flatnonzero(~case.done)[0]
    lung = tuple(np.argwhere(case.mask[seen] > 0)[:20].T)
    layer.data_setitem((np.full(20, seen), *lung), 0)  # where it has been
    tissue = tuple(np.argwhere(case.volume.axial[unseen] > -500)[:20].T)
    layer.data_setitem((np.full(20, unseen), *tissue), 1)  # where it will be
    ended(session, network, qtbot)
    assert case.done.all()
    assert not layer.data[seen][lung].any()
    assert layer.data[unseen][tissue].all()
    assert case.voxels_edited == 40
    outcome("strokes win", "nothing")


def test_f30_an_error_in_a_run_is_one_line_to_the_user_and_all_of_it_in_the_log(
    session, heard, network, qtbot, caplog: pytest.LogCaptureFixture, outcome
) -> None:
    network.faults[2] = RuntimeError("Expected all tensors to be on the same device")
    with caplog.at_level(logging.ERROR):
        begun(session, heard, network, qtbot)
        ended(session, network, qtbot)
    (error,) = heard.errors
    assert "\n" not in str(error)
    assert "Expected all tensors" in str(error)
    assert "Traceback" in caplog.text
    assert "slice_probabilities" in caplog.text  # where it was
    assert not session.is_running
    session.run(CPU)
    ended(session, network, qtbot)
    assert session.case.done.all()
    outcome("one line", error)


def test_f30_a_mistake_of_ours_is_told_and_logged_too(
    session, heard, network, qtbot, caplog: pytest.LogCaptureFixture, outcome
) -> None:
    network.faults[2] = KeyError("crop")
    with caplog.at_level(logging.ERROR):
        begun(session, heard, network, qtbot)
        ended(session, network, qtbot)
    assert len(heard.errors) == 1
    assert "Traceback" in caplog.text
    assert not session.is_running
    outcome("one line", repr(heard.errors[0]))


def test_f32_a_run_that_a_sleep_or_a_reset_ended_goes_on_from_there(
    session, heard, network, chest, qtbot, outcome
) -> None:
    network.faults[3] = RuntimeError("CUDA error: unspecified launch failure")
    session.run(CPU)
    ended(session, network, qtbot)
    (error,) = heard.errors
    done = int(session.case.done.sum())
    assert done in (12, 16)
    session.run(CPU)
    ended(session, network, qtbot)
    assert network.calls == 3 + 2
    assert np.array_equal(session.case.probability, air(chest.volume.axial))
    outcome("finished slices kept", error)


def test_f18_smaller_batches_are_told_in_the_window(session, heard, network, qtbot, outcome) -> None:
    network.faults = {2: MemoryError(), 3: MemoryError()}
    session.run(CPU)
    ended(session, network, qtbot)
    assert session.case.done.all()
    assert "slices were run 2 at a time, not 8" in heard.said[-1]
    outcome("NOTE", heard.said[-1])


def test_f05_a_journal_that_cannot_be_written_is_told_of_once_and_painting_goes_on(
    session, heard, network, qtbot, tmp_path, outcome
) -> None:
    root = tmp_path / "journal"
    root.write_text("a file, where the folder should be")
    autosave = Autosave(session, root)
    session.show_layers()
    session.mask_layer.data_setitem(BOX, 1)
    for _ in range(3):
        autosave._try_again()
        qtbot.waitUntil(lambda: autosave._job is None, timeout=30_000)
    (error,) = heard.errors
    session.mask_layer.data_setitem((np.full(36, 7), *BOX[1:]), 1)
    assert session.case.voxels_edited == 72
    root.unlink()
    autosave._try_again()
    qtbot.waitUntil(lambda: any(root.glob("case-*/hand-*.nru")), timeout=30_000)
    assert len(heard.errors) == 1
    autosave.close()
    (found,) = abandoned(root)
    assert found.record().edits.voxels() == 72
    found.discard()
    outcome("told once, tried again", str(error).replace(str(tmp_path), "…"))
