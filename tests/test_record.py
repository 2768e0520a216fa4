from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_resunet.geometry import AxisOrder, Geometry
from napari_resunet.record import CaseRecord, CtReference, SliceEdits
from napari_resunet.settings import InputAnswers, MaskSettings
from napari_resunet.volume import Source, Volume

SHAPE = (3, 4, 5)
GEOMETRY = Geometry.from_spacing(SHAPE, (5, 2, 1))
SOURCE = Source(
    Path("home/a_person/ct.nii.gz"), "NIfTI", "ab" * 32, (Path("home/a_person/ct.nii.gz"),), b"header"
)


def hu() -> npt.NDArray[np.int16]:
    return np.arange(60, dtype=np.int16).reshape(SHAPE)


def voxel_changed(volume: Volume) -> Volume:
    array = volume.array.copy()
    array[2, 3, 4] += 1
    return replace(volume, array=array)


def test_a_ct_from_a_file_is_known_by_the_bytes_of_the_file() -> None:
    answers = InputAnswers(hu_offset=-1024)
    reference = CtReference.of(Volume(hu(), GEOMETRY, ("a note",), SOURCE, answers=answers))
    assert reference.sha256 == SOURCE.sha256
    assert reference.format == "NIfTI"
    assert reference.geometry is GEOMETRY
    assert reference.notes == ("a note",)
    assert reference.answers == answers
    assert reference.nifti_header == b"header"


def test_of_where_a_ct_lies_only_the_last_name_is_kept_since_folders_may_name_a_patient() -> None:
    reference = CtReference.of(Volume(hu(), GEOMETRY, source=SOURCE))
    assert reference.name == "ct.nii.gz"
    assert reference.source is not None
    assert reference.source.path == Path("ct.nii.gz")
    assert reference.source.files == ()
    assert "a_person" not in repr(reference)


def test_the_source_that_an_export_needs_comes_back_from_the_reference() -> None:
    source = CtReference.of(Volume(hu(), GEOMETRY, source=SOURCE)).source
    assert source is not None
    assert (source.format, source.sha256, source.nifti_header) == ("NIfTI", SOURCE.sha256, b"header")


def test_a_ct_without_a_file_is_known_by_its_voxels_and_has_no_source() -> None:
    reference = CtReference.of(Volume(hu(), GEOMETRY))
    assert reference.format == "layer"
    assert reference.source is None
    assert len(reference.sha256) == 64
    assert CtReference.of(Volume(hu(), GEOMETRY)).sha256 == reference.sha256


@pytest.mark.parametrize(
    "other",
    [
        voxel_changed(Volume(hu(), GEOMETRY)),
        Volume(hu(), Geometry.from_spacing(SHAPE, (5, 2, 1.1))),
    ],
)
def test_one_voxel_or_another_place_makes_it_another_ct(other: Volume) -> None:
    assert CtReference.of(other).sha256 != CtReference.of(Volume(hu(), GEOMETRY)).sha256


def test_how_the_voxels_lie_in_memory_makes_no_other_ct() -> None:
    turned = np.asfortranarray(hu())
    assert CtReference.of(Volume(turned, GEOMETRY)).sha256 == CtReference.of(Volume(hu(), GEOMETRY)).sha256


def test_edits_are_those_of_the_slices_that_have_any_and_a_copy() -> None:
    edit = np.zeros(SHAPE, np.int8)
    edit[0, 1, 1], edit[2, 0, 0], edit[2, 0, 1] = 1, -1, 1
    edits = SliceEdits.of(edit, np.array([True, False, True]))
    assert edits.slices.tolist() == [0, 2]
    np.testing.assert_array_equal(edits.values, edit[[0, 2]])
    assert edits.voxels() == 3
    edit[...] = 0
    assert edits.voxels() == 3


def test_of_no_edits_there_are_none() -> None:
    edits = SliceEdits.of(np.zeros(SHAPE, np.int8), np.zeros(3, bool))
    assert edits.slices.tolist() == []
    assert edits.values.shape == (0, 4, 5)
    assert edits.voxels() == 0


@pytest.mark.parametrize(
    ("order", "stored"), [((0, 1, 2), (3, 4, 5)), ((2, 1, 0), (5, 4, 3)), ((1, 0, 2), (4, 3, 5))]
)
def test_the_shape_of_a_record_is_that_of_the_axial_slices(order: Any, stored: Any) -> None:
    axes = AxisOrder(order, (False, True, True))
    volume = Volume(np.ascontiguousarray(axes.apply(hu())), GEOMETRY.reordered(axes))
    assert volume.array.shape == stored
    record = CaseRecord(
        ct=CtReference.of(volume),
        settings=MaskSettings(),
        edits=SliceEdits.of(np.zeros(SHAPE, np.int8), np.zeros(3, bool)),
        banked=(),
        marks=np.zeros(3, np.uint8),
        seen=np.zeros(3, np.uint32),
        run=None,
        done=np.zeros(3, bool),
    )
    assert record.shape == SHAPE
