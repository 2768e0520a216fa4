"""What a hand did is in the journal soon, whatever happens to the CT, the disk or the window."""

from __future__ import annotations

import gc
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event, current_thread, main_thread
from time import sleep
from typing import Any
from weakref import ref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import QThreadPool, QTimer

from napari_resunet.editing.journal import Abandoned, Journal, abandoned
from napari_resunet.errors import OutputError
from napari_resunet.inference.predict import Batch
from napari_resunet.plugin import autosave
from napari_resunet.plugin.autosave import Autosave
from napari_resunet.plugin.reviewing import Reviewing
from napari_resunet.plugin.session import Session
from napari_resunet.settings import PredictSettings
from napari_resunet.volume import Mask, Run, Volume

pytestmark = pytest.mark.usefixtures("unstyled")

RUN = Run("truth", "", 128, "cpu", "float32", (0, 96, 0, 96))


class Keeper:
    """A session whose work is kept, without a window; and what its errors said."""

    def __init__(self, root: Path, viewer: ViewerModel | None = None) -> None:
        self.root = root
        self.session = Session(viewer or ViewerModel())
        self.reviewing = Reviewing(self.session)
        self.autosave = Autosave(self.session, root)
        self.errors: list[Exception] = []
        self.session.events.failed.connect(self.errors.append)

    def open(self, volume: Volume) -> None:
        self.session.show_ct(volume)
        self.session.show_layers()

    @property
    def is_quiet(self) -> bool:
        return self.autosave.is_idle and self.session.is_idle and self.reviewing.is_idle


