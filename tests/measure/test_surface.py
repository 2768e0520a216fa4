from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.distance import cdist

from napari_resunet.geometry import Geometry
from napari_resunet.measure.surface import (
    compare_surfaces,
    diagonal_mm,
    surface_distances_mm,
    surface_voxels,
)

Bools = npt.NDArray[np.bool_]


def straight(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Geometry:
    return Geometry.from_spacing(shape, spacing_mm)


def sheared(shape: tuple[int, int, int]) -> Geometry:
    """A tilted gantry: each slice lies 4 mm higher and 3 mm further left; pixels of 1 mm."""
    matrix = np.array([[3.0, 0, 1, -50], [0, 1, 0, 20], [4, 0, 0, 900], [0, 0, 0, 1]])
    return Geometry(shape, matrix)


def rotated(geometry: Geometry) -> Geometry:
    c, s = math.cos(0.4), math.sin(0.4)
    turn = np.array([[c, -s, 0, 7], [s, c, 0, -3], [0, 0, 1, 11], [0, 0, 0, 1]])
    tip = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])
    return Geometry(geometry.shape, turn @ tip @ geometry.index_to_lps)


def dots(shape: tuple[int, int, int], *voxels: tuple[int, int, int]) -> Bools:
    mask = np.zeros(shape, bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def blobs(seed: int, shape: tuple[int, int, int] = (14, 22, 26)) -> Bools:
    """Two bodies with ragged edges and some specks, one of them cut off by the border."""
    noise = np.random.default_rng(seed).random(shape)
    z, y, x = np.indices(shape)
    first = ((z - 7) / 6) ** 2 + ((y - 11) / 8) ** 2 + ((x - 7) / 5) ** 2
    second = ((z - 9) / 7) ** 2 + ((y - 10) / 7) ** 2 + ((x - 20 - seed) / 5) ** 2
    return np.asarray((np.minimum(first, second) + 0.4 * noise < 1.1) | (noise > 0.999))


@pytest.mark.parametrize("step", [(1, 0, 0), (0, 2, 0), (0, 0, 3), (1, 2, 3)])
def test_two_voxels_are_as_far_apart_as_the_spacing_says(step: tuple[int, int, int]) -> None:
    shape, spacing = (4, 5, 6), (5.0, 2.0, 0.5)
    mm = math.hypot(*(n * s for n, s in zip(step, spacing, strict=True)))
    found = compare_surfaces(dots(shape, (1, 1, 1)), dots(shape, (1 + step[0], 1 + step[1], 1 + step[2])),
                             straight(shape, spacing))  # fmt: skip
    assert found.hd95_mm == found.assd_mm == pytest.approx(mm)
    assert found.nsd_2mm == (mm <= 2)


def test_two_plates_six_mm_apart_are_six_mm_apart() -> None:
    mask, reference = np.zeros((2, 8, 5, 5), bool)
    mask[2], reference[5] = True, True
    found = compare_surfaces(mask, reference, straight(mask.shape, (2, 1, 1)))
    assert (found.hd95_mm, found.assd_mm, found.nsd_2mm) == (6, 6, 0)


def test_two_cubes_one_step_apart_by_hand() -> None:
    # 10 x 10 x 10 voxels, moved by one voxel of 3 mm along x; z and y are 1 mm. A surface has 1000 - 512 voxels.
    # The face left behind is 3 mm off everywhere. In the face opposite, which is now inside, the nearest surface is
    # 3 mm ahead or the 0, 1 or 2 mm to the side that rings of 36, 28 and 20 voxels have; 16 stay 3 mm away.
    mask, reference = np.zeros((2, 12, 12, 14), bool)
    mask[1:11, 1:11, 1:11] = reference[1:11, 1:11, 2:12] = True
    found = compare_surfaces(mask, reference, straight(mask.shape, (1, 1, 3)))
    assert found.hd95_mm == pytest.approx(3)
    assert found.assd_mm == pytest.approx((100 * 3 + 28 * 1 + 20 * 2 + 16 * 3) / 488)
    assert found.nsd_2mm == pytest.approx(1 - (100 + 16) / 488)


def test_hd95_is_the_larger_of_two_directions_and_not_that_of_both_together() -> None:
    # Of a row of 20 voxels the mask has the first 10. They lie 0 mm off; the other 10 of the reference 1 to 10 mm.
    # Of 20 distances the 95th percentile is the one at 0.95 * 19 = 18.05: between 9 and 10 mm. Of all 30 it is 8.55.
    mask, reference = np.zeros((2, 3, 3, 22), bool)
    reference[1, 1, 1:21] = mask[1, 1, 1:11] = True
    grid = straight(mask.shape, (1, 1, 1))
    for pair in ((mask, reference), (reference, mask)):
        found = compare_surfaces(*pair, grid)
        assert found.hd95_mm == pytest.approx(9.05)
        assert found.assd_mm == pytest.approx(55 / 30)
        assert found.nsd_2mm == pytest.approx(22 / 30)


@pytest.mark.parametrize(("step", "share"), [(0.2, 1), (0.1999, 1), (0.2001, 0)])
def test_two_mm_exactly_is_within_two_mm(step: float, share: float) -> None:
    shape = (1, 1, 12)
    found = compare_surfaces(dots(shape, (0, 0, 1)), dots(shape, (0, 0, 11)), straight(shape, (1, 1, step)))
    assert found.nsd_2mm == share


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_spheres_of_ten_and_thirteen_mm_are_three_mm_apart(spacing: tuple[float, float, float]) -> None:
    shape = (31, 31, 31)
    z, y, x = (np.indices(shape) - 15) * np.array(spacing).reshape(3, 1, 1, 1)
    radius = np.sqrt(z**2 + y**2 + x**2)
    there, back = surface_distances_mm(radius <= 10, radius <= 13, straight(shape, spacing))
    # A surface voxel lies at most one step inside of its sphere; the nearest centre is at most half a voxel's
    # diagonal off the point of the other shell that it faces.
    slack = max(spacing) + math.hypot(*spacing) / 2
    for distances in (there, back):
        assert distances.min() >= 3 - max(spacing)
        assert distances.max() <= 3 + slack


def test_on_a_sheared_grid_distances_are_straight_through_the_patient() -> None:
    # One slice up is (3, 0, 4) mm: 5 mm to the same index below, but 4 mm to the voxel right under it, three
    # columns further.
    shape = (3, 3, 8)
    voxel, same_index = dots(shape, (1, 1, 1)), dots(shape, (0, 1, 1))
    found = compare_surfaces(voxel, same_index, sheared(shape))
    assert found.hd95_mm == found.assd_mm == pytest.approx(5)
    below, _ = surface_distances_mm(voxel, dots(shape, (0, 1, 1), (0, 1, 4)), sheared(shape))
    assert below == pytest.approx([4])


def test_turning_the_patient_changes_nothing() -> None:
    mask, reference = blobs(0), blobs(2)
    grid = straight(mask.shape, (2.5, 0.8, 0.7))
    first = compare_surfaces(mask, reference, grid)
    second = compare_surfaces(mask, reference, rotated(grid))
    assert second.hd95_mm == pytest.approx(first.hd95_mm)
    assert second.assd_mm == pytest.approx(first.assd_mm)
    assert second.nsd_2mm == pytest.approx(first.nsd_2mm)


def test_of_two_empty_masks_nothing_can_be_said() -> None:
    nothing = np.zeros((2, 2, 2), bool)
    found = compare_surfaces(nothing, nothing, straight((2, 2, 2), (1, 1, 1)))
    assert np.isnan([found.hd95_mm, found.assd_mm, found.nsd_2mm]).all()


def test_a_missed_lung_is_the_diagonal_of_the_volume_away() -> None:
    nothing, lung = np.zeros((3, 4, 12), bool), dots((3, 4, 12), (1, 1, 1))
    for pair in ((nothing, lung), (lung, nothing)):
        found = compare_surfaces(*pair, straight((3, 4, 12), (1, 1, 1)))
        assert (found.hd95_mm, found.assd_mm, found.nsd_2mm) == (13, 13, 0)


def test_the_diagonal_of_a_sheared_volume_is_its_longest() -> None:
    # 3 slices make (9, 0, 12) mm; with the 3 columns 12 and with the 4 rows 4: sqrt(12² + 4² + 12²)
    assert diagonal_mm(sheared((3, 4, 3))) == pytest.approx(math.sqrt(304))
    assert diagonal_mm(straight((1, 1, 1), (2, 3, 6))) == pytest.approx(7)


def test_an_empty_mask_has_no_surface_to_measure_from() -> None:
    nothing, lung = np.zeros((1, 2, 2), bool), np.ones((1, 2, 2), bool)
    for pair in ((nothing, lung), (lung, nothing)):
        with pytest.raises(ValueError, match="an empty mask has no surface"):
            surface_distances_mm(*pair, straight((1, 2, 2), (1, 1, 1)))


def test_the_surface_is_what_has_a_face_neighbour_outside() -> None:
    cube = np.zeros((5, 5, 5), bool)
    cube[1:4, 1:4, 1:4] = True
    surface = surface_voxels(cube)
    assert surface.sum() == 26
    assert not surface[2, 2, 2]
    cube[1, 1, 1] = False  # only corner to corner with the middle
    assert not surface_voxels(cube)[2, 2, 2]


def test_what_the_scan_cuts_off_ends_at_its_border() -> None:
    surface = surface_voxels(np.ones((3, 4, 5), bool))
    assert surface.sum() == 3 * 4 * 5 - 1 * 2 * 3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_surface_of_a_single_slice_is_its_contour(axis: int) -> None:
    square = np.expand_dims(np.ones((4, 4), bool), axis)
    assert surface_voxels(square).sum() == 12
    assert surface_voxels(np.ones((1, 1, 1), bool)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_on_a_single_slice_contours_are_compared_by_hand(axis: int) -> None:
    # 16 pixels around 8: the corners are a diagonal off, all others one step, both ways
    mask, reference = np.zeros((2, 7, 7), bool)
    mask[1:6, 1:6] = reference[2:5, 2:5] = True
    mask, reference = np.expand_dims(mask, axis), np.expand_dims(reference, axis)
    there, back = surface_distances_mm(mask, reference, straight(mask.shape, (1, 1, 1)))
    assert sorted(there) == pytest.approx([1] * 12 + [math.sqrt(2)] * 4)
    assert sorted(back) == [1] * 8


def test_a_lung_on_one_slice_of_several_is_all_surface() -> None:
    # flat lungs, not a flat volume: every voxel has a slice beside it
    mask, reference = np.zeros((2, 3, 8, 8), bool)
    mask[1, 1:7, 1:7], reference[1, 1:7, 1:7] = True, True
    reference[1, 3:5, 3:5] = False
    there, back = surface_distances_mm(mask, reference, straight(mask.shape, (1, 1, 1)))
    assert (len(there), len(back)) == (36, 32)
    assert there.sum() == 4  # the four voxels of the hole are 1 mm off


def test_no_array_is_changed() -> None:
    mask, reference = blobs(0), blobs(1)
    compare_surfaces(mask, reference, straight(mask.shape, (1, 1, 1)))
    np.testing.assert_array_equal(mask, blobs(0))
    np.testing.assert_array_equal(reference, blobs(1))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_distance_is_that_of_a_search_over_all_pairs(seed: int) -> None:
    mask, reference = blobs(0), blobs(seed)
    for grid in (straight(mask.shape, (2.5, 0.8, 0.7)), sheared(mask.shape)):
        points = []
        for part in (mask, reference):
            index = np.argwhere(surface_voxels(part))
            ones = np.ones((len(index), 1))
            points.append((np.hstack([index, ones]) @ grid.index_to_lps.T)[:, :3])
        pairs = cdist(*points)
        there, back = surface_distances_mm(mask, reference, grid)
        np.testing.assert_allclose(there, pairs.min(axis=1), atol=1e-9)
        np.testing.assert_allclose(back, pairs.min(axis=0), atol=1e-9)
