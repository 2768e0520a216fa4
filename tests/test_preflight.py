from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import InputError
from napari_resunet.geometry import Geometry
from napari_resunet.inference import predict as predicting
from napari_resunet.io.dicom import write_ct_series
from napari_resunet.io.files import read_volume
from napari_resunet.io.open_ct import open_ct
from napari_resunet.phantom import Phantom
from napari_resunet.preflight import Check, preflight
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Volume

NAMES = ["voxel size", "orientation", "tilt", "gaps", "HU", "coverage", "size"]


def check(volume: Volume, name: str) -> Check:
    (found,) = [check for check in preflight(volume) if check.name == name]
    return found


def placed(volume: Volume, spacing: Any, orientation: str = "SPL") -> Volume:
    return replace(volume, geometry=Geometry.from_spacing(volume.array.shape, spacing, orientation))


def test_a_whole_chest_is_all_right(chest: Phantom) -> None:
    volume = placed(chest.volume, (5.4, 3.8, 3.8))
    checks = preflight(volume)
    assert [check.name for check in checks] == NAMES
    assert {check.level for check in checks} == {"ok"}
    said = {check.name: check.text for check in checks}
    assert said["voxel size"] == "3.8 x 3.8 x 5.4 mm"
    assert said["orientation"] == "SPL"
    assert said["HU"].startswith("air at about -")
    assert said["coverage"] == "151 mm in 28 slices"
    assert said["size"] == "28 axial slices of 96 x 96"


@pytest.mark.parametrize("shape", [(1, 1, 300), (40, 31, 64), (40, 64, 31)])
def test_b27_slices_too_small_for_a_chest_are_refused(shape: tuple[int, int, int], outcome: Outcome) -> None:
    array = np.linspace(-1000, 400, int(np.prod(shape))).reshape(shape).astype(np.int16)
    volume = Volume(array, Geometry.from_spacing(shape, (3, 5, 5)))
    found = check(volume, "size")
    assert found.level == "refuse"
    with pytest.raises(InputError, match=r"too small for a chest \(32 are the least\)") as refused:
        predicting.predict(volume)
    outcome("REFUSE", told(refused))


def test_b27_slices_of_32_voxels_are_segmented(chest: Phantom, outcome: Outcome) -> None:
    volume = Volume(
        chest.volume.array[13:15, ::3, ::3].copy(), Geometry.from_spacing((2, 32, 32), (11, 11.4, 11.4))
    )
    assert check(volume, "size").level == "ok"
    assert predicting.predict(volume).array.shape == (2, 32, 32)
    outcome("OK")


@pytest.mark.parametrize("factor", [8, 16])
def test_b29_pixels_finer_than_those_learned_from_are_noted(
    factor: int, chest: Phantom, outcome: Outcome
) -> None:
    array = np.kron(chest.volume.array[13:14], np.ones((1, factor, factor), np.int16))
    volume = Volume(array, Geometry.from_spacing(array.shape, (1, 2.4 / factor, 2.4 / factor)))
    found = check(volume, "voxel size")
    assert found.level == "note"
    assert "finer than the CT that the model learned from" in found.text
    prob = predicting.predict(volume).array
    assert prob.shape == array.shape
    assert prob.max() > 200
    outcome("NOTE", found.text)


def test_b29_a_slice_too_small_or_large_for_a_chest_is_noted(chest: Phantom, outcome: Outcome) -> None:
    for spacing in (0.05, 20):
        found = check(placed(chest.volume, (5, spacing, spacing)), "voxel size")
        assert found.level == "note"
        assert "is that a whole chest?" in found.text
        outcome("NOTE", found.text)


def test_b30_thick_slices_are_noted(chest: Phantom, outcome: Outcome) -> None:
    found = check(placed(chest.volume, (10, 3.8, 3.8)), "voxel size")
    assert found.level == "note"
    assert "thick slices" in found.text
    assert check(placed(chest.volume, (5, 3.8, 3.8)), "voxel size").level == "ok"
    outcome("NOTE", found.text)


def test_b31_an_orientation_that_is_only_assumed_is_asked_about(
    chest: Phantom, tmp_path: Path, outcome: Outcome
) -> None:
    tifffile.imwrite(tmp_path / "ct.tif", chest.volume.array)
    answers = InputAnswers(spacing_mm=(5.0, 3.8, 3.8))
    found = check(open_ct(tmp_path / "ct.tif", answers), "orientation")
    assert found == Check(
        "orientation",
        "ask",
        "not in the file, assumed axial, lowest slice first (SPL): right and left may be exchanged",
        ("orientation",),
    )
    outcome("ASK", found.text)
    said = check(open_ct(tmp_path / "ct.tif", replace(answers, orientation="IPL")), "orientation")
    assert (said.level, said.text) == ("note", "IPL by the user's word")
    outcome("NOTE", said.text)


def test_a_voxel_size_by_the_users_word_is_noted(chest: Phantom, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "ct.tif", chest.volume.array)
    volume = open_ct(tmp_path / "ct.tif", InputAnswers(spacing_mm=(5.0, 3.8, 3.8)))
    assert check(volume, "voxel size") == Check("voxel size", "note", "3.8 x 3.8 x 5 mm by the user's word")