AFTER_MS, RETRY_MS, RETRY_MOST_MS = 20, 40, 160


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The waits before a write that has failed is tried again, and all waits short."""
    waits: list[int] = []

    class Timer(QTimer):
        def start(self, ms: int) -> None:
            if ms != AFTER_MS:
                waits.append(ms)
            super().start(ms)

    monkeypatch.setattr(autosave, "QTimer", Timer)
    monkeypatch.setattr(autosave, "_AFTER_MS", AFTER_MS)
    monkeypatch.setattr(autosave, "_RETRY_MS", RETRY_MS)
    monkeypatch.setattr(autosave, "_RETRY_MOST_MS", RETRY_MOST_MS)
    return waits


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal"


@pytest.fixture
def keeper(root: Path, qtbot, chest):
    """The small chest, open in a session whose work is kept."""
    keeper = Keeper(root)
    keeper.open(chest.volume)
    yield keeper
    keeper.session.close()
    qtbot.waitUntil(lambda: keeper.session.is_idle, timeout=30_000)


def quiet(keeper: Keeper, qtbot) -> None:
    qtbot.waitUntil(lambda: keeper.is_quiet, timeout=30_000)


def found_by_a_network(session: Session, chest, value: int = 250) -> None:
    """Give the open case the true lungs as what a network has found."""
    case = session.case
    case.begin(RUN)
    case.accept(case.run, Batch(0, 28, (chest.mask.axial > 0).astype(np.uint8) * value))
    session.events.ran.emit("")


def paint(session: Session, z: int = 5) -> None:
    stroke(session.mask_layer, z)


def stroke(mask: Labels, z: int) -> None:
    with mask.block_history():  # as the mouse does
        mask.paint((z, 6, 6), 1)


@pytest.fixture
def crash(root: Path, tmp_path: Path):
    """Returns what would be found if the process died now: a copy of the journal, in which nobody holds a lock."""
    looks: list[list[Abandoned]] = []

    def look() -> list[Abandoned]:
        copy = tmp_path / f"after crash {len(looks)}"
        while root.is_dir() and not _copied(root, copy):
            shutil.rmtree(copy)
        looks.append(abandoned(copy))
        return looks[-1]

    yield look
    for found in looks:
        for each in found:
            each.release()


def _copied(root: Path, copy: Path) -> bool:
    """Copy the journal; a file that was put in its place meanwhile is no copy of one moment."""
    try:
        shutil.copytree(root, copy)
    except shutil.Error:
        return False
    return True


def other_ct(chest) -> Volume:
    return Volume(chest.volume.array[::-1].copy(), chest.volume.geometry)


# ---- when it is written


def _stroke(keeper: Keeper) -> None:
    paint(keeper.session, 9)


def _tick(keeper: Keeper) -> None:
    keeper.reviewing.tick()


def _flag(keeper: Keeper) -> None:
    keeper.reviewing.flag()


def _forget(keeper: Keeper) -> None:
    keeper.session.hand.forget_edits()


def _swap(keeper: Keeper) -> None:
    keeper.session.case.swap_sides()
    keeper.session.sync()


@pytest.mark.parametrize("do", [_stroke, _tick, _flag, _forget, _swap])
def test_what_a_hand_does_is_written_by_itself(keeper, qtbot, crash, do) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    do(keeper)
    assert not keeper.autosave.is_idle
    quiet(keeper, qtbot)
    (found,) = crash()
    record, case = found.record(), keeper.session.case
    assert found.edited_slices == int(case.edited.sum())
    np.testing.assert_array_equal(record.edits.values, case.edit[case.edited])
    np.testing.assert_array_equal(record.marks, case.review.marks)
    assert record.settings == case.settings
    assert len(record.banked) == len(case.banked)


def test_edits_that_are_brought_back_are_written(keeper, qtbot, crash) -> None:
    paint(keeper.session)
    keeper.session.hand.forget_edits()
    quiet(keeper, qtbot)
    assert crash()[0].voxels == 0
    keeper.session.hand.bring_back()
    quiet(keeper, qtbot)
    assert crash()[0].voxels == keeper.session.case.voxels_edited > 0


def test_nothing_is_written_where_no_hand_did_anything(keeper, qtbot, chest, root: Path) -> None:
    found_by_a_network(keeper.session, chest)
    keeper.session.masking.set_threshold(0.7)
    keeper.session.masking.settle()
    quiet(keeper, qtbot)
    assert not root.exists()


def test_strokes_are_written_together_and_not_each_by_itself(keeper, qtbot, monkeypatch) -> None:
    writes = counted(monkeypatch, "write")
    for z in range(3, 13):
        paint(keeper.session, z)
    quiet(keeper, qtbot)
    assert len(writes) == 1


def test_a_polygon_is_written_though_nothing_is_done_after_it(keeper, qtbot, crash) -> None:
    corners = [(5, 4, 4), (5, 4, 12), (5, 12, 12), (5, 12, 4)]
    keeper.session.mask_layer.paint_polygon(corners, 1)
    quiet(keeper, qtbot)
    assert crash()[0].edited_slices == 1


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Return the records that `name` of a journal is given from now on."""
    records: list[Any] = []
    real = getattr(Journal, name)

    def counting(self, record):
        records.append(record)
        real(self, record)

    monkeypatch.setattr(Journal, name, counting)
    return records


def test_the_probabilities_are_written_once_for_a_run_and_not_for_each_stroke(
    keeper, qtbot, chest, crash, monkeypatch
) -> None:
    bases = counted(monkeypatch, "write_base")
    found_by_a_network(keeper.session, chest)
    for z in (4, 6, 8):
        paint(keeper.session, z)
        quiet(keeper, qtbot)
    assert len(bases) == 1
    record = crash()[0].record()
    np.testing.assert_array_equal(record.probability, keeper.session.case.probability)
    assert record.run == RUN
    assert record.done.all()


def test_a_run_after_the_strokes_is_written_too(keeper, qtbot, chest, crash) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    found_by_a_network(keeper.session, chest)
    quiet(keeper, qtbot)
    np.testing.assert_array_equal(crash()[0].record().probability, keeper.session.case.probability)


def test_the_mask_that_the_case_began_from_is_written(keeper, qtbot, chest, crash) -> None:
    keeper.session.adopting.adopt_mask(chest.mask, name="first.nii.gz")
    paint(keeper.session)
    quiet(keeper, qtbot)
    record = crash()[0].record()
    np.testing.assert_array_equal(record.adopted, chest.mask.axial > 0)
    assert record.adopted_name == "first.nii.gz"


