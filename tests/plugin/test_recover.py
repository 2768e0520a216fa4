"""What a crash has left is offered, and taken in or let go, in a real window."""

from __future__ import annotations

import shutil
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QMessageBox

from napari_resunet.case import Case
from napari_resunet.editing.journal import Journal, abandoned, journal_root
from napari_resunet.editing.review import SliceState
from napari_resunet.errors import OutputError
from napari_resunet.inference.predict import Batch
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.open_ct import open_ct
from napari_resunet.plugin import autosave
from napari_resunet.record import CaseRecord
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Run, Volume

pytestmark = pytest.mark.usefixtures("unstyled")

RUN = Run("truth", "", 128, "cpu", "float32", (0, 96, 0, 96))
NO, YES = QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autosave, "_AFTER_MS", 20)
    monkeypatch.setattr(autosave, "_RETRY_MS", 40)


@dataclass(eq=False)
class Left:
    """What was left behind."""

    record: CaseRecord
    mask: np.ndarray
    folder: Path


def leave(volume: Volume, path: Path | None, chest, do=None, *, base: bool = True) -> Left:
    """Leave work on a CT in the journal, as a process does that is killed."""
    case = Case(volume)
    if base:
        case.begin(RUN)
        case.accept(RUN, Batch(0, 28, (chest.mask.axial > 0).astype(np.uint8) * 180))
        case.change_settings(threshold=0.6, clean=False)
        case.settle()
    (do or edit_and_tick)(case)
    known = set(journal_root().glob("*"))
    journal = Journal(journal_root(), case.reference, path)
    record = case.record()
    if base:
        journal.write_base(record)
    journal.write(record)
    journal.close(keep=True)
    (folder,) = set(journal_root().glob("*")) - known
    return Left(record, case.mask.copy(), folder)


def edit_and_tick(case: Case) -> None:
    case.mask[4, 2:8, 2:8] = 1
    case.mask[14] = 0
    case.tick(14)
    case.flag(20)


def edit(case: Case) -> None:
    case.mask[4, 2:8, 2:8] = 1


def read(qtbot, dock) -> None:
    """Wait for what is being read, and for nothing else."""
    qtbot.waitUntil(lambda: dock.session.is_idle, timeout=30_000)


def quiet(qtbot, dock) -> None:
    review = dock.review
    qtbot.waitUntil(
        lambda: (
            dock.session.is_idle
            and dock.autosave.is_idle
            and review.reviewing.is_idle
            and not review._rest.isActive()
            and not dock.mask._rest.isActive()
        ),
        timeout=60_000,
    )


def is_offered(dock) -> bool:
    return not dock.recover.native.isHidden()


def recover(qtbot, dock) -> None:
    dock.recover.recover.native.click()
    read(qtbot, dock)


def answer(monkeypatch: pytest.MonkeyPatch, button: Any) -> list[str]:
    """Answer every question so; return the list of what is asked."""
    asked: list[str] = []
    monkeypatch.setattr(QMessageBox, "question", lambda *arguments: asked.append(arguments[2]) or button)
    return asked


def holds(dock, left: Left) -> bool:
    """Whether the open case is as it was when it was left."""
    dock.session.sync()
    here, then = dock.session.case.record(), left.record
    assert np.array_equal(here.edits.slices, then.edits.slices)
    assert np.array_equal(here.edits.values, then.edits.values)
    assert np.array_equal(here.marks, then.marks)
    assert np.array_equal(here.probability, then.probability)
    assert (here.settings, here.run) == (then.settings, then.run)
    assert np.array_equal(here.done, then.done)
    return np.array_equal(dock.session.mask_layer.data, left.mask)


def test_nothing_is_offered_where_nothing_was_left(open_widget) -> None:
    dock = open_widget()
    assert not is_offered(dock)


def test_the_offer_says_which_ct_how_much_and_when(open_widget, ct: Path, chest) -> None:
    left = leave(open_ct(ct), ct, chest)
    found = abandoned(journal_root())[0]
    when = found.when
    found.release()
    dock = open_widget()
    assert is_offered(dock)
    assert len(left.record.edits.slices) == 2
    assert f"2 edited slices of ct, {when:%H:%M} on {when:%d %b %Y}" in dock.recover.words.value
    assert dock.recover.recover.enabled


