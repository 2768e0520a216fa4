from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from napari_resunet.errors import GeometryError, InputError
from napari_resunet.geometry import AxisOrder, Geometry
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.training.cases import TrainingCase
from napari_resunet.training.corrections import Correction
from napari_resunet.training.dataset import ROOM, Slices, load_case, load_slices
from napari_resunet.volume import Volume

SPACING = (5.0, 2.0, 2.0)


def save(path: Path, array: npt.NDArray[Any], geometry: Geometry) -> Path:
    image = nib.Nifti1Image(array.transpose(2, 1, 0), geometry.ras_affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def chest(count: int = 3, side: int = 48) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """A body of 24 x 32 pixels in air, with one lung in it."""
    hu = np.full((count, side, side), -1000, np.int16)
    hu[:, 12:36, 8:40] = 40
    hu[:, 18:30, 12:20] = -850
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[:, 18:30, 12:20] = 1
    return hu, lungs


def case(folder: Path, name: str = "anna", count: int = 3, **geometry: Any) -> TrainingCase:
    hu, lungs = chest(count)
    grid = Geometry.from_spacing(hu.shape, SPACING)
    image = save(folder / f"{name}_ct.nii.gz", hu, grid)
    mask = save(folder / f"{name}_lungs.nii.gz", lungs, geometry.get("of_mask", grid))
    return TrainingCase(name, name, image, mask)


def test_a_case_is_read_on_its_native_grid_with_its_body_box(tmp_path: Path) -> None:
    hu, lungs = chest()
    loaded = load_case(case(tmp_path))
    np.testing.assert_array_equal(loaded.slices, hu)
    np.testing.assert_array_equal(loaded.lungs, lungs)
    assert loaded.box == (12 - 1, 36 + 1, 8 - 1, 40 + 1)


def test_a_case_stored_upside_down_is_read_as_axial_slices(tmp_path: Path) -> None:
    hu, lungs = chest()
    hu[0] += 1  # tells the lowest slice from the highest
    order = AxisOrder((2, 0, 1), (True, True, False))
    grid = Geometry.from_spacing(hu.shape, SPACING).reordered(order)
    stored = TrainingCase(
        "a",
        "a",
        save(tmp_path / "a_ct.nii", order.apply(hu), grid),
        save(tmp_path / "a_lungs.nii", order.apply(lungs), grid),
    )
    loaded = load_case(stored)
    np.testing.assert_array_equal(loaded.slices, hu)
    np.testing.assert_array_equal(loaded.lungs, lungs)


def test_a_ct_that_is_not_in_hu_is_not_learnt_from(tmp_path: Path) -> None:
    given = case(tmp_path)
    hu, _ = chest()
    save(given.image, hu + np.int16(1024), Geometry.from_spacing(hu.shape, SPACING))
    with pytest.raises(
        InputError, match=r"anna_ct\.nii\.gz: values run from 24 to 1064 and none is as low as air"
    ):
        load_case(given)


def test_any_label_in_a_mask_is_lung(tmp_path: Path) -> None:
    given = case(tmp_path)
    assert given.mask is not None
    _, lungs = chest()
    lungs[:, 24:] *= 2
    save(given.mask, lungs, Geometry.from_spacing(lungs.shape, SPACING))
    assert load_case(given).lungs.max() == 1
    assert load_case(given).lungs.sum() == np.count_nonzero(lungs)


def test_without_a_mask_no_voxel_is_lung(tmp_path: Path) -> None:
    loaded = load_case(dataclasses.replace(case(tmp_path), mask=None))
    assert loaded.lungs.shape == loaded.slices.shape
    assert not loaded.lungs.any()


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    other = Geometry.from_spacing((3, 48, 48), (5, 2, 2.1))
    with pytest.raises(
        GeometryError, match=r"anna_lungs.nii.gz lies 4.70 mm beside the other at a corner; export it"
    ):
        load_case(case(tmp_path, of_mask=other))


def one_slice(folder: Path, drawn: npt.NDArray[np.uint8]) -> TrainingCase:
    hu, _ = chest(count=1)
    files = write_ct_series(Volume(hu, Geometry.from_spacing(hu.shape, SPACING)), folder / "series")
    image = next(iter(files or (folder / "series").iterdir()))
    mask = folder / "anna_lungs.png"
    sitk.WriteImage(sitk.GetImageFromArray(drawn), str(mask))
    return TrainingCase("anna", "anna", Path(image), mask)


def test_a_dicom_slice_goes_with_a_mask_drawn_as_png(tmp_path: Path) -> None:
    hu, lungs = chest(count=1)
    loaded = load_case(one_slice(tmp_path, lungs[0] * 255))
    np.testing.assert_array_equal(loaded.slices, hu)
    np.testing.assert_array_equal(loaded.lungs, lungs)


def test_a_png_of_another_size_than_its_slice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match=r"anna_lungs.png is \(1, 40, 40\), its CT \(1, 48, 48\)"):
        load_case(one_slice(tmp_path, np.zeros((40, 40), np.uint8)))


def test_slices_are_kept_at_twice_the_grid_with_room_around_the_body(tmp_path: Path) -> None:
    data = load_slices([case(tmp_path)], grid=32)
    assert data.hu.shape == data.lungs.shape == (3, 1, 64, 64)
    assert str(data.hu.dtype) == "torch.int16"
    assert str(data.lungs.dtype) == "torch.uint8"
    # the box of 26 x 34 has 4 and 5 pixels more on each side: 34 x 44 become 64 x 64
    body = (data.hu[0, 0] > -500) | (data.lungs[0, 0] > 127)
    rows, columns = np.flatnonzero(body.any(dim=1)), np.flatnonzero(body.any(dim=0))
    assert (rows[0], rows[-1] + 1) == pytest.approx((5 * 64 / 34, 29 * 64 / 34), abs=1)
    assert (columns[0], columns[-1] + 1) == pytest.approx((6 * 64 / 44, 38 * 64 / 44), abs=1)
    assert data.margin == pytest.approx(ROOM / (1 + 2 * ROOM))
    assert data.margin * 64 == pytest.approx(4 * 64 / 34, abs=1)


