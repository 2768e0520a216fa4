"""The question before the window closes over unsaved work."""

from __future__ import annotations

import gc
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from napari_resunet.editing.journal import abandoned, journal_root
from napari_resunet.io.case_file import read_case
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.open_ct import open_ct
from napari_resunet.plugin import autosave, launch
from napari_resunet.volume import Volume

pytestmark = pytest.mark.usefixtures("unstyled")

SAVE = QMessageBox.StandardButton.Save
DISCARD = QMessageBox.StandardButton.Discard
CANCEL = QMessageBox.StandardButton.Cancel


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autosave, "_AFTER_MS", 20)


class Asked(list):
    """The questions that were asked; each is given the next of the `answers`, and without one nothing may be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[object] = []

    def answer(self, box: QMessageBox) -> object:
        self.append(f"{box.text()} {box.informativeText()}")
        return self.answers.pop(0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    monkeypatch.setattr(QMessageBox, "exec", lambda box: asked.answer(box))
    return asked


@pytest.fixture
def open_widget(make_napari_viewer, qtbot, asked, chest):
    """Opens a viewer, shown or not, with the widget and the small chest in it."""
    docks = []

    def opens(*, show: bool = True):
        dock = launch.show_widget(make_napari_viewer(show=show))
        dock.session.show_ct(chest.volume)
        dock.session.show_layers()
        docks.append(dock)
        return dock

    yield opens
    for dock in docks:
        dock.session.close()
        qtbot.waitUntil(lambda dock=dock: dock.session.is_idle, timeout=60_000)
    asked.answers += [DISCARD] * 9  # for windows that are still open


@pytest.fixture
def dock(open_widget):
    return open_widget()


def window_of(dock):
    return dock.session.viewer.window._qt_window


def close(qtbot, dock) -> bool:
    """Close the window as its cross does; return whether it is closed, and then gone."""
    gone: list[object] = []
    window_of(dock).destroyed.connect(lambda *_: gone.append(True))
    if not window_of(dock).close():
        return False
    qtbot.waitUntil(lambda: bool(gone), timeout=10_000)
    del dock.session.viewer.window._qt_window  # else the fixture of the viewer would close it once more
    return True


def paint(dock, z: int = 5) -> None:
    with dock.session.mask_layer.block_history():  # as the mouse does
        dock.session.mask_layer.paint((z, 6, 6), 1)


def quiet(qtbot, dock) -> None:
    qtbot.waitUntil(lambda: dock.autosave.is_idle and dock.session.is_idle, timeout=30_000)


def save_as(monkeypatch: pytest.MonkeyPatch, *paths: Path | None) -> list[str]:
    """Answer the dialogs for a file so, one after the other; return the list of the names that they propose."""
    proposed: list[str] = []
    answers = list(paths)

    def answer(*arguments):
        proposed.append(Path(arguments[2]).name)
        path = answers.pop(0)
        return ("" if path is None else str(path)), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    return proposed


def open_second_ct(dock, chest) -> None:
    dock.session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    dock.session.show_layers()


def left_behind() -> list[int]:
    """How many edited slices each piece of work has that is found at the next start."""
    found = abandoned(journal_root())
    for each in found:
        each.release()
    return [each.edited_slices for each in found]


# ---- nothing to ask


def test_a_window_without_unsaved_work_closes_without_a_question(dock, asked, qtbot) -> None:
    assert close(qtbot, dock)
    assert not asked


def test_a_window_that_was_saved_closes_without_a_question(dock, asked, qtbot, tmp_path: Path) -> None:
    paint(dock)
    quiet(qtbot, dock)
    dock.session.saving.save_case(tmp_path / "case.nru")
    assert close(qtbot, dock)
    assert not asked
    assert not left_behind()


def test_what_was_painted_and_undone_is_no_unsaved_work(dock, asked, qtbot) -> None:
    paint(dock)
    quiet(qtbot, dock)
    dock.session.mask_layer.undo()
    assert dock.session.case.voxels_edited == 0
    assert close(qtbot, dock)
    assert not asked
    assert not left_behind()


def test_a_case_that_was_opened_from_a_file_and_not_touched_is_no_unsaved_work(
    open_widget, asked, qtbot, chest, tmp_path: Path
) -> None:
    write_ct_series(chest.volume, tmp_path / "ct")
    first = open_widget(show=False)
    first.session.show_ct(open_ct(tmp_path / "ct"))
    first.session.show_layers()
    paint(first)
    assert first.session.saving.save_case(tmp_path / "case.nru")
    second = open_widget()
    second.session.opening.open_case(tmp_path / "case.nru")
    quiet(qtbot, second)
    assert second.session.case.voxels_edited
    assert close(qtbot, second)
    assert not asked


def test_a_hidden_window_is_closed_by_a_script_and_nobody_is_asked(open_widget, asked, qtbot) -> None:
    dock = open_widget(show=False)
    paint(dock)
    assert close(qtbot, dock)
    assert not asked
    assert left_behind() == [1]


def test_a_hidden_viewer_closed_by_a_script_leaves_its_work_to_be_found(open_widget, asked, qtbot) -> None:
    dock = open_widget(show=False)
    paint(dock)
    dock.session.viewer.close()
    qtbot.waitUntil(lambda: dock.session._is_closed, timeout=10_000)
    assert not asked
    assert left_behind() == [1]


# ---- the three answers


def test_the_question_names_the_ct_and_says_what_save_does(dock, asked, qtbot) -> None:
    paint(dock)
    asked.answers = [CANCEL]
    assert not close(qtbot, dock)
    assert "phantom" in asked[0]
    assert "case file" in asked[0]


def test_the_question_is_true_where_only_the_ticks_are_in_no_file(dock, asked, qtbot, tmp_path: Path) -> None:
    paint(dock)
    dock.review.tick.native.click()
    assert dock.session.saving.export(tmp_path / "lungs.nii.gz")
    asked.answers = [CANCEL]
    assert not close(qtbot, dock)
    assert "ticks" in asked[0]


def test_cancel_keeps_the_window_and_the_work_and_the_journal(dock, asked, qtbot) -> None:
    paint(dock)
    quiet(qtbot, dock)
    asked.answers = [CANCEL]
    assert not close(qtbot, dock)
    assert window_of(dock).isVisible()
    assert dock.session.saving.unsaved_cases()
    assert len(list(journal_root().iterdir())) == 1
    paint(dock, 8)
    quiet(qtbot, dock)
    assert dock.session.case.edited.sum() == 2


def test_save_writes_a_case_file_and_the_window_closes(
    dock, asked, qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(dock)
    edit = dock.session.case.edit.copy()
    quiet(qtbot, dock)
    asked.answers = [SAVE]
    proposed = save_as(monkeypatch, tmp_path / "kept.nru")
    assert close(qtbot, dock)
    assert proposed == ["phantom.nru"]
    np.testing.assert_array_equal(read_case(tmp_path / "kept.nru").edits.values, edit[5:6])
    assert not list(journal_root().iterdir())


def test_save_asks_for_a_file_for_each_ct_with_unsaved_work(
    dock, asked, chest, qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(dock)
    open_second_ct(dock, chest)
    paint(dock, 8)
    paint(dock, 9)
    asked.answers = [SAVE]
    proposed = save_as(monkeypatch, tmp_path / "a.nru", tmp_path / "b.nru")
    assert close(qtbot, dock)
    assert len(set(proposed)) == 2
    assert [len(read_case(tmp_path / name).edits.slices) for name in ("a.nru", "b.nru")] == [1, 2]


def test_a_save_that_is_cancelled_keeps_the_window_open(
    dock, asked, chest, qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(dock)
    open_second_ct(dock, chest)
    paint(dock, 8)
    asked.answers = [SAVE]
    save_as(monkeypatch, tmp_path / "a.nru", None)
    assert not close(qtbot, dock)
    assert window_of(dock).isVisible()
    assert dock.session.saving.unsaved_cases() == [dock.session.case]  # the first one was saved
    quiet(qtbot, dock)
    assert len(list(journal_root().iterdir())) == 1


def test_a_save_that_fails_keeps_the_window_open_and_says_why(
    dock, asked, qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = []
    dock.session.events.failed.connect(errors.append)
    paint(dock)
    asked.answers = [SAVE]
    save_as(monkeypatch, tmp_path / "no such folder" / "case.nru")
    assert not close(qtbot, dock)
    assert window_of(dock).isVisible()
    assert "there is no folder" in str(errors[0])
    assert dock.session.saving.unsaved_cases()


def test_discard_closes_the_window_and_leaves_nothing(dock, asked, qtbot) -> None:
    paint(dock)
    quiet(qtbot, dock)
    asked.answers = [DISCARD]
    assert close(qtbot, dock)
    assert not list(journal_root().iterdir())


def test_discard_right_after_a_stroke_leaves_nothing(dock, asked, qtbot) -> None:
    paint(dock)
    asked.answers = [DISCARD]
    assert close(qtbot, dock)
    qtbot.wait(100)
    assert not left_behind()


def test_work_that_was_discarded_in_a_window_that_stays_open_is_still_in_the_journal(
    dock, asked, qtbot
) -> None:
    # napari asks too, and there the answer may be no
    paint(dock)
    quiet(qtbot, dock)
    asked.answers = [DISCARD]
    dock._farewell._may_close(window_of(dock))
    quiet(qtbot, dock)
    assert window_of(dock).isVisible()
    assert dock.session.saving.unsaved_cases()
    assert list(journal_root().glob("case-*/hand-*.nru"))


def test_work_on_a_ct_whose_layer_was_deleted_is_asked_about(dock, asked, qtbot) -> None:
    paint(dock)
    dock.session.viewer.layers.clear()
    asked.answers = [CANCEL]
    assert not close(qtbot, dock)
    assert "phantom" in asked[0]


# ---- the end of the window, and of the widget alone


def test_the_session_ends_with_its_window_and_not_only_with_the_program(dock, asked, qtbot) -> None:
    paint(dock)
    quiet(qtbot, dock)
    asked.answers = [DISCARD]
    assert close(qtbot, dock)
    assert dock.session._is_closed


def close_widget(dock) -> None:
    dock.session.viewer.window.remove_dock_widget(dock)  # as the cross in its title does


def test_a_widget_that_is_closed_ends_its_session_and_leaves_unsaved_work_to_be_found(dock) -> None:
    paint(dock)
    close_widget(dock)
    assert dock.session._is_closed
    assert left_behind() == [1]


def test_a_widget_that_is_closed_is_not_held_in_memory(make_napari_viewer, qtbot, chest) -> None:
    viewer = make_napari_viewer()
    dock = launch.show_widget(viewer)
    dock.session.show_ct(chest.volume)
    quiet(qtbot, dock)
    close_widget(dock)
    closed = ref(dock)
    del dock
    qtbot.wait(50)
    gc.collect()
    assert closed() is None


def test_a_window_whose_widget_was_closed_closes_without_a_question(dock, asked, qtbot) -> None:
    paint(dock)
    close_widget(dock)
    assert close(qtbot, dock)
    assert not asked


def test_a_widget_in_the_place_of_a_closed_one_asks_once(dock, asked, qtbot) -> None:
    viewer = dock.session.viewer
    paint(dock)
    close_widget(dock)
    again = launch.show_widget(viewer)
    assert again is not dock
    assert again.session.case.voxels_edited
    asked.answers = [CANCEL]
    assert not close(qtbot, again)
    assert len(asked) == 1
    again.session.close()