def test_b10_b14_tilt_and_turn_are_told_with_the_angle_of_the_tilt(chest: Phantom, outcome: Outcome) -> None:
    matrix = Geometry.from_spacing(chest.volume.array.shape, (5, 3.8, 3.8)).index_to_lps.copy()
    matrix[1, 0] = 5 * np.tan(np.radians(12))
    tilted = replace(chest.volume, geometry=Geometry(chest.volume.array.shape, matrix))
    assert check(tilted, "tilt").level == "note"
    assert check(tilted, "tilt").text.startswith("tilted gantry (12.0 degrees)")
    outcome("NOTE", check(tilted, "tilt").text)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    oblique = replace(
        chest.volume, geometry=Geometry(chest.volume.array.shape, turn @ chest.volume.geometry.index_to_lps)
    )
    assert check(oblique, "tilt").text.startswith("oblique")
    outcome("NOTE", check(oblique, "tilt").text)


def test_accepted_gaps_are_told(chest: Phantom, tmp_path: Path) -> None:
    write_ct_series(chest.volume, tmp_path / "series")[9].unlink()
    volume = read_volume(tmp_path / "series", accept_gaps=True)
    found = check(volume, "gaps")
    assert found.level == "note"
    assert found.text.startswith("1 of 28 slices are missing between z = ")


@pytest.mark.parametrize("order", ["SPL", "IPL", "PIL", "RSA"])
def test_what_is_told_is_the_same_in_every_order_of_the_axes(order: str, chest: Phantom) -> None:
    volume = placed(chest.volume, (5.4, 3.8, 3.7))
    target = Geometry.from_spacing((9, 9, 9), (1, 1, 1), order).to_axial
    stored = Volume(target.undo(volume.array), volume.geometry.reordered(_inverse(target)))
    assert stored.geometry.axis_codes == order
    said = [
        (check.name, check.level, check.text) for check in preflight(volume) if check.name != "orientation"
    ]
    told_of_stored = [
        (check.name, check.level, check.text) for check in preflight(stored) if check.name != "orientation"
    ]
    assert [entry for entry in told_of_stored if entry[0] != "HU"] == [
        entry for entry in said if entry[0] != "HU"
    ]
    assert {level for _, level, _ in told_of_stored} == {"ok"}


def _inverse(order: Any) -> Any:
    from napari_resunet.geometry import AxisOrder

    axes = tuple(int(axis) for axis in np.argsort(order.axes))
    return AxisOrder(axes, tuple(order.flips[axis] for axis in axes))


def test_hu_are_asked_about_exactly_where_the_network_refuses_them(chest: Phantom) -> None:
    shifted = replace(chest.volume, array=np.maximum(chest.volume.array, -1024) + np.int16(1024))
    found = check(shifted, "HU")
    assert (found.level, found.answers, found.hu_offset) == ("ask", ("hu_offset",), -1024)
    with pytest.raises(InputError) as refused:
        predicting.predict(shifted)
    assert found.text == str(refused.value)
    confirmed = check(shifted.with_hu_offset(0), "HU")
    assert (confirmed.level, confirmed.text) == ("note", "taken as HU by the user's word")


def test_padding_and_what_is_not_a_number_have_a_line_where_there_is_some(chest: Phantom) -> None:
    array = chest.volume.array.astype(np.float32)
    array[:, :5, :5] = -2000
    array[3, 3, 30] = np.nan
    volume = replace(chest.volume, array=array)
    assert check(volume, "padding").level == check(volume, "not numbers").level == "note"
    assert [c.name for c in preflight(volume)] == [*NAMES[:5], "not numbers", "padding", *NAMES[5:]]


def test_a_stack_that_ends_within_the_lungs_is_told(chest: Phantom) -> None:
    volume = chest.volume
    half = Volume(volume.array[14:].copy(), Geometry.from_spacing((14, 96, 96), (11, 3.8, 3.8)))
    found = check(half, "coverage")
    assert found.level == "note"
    assert "154 mm in 14 slices; lung goes on beyond the lowest slice" in found.text
    turned = Volume(
        volume.array[14:][::-1].copy(), Geometry.from_spacing((14, 96, 96), (11, 3.8, 3.8), "IPL")
    )
    assert check(turned, "coverage").text == found.text
    middle = Volume(volume.array[13:16].copy(), Geometry.from_spacing((3, 96, 96), (11, 3.8, 3.8)))
    assert "the lowest and the highest slice" in check(middle, "coverage").text


def test_a_short_stack_without_lung_at_its_ends_is_told(chest: Phantom) -> None:
    found = check(placed(chest.volume, (3, 3.8, 3.8)), "coverage")
    assert (found.level, found.text) == ("note", "only 84 mm in 28 slices: is all of the lungs inside?")


def test_b26_a_single_slice_is_told(chest: Phantom, outcome: Outcome) -> None:
    volume = Volume(chest.volume.array[14:15].copy(), Geometry.from_spacing((1, 96, 96), (11, 3.8, 3.8)))
    found = check(volume, "coverage")
    assert (found.level, found.text) == ("note", "a single slice: no 3-D clean-up, ml of this slice only")
    outcome("NOTE", found.text)


def test_real_chests_in_hu_pass_for_hu(real_ct: Path) -> None:
    for path in sorted(real_ct.glob("*/lidc/*_ct.nii.gz")):
        levels = {check.name: check.level for check in preflight(read_volume(path))}
        assert levels["HU"] == levels["orientation"] == levels["coverage"] == "ok", path.name
