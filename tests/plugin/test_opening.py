"""A CT is opened, what it leaves open is asked, and it is opened again with the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel

from napari_resunet.errors import FrameChoiceError, SpacingUnknownError, UnevenSlicesError
from napari_resunet.io.case_file import read_case
from napari_resunet.io.dicom_choice import SeriesChoiceError
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.plugin.session import Session
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Volume


class User:
    """Answers the questions of a session, one after the other."""

    def __init__(self, session: Session) -> None:
        self.answers: list[dict] = []
        self.asked: list[Exception] = []
        self.errors: list[Exception] = []
        session.events.asks.connect(self._answer)
        session.events.failed.connect(self.errors.append)

    def _answer(self, asked) -> None:
        self.asked.append(asked.error)
        if self.answers:
            asked.take(replace(asked.answers, **self.answers.pop(0)))


@pytest.fixture
def user(session) -> User:
    return User(session)


@pytest.fixture
def two_series(chest, tmp_path: Path) -> Path:
    """A folder with the chest, and with it upside down and one slice missing."""
    write_ct_series(chest.volume, tmp_path / "ct")
    for path in (tmp_path / "ct").iterdir():
        path.rename(path.with_name(f"first_{path.name}"))
    write_ct_series(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry), tmp_path / "ct")
    (tmp_path / "ct" / "slice_0012.dcm").unlink()
    return tmp_path / "ct"


def opened(qtbot, session, path: Path, answers: InputAnswers | None = None) -> None:
    session.opening.open(path, answers)
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)


def keys(error: SeriesChoiceError) -> dict[int, str]:
    return {info.slices: info.key for info in error.series}


def test_the_series_that_is_chosen_is_opened_and_questions_follow_each_other(
    session, user, qtbot, chest, two_series: Path
) -> None:
    opened(qtbot, session, two_series)
    (error,) = user.asked
    assert isinstance(error, SeriesChoiceError)
    assert session.case is None
    user.answers = [{"series": keys(error)[27]}, {"accept_gaps": True}]
    opened(qtbot, session, two_series)
    assert isinstance(user.asked[-1], UnevenSlicesError)
    assert session.case.volume.answers == InputAnswers(series=keys(error)[27], accept_gaps=True)
    assert len(session.case.volume.array) == 27
    assert not user.errors


def test_a_user_who_does_not_answer_leaves_everything_as_it_was(
    session, user, qtbot, chest, two_series: Path
) -> None:
    session.show_ct(chest.volume)
    opened(qtbot, session, two_series)
    assert len(user.asked) == 1
    assert session.case.volume is chest.volume
    assert len(session.viewer.layers) == 1
    assert not user.errors


def test_a_case_remembers_the_answers_and_opens_without_asking(
    session, user, qtbot, two_series: Path, tmp_path: Path
) -> None:
    opened(qtbot, session, two_series)
    chosen = {"series": keys(user.asked[0])[27], "accept_gaps": True}
    opened(qtbot, session, two_series, InputAnswers(**chosen))
    assert session.saving.save_case(tmp_path / "case.nru")
    assert read_case(tmp_path / "case.nru").ct.answers == InputAnswers(**chosen)
    user.asked.clear()
    other = Session(ViewerModel())
    asked = User(other)
    other.opening.open_case(tmp_path / "case.nru")
    qtbot.waitUntil(lambda: other.is_idle, timeout=30_000)
    assert len(other.case.volume.array) == 27
    assert not asked.asked
    assert not asked.errors
    other.close()


def test_a_case_whose_ct_is_open_needs_no_ct_beside_it(session, user, qtbot, chest, tmp_path: Path) -> None:
    write_ct_series(chest.volume, tmp_path / "ct")
    opened(qtbot, session, tmp_path / "ct")
    session.show_layers()
    session.mask_layer.data_setitem((np.array([5]), np.array([5]), np.array([5])), 1)
    (tmp_path / "away").mkdir()
    assert session.saving.save_case(tmp_path / "away" / "case.nru")
    session.hand.forget_edits()
    session.opening.open_case(tmp_path / "away" / "case.nru")
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert not user.asked
    assert not user.errors
    assert session.case.edit[5, 5, 5] == 1


def test_a_case_whose_folder_holds_another_series_by_now_is_refused(
    session, user, qtbot, two_series: Path, chest, tmp_path: Path
) -> None:
    write_ct_series(chest.volume, tmp_path / "later")
    opened(qtbot, session, tmp_path / "later")
    assert session.saving.save_case(tmp_path / "case.nru")
    for path in two_series.iterdir():
        path.rename(tmp_path / "later" / f"other_{path.name}")
    session.viewer.layers.clear()
    session.opening.open_case(tmp_path / "case.nru")
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert not user.asked  # the answer would be for a CT, not for a case
    assert isinstance(user.errors[0], SeriesChoiceError)


def test_a_volume_of_several_in_a_nifti_is_chosen(session, user, qtbot, tmp_path: Path) -> None:
    data = np.full((40, 40, 6, 3), -1000, dtype=np.int16) + np.arange(3, dtype=np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([0.8, 0.8, 5, 1])), tmp_path / "ct.nii.gz")
    user.answers = [{"frame": 2}]
    opened(qtbot, session, tmp_path / "ct.nii.gz")
    assert isinstance(user.asked[0], FrameChoiceError)
    assert user.asked[0].frames == 3
    assert (session.case.volume.array == -998).all()
    assert session.case.volume.answers.frame == 2


@pytest.fixture
def bare_tiff(tmp_path: Path) -> Path:
    slices = np.arange(6, dtype=np.int16)[:, None, None]
    tifffile.imwrite(tmp_path / "ct.tif", np.full((6, 40, 50), -1000, dtype=np.int16) + slices)
    return tmp_path / "ct.tif"


def test_voxel_size_and_orientation_are_one_question(session, user, qtbot, bare_tiff: Path) -> None:
    user.answers = [{"spacing_mm": (5, 0.8, 0.7), "orientation": "IPL"}]
    opened(qtbot, session, bare_tiff)
    assert [type(error) for error in user.asked] == [SpacingUnknownError]
    assert session.ct_layer.data[0, 0, 0] == -995  # the lowest slice is the last of the file
    assert session.ct_layer.scale.tolist() == [5, 0.8, 0.7]
    assert any("by the user's word" in note for note in session.case.volume.notes)


def test_an_orientation_that_nobody_has_said_is_asked_for_in_the_checks(
    session, user, qtbot, bare_tiff
) -> None:
    opened(qtbot, session, bare_tiff, InputAnswers(spacing_mm=(5, 0.8, 0.7)))
    assert {check.name: check.level for check in session.checks}["orientation"] == "ask"
    session.opening.open_anew(replace(session.case.volume.answers, orientation="IPL"))
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert {check.name: check.level for check in session.checks}["orientation"] == "note"
    assert session.ct_layer.data[0, 0, 0] == -995
    assert [layer.name for layer in session.viewer.layers] == ["ct.tif"]


def test_a_ct_that_is_read_anew_leaves_the_layers_with_work_on_them(session, user, qtbot, bare_tiff) -> None:
    opened(qtbot, session, bare_tiff, InputAnswers(spacing_mm=(5, 0.8, 0.7)))
    session.show_layers()
    old, mask = session.case, session.mask_layer
    mask.data_setitem((np.full(3, 2), np.arange(3), np.arange(3)), 1)
    session.opening.open_anew(replace(session.case.volume.answers, orientation="IPL"))
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert session.case is not old
    assert mask in session.viewer.layers
    assert old.voxels_edited == 3
    assert list(session.saving.unsaved_cases()) == [old]


def test_a_foreign_layer_whose_slices_are_not_axial_is_shown_in_axial_slices_beside_it(session, user) -> None:
    coronal = np.zeros((3, 40, 50), dtype=np.int16)
    coronal[:, 0] = 7  # the head's end
    layer = session.viewer.add_image(coronal, name="coronal")
    user.answers = [{"spacing_mm": (5, 2, 1), "orientation": "PIL"}]
    session.choose(layer)
    assert session.ct_layer.name == "coronal, axial"
    assert session.ct_layer.data.shape == (40, 3, 50)
    assert (session.ct_layer.data[-1] == 7).all()
    assert session.ct_layer.scale.tolist() == [2, 5, 1]
    assert layer in session.viewer.layers
    session.opening.open_anew(InputAnswers(spacing_mm=(5, 2, 1), orientation="PSL"))
    assert (session.ct_layer.data[0] == 7).all()


def test_the_reading_of_a_series_is_told_of_by_the_slice(session, user, qtbot, chest, tmp_path: Path) -> None:
    write_ct_series(chest.volume, tmp_path / "ct")
    told: list[tuple[str, int, int]] = []
    session.events.reading.connect(lambda *said: told.append(said))
    opened(qtbot, session, tmp_path / "ct")
    assert told[0] == ("reading ct …", 0, 0)
    assert told[1] == ("ct: 0 of 28 files looked at", 0, 28)
    assert ("ct: 0 of 28 slices read", 0, 28) in told


def test_a_reading_that_is_cancelled_stops_and_leaves_everything_as_it_was(
    session, user, qtbot, chest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari_resunet.plugin.work as work

    steps = []

    def slow(path, answers, track):  # a series of a million slices, read for as long as nobody stops it
        for step in track(range(1_000_000)):
            steps.append(step)
        return chest.volume

    monkeypatch.setattr(work, "open_ct", slow)
    session.show_ct(chest.volume)
    session.events.reading.connect(lambda _words, _done, total: total and session.cancel())
    opened(qtbot, session, tmp_path / "ct")
    assert 0 < len(steps) < 1_000_000
    assert not session.opening.is_reading
    assert session.case.volume is chest.volume
    assert len(session.viewer.layers) == 1
    assert not user.errors
    assert not user.asked