def test_the_share_of_lung_is_kept_when_a_mask_is_resized(tmp_path: Path) -> None:
    data = load_slices([case(tmp_path)], grid=32)
    assert data.lungs.max() == 255
    part_of_picture = float(data.lungs[0].float().mean()) / 255
    assert part_of_picture == pytest.approx(12 * 8 / (34 * 44), rel=0.03)


def test_what_lies_beyond_the_picture_is_air_and_no_lung(tmp_path: Path) -> None:
    given = case(tmp_path)
    hu = np.full((1, 48, 48), 40, np.int16)  # the body fills the picture
    hu[:, 8:14, 8:14] = -850
    save(given.image, hu, Geometry.from_spacing(hu.shape, SPACING))
    data = load_slices([dataclasses.replace(given, mask=None)], grid=32)
    assert data.hu[0, 0, 0, 0] == -1024
    assert data.hu[0, 0, 32, 32] == 40
    assert not data.lungs.any()


def test_padding_far_below_air_does_not_smear_into_the_body(tmp_path: Path) -> None:
    given = case(tmp_path)
    hu, _ = chest()
    hu[hu == -1000] = -3024
    save(given.image, hu, Geometry.from_spacing(hu.shape, SPACING))
    assert load_slices([given], grid=32).hu.min() >= -1024


def test_a_case_is_drawn_from_with_the_square_root_of_its_slices(tmp_path: Path) -> None:
    data = load_slices([case(tmp_path, "anna", count=1), case(tmp_path, "ben", count=9)], grid=32)
    assert data.chance.sum() == pytest.approx(1)
    assert data.chance[0] == pytest.approx(1 / (1 + 3))
    np.testing.assert_allclose(data.chance[1:], 3 / (1 + 3) / 9)


def test_the_tracker_is_told_of_every_case(tmp_path: Path) -> None:
    seen: list[str] = []

    def track(cases: Any, /) -> Any:
        for step in cases:
            seen.append(step.name)
            yield step

    load_slices([case(tmp_path, "anna"), case(tmp_path, "ben")], 32, track)
    assert seen == ["anna", "ben"]


def numbered(count: int, side: int = 4) -> Slices:
    """Pictures that are their own number times 100, with a mask of their number times a fifth."""
    numbers = np.arange(count, dtype=np.int16).reshape(count, 1, 1, 1)
    return Slices(
        torch.from_numpy(numbers * 100).expand(count, 1, side, side),
        torch.from_numpy((numbers * 51).astype(np.uint8)).expand(count, 1, side, side),
        np.full(count, 1 / count),
        0.1,
    )


def test_a_seed_draws_the_same_slices_and_images_and_masks_belong_together() -> None:
    data = numbered(3)
    chosen = data.draw(np.random.default_rng(0), 40)
    assert set(chosen.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(data.draw(np.random.default_rng(0), 40), chosen)
    hu, lungs = data.take(chosen, 4)
    assert hu.shape == lungs.shape == (40, 1, 4, 4)
    np.testing.assert_array_equal(hu[:, 0, 0, 0], chosen * 100)
    torch.testing.assert_close(lungs, hu / 100 * 0.2)


def test_slices_are_taken_coarser_as_means() -> None:
    data = numbered(2, side=8)
    hu = data.hu.clone()
    hu[1, 0, 0, 0] = 500
    found, lungs = dataclasses.replace(data, hu=hu).take(np.array([1]), 4)
    assert found.shape == lungs.shape == (1, 1, 4, 4)
    assert found[0, 0, 0, 0] == (500 + 3 * 100) / 4
    assert found[0, 0, 1, 1] == 100
    torch.testing.assert_close(lungs, torch.full((1, 1, 4, 4), 0.2))


def test_hard_slices_are_drawn_more_often() -> None:
    data = numbered(2)
    chosen = data.draw(np.random.default_rng(0), 1000, hardness=np.array([1.0, 3.0]))
    assert chosen.mean() == pytest.approx(0.75, abs=0.05)


def test_a_case_of_no_chance_is_never_drawn() -> None:
    data = Slices(
        torch.arange(2, dtype=torch.int16).reshape(2, 1, 1, 1),
        torch.zeros(2, 1, 1, 1, dtype=torch.uint8),
        np.array([0.0, 1.0]),
        0.1,
    )
    assert data.draw(np.random.default_rng(0), 50).min() == 1


def test_a_mask_is_mended_and_slices_left_out_are_not_read(tmp_path: Path) -> None:
    corners = ((17.5, 19.5), (17.5, 29.5), (29.5, 29.5), (29.5, 19.5))
    mending = [
        Correction("line 2", "anna", 0, 1, "add", corners=corners),
        Correction("line 3", "anna", 2, 3, "leave out"),
        Correction("line 4", "ben", 0, 1, "leave out"),
    ]
    loaded = load_case(case(tmp_path), mending)
    assert loaded.slices.shape == loaded.lungs.shape == (2, 48, 48)
    assert [int(lungs.sum()) for lungs in loaded.lungs] == [12 * 18, 12 * 8]
    both = [case(tmp_path), case(tmp_path, "ben", count=1)]
    assert len(load_slices(both, 32, corrections=mending).hu) == 2
    assert load_slices(both, 32, corrections=mending).lungs[0].sum() > load_slices(both, 32).lungs[0].sum()
