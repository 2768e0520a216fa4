from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_resunet.case import Case
from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.orientation import is_assumed
from napari_resunet.plugin.layers import (
    KEY,
    UnitProbability,
    can_be_ct,
    ct_layer_data,
    mask_layer,
    probability_layer,
    shows_ct,
    volume_of,
)
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Source, Volume


def flipped_volume() -> Volume:
    """4 slices of 3 x 2, rows running to the front and columns to the right, as NIfTI files often have them."""
    matrix = np.array([[0, 0, -0.7, 70], [0, -0.8, 0, 80], [2.5, 0, 0, -100], [0, 0, 0, 1]], dtype=float)
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    return Volume(array, Geometry((4, 3, 2), matrix))


def ct_layer() -> Image:
    data, look, _ = ct_layer_data(flipped_volume())
    return Image(data, **look)


def test_a_ct_layer_lies_in_mm_along_the_patients_axes_front_up_and_right_on_the_left() -> None:
    volume = flipped_volume()
    data, look, kind = ct_layer_data(volume)
    layer = Image(data, **look)
    assert kind == "image"
    assert np.array_equal(layer.scale, (2.5, 0.8, 0.7))
    # the voxel shown first is the last of each flipped row and column
    assert layer.data[0, 0, 0] == volume.array[0, 2, 1]
    assert np.allclose(layer.translate, (-100, 80 - 2 * 0.8, 70 - 0.7))
    assert [str(u) for u in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("z", "y", "x")


def test_a_ct_layer_shows_the_volume_itself_and_no_copy_of_it() -> None:
    volume = flipped_volume()
    assert np.shares_memory(ct_layer_data(volume)[0], volume.array)


def test_the_volume_of_a_layer_of_ours_is_the_one_it_was_made_from() -> None:
    volume = flipped_volume()
    data, look, _ = ct_layer_data(volume)
    assert volume_of(Image(data, **look)) is volume


def test_a_foreign_layer_gives_a_volume_with_the_layers_scale() -> None:
    layer = Image(np.zeros((3, 4, 5), dtype=np.int16), scale=(5, 0.7, 0.7))
    assert volume_of(layer).geometry.spacing_mm == (5.0, 0.7, 0.7)
    assert is_assumed(volume_of(layer).notes)


def test_a_foreign_layer_in_micrometres_gives_millimetres_and_keeps_its_place() -> None:
    layer = Image(
        np.zeros((3, 4, 5), dtype=np.int16), scale=(5000, 700, 700), translate=(1000, 2000, 3000), units="um"
    )
    geometry = volume_of(layer).geometry
    assert geometry.spacing_mm == pytest.approx((5, 0.7, 0.7))
    assert geometry.index_to_lps[:3, 3] == pytest.approx((3, 2, 1))  # x, y, z


@pytest.mark.parametrize(
    "turned",
    [
        {"rotate": (0, 0, 10)},
        {"shear": (0.1, 0, 0)},
        {"affine": np.diag([1, 2, 1, 1])},
        {"scale": (5, -1, 1)},
    ],
    ids=["rotated", "sheared", "affine", "mirrored"],
)
def test_a_foreign_layer_with_a_transform_of_its_own_is_refused(turned) -> None:
    layer = Image(np.zeros((3, 4, 5), dtype=np.int16), **{"scale": (5, 1, 1), **turned})
    with pytest.raises(InputError, match="open its file"):
        volume_of(layer)


def test_a_layer_that_was_given_other_data_is_no_longer_the_volume_it_came_from() -> None:
    data, look, _ = ct_layer_data(flipped_volume())
    layer = Image(data, **look)
    layer.data = np.zeros_like(data)
    assert not volume_of(layer).array.any()


def test_results_lie_on_the_ct_wherever_its_layer_lies() -> None:
    case = Case(flipped_volume())
    ct = Image(case.volume.axial, scale=(2.5, 0.8, 0.7), translate=(7, 8, 9), rotate=(0, 0, 10))
    for layer in (mask_layer(case, ct), probability_layer(case, ct)):
        assert layer.data_to_world((1, 2, 1)) == pytest.approx(ct.data_to_world((1, 2, 1)))


def test_every_label_that_counts_as_lung_is_seen() -> None:
    layer = mask_layer(Case(flipped_volume()), ct_layer())
    for label in (1, 2, 3, 77):
        assert layer.get_color(label)[3] > 0


def test_a_foreign_layer_without_scale_is_not_given_one() -> None:
    layer = Image(np.zeros((3, 4, 5), dtype=np.int16), name="stack")
    with pytest.raises(SpacingUnknownError, match="stack does not say how large its voxels are"):
        volume_of(layer)
    assert volume_of(layer, InputAnswers(spacing_mm=(3, 1, 1))).geometry.spacing_mm == (3, 1, 1)


@pytest.mark.parametrize(
    "layer",
    [
        Labels(np.zeros((3, 4, 5), dtype=np.uint8)),
        Image(np.zeros((3, 4, 5, 3), dtype=np.uint8), rgb=True),
        Image([np.zeros((8, 8, 8)), np.zeros((4, 4, 4))], multiscale=True),
    ],
    ids=["labels", "rgb", "multiscale"],
)
def test_what_cannot_be_a_ct_is_not_offered_and_refused(layer) -> None:
    assert not can_be_ct(layer)
    with pytest.raises(InputError, match="not a grey-scale image of slices"):
        volume_of(layer)


def test_probabilities_are_kept_as_bytes_and_seen_from_0_to_1() -> None:
    quantised = np.array([[[0, 51, 255]]], dtype=np.uint8)
    seen = UnitProbability(quantised)
    assert seen[0].dtype == np.float32
    assert np.allclose(seen[0], [[0, 0.2, 1]])
    assert np.allclose(np.asarray(seen), [[[0, 0.2, 1]]])
    quantised[0, 0, 0] = 255  # what comes later is seen at once
    assert seen[0, 0, 0] == 1


def test_painting_in_the_mask_layer_paints_in_the_case() -> None:
    case = Case(flipped_volume())
    layer = mask_layer(case, ct_layer())
    layer.data_setitem((np.array([1]), np.array([0]), np.array([1])), 1)
    assert case.mask[1, 0, 1] == 1
    assert layer.metadata[KEY] is case


def test_a_result_cannot_be_taken_for_a_ct() -> None:
    assert not can_be_ct(probability_layer(Case(flipped_volume()), ct_layer()))


def test_a_layer_shows_the_very_ct_or_one_of_the_same_bytes_and_answers() -> None:
    source = Source(Path("ct.nii.gz"), "NIfTI", "ab")
    volume = replace(flipped_volume(), source=source)
    data, look, _ = ct_layer_data(volume)
    layer = Image(data, **look)
    assert shows_ct(layer, volume)
    assert shows_ct(layer, replace(volume, array=volume.array.copy()))
    assert not shows_ct(layer, replace(volume, source=replace(source, sha256="cd")))
    assert not shows_ct(layer, replace(volume, answers=InputAnswers(hu_offset=-1024)))
    assert not shows_ct(layer, flipped_volume())
    assert not shows_ct(Image(data), volume)