def test_another_mask_of_the_same_name_is_written_too(keeper, qtbot, chest, crash) -> None:
    keeper.session.adopting.adopt_mask(chest.mask, name="mask.nii.gz")
    paint(keeper.session)
    quiet(keeper, qtbot)
    smaller = np.where(np.arange(28)[:, None, None] < 10, chest.mask.array, 0).astype(np.uint8)
    keeper.session.adopting.adopt_mask(Mask(smaller, chest.volume.geometry), name="mask.nii.gz")
    paint(keeper.session, 20)
    quiet(keeper, qtbot)
    np.testing.assert_array_equal(crash()[0].record().adopted, smaller > 0)


def test_a_run_that_found_something_else_in_as_many_slices_is_written_too(
    keeper, qtbot, chest, crash
) -> None:
    found_by_a_network(keeper.session, chest, 250)
    paint(keeper.session)
    quiet(keeper, qtbot)
    keeper.session.answer_hu(0)  # which forgets what the network has found
    found_by_a_network(keeper.session, chest, 200)
    paint(keeper.session, 20)
    quiet(keeper, qtbot)
    record = crash()[0].record()
    assert record.probability is not None
    np.testing.assert_array_equal(record.probability, keeper.session.case.probability)


def test_a_threshold_moved_after_the_last_stroke_is_what_comes_back(keeper, qtbot, chest, crash) -> None:
    found_by_a_network(keeper.session, chest)
    paint(keeper.session)
    quiet(keeper, qtbot)
    keeper.session.masking.set_threshold(0.8)
    keeper.session.masking.settle()
    quiet(keeper, qtbot)
    assert crash()[0].record().settings.threshold == 0.8


# ---- when it cannot be written


def refuse(_self, _record) -> None:
    raise OutputError("hand-0.nru could not be written: the disk is full; make room")


def test_a_journal_that_cannot_be_made_is_told_of_once_and_made_when_it_can_be(
    keeper, qtbot, crash, root: Path
) -> None:
    root.parent.mkdir()
    root.write_text("a file, where the folder should be")
    paint(keeper.session)
    qtbot.waitUntil(lambda: len(keeper.errors) == 1, timeout=5_000)
    paint(keeper.session, 7)  # painting goes on
    assert keeper.session.case.edited.sum() == 2
    qtbot.wait(300)
    assert len(keeper.errors) == 1
    assert str(root) in str(keeper.errors[0])
    root.unlink()
    quiet(keeper, qtbot)
    assert crash()[0].edited_slices == 2


@pytest.mark.parametrize("refused", ["write", "write_base"])
def test_a_write_that_fails_is_told_of_once_and_tried_again_after_growing_waits(
    keeper, qtbot, chest, crash, waits, refused: str
) -> None:
    found_by_a_network(keeper.session, chest)
    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(Journal, refused, refuse)
        paint(keeper.session)
        qtbot.waitUntil(lambda: len(waits) > 3, timeout=10_000)
    assert waits[:4] == [40, 80, 160, 160]
    assert len(keeper.errors) == 1
    assert "the disk is full" in str(keeper.errors[0])
    quiet(keeper, qtbot)
    record = crash()[0].record()
    assert len(record.edits.slices) == 1
    assert record.probability is not None


def test_a_failure_after_it_went_well_again_is_news(keeper, qtbot, waits) -> None:
    for z in (4, 8):
        waits.clear()
        with pytest.MonkeyPatch.context() as disk:
            disk.setattr(Journal, "write", refuse)
            paint(keeper.session, z)
            qtbot.waitUntil(lambda: len(waits) > 1, timeout=10_000)
        quiet(keeper, qtbot)
    assert len(keeper.errors) == 2


