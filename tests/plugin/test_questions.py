"""What a CT leaves open is asked in one dialog each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDialog

from napari_resunet.errors import FrameChoiceError, SpacingUnknownError, UnevenSlicesError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_choice import SeriesChoiceError
from napari_resunet.io.dicom_list import SeriesInfo
from napari_resunet.io.orientation import orientation_note
from napari_resunet.plugin.questions import (
    ORIENTATIONS,
    OTHER,
    FrameQuestion,
    GapsQuestion,
    PlaceQuestion,
    SeriesQuestion,
    VoxelQuestion,
    ask,
    ask_place,
)
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Volume

NO_SIZE = SpacingUnknownError(
    "ct.tif does not say how large its voxels are; give the voxel size in mm (--spacing Z,Y,X or spacing_mm=)"
)
CT = Volume(np.zeros((4, 3, 2), np.int16), Geometry.from_spacing((4, 3, 2), (5, 2, 1)))
GAPS = UnevenSlicesError(
    "ct: 1 of 28 slices are missing; accept it (--accept-gaps, accept_gaps=True); left out: 1 scout"
)


def info(key: str, description: str, **changes) -> SeriesInfo:
    facts = {
        "modality": "CT",
        "kernel": "B31f",
        "image_type": "ORIGINAL",
        "stack": "",
        "plane": "axial",
        "slices": 212,
        "size": (512, 512),
        "spacing_mm": (5.0, 0.7, 0.7),
        "thickness_mm": 5.0,
        "date": "2024-01-31",
        "odd": ("1 of 212 slices are missing",),
        "left_out": "",
    }
    return SeriesInfo(key=key, description=description, **{**facts, **changes})


@pytest.fixture
def series(qtbot) -> SeriesQuestion:
    return SeriesQuestion(
        SeriesChoiceError("several", series=(info("1.2", "Thorax"), info("1.3", "Lung", odd=())))
    )


def shown_row(question: SeriesQuestion, row: int) -> list[str]:
    table = question.table.native
    return [table.item(row, column).text() for column in range(table.columnCount())]


def test_each_series_stands_in_a_line_with_what_is_odd_about_it(series) -> None:
    voxel = "0.7 × 0.7 × 5"
    assert shown_row(series, 0) == [
        *("CT", "Thorax", "212, axial", "512 × 512", voxel, "B31f", "2024-01-31"),
        "1 of 212 slices are missing",
    ]


def test_no_series_is_chosen_until_the_user_chooses_one(series) -> None:
    assert series.chosen is None
    assert not series.accept.isEnabled()
    series.table.native.selectRow(1)
    assert series.said == {"series": "1.3"}
    assert series.accept.isEnabled()


def test_a_double_click_opens_a_series_and_does_not_write_in_the_table(series, qtbot) -> None:
    table = series.table.native
    series.native.show()
    place = table.visualItemRect(table.item(1, 1)).center()
    qtbot.mouseClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert series.native.result() == QDialog.DialogCode.Accepted
    assert series.said == {"series": "1.3"}
    assert table.state() != table.State.EditingState


def test_a_series_without_voxel_size_says_so(qtbot) -> None:
    question = SeriesQuestion(SeriesChoiceError("", series=(info("1", "a", spacing_mm=None),)))
    assert shown_row(question, 0)[4] == "not stated"


def test_gaps_are_asked_about_in_the_words_of_the_reader_without_its_options(qtbot) -> None:
    question = GapsQuestion(GAPS)
    assert "ct: 1 of 28 slices are missing; accept it; left out: 1 scout" in question.words.value
    assert "--" not in question.words.value
    assert question.said == {"accept_gaps": True}


def test_a_volume_of_several_is_chosen_by_its_number(qtbot) -> None:
    question = FrameQuestion(FrameChoiceError("ct.nii holds 5 volumes", frames=5))
    assert (question.frame.min, question.frame.max) == (0, 4)
    question.frame.value = 3
    assert question.said == {"frame": 3}


def test_no_voxel_size_is_proposed_and_all_three_lengths_are_needed(qtbot) -> None:
    question = VoxelQuestion(NO_SIZE)
    assert question.spacing_mm == (0, 0, 0)
    for length, mm in zip(question.lengths, (5, 0.8, 0.7), strict=True):
        assert not question.accept.isEnabled()
        length.value = mm
    assert question.accept.isEnabled()
    assert question.said == {"spacing_mm": (5, 0.8, 0.7), "orientation": None}


def test_a_length_keeps_four_digits(qtbot) -> None:
    question = VoxelQuestion(NO_SIZE)
    question.lengths[1].value = 0.7031
    assert question.spacing_mm[1] == 0.7031


def test_the_orientation_is_left_to_the_file_unless_the_user_says_one(qtbot) -> None:
    question = VoxelQuestion(NO_SIZE)
    assert question.said["orientation"] is None
    question.lie.choice.value = "coronal, front first"
    assert question.said["orientation"] == "PIL"


@pytest.mark.parametrize(("words", "letters"), ORIENTATIONS.items())
def test_the_words_for_an_orientation_mean_its_letters(words: str, letters: str) -> None:
    towards = dict(zip("zyx", letters, strict=True))
    first = {"lowest": "S", "highest": "I", "front": "P", "back": "A", "right": "L", "left": "R"}
    plane, order, *rest = words.split(", ")
    assert towards["z"] == first[order.split()[0]]
    assert towards["y"] == ("P" if plane == "axial" else "I")  # front up, or head up
    patients_right_on_the_left = "R" if rest else "L"
    assert towards["x"] == {"sagittal": "P"}.get(plane, patients_right_on_the_left)


def test_letters_are_asked_for_only_if_they_are_wanted_and_have_to_be_three_directions(qtbot) -> None:
    question = PlaceQuestion(CT)
    question.native.show()
    assert not question.lie.letters.visible
    question.lie.choice.value = OTHER
    assert question.lie.letters.visible
    question.lie.letters.value = "SSL"
    assert not question.accept.isEnabled()
    assert "one of each of L or R" in question.lie.fault.value
    question.lie.letters.value = " ial "
    assert question.accept.isEnabled()
    assert question.said == {"orientation": "IAL"}
    question.native.close()


def test_what_the_user_said_before_stands_in_the_fields(qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(VoxelQuestion, "exec", lambda question: seen.append(question.said) or True)
    said = InputAnswers(spacing_mm=(5, 0.8, 0.7), orientation="IAL", series="1.2")
    assert ask_place(replace(CT, answers=said)) == said
    assert seen == [{"spacing_mm": (5, 0.8, 0.7), "orientation": "IAL"}]


def test_where_nobody_has_said_how_a_ct_lies_the_usual_is_proposed_and_taken_as_said(
    qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VoxelQuestion, "exec", lambda _: True)
    said = InputAnswers(spacing_mm=(5, 0.8, 0.7))
    assert ask_place(replace(CT, answers=said)).orientation is None
    assumed = replace(CT, answers=said, notes=(orientation_note("SPL", None),))
    assert ask_place(assumed).orientation == "SPL"


def test_an_answer_is_added_to_those_before_and_no_answer_is_none(
    qtbot, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = InputAnswers(series="1.2")
    monkeypatch.setattr(GapsQuestion, "exec", lambda _: True)
    assert ask(GAPS, before) == InputAnswers(series="1.2", accept_gaps=True)
    monkeypatch.setattr(GapsQuestion, "exec", lambda _: False)
    assert ask(GAPS, before) is None