def test_the_offer_speaks_of_one_slice_as_of_one(open_widget, ct: Path, chest) -> None:
    leave(open_ct(ct), ct, chest, edit)
    assert "1 edited slice of ct" in open_widget().recover.words.value


@pytest.mark.parametrize(
    "do", [lambda case: case.tick(14), lambda case: (edit(case), case.forget_edits())], ids=["tick", "bank"]
)
def test_the_offer_does_not_speak_of_no_edited_slices(open_widget, ct: Path, chest, do) -> None:
    leave(open_ct(ct), ct, chest, do)
    dock = open_widget()
    assert is_offered(dock)
    assert "0 edited" not in dock.recover.words.value


# ---- recover


@pytest.mark.parametrize("is_open", [True, False], ids=["open already", "not open"])
def test_recover_brings_back_edits_ticks_threshold_and_probabilities(
    open_widget, qtbot, ct: Path, chest, is_open: bool
) -> None:
    left = leave(open_ct(ct), ct, chest)
    dock = open_widget()
    if is_open:
        dock.session.opening.open(ct)
        read(qtbot, dock)
    recover(qtbot, dock)
    assert holds(dock, left)
    assert not is_offered(dock)
    assert not dock.errors
    assert sum(layer.name == "ct" for layer in dock.session.viewer.layers) == 1
    quiet(qtbot, dock)
    assert holds(dock, left)  # after the clean-up and whatever else comes
    assert dock.mask.threshold.value == 0.6
    assert not dock.mask.clean.value
    assert dock.review.reviewing.states[14] == SliceState.REVIEWED
    assert dock.review.reviewing.states[20] == SliceState.FLAGGED
    assert "36 voxels added" in dock.correct.count.value


def test_recover_goes_on_in_the_ct_that_is_open_even_if_another_one_is_in_view(
    open_widget, qtbot, ct: Path, chest
) -> None:
    left = leave(open_ct(ct), ct, chest)
    dock = open_widget()
    dock.session.opening.open(ct)
    read(qtbot, dock)
    layer = dock.session.ct_layer
    dock.session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    recover(qtbot, dock)
    assert dock.session.ct_layer is layer
    assert holds(dock, left)


def test_what_was_painted_and_ticked_before_recover_stays(open_widget, qtbot, ct: Path, chest) -> None:
    leave(open_ct(ct), ct, chest)
    dock = open_widget()
    dock.session.opening.open(ct)
    read(qtbot, dock)
    dock.session.show_layers()
    dock.session.mask_layer.data_setitem(tuple(np.mgrid[9:10, 2:8, 2:8].reshape(3, -1)), 1)
    dock.session.show_slice(22)
    dock.review.tick.native.click()
    recover(qtbot, dock)
    assert dock.session.case.mask[9, 2:8, 2:8].all()
    assert dock.session.case.mask[4, 2:8, 2:8].all()
    assert dock.session.case.review.marks[22] == SliceState.REVIEWED
    assert dock.session.case.review.marks[20] == SliceState.FLAGGED


def test_recovered_work_is_unsaved_work(open_widget, qtbot, ct: Path, chest) -> None:
    leave(open_ct(ct), ct, chest)
    dock = open_widget()
    recover(qtbot, dock)
    assert dock.session.saving.unsaved_cases() == [dock.session.case]


def test_a_ct_that_was_moved_away_is_named_and_the_offer_stays(
    open_widget, qtbot, ct: Path, chest, tmp_path: Path
) -> None:
    left = leave(open_ct(ct), ct, chest)
    elsewhere = tmp_path / "moved" / "ct"
    elsewhere.parent.mkdir()
    ct.rename(elsewhere)
    dock = open_widget()
    recover(qtbot, dock)
    assert len(dock.errors) == 1
    assert str(ct) in str(dock.errors[0])
    assert "then recover" in str(dock.errors[0])  # what to do: open it where it is now
    assert is_offered(dock)
    assert left.folder.exists()
    assert not dock.session.viewer.layers
    dock.session.opening.open(elsewhere)
    read(qtbot, dock)
    recover(qtbot, dock)
    assert holds(dock, left)
    assert not is_offered(dock)


