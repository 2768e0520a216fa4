"""A case file put away from one window and taken up again in another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog

from napari_resunet.editing.review import SliceState
from napari_resunet.errors import InputError
from napari_resunet.inference.predict import Batch
from napari_resunet.io.case_file import read_case
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.settings import PredictSettings
from napari_resunet.volume import Run, Volume

pytestmark = pytest.mark.usefixtures("unstyled")

RUN = Run("truth", "", 128, "cpu", "float32", (0, 96, 0, 96))


@pytest.fixture
def other_ct(tmp_path: Path, chest) -> Path:
    write_ct_series(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry), tmp_path / "other")
    return tmp_path / "other"


def idle(qtbot, dock) -> None:
    review = dock.review
    qtbot.waitUntil(
        lambda: dock.session.is_idle and review.reviewing.is_idle and not dock.mask._rest.isActive(),
        timeout=60_000,
    )


def work_on(qtbot, dock, ct: Path, chest) -> None:
    """Open a CT and leave nothing in it as it is at the start."""
    session = dock.session
    session.opening.open(ct)
    idle(qtbot, dock)
    session.show_layers()
    case = session.case
    case.begin(RUN)
    case.accept(RUN, Batch(0, 24, (chest.mask.axial[:24] > 0).astype(np.uint8) * 180))
    case.mask[20, 2:8, 2:8] = 1
    session.hand.forget_edits()
    case.mask[4, 2:8, 2:8] = 1
    case.mask[14, 30:40] = 0
    session.sync()
    dock.mask.threshold.value = 0.6
    dock.mask.clean.value = False
    case.swap_sides()
    idle(qtbot, dock)
    session.show_slice(14)
    dock.review.tick.native.click()
    session.show_slice(9)
    dock.review.flag.native.click()


@pytest.fixture
def worked(open_widget, qtbot, ct: Path, chest):
    """The widget after work of all kinds."""
    dock = open_widget()
    work_on(qtbot, dock, ct, chest)
    return dock


@pytest.fixture
def saved(worked, tmp_path: Path) -> Path:
    """The case file of that work, beside its CT."""
    assert worked.session.saving.save_case(tmp_path / "case.nru")
    return tmp_path / "case.nru"


_KEPT: list[bytes] = []


@pytest.fixture
def kept(request: pytest.FixtureRequest, ct: Path) -> Path:
    """Such a case file of an earlier day, made once: its CT has the same bytes in each test."""
    path = ct.with_name("case.nru")
    if not _KEPT:
        _KEPT.append(request.getfixturevalue("saved").read_bytes())
    path.write_bytes(_KEPT[0])
    return path


def drop(qtbot, dock, path: Path) -> None:
    dock.session.viewer.open(path, plugin="napari-resunet")


def open_case(qtbot, dock, path: Path) -> None:
    dock.session.opening.open_case(path)
    idle(qtbot, dock)


def same(one, other) -> bool:
    """Whether two sessions hold and show the same."""
    for session in (one, other):
        session.sync()
    here, there = one.case.record(), other.case.record()
    assert np.array_equal(one.mask_layer.data, other.mask_layer.data)
    assert np.array_equal(here.edits.slices, there.edits.slices)
    assert np.array_equal(here.edits.values, there.edits.values)
    assert [banked.when for banked in here.banked] == [banked.when for banked in there.banked]
    assert np.array_equal(here.marks, there.marks)
    assert np.array_equal(here.seen, there.seen)
    assert np.array_equal(here.probability, there.probability)
    assert np.array_equal(here.done, there.done)
    assert np.array_equal(one.probability_layer.data[10], other.probability_layer.data[10])
    assert here.settings == there.settings
    return here.run == there.run


def exported(session, folder: Path) -> dict[str, object]:
    """Export with the sides split; return the bytes of each file, and the sidecar without its date."""
    folder.mkdir()
    assert session.saving.export(folder / "lungs.nii.gz", split=True, probability=True)
    found: dict[str, object] = {}
    for path in folder.iterdir():
        if path.suffix == ".json":
            said = json.loads(path.read_text())
            del said["created"]
            found[path.name] = said
        else:
            found[path.name] = path.read_bytes()
    return found


def test_the_button_asks_for_a_name_and_writes_the_case(
    worked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposed = []

    def answer(*arguments):
        proposed.append(Path(arguments[2]).name)
        return str(tmp_path / "mine.nru"), ""

    monkeypatch.setattr(QFileDialog, "getSaveFileName", answer)
    worked.export.save_case.native.click()
    assert proposed == ["ct.nru"]
    assert read_case(tmp_path / "mine.nru").edits.voxels() == worked.session.case.voxels_edited
    assert f"{worked.session.case.voxels_edited:,} voxels set by hand" in worked.export.receipt.value
    assert not worked.session.saving.unsaved_cases()


def test_no_name_writes_nothing(worked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    worked.export.save_case.native.click()
    assert worked.export.receipt.value == ""
    assert worked.session.saving.unsaved_cases()
    assert not list(tmp_path.glob("*.nru"))


def test_a_case_that_cannot_be_written_is_told_of_and_stays_unsaved(worked, tmp_path: Path) -> None:
    assert not worked.session.saving.save_case(tmp_path / "no such folder" / "case.nru")
    assert "there is no folder" in str(worked.errors[0])
    assert worked.session.saving.unsaved_cases() == [worked.session.case]


@pytest.mark.parametrize("open_it", [drop, open_case])
def test_a_case_opens_in_another_window_as_it_was_put_away(
    worked, saved: Path, open_widget, qtbot, open_it
) -> None:
    dock = open_widget()
    open_it(qtbot, dock, saved)
    assert same(dock.session, worked.session)
    idle(qtbot, dock)  # with all that comes after
    assert same(dock.session, worked.session)
    assert not dock.errors
    assert dock.mask.threshold.value == 0.6
    assert dock.review.reviewing.states[14] == SliceState.REVIEWED
    assert dock.review.reviewing.states[9] == SliceState.FLAGGED
    assert dock.correct.count.value == worked.correct.count.value
    assert dock.correct.bring_back.enabled
    assert dock.session.case.settings.swap_sides
    assert [layer.name for layer in dock.session.viewer.layers] == ["ct", "lung probability", "lung mask"]


@pytest.mark.parametrize("open_it", [drop, open_case])
def test_an_export_after_that_is_the_same_to_the_byte(
    worked, saved: Path, open_widget, qtbot, tmp_path: Path, open_it
) -> None:
    before = exported(worked.session, tmp_path / "before")
    dock = open_widget()
    open_it(qtbot, dock, saved)
    idle(qtbot, dock)
    after = exported(dock.session, tmp_path / "after")
    assert len(before) == 4
    assert after == before


def test_edits_that_were_set_aside_can_be_brought_back_in_the_other_window(
    worked, saved: Path, open_widget, qtbot
) -> None:
    dock = open_widget()
    open_case(qtbot, dock, saved)
    assert dock.session.hand.bring_back() == 36
    assert dock.session.mask_layer.data[20, 2:8, 2:8].all()


def test_a_run_afterwards_keeps_the_edits(kept: Path, open_widget, qtbot) -> None:
    dock = open_widget()
    open_case(qtbot, dock, kept)
    edit = dock.session.case.edit.copy()
    dock.session.run(PredictSettings(device="cpu"))
    idle(qtbot, dock)
    assert dock.session.case.done.all()
    assert dock.session.case.run.model == "lung-ct"
    np.testing.assert_array_equal(dock.session.case.edit, edit)
    assert np.array_equal(dock.session.mask_layer.data[edit != 0], edit[edit != 0] > 0)


def test_a_run_that_was_cut_short_goes_on_in_the_other_window(
    open_widget, qtbot, ct: Path, tmp_path: Path
) -> None:
    first, second = open_widget(), open_widget()
    first.session.opening.open(ct)
    idle(qtbot, first)
    first.session.run(PredictSettings(device="cpu"), (0, 12))  # as if it had been cancelled
    idle(qtbot, first)
    assert first.session.saving.save_case(tmp_path / "case.nru")
    open_case(qtbot, second, tmp_path / "case.nru")
    wanted = []
    second.session.events.progress.connect(lambda _seen, of, _left: wanted.append(of))
    second.session.run(PredictSettings(device="cpu"))
    idle(qtbot, second)
    assert set(wanted) == {20}  # two of five blocks were done; a third was begun


def test_a_case_that_was_opened_and_not_touched_is_no_unsaved_work(kept: Path, open_widget, qtbot) -> None:
    dock = open_widget()
    open_case(qtbot, dock, kept)
    assert not dock.session.saving.unsaved_cases()
    dock.session.case.mask[2, 2:8, 2:8] = 1
    assert dock.session.saving.unsaved_cases() == [dock.session.case]


def test_a_case_opened_over_unsaved_edits_leaves_them_and_they_stay_unsaved(
    kept: Path, ct: Path, open_widget, qtbot
) -> None:
    dock = open_widget()
    dock.session.opening.open(ct)
    idle(qtbot, dock)
    dock.session.show_layers()
    dock.session.mask_layer.data[2, 2:8, 2:8] = 1
    open_case(qtbot, dock, kept)
    assert dock.session.mask_layer.data[2, 2:8, 2:8].all()
    assert dock.session.mask_layer.data[4, 2:8, 2:8].all()
    assert dock.session.saving.unsaved_cases() == [dock.session.case]


def test_a_case_of_a_ct_that_is_open_goes_on_in_that_layer(
    worked, saved: Path, ct: Path, open_widget, qtbot
) -> None:
    dock = open_widget()
    dock.session.opening.open(ct)
    idle(qtbot, dock)
    open_case(qtbot, dock, saved)
    assert same(dock.session, worked.session)
    assert [layer.name for layer in dock.session.viewer.layers] == ["ct", "lung probability", "lung mask"]


# ---- dropped at an awkward moment


def test_a_case_dropped_before_there_is_a_widget_waits_for_it(
    worked, saved: Path, make_napari_viewer, open_widget
) -> None:
    viewer = make_napari_viewer()
    viewer.open(saved, plugin="napari-resunet")
    dock = open_widget(viewer)
    assert same(dock.session, worked.session)


def test_two_cases_dropped_before_there_is_a_widget_both_wait_for_it(
    worked, saved: Path, other_ct: Path, make_napari_viewer, open_widget, qtbot, tmp_path: Path, chest
) -> None:
    second = open_widget()
    work_on(qtbot, second, other_ct, chest)
    assert second.session.saving.save_case(tmp_path / "other.nru")
    viewer = make_napari_viewer()
    viewer.open(saved, plugin="napari-resunet")
    viewer.open(tmp_path / "other.nru", plugin="napari-resunet")
    dock = open_widget(viewer)
    assert same(dock.session, second.session)
    dock.ct.layer.value = viewer.layers["ct"]
    assert dock.session.ct_layer is viewer.layers["ct"]
    assert same(dock.session, worked.session)


@pytest.mark.computed
def test_a_case_dropped_while_the_network_runs_is_there_once_its_ct_is_chosen(
    worked, saved: Path, other_ct: Path, open_widget, qtbot
) -> None:
    dock = open_widget()
    dock.session.opening.open(other_ct)
    idle(qtbot, dock)
    dock.session.run(PredictSettings(device="cpu"), (0, 4))
    drop(qtbot, dock, saved)
    idle(qtbot, dock)
    dock.ct.layer.value = dock.session.viewer.layers["ct"]
    idle(qtbot, dock)
    assert same(dock.session, worked.session)


# ---- refused


def test_a_case_beside_another_ct_of_that_name_is_refused_and_nothing_changes(
    kept: Path, ct: Path, other_ct: Path, open_widget, qtbot, chest
) -> None:
    shutil.rmtree(ct)
    shutil.copytree(other_ct, ct)
    dock = open_widget()
    dock.session.show_ct(chest.volume)
    dock.session.show_layers()
    before = dock.session.case, dock.session.case.edit.copy(), list(dock.session.viewer.layers)
    open_case(qtbot, dock, kept)
    assert "is another CT" in str(dock.errors[0])
    assert dock.session.case is before[0]
    assert np.array_equal(dock.session.case.edit, before[1])
    assert list(dock.session.viewer.layers) == before[2]
    with pytest.raises(InputError, match="is another CT"):
        drop(qtbot, dock, kept)
    assert list(dock.session.viewer.layers) == before[2]


def test_a_record_of_another_ct_is_refused_and_nothing_changes(kept: Path, open_widget, chest) -> None:
    dock = open_widget()
    dock.session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    dock.session.adopting.take_in(read_case(kept))
    assert "is another CT; open ct first" in str(dock.errors[0])
    assert not dock.session.case.edited.any()
    assert not dock.session.case.review.marks.any()
    assert dock.session.case.settings.threshold == 0.5
    assert not dock.session.saving.unsaved_cases()


def test_a_case_whose_ct_is_not_beside_it_names_the_ct_and_nothing_changes(
    saved: Path, tmp_path: Path, open_widget, qtbot
) -> None:
    alone = tmp_path / "alone" / "case.nru"
    alone.parent.mkdir()
    saved.rename(alone)
    dock = open_widget()
    answer_nothing(dock)
    open_case(qtbot, dock, alone)
    assert "case.nru needs its CT ct, which is not beside it" in str(dock.asked[0].error)
    with pytest.raises(InputError, match="needs its CT ct"):
        drop(qtbot, dock, alone)  # for which of the two widgets?
    assert not dock.session.viewer.layers
    assert not dock.errors


def answer_nothing(dock) -> None:
    """Let whatever the window asks be cancelled."""
    for name in ("ct_folder", "ct_file"):
        if hasattr(dock, "_dialogs"):
            setattr(dock._dialogs, name, lambda: None)


def test_a_ct_elsewhere_can_be_given(
    worked, saved: Path, ct: Path, tmp_path: Path, open_widget, qtbot
) -> None:
    (tmp_path / "elsewhere").mkdir()
    ct.rename(tmp_path / "elsewhere" / "renamed")
    dock = open_widget()
    dock.session.opening.open_case(saved, tmp_path / "elsewhere" / "renamed")
    idle(qtbot, dock)
    assert np.array_equal(dock.session.mask_layer.data, worked.session.mask_layer.data)


def test_the_words_for_the_window_name_no_option_of_the_command_line(
    kept: Path, ct: Path, open_widget, qtbot
) -> None:
    shutil.rmtree(ct)
    dock = open_widget()
    answer_nothing(dock)
    open_case(qtbot, dock, kept)
    assert "--ct" not in str(dock.asked[0].error)


def test_a_damaged_case_is_refused_and_nothing_changes(kept: Path, open_widget, qtbot) -> None:
    kept.write_bytes(kept.read_bytes()[:-200])
    dock = open_widget()
    open_case(qtbot, dock, kept)
    assert "damaged" in str(dock.errors[0])
    assert not dock.session.viewer.layers