def test_a_ct_whose_journal_fails_does_not_keep_another_one_from_its_own(
    keeper, qtbot, chest, crash, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = keeper.session.case
    real = Journal.write

    def refuse_the_first(self, record):
        if record.ct.sha256 == first.reference.sha256:
            raise OutputError("no")
        real(self, record)

    monkeypatch.setattr(Journal, "write", refuse_the_first)
    paint(keeper.session)
    qtbot.waitUntil(lambda: bool(keeper.errors), timeout=10_000)
    keeper.open(other_ct(chest))
    paint(keeper.session, 8)
    qtbot.waitUntil(
        lambda: keeper.session.case.reference.sha256 in {found.ct_sha256 for found in crash()},
        timeout=10_000,
    )


def test_a_journal_whose_folder_was_swept_away_is_made_anew(keeper, qtbot, crash, root: Path) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    shutil.rmtree(root)
    paint(keeper.session, 8)
    qtbot.waitUntil(lambda: [found.edited_slices for found in crash()] == [2], timeout=5_000)


# ---- when it is let go


def test_a_saved_case_lets_go_of_the_journal_and_the_next_stroke_begins_another(
    keeper, qtbot, root: Path, crash, tmp_path: Path
) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    assert keeper.session.saving.save_case(tmp_path / "case.nru")
    assert not list(root.glob("*"))
    quiet(keeper, qtbot)
    assert not list(root.glob("*"))
    paint(keeper.session, 8)
    quiet(keeper, qtbot)
    assert crash()[0].edited_slices == 2


def test_an_export_lets_go_of_the_journal(keeper, qtbot, root: Path, tmp_path: Path) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    assert keeper.session.saving.export(tmp_path / "lungs.nii.gz")
    assert not list(root.glob("*"))


@pytest.mark.parametrize("do", [_tick, _flag, _forget])
def test_an_export_does_not_let_go_of_what_a_mask_cannot_hold(
    keeper, qtbot, root: Path, crash, tmp_path: Path, do
) -> None:
    paint(keeper.session)
    do(keeper)
    paint(keeper.session, 9)
    quiet(keeper, qtbot)
    assert keeper.session.saving.export(tmp_path / "lungs.nii.gz")
    assert keeper.session.saving.unsaved_cases() == [keeper.session.case]
    assert len(crash()) == 1


def test_an_export_that_fails_lets_go_of_nothing(keeper, qtbot, crash, tmp_path: Path) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    assert keeper.session.saving.export(tmp_path / "no such folder" / "lungs.nii.gz") is None
    assert not keeper.session.saving.save_case(tmp_path / "case.zip")
    assert len(crash()) == 1


def held(monkeypatch: pytest.MonkeyPatch, name: str = "write") -> list[bool]:
    """Hold every write back until `release` is non-empty; a busy thread pool does the same."""
    release: list[bool] = []
    real = getattr(Journal, name)

    def waiting(self, record):
        while not release:
            sleep(0.005)
        real(self, record)

    monkeypatch.setattr(Journal, name, waiting)
    return release


def test_a_case_saved_while_its_journal_is_being_written_is_no_error(
    keeper, qtbot, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = held(monkeypatch)
    paint(keeper.session)
    qtbot.waitUntil(lambda: keeper.autosave._job is not None, timeout=5_000)
    assert keeper.session.saving.save_case(tmp_path / "case.nru")
    release.append(True)
    quiet(keeper, qtbot)
    assert not keeper.errors
    assert not list(root.glob("*"))


def test_closing_with_unsaved_work_leaves_it_to_be_found(keeper, qtbot, chest, root: Path) -> None:
    found_by_a_network(keeper.session, chest)
    paint(keeper.session)
    quiet(keeper, qtbot)
    edit, probability = keeper.session.case.edit.copy(), keeper.session.case.probability.copy()
    keeper.session.close()
    (found,) = abandoned(root)
    record = found.record()
    np.testing.assert_array_equal(record.edits.values, edit[5:6])
    np.testing.assert_array_equal(record.probability, probability)
    found.release()


def test_closing_right_after_the_first_stroke_loses_nothing(keeper, qtbot, chest, root: Path) -> None:
    found_by_a_network(keeper.session, chest)
    paint(keeper.session)
    voxels = keeper.session.case.voxels_edited
    keeper.session.close()
    (found,) = abandoned(root)
    assert found.voxels == voxels
    found.release()


def test_closing_while_a_write_waits_for_its_turn_loses_nothing(
    keeper, qtbot, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    pool = QThreadPool.globalInstance()
    threads = pool.maxThreadCount()
    pool.setMaxThreadCount(0)  # all are at work, on a run say
    try:
        paint(keeper.session, 8)
        qtbot.waitUntil(lambda: keeper.autosave._job is not None, timeout=5_000)
        keeper.session.close()
    finally:
        pool.setMaxThreadCount(threads)
    (found,) = abandoned(root)
    assert found.edited_slices == 2
    found.release()
    pool.waitForDone()


def test_a_write_that_is_under_way_at_the_end_does_not_come_last(
    keeper, qtbot, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = Event()
    write, close = Journal.write, Journal.close

    def write_late(self, record) -> None:
        if current_thread() is not main_thread():
            may_go_on.wait(0.5)
        write(self, record)

    def close_later(self, *, keep: bool = False) -> None:
        may_go_on.set()
        sleep(0.2)
        close(self, keep=keep)

    monkeypatch.setattr(Journal, "write", write_late)
    monkeypatch.setattr(Journal, "close", close_later)
    paint(keeper.session)
    qtbot.waitUntil(lambda: keeper.autosave._job is not None, timeout=5_000)
    qtbot.wait(50)
    paint(keeper.session, 8)
    keeper.session.close()
    (found,) = abandoned(root)
    assert found.edited_slices == 2
    found.release()


def test_closing_takes_in_what_a_script_gave_the_layer(keeper, qtbot, root: Path) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    changed = keeper.session.mask_layer.data.copy()
    changed[12, 2:8, 2:8] = 1
    keeper.session.mask_layer.data = changed
    keeper.session.close()
    (found,) = abandoned(root)
    assert found.edited_slices == 2
    found.release()


def test_closing_after_saving_leaves_nothing(keeper, qtbot, root: Path, tmp_path: Path) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    keeper.session.saving.save_case(tmp_path / "case.nru")
    keeper.session.close()
    assert not list(root.glob("*"))
    assert not abandoned(root)


def test_what_was_discarded_is_not_written_again(keeper, qtbot, root: Path, monkeypatch) -> None:
    release = held(monkeypatch)
    paint(keeper.session)
    qtbot.waitUntil(lambda: keeper.autosave._job is not None, timeout=5_000)
    keeper.autosave.discard()
    release.append(True)
    quiet(keeper, qtbot)
    keeper.session.close()
    assert not keeper.errors
    assert not abandoned(root)


def test_after_discarding_what_is_painted_next_is_kept(keeper, qtbot, crash, root: Path) -> None:
    # the window may have stayed open after all: napari asks once more
    paint(keeper.session)
    quiet(keeper, qtbot)
    keeper.autosave.discard()
    paint(keeper.session, 8)
    quiet(keeper, qtbot)
    assert crash()[0].edited_slices == 2
    keeper.session.close()
    (found,) = abandoned(root)
    found.release()


def test_a_journal_of_this_process_is_not_taken_for_one_left_behind(keeper, qtbot, root: Path) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    assert abandoned(root) == []
    paint(keeper.session, 8)
    quiet(keeper, qtbot)
    assert not keeper.errors


# ---- several CTs


def test_two_cts_in_one_viewer_are_both_kept(keeper, qtbot, chest, crash) -> None:
    paint(keeper.session)
    first = keeper.session.case
    keeper.open(other_ct(chest))
    paint(keeper.session, 8)
    paint(keeper.session, 9)
    second = keeper.session.case
    quiet(keeper, qtbot)
    kept = {found.ct_sha256: found.edited_slices for found in crash()}
    assert kept == {first.reference.sha256: 1, second.reference.sha256: 2}


def test_switching_to_another_ct_before_anything_is_written_loses_nothing(
    keeper, qtbot, chest, crash
) -> None:
    paint(keeper.session)
    sha256 = keeper.session.case.reference.sha256
    keeper.session.show_ct(other_ct(chest))
    quiet(keeper, qtbot)
    (found,) = crash()
    assert (found.ct_sha256, found.edited_slices) == (sha256, 1)


def test_the_first_stroke_on_a_second_ct_is_noticed(keeper, qtbot, chest, crash) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    keeper.open(other_ct(chest))
    paint(keeper.session, 8)
    quiet(keeper, qtbot)
    assert len(crash()) == 2


def test_a_stroke_on_the_mask_of_a_ct_that_is_not_the_open_one_is_noticed(
    keeper, qtbot, chest, crash
) -> None:
    mask = keeper.session.mask_layer
    keeper.open(other_ct(chest))
    stroke(mask, 5)
    quiet(keeper, qtbot)
    assert len(crash()) == 1


def test_a_stroke_on_the_mask_of_a_ct_whose_layer_was_deleted_is_noticed(keeper, qtbot, crash) -> None:
    mask = keeper.session.mask_layer
    keeper.session.viewer.layers.remove(keeper.session.ct_layer)
    stroke(mask, 5)
    assert len(keeper.session.saving.unsaved_cases()) == 1
    quiet(keeper, qtbot)
    assert [found.edited_slices for found in crash()] == [1]


def test_what_a_run_has_found_before_another_ct_was_opened_is_written(keeper, qtbot, chest, crash) -> None:
    first = keeper.session.case
    paint(keeper.session)
    quiet(keeper, qtbot)
    keeper.session.events.progress.connect(lambda *_: keeper.session.show_ct(other_ct(chest)))
    keeper.session.run(PredictSettings(device="cpu"))
    quiet(keeper, qtbot)
    assert 0 < first.done.sum() < 28
    (found,) = crash()
    np.testing.assert_array_equal(found.record().done, first.done)


def test_one_ct_saved_leaves_the_journal_of_the_other(keeper, qtbot, chest, crash, tmp_path: Path) -> None:
    paint(keeper.session)
    first = keeper.session.case
    keeper.open(other_ct(chest))
    paint(keeper.session, 8)
    quiet(keeper, qtbot)
    assert keeper.session.saving.save_case(tmp_path / "second.nru")
    (found,) = crash()
    assert found.ct_sha256 == first.reference.sha256
    assert keeper.session.saving.unsaved_cases() == [first]


@pytest.mark.parametrize("is_written", [True, False], ids=["written", "not yet written"])
def test_the_work_on_a_ct_whose_layers_are_deleted_is_not_lost(
    keeper, qtbot, crash, is_written: bool
) -> None:
    paint(keeper.session)
    if is_written:
        quiet(keeper, qtbot)
    keeper.session.viewer.layers.clear()
    gc.collect()
    assert len(keeper.session.saving.unsaved_cases()) == 1
    quiet(keeper, qtbot)
    assert [found.edited_slices for found in crash()] == [1]


def test_a_ct_whose_layers_are_deleted_comes_back_with_the_work_on_it(keeper, qtbot, chest) -> None:
    paint(keeper.session)
    edit = keeper.session.case.edit.copy()
    keeper.session.viewer.layers.clear()
    gc.collect()
    keeper.open(replace(chest.volume))  # read once more
    np.testing.assert_array_equal(keeper.session.case.edit, edit)


def test_deleted_cts_without_unsaved_work_are_not_held_in_memory(keeper, qtbot, chest) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    keeper.session.case.kept()
    case = ref(keeper.session.case)
    keeper.session.viewer.layers.clear()
    keeper.open(other_ct(chest))  # napari itself holds on to the layer that was selected last
    quiet(keeper, qtbot)
    gc.collect()
    assert case() is None


# ---- after another widget


def test_a_new_widget_keeps_the_unsaved_work_that_a_closed_one_left_in_the_viewer(
    keeper, qtbot, root: Path, crash
) -> None:
    paint(keeper.session)
    quiet(keeper, qtbot)
    keeper.session.close()
    for found in abandoned(root):
        found.discard()  # "it is here on the screen": and so it is
    second = Keeper(root, keeper.session.viewer)
    assert second.session.case.voxels_edited
    quiet(second, qtbot)
    assert [found.edited_slices for found in crash()] == [1]
    second.session.close()