def test_another_ct_in_the_place_of_the_one_it_was_done_on_is_refused_and_the_offer_stays(
    open_widget, qtbot, ct: Path, chest
) -> None:
    left = leave(open_ct(ct), ct, chest)
    shutil.rmtree(ct)
    write_ct_series(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry), ct)
    dock = open_widget()
    recover(qtbot, dock)
    assert "is another CT" in str(dock.errors[0])
    assert is_offered(dock)
    assert left.folder.exists()
    assert not any(case.has_unsaved_work for case in dock.session.cases)


def test_work_on_a_ct_that_is_open_with_another_voxel_size_goes_on_with_its_own(
    open_widget, qtbot, chest, tmp_path: Path
) -> None:
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, chest.volume.array)
    left = leave(open_ct(path, InputAnswers(spacing_mm=(11.0, 3.8, 3.8))), path, chest)
    dock = open_widget()
    dock.session.opening.open(path, InputAnswers(spacing_mm=(11.0, 3.0, 3.0)))
    read(qtbot, dock)
    recover(qtbot, dock)
    assert not dock.errors
    assert dock.session.case.volume.geometry.spacing_mm == (11.0, 3.8, 3.8)
    assert holds(dock, left)


def test_work_on_a_ct_that_came_from_no_file_is_recovered_when_that_is_open_again(
    open_widget, qtbot, chest
) -> None:
    volume = Volume(chest.volume.array, chest.volume.geometry)
    left = leave(volume, None, chest)
    dock = open_widget()
    recover(qtbot, dock)
    assert "came from no file; open it again, then recover" in str(dock.errors[0])
    assert is_offered(dock)
    dock.session.show_ct(volume)
    recover(qtbot, dock)
    assert holds(dock, left)
    assert not is_offered(dock)


def test_a_cancelled_recovery_lets_go_of_nothing(open_widget, qtbot, ct: Path, chest) -> None:
    left = leave(open_ct(ct), ct, chest)
    dock = open_widget()
    dock.session.opening.open(ct)
    read(qtbot, dock)
    dock.session.show_layers()
    dock.session.mask_layer.data_setitem(tuple(np.mgrid[9:10, 2:8, 2:8].reshape(3, -1)), 1)
    dock.session.sync()
    dock.recover.recover.native.click()
    dock.ct.stop.native.click()
    quiet(qtbot, dock)
    assert dock.session.case.mask[4, 2:8, 2:8].sum() == 0
    assert is_offered(dock)
    assert left.folder.exists()


