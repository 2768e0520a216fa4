"""The three middle planes show which orientation is right."""

from __future__ import annotations

import numpy as np
import pytest

from napari_resunet.geometry import Geometry
from napari_resunet.plugin.preview import middle_planes
from napari_resunet.plugin.questions import ORIENTATIONS, PlaceQuestion
from napari_resunet.volume import Volume


def patient() -> np.ndarray:
    """Axial slices, lowest first, front up, right on the left: bright at the head, in front, on the right."""
    array = np.zeros((40, 30, 20), dtype=np.int16)
    array[25:, :12, :8] = 1000
    array[17:24, 10:20, 5:15] = 500  # the middle of the body
    return array


@pytest.mark.parametrize("letters", ORIENTATIONS.values())
def test_the_planes_are_the_same_however_the_file_has_the_slices_if_its_orientation_is_given(letters) -> None:
    right = Geometry.from_spacing((40, 30, 20), (1, 1, 1))
    stored = Geometry.from_spacing((40, 30, 20), (1, 1, 1), letters).to_axial.undo(patient())
    shown = middle_planes(stored, Geometry.from_spacing(stored.shape, (1, 1, 1), letters))
    for plane, expected in zip(shown, middle_planes(patient(), right), strict=True):
        assert np.array_equal(plane, expected)


def test_the_front_the_head_and_the_right_stand_where_the_words_say() -> None:
    array = np.zeros((40, 40, 40), dtype=np.int16)
    array[:, :10], array[30:], array[:, :, :10] = 100, 100, 100
    for plane in middle_planes(array, Geometry.from_spacing(array.shape, (1, 1, 1))):
        top, bottom, left, right = plane[:20], plane[-20:], plane[:, :20], plane[:, -20:]
        assert top.mean() > 2 * bottom.mean()
        assert left.mean() > 2 * right.mean()


def test_planes_are_true_to_scale() -> None:
    axial, coronal, sagittal = middle_planes(
        np.zeros((10, 50, 100), np.int16), Geometry.from_spacing((10, 50, 100), (5, 1, 2))
    )
    assert axial.shape == (38, 150)  # 50 x 200 mm
    assert coronal.shape == (38, 150)
    assert sagittal.shape == (38, 38)


def test_the_preview_follows_the_orientation_that_is_chosen(qtbot) -> None:
    question = PlaceQuestion(Volume(patient(), Geometry.from_spacing((40, 30, 20), (1, 1, 1))))

    def coronal() -> np.ndarray:
        return question.preview.planes[1]

    head, feet = coronal()[:75].mean(), coronal()[75:].mean()
    assert head > feet
    question.lie.choice.value = "axial, highest slice first"
    assert coronal()[75:].mean() == pytest.approx(head, rel=0.1)
    assert coronal()[:75].mean() == pytest.approx(feet, rel=0.1)
