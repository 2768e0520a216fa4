from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import InputError
from napari_resunet.hu import judge_hu, refuse_implausible_hu, where_air_and_tissue_lie
from napari_resunet.inference.predict import predict
from napari_resunet.io import nifti
from napari_resunet.io.files import read_volume
from napari_resunet.measure.lungs import PADDING_HU, lung_figures
from napari_resunet.phantom import Phantom
from napari_resunet.volume import Mask, Volume


def stored(array: Any, folder: Path) -> Volume:
    """Return an array as it is read from a NIfTI file."""
    nib.Nifti1Image(array.T, np.diag([3.8, 3.8, 11, 1])).to_filename(folder / "ct.nii")
    return read_volume(folder / "ct.nii")


def test_a_chest_in_hu_has_nothing_odd(chest: Phantom) -> None:
    assert judge_hu(chest.volume.array) == ()
    air, tissue = where_air_and_tissue_lie(chest.volume.array)
    assert air is not None
    assert tissue is not None
    assert -1030 <= air <= -800
    assert -130 <= tissue <= 90


def test_of_few_voxels_no_peak_is_told() -> None:
    assert where_air_and_tissue_lie(np.array([[[-1000, 40]]], np.int16)) == (None, None)


def test_b17_values_above_zero_are_asked_about_and_noted(
    chest: Phantom, tmp_path: Path, outcome: Outcome
) -> None:
    volume = stored((np.maximum(chest.volume.array, -1024) + 1024).astype(np.uint16), tmp_path)
    with pytest.raises(
        InputError, match=r"HU \+ 1024; give a HU offset of -1024 \(--hu-offset or hu_offset=\)"
    ) as refused:
        predict(volume)
    assert str(refused.value) == volume.notes[-1]
    outcome("ASK", told(refused))
    mended = volume.with_hu_offset(judge_hu(volume.array)[-1].hu_offset)
    assert judge_hu(mended.array) == ()
    assert str(refused.value) not in mended.notes  # it was asked, and is answered


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        (300, "most tissue is at"),
        (-250, "most air is at"),
        (-1024, r"only [\d.]+ % of the values are above -300"),
    ],
)
def test_b17_an_offset_that_leaves_some_air_is_noted(
    shift: int, said: str, chest: Phantom, tmp_path: Path, outcome: Outcome
) -> None:
    volume = stored((chest.volume.array + shift).astype(np.int16), tmp_path)
    refuse_implausible_hu(volume.array)
    (note,) = [note for note in volume.notes if "are they HU?" in note]
    assert re.search(said, note)
    outcome("NOTE", note)


@pytest.mark.parametrize("padding", [-1500, -2000, -3024, -32768])
def test_b18_padding_is_counted_and_taken_for_no_air(
    padding: int, chest: Phantom, tmp_path: Path, outcome: Outcome
) -> None:
    array = chest.volume.array.copy()
    array[:, :20, :30] = padding
    volume = stored(array, tmp_path)
    (note,) = [note for note in volume.notes if "padding" in note]
    assert note.startswith(f"{28 * 20 * 30:,} voxels (6.5 %) are -1500 HU or less")
    outcome("NOTE", note)
    mask = Mask(np.ones(array.shape, np.uint8), volume.geometry)
    shown = lung_figures(volume, mask)[0]
    array[:, :20, :30] = np.iinfo(np.int16).min
    assert lung_figures(stored(array, tmp_path), mask)[0].mean_hu == shown.mean_hu
    assert judge_hu(np.full((4, 64, 64), padding, np.int16))[-1].level == "refuse"


def test_what_is_padding_is_the_same_everywhere() -> None:
    assert judge_hu(np.array([[[PADDING_HU, 0, -1000]]], np.int16))[0].subject == "padding"
    assert "padding" not in [f.subject for f in judge_hu(np.array([[[PADDING_HU + 1, 0]]], np.int16))]


def test_b19_what_is_not_a_number_is_counted_and_goes_nowhere(
    chest: Phantom, tmp_path: Path, outcome: Outcome
) -> None:
    array = chest.volume.array.astype(np.float32)
    whole = predict(stored(np.nan_to_num(array, copy=True), tmp_path), slices=(14, 16)).array
    array[14, 2:5, 3:7] = np.nan
    array[15, 0, 0] = np.inf
    volume = stored(array, tmp_path)
    assert volume.notes == ("13 voxels are not finite (NaN or infinite): taken as air by the network",)
    outcome("NOTE", volume.notes[0])
    prob = predict(volume, slices=(14, 16)).array
    assert np.abs(prob.astype(int) - whole)[14:16, 12:].max() < 128  # the lungs are where they were
    mask = Mask(np.ones(array.shape, np.uint8), volume.geometry)
    assert np.isfinite(lung_figures(volume, mask)[0].mean_hu)


def test_b20_a_constant_volume_is_readable_and_not_segmented(tmp_path: Path, outcome: Outcome) -> None:
    volume = stored(np.full((4, 64, 64), 7, np.int16), tmp_path)
    with pytest.raises(
        InputError, match="every voxel that is not padding is 7: there is nothing to segment"
    ) as refused:
        predict(volume)
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize("high", [1.0, 255.0])
def test_b21_values_scaled_to_a_range_are_asked_about(
    high: float, chest: Phantom, tmp_path: Path, outcome: Outcome
) -> None:
    hu = np.clip(chest.volume.array.astype(np.float32), -1000, 400)
    volume = stored((hu + 1000) / 1400 * high, tmp_path)
    with pytest.raises(
        InputError, match=f"values run from 0 to {high:g} .*grey values of a picture"
    ) as refused:
        predict(volume)
    outcome("ASK", told(refused))
    predict(volume.with_hu_offset(0), slices=(14, 15))


def test_b22_numbers_of_eight_bytes_are_read_after_their_range_was_seen(
    tmp_path: Path, outcome: Outcome
) -> None:
    array = np.array([[[-1000, 0, 1 << 40]]])
    nib.Nifti1Image(array, np.eye(4), dtype=np.int64).to_filename(tmp_path / "ct.nii")
    volume = read_volume(tmp_path / "ct.nii")
    assert volume.array.dtype == np.float32
    assert volume.array.max() == np.float32(1 << 40)
    outcome("OK", "kept as float32 where 16 bits cannot hold them")


def test_padding_that_the_reader_has_noted_is_not_noted_twice(
    chest: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(*args: Any, **kwargs: Any) -> Volume:
        volume = read(*args, **kwargs)
        return replace(volume, notes=("9 voxels are padding outside the field of view",))

    read = nifti.read_nifti
    monkeypatch.setattr(nifti, "read_nifti", noted)
    array = chest.volume.array.copy()
    array[:, :20, :30] = -2000
    assert stored(array, tmp_path).notes == ("9 voxels are padding outside the field of view",)


def test_a_volume_is_not_called_constant_for_what_a_sample_of_it_is() -> None:
    array = np.full((4, 64, 64), 40, np.int16)
    array[:, 1::4, 1::4] = -900
    found = judge_hu(array)
    assert all(finding.level != "refuse" for finding in found)
    assert "from -900 to 40" in found[-1].text


def test_the_share_of_padding_is_a_plain_number() -> None:
    assert "(100.0 %)" in judge_hu(np.full((4, 64, 64), -2000, np.int16))[0].text