def test_a_recovery_that_fails_lets_go_of_nothing(
    open_widget, qtbot, ct: Path, chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(open_ct(ct), ct, chest)
    dock = open_widget()
    dock.session.opening.open(ct)
    read(qtbot, dock)

    def out_of_memory(_self):
        raise MemoryError("no room for 2 GB")

    monkeypatch.setattr("napari_resunet.editing.journal.Abandoned.record", out_of_memory)
    recover(qtbot, dock)
    quiet(qtbot, dock)
    assert "no room" in str(dock.errors[0])
    assert is_offered(dock)
    assert left.folder.exists()


# ---- what becomes of the journal it was in


def test_it_is_kept_until_this_window_has_written_it_itself(
    open_widget, qtbot, ct: Path, chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(open_ct(ct), ct, chest)
    dock = open_widget()
    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(Journal, "write", refuse)
        recover(qtbot, dock)
        qtbot.waitUntil(lambda: bool(dock.errors), timeout=10_000)
        assert left.folder.exists()
    quiet(qtbot, dock)
    assert not left.folder.exists()
    assert len(list(journal_root().iterdir())) == 1


def refuse(_self, _record) -> None:
    raise OutputError("hand-0.nru could not be written: the disk is full")


def test_it_is_kept_until_then_also_where_this_window_has_a_journal_of_the_ct_already(
    open_widget, qtbot, ct: Path, chest
) -> None:
    left = leave(open_ct(ct), ct, chest)
    dock = open_widget()
    dock.session.opening.open(ct)
    read(qtbot, dock)
    dock.session.show_layers()
    edit(dock.session.case)
    dock.session.sync()
    quiet(qtbot, dock)
    assert len(list(journal_root().iterdir())) == 2
    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(Journal, "write", refuse)
        recover(qtbot, dock)
        qtbot.waitUntil(lambda: bool(dock.errors), timeout=10_000)
        assert left.folder.exists()
    quiet(qtbot, dock)
    assert not left.folder.exists()


def test_a_write_that_was_under_way_before_does_not_count(open_widget, qtbot, ct: Path, chest) -> None:
    left = leave(open_ct(ct), ct, chest, base=False)
    dock = open_widget()
    dock.session.opening.open(ct)
    read(qtbot, dock)
    dock.session.show_layers()
    edit(dock.session.case)
    dock.session.sync()
    may_go_on = Event()
    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(Journal, "write", lambda _self, _record: may_go_on.wait(10))
        qtbot.waitUntil(lambda: dock.autosave._job is not None, timeout=5_000)
        recover(qtbot, dock)
        disk.setattr(Journal, "write", refuse)
        may_go_on.set()
        qtbot.waitUntil(lambda: bool(dock.errors), timeout=10_000)
        assert left.folder.exists()
    quiet(qtbot, dock)
    assert not left.folder.exists()


def test_recovered_and_saved_leaves_nothing(open_widget, qtbot, ct: Path, chest, tmp_path: Path) -> None:
    leave(open_ct(ct), ct, chest)
    dock = open_widget()
    recover(qtbot, dock)
    assert dock.session.saving.save_case(tmp_path / "case.nru")
    quiet(qtbot, dock)
    assert not list(journal_root().iterdir())


def test_recovered_and_closed_at_once_is_offered_once_more_and_whole(
    open_widget, qtbot, ct: Path, chest
) -> None:
    left = leave(open_ct(ct), ct, chest)
    first = open_widget()
    recover(qtbot, first)
    first.session.close()
    second = open_widget()
    assert is_offered(second)
    recover(qtbot, second)
    assert holds(second, left)
    assert not is_offered(second)


def test_an_offer_that_nobody_answered_is_there_the_next_time(open_widget, ct: Path, chest) -> None:
    leave(open_ct(ct), ct, chest)
    first = open_widget()
    first.session.close()
    assert is_offered(open_widget())


def test_one_window_offers_it_and_the_other_does_not(open_widget, ct: Path, chest) -> None:
    leave(open_ct(ct), ct, chest)
    assert is_offered(open_widget())
    assert not is_offered(open_widget())


def test_work_that_is_on_the_screen_stays_whatever_becomes_of_the_offer(
    open_widget, qtbot, ct: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # left by a widget that was closed, in a window that was not
    first = open_widget()
    viewer = first.session.viewer
    first.session.opening.open(ct)
    read(qtbot, first)
    first.session.show_layers()
    edit(first.session.case)
    first.session.sync()
    quiet(qtbot, first)
    first.session.close()
    viewer.window.remove_dock_widget(first)
    second = open_widget(viewer)
    assert second.session.case.voxels_edited == 36
    quiet(qtbot, second)
    answer(monkeypatch, YES)
    second.recover.discard.native.click()
    assert second.session.case.voxels_edited == 36
    second.session.close()
    assert is_offered(open_widget())


# ---- several


def test_two_offers_come_one_after_the_other_the_newest_first(
    open_widget, qtbot, ct: Path, chest, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write_ct_series(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry), other)
    older = leave(open_ct(other), other, chest, edit)
    newer = leave(open_ct(ct), ct, chest)
    rewrite(older.folder / "hand-1.nru", f'"created": "{datetime.now(UTC).year}', '"created": "2020')
    dock = open_widget()
    assert "of ct," in dock.recover.words.value
    recover(qtbot, dock)
    assert holds(dock, newer)
    assert is_offered(dock)
    assert "of other," in dock.recover.words.value
    recover(qtbot, dock)
    assert holds(dock, older)
    assert not is_offered(dock)
    quiet(qtbot, dock)
    assert not older.folder.exists()
    assert not newer.folder.exists()
    assert len(dock.session.cases) == 2


def rewrite(path: Path, old: str, new: str) -> None:
    """Let a case file say something else."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    said = members["case.json"].decode()
    assert old in said
    members["case.json"] = said.replace(old, new).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_two_pieces_of_work_on_one_ct_are_both_brought_back_and_both_let_go(
    open_widget, qtbot, ct: Path, chest
) -> None:
    def elsewhere(case: Case) -> None:
        case.mask[9, 2:8, 2:8] = 1

    folders = [leave(open_ct(ct), ct, chest, do).folder for do in (edit, elsewhere)]
    dock = open_widget()
    recover(qtbot, dock)
    recover(qtbot, dock)
    assert dock.session.case.mask[[4, 9], 2:8, 2:8].all()
    quiet(qtbot, dock)
    assert not any(folder.exists() for folder in folders)


# ---- discard


def test_discard_asks_and_keeps_the_work_if_the_answer_is_no(
    open_widget, ct: Path, chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(open_ct(ct), ct, chest)
    dock = open_widget()
    asked = answer(monkeypatch, NO)
    dock.recover.discard.native.click()
    assert len(asked) == 1
    assert "ct" in asked[0]
    assert "for good" in asked[0]
    assert is_offered(dock)
    assert left.folder.exists()
    answer(monkeypatch, YES)
    dock.recover.discard.native.click()
    assert not is_offered(dock)
    assert not left.folder.exists()


def test_after_one_is_discarded_the_other_is_offered(
    open_widget, qtbot, ct: Path, chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lefts = [leave(open_ct(ct), ct, chest, edit) for _ in range(2)]
    dock = open_widget()
    answer(monkeypatch, YES)
    dock.recover.discard.native.click()
    assert is_offered(dock)
    assert sum(left.folder.exists() for left in lefts) == 1
    recover(qtbot, dock)
    assert not is_offered(dock)


def test_nothing_is_discarded_while_it_is_being_recovered(
    open_widget, qtbot, ct: Path, chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lefts = [leave(open_ct(ct), ct, chest, edit) for _ in range(2)]
    dock = open_widget()
    answer(monkeypatch, YES)
    dock.recover.recover.native.click()
    dock.recover.discard.native.click()
    read(qtbot, dock)
    quiet(qtbot, dock)
    assert dock.session.case.voxels_edited == 36
    assert sum(left.folder.exists() for left in lefts) == 1
    assert is_offered(dock)


def test_yes_is_for_the_work_that_was_asked_about(
    open_widget, qtbot, ct: Path, chest, monkeypatch: pytest.MonkeyPatch
) -> None:
    lefts = [leave(open_ct(ct), ct, chest, edit) for _ in range(2)]
    dock = open_widget()

    def recovered_meanwhile(*_arguments):
        read(qtbot, dock)  # the question is open for as long as that takes
        return YES

    monkeypatch.setattr(QMessageBox, "question", recovered_meanwhile)
    dock.recover.recover.native.click()
    dock.recover.discard.native.click()
    quiet(qtbot, dock)
    assert sum(left.folder.exists() for left in lefts) == 1
    assert is_offered(dock)


# ---- what is not there any more


def test_what_is_lost_is_told(open_widget, qtbot, ct: Path, chest) -> None:
    left = leave(open_ct(ct), ct, chest)
    (left.folder / "base-1.nru").unlink()
    dock = open_widget()
    recover(qtbot, dock)
    quiet(qtbot, dock)
    np.testing.assert_array_equal(dock.session.case.edit[left.record.edits.slices], left.record.edits.values)
    lost = "the result of the network on 28 of 28 slices; run it again"
    assert lost in dock.segment.status.value or any(lost in str(error) for error in dock.errors)
    assert not is_offered(dock)


def test_work_of_a_later_version_is_told_of_and_left_alone(open_widget, ct: Path, chest) -> None:
    left = leave(open_ct(ct), ct, chest)
    make_later(left)
    dock = open_widget()
    assert is_offered(dock)
    assert "format version 99, newer than" in dock.recover.words.value
    assert not dock.recover.recover.enabled
    assert left.folder.exists()


def test_work_of_a_later_version_does_not_stand_before_work_that_can_be_recovered(
    open_widget, qtbot, ct: Path, chest
) -> None:
    left = leave(open_ct(ct), ct, chest)
    make_later(leave(open_ct(ct), ct, chest, edit))
    dock = open_widget()
    assert dock.recover.recover.enabled
    recover(qtbot, dock)
    assert holds(dock, left)
    assert "format version 99" in dock.recover.words.value


def make_later(left: Left) -> None:
    for path in left.folder.glob("*.nru"):
        rewrite(path, '"format_version": 1', '"format_version": 99')
