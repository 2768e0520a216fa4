"""The figures of agreement against three other libraries, on bodies with ragged edges and voxels that are not cubes.

=============  ==========  =====  ==================================================
figure         SimpleITK   MONAI  segmentationmetrics (DeepMind's surface distances)
=============  ==========  =====  ==================================================
Dice, IoU      equal       equal  equal
ml             equal              equal
HD95           equal       equal  other definition, on spheres within a voxel
ASSD           equal       equal  other definition, on spheres within a voxel
NSD            equal       equal
=============  ==========  =====  ==================================================

A surface here is the voxels that have a face neighbour outside, each counted once; so it is for MONAI and for ITK's
`LabelContour`. DeepMind's surface runs between the voxels, through the corners they share, and counts by area: each
of its points lies half a diagonal of a voxel from a surface voxel and the other way round, so the largest distance
can differ by one diagonal; for percentiles and means of ragged bodies, where the weights differ too, there is no bound.
HD95 is the larger one of both directions, as in MONAI and at DeepMind's; MedPy takes the percentile of both together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk  # noqa: N813
import torch
from monai import metrics as monai
from segmentationmetrics import SegmentationMetrics
from segmentationmetrics import surface_distance as deepmind

from napari_resunet.geometry import Geometry
from napari_resunet.measure.agreement import Agreement, evaluate
from napari_resunet.measure.surface import surface_distances_mm
from napari_resunet.volume import Mask

Bools = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]

FLOAT32 = 1e-5  # ITK's distance maps and MONAI's results are float32, which holds 7 digits
SPACINGS = [(1.0, 1.0, 1.0), (2.5, 0.8, 0.7), (0.6, 3.0, 1.0), (8.0, 0.7, 0.9)]

# MONAI warns of what it calls itself; SciPy has moved what DeepMind's code imports
own_warning = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
old_scipy_names = pytest.mark.filterwarnings("ignore:Please import .*:DeprecationWarning")


@dataclass(frozen=True, eq=False)
class Pair:
    """Two masks to compare."""

    mask: Bools
    reference: Bools
    spacing_mm: Spacing

    @property
    def geometry(self) -> Geometry:
        return Geometry.from_spacing(self.mask.shape, self.spacing_mm)

    @property
    def ours(self) -> Agreement:
        mask, reference = (Mask(part.view(np.uint8), self.geometry) for part in (self.mask, self.reference))
        return evaluate(mask, reference)["lungs"]

    @property
    def for_itk(self) -> list[Any]:
        images = []
        for part in (self.mask, self.reference):
            # with a rim: beyond the border is outside
            image = sitk.GetImageFromArray(np.pad(part, 1).astype(np.uint8))
            image.SetSpacing(self.spacing_mm[::-1])
            images.append(image)
        return images

    @property
    def for_monai(self) -> list[torch.Tensor]:
        return [torch.from_numpy(part[None, None]) for part in (self.mask, self.reference)]


def bodies(seed: int, spacing_mm: Spacing) -> Pair:
    """Two bodies with ragged edges and some specks, one of them cut off by the border; the same again, but moved."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices((14, 22, 26))
    parts = []
    for moved in (0, seed):
        noise = rng.random(z.shape)
        first = ((z - 7) / 6) ** 2 + ((y - 11) / 8) ** 2 + ((x - 7) / 5) ** 2
        second = ((z - 9) / 7) ** 2 + ((y - 10) / 7) ** 2 + ((x - 20 - moved) / 5) ** 2
        parts.append((np.minimum(first, second) + 0.4 * noise < 1.1) | (noise > 0.999))
    return Pair(parts[0], parts[1], spacing_mm)


def spheres(spacing_mm: Spacing) -> Pair:
    """One inside the other, with 10 and 16 mm radius."""
    halves = [math.ceil(18 / mm) for mm in spacing_mm]
    index = np.indices([2 * half + 1 for half in halves])
    steps = [(i - half) * mm for i, half, mm in zip(index, halves, spacing_mm, strict=True)]
    radius = np.linalg.norm(steps, axis=0)
    return Pair(radius <= 10, radius <= 16, spacing_mm)


@pytest.fixture(params=[(seed, spacing) for seed in (1, 2, 3) for spacing in SPACINGS], ids=str)
def pair(request: pytest.FixtureRequest) -> Pair:
    return bodies(*request.param)


def test_the_bodies_differ_so_that_no_figure_is_trivial(pair: Pair) -> None:
    ours = pair.ours
    assert 0.6 < ours.dice < 0.95
    assert 0 < ours.assd_mm < ours.hd95_mm
    assert 0 < ours.nsd_2mm < 1
    assert ours.volume_difference_ml != 0


# ---- SimpleITK


def test_itk_finds_the_same_overlap_and_volumes(pair: Pair) -> None:
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*pair.for_itk)
    assert pair.ours.dice == pytest.approx(overlap.GetDiceCoefficient())
    assert pair.ours.iou == pytest.approx(overlap.GetJaccardCoefficient())
    ml = []
    for image in pair.for_itk:
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(image)
        ml.append(shape.GetPhysicalSize(1) / 1000)
    assert (pair.ours.volume_ml, pair.ours.reference_ml) == pytest.approx(ml)
    assert pair.ours.volume_difference_ml == pytest.approx(ml[0] - ml[1])


def itk_distances(pair: Pair) -> list[npt.NDArray[np.float32]]:
    """Both directions: the distance map of one contour, read at the voxels of the other."""
    contours = [sitk.LabelContour(image, fullyConnected=False) for image in pair.for_itk]
    maps = [
        sitk.GetArrayFromImage(
            sitk.SignedMaurerDistanceMap(contour, squaredDistance=False, useImageSpacing=True)
        ).clip(min=0)
        for contour in contours
    ]
    mask, reference = (sitk.GetArrayFromImage(contour) > 0 for contour in contours)
    return [maps[1][mask], maps[0][reference]]


def test_itk_finds_the_same_distance_at_every_voxel_of_both_surfaces(pair: Pair) -> None:
    ours = surface_distances_mm(pair.mask, pair.reference, pair.geometry)
    for found, wanted in zip(ours, itk_distances(pair), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=FLOAT32)


def test_the_figures_are_those_of_itk_s_distances(pair: Pair) -> None:
    there, back = itk_distances(pair)
    both = np.concatenate([there, back])
    directed = [np.percentile(each, 95) for each in (there, back)]
    assert pair.ours.hd95_mm == pytest.approx(max(directed), rel=FLOAT32)
    assert pair.ours.assd_mm == pytest.approx(both.mean(dtype=np.float64), rel=FLOAT32)
    assert pair.ours.nsd_2mm == np.mean(both <= 2 * (1 + FLOAT32))


def test_itk_s_own_hausdorff_filter_finds_the_same_largest_and_mean_distance(pair: Pair) -> None:
    there, back = surface_distances_mm(pair.mask, pair.reference, pair.geometry)
    itk = sitk.HausdorffDistanceImageFilter()
    itk.Execute(*(sitk.LabelContour(image, fullyConnected=False) for image in pair.for_itk))
    assert itk.GetHausdorffDistance() == pytest.approx(max(there.max(), back.max()), rel=FLOAT32)
    # the mean of both directed means, while ASSD is the mean over both surfaces together
    means = there.mean(), back.mean()
    assert itk.GetAverageHausdorffDistance() == pytest.approx(sum(means) / 2, rel=FLOAT32)
    assert min(means) <= pair.ours.assd_mm <= max(means)


# ---- MONAI


def test_monai_finds_the_same_overlap(pair: Pair) -> None:
    masks = pair.for_monai
    assert pair.ours.dice == pytest.approx(monai.compute_dice(*masks).item(), rel=FLOAT32)
    assert pair.ours.iou == pytest.approx(monai.compute_iou(*masks).item(), rel=FLOAT32)


@own_warning
def test_monai_finds_the_same_hd95_assd_and_nsd(pair: Pair) -> None:
    masks, how = pair.for_monai, {"include_background": True, "spacing": pair.spacing_mm}
    hd95 = monai.compute_hausdorff_distance(*masks, percentile=95, **how)
    assd = monai.compute_average_surface_distance(*masks, symmetric=True, **how)
    nsd = monai.compute_surface_dice(*masks, [2 * (1 + FLOAT32)], **how)
    assert pair.ours.hd95_mm == pytest.approx(hd95.item(), rel=FLOAT32)
    assert pair.ours.assd_mm == pytest.approx(assd.item(), rel=FLOAT32)
    assert pair.ours.nsd_2mm == pytest.approx(nsd.item(), rel=FLOAT32)


def test_monai_says_of_two_empty_masks_what_we_say() -> None:
    nothing = Pair(np.zeros((3, 4, 5), bool), np.zeros((3, 4, 5), bool), (1.0, 1.0, 1.0))
    assert math.isnan(nothing.ours.dice)
    assert math.isnan(monai.compute_dice(*nothing.for_monai).item())


# ---- segmentationmetrics


@old_scipy_names
def test_segmentationmetrics_finds_the_same_overlap_and_volumes(pair: Pair) -> None:
    found = SegmentationMetrics(pair.mask, pair.reference, pair.spacing_mm)
    assert (pair.ours.dice, pair.ours.iou) == pytest.approx((found.dice, found.jaccard))
    assert pair.ours.volume_ml == pytest.approx(found.predicted_volume)
    assert pair.ours.reference_ml == pytest.approx(found.true_volume)
    assert pair.ours.volume_difference_ml == pytest.approx(found.volume_difference)


@old_scipy_names
def test_the_farthest_point_of_deepmind_s_surfaces_is_ours_within_the_diagonal_of_a_voxel(pair: Pair) -> None:
    there, back = surface_distances_mm(pair.mask, pair.reference, pair.geometry)
    theirs = deepmind.compute_surface_distances(pair.reference, pair.mask, pair.spacing_mm)
    farthest = deepmind.compute_robust_hausdorff(theirs, 100)
    assert abs(max(there.max(), back.max()) - farthest) <= math.hypot(*pair.spacing_mm)


@old_scipy_names
@pytest.mark.parametrize("spacing_mm", SPACINGS, ids=str)
def test_the_gap_between_two_spheres_is_deepmind_s_within_the_diagonal_of_a_voxel(
    spacing_mm: Spacing,
) -> None:
    # nearly all distances are the same 6 mm there, so that it does not matter how surfaces are weighed
    pair = spheres(spacing_mm)
    theirs = deepmind.compute_surface_distances(pair.reference, pair.mask, spacing_mm)
    diagonal = math.hypot(*spacing_mm)
    assert abs(pair.ours.hd95_mm - deepmind.compute_robust_hausdorff(theirs, 95)) <= diagonal
    means = deepmind.compute_average_surface_distance(theirs)
    assert min(means) - diagonal <= pair.ours.assd_mm <= max(means) + diagonal
