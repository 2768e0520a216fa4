from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from napari_resunet.errors import InputError
from napari_resunet.imaging.mesh import lung_surface
from napari_resunet.io.files import read_mask

Bools = npt.NDArray[np.bool_]
Spacing = tuple[float, float, float]
SPACINGS: list[Spacing] = [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (8.0, 0.65, 0.65), (0.6, 0.6, 3.0)]


def ellipsoids(spacing_mm: Spacing) -> Bools:
    """Two ellipsoids of 200 x 130 x 90 mm side by side in a box of 240 x 160 x 240 mm."""
    shape = [round(mm / step) for mm, step in zip((240, 160, 240), spacing_mm, strict=True)]
    z, y, x = (
        (i + 0.5) * step for i, step in zip(np.ogrid[tuple(map(slice, shape))], spacing_mm, strict=True)
    )
    across = ((z - 120) / 100) ** 2 + ((y - 80) / 65) ** 2
    return np.asarray(
        np.minimum(across + ((x - 65) / 45) ** 2, across + ((x - 175) / 45) ** 2) <= 1, dtype=bool
    )


def enclosed_mm3(vertices: npt.NDArray[np.floating], faces: npt.NDArray[np.integer], mm: Spacing) -> float:
    """The volume inside, positive where faces turn outwards in the patient, whose axes are (x, y, z)."""
    a, b, c = ((vertices[faces[:, corner]] * mm)[:, ::-1].astype(float) for corner in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def is_closed(faces: npt.NDArray[np.integer]) -> bool:
    """Whether every edge belongs to two triangles."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    numbers = edges[:, 0] * (np.int64(faces.max()) + 1) + edges[:, 1]
    return bool((np.unique(numbers, return_counts=True)[1] == 2).all())


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_surface_holds_as_much_as_the_voxels_whatever_their_shape(spacing: Spacing) -> None:
    mask = ellipsoids(spacing)
    vertices, faces = lung_surface(mask, spacing)
    voxels_mm3 = mask.sum() * np.prod(spacing)
    # smoothing by s mm moves a face of curvature 1/r inwards by s**2 / r: 4 mm of smoothing 0.4 mm where r is 40 mm
    assert enclosed_mm3(vertices, faces, spacing) == pytest.approx(voxels_mm3, rel=0.02)
    assert is_closed(faces)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_surface_lies_where_the_voxels_lie(spacing: Spacing) -> None:
    mask = ellipsoids(spacing)
    vertices, _ = lung_surface(mask, spacing)
    where = np.argwhere(mask)
    # the outer faces of the voxels, in mm; half a slice of 8 mm at either pole is cut to a point
    assert (vertices.min(axis=0) * spacing) == pytest.approx((where.min(axis=0) - 0.5) * spacing, abs=4)
    assert (vertices.max(axis=0) * spacing) == pytest.approx((where.max(axis=0) + 0.5) * spacing, abs=4)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    assert centre * spacing == pytest.approx((where.min(axis=0) + where.max(axis=0)) / 2 * spacing, abs=0.3)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_what_the_scan_cuts_off_is_closed_at_the_outer_face_of_the_last_voxels(
    axis: int, spacing: Spacing
) -> None:
    mask = ellipsoids(spacing)
    half = mask.shape[axis] // 2
    cut = np.moveaxis(np.moveaxis(mask, axis, 0)[: half - half // 4], 0, axis)
    vertices, faces = lung_surface(cut, spacing)
    assert is_closed(faces)
    # a flat face stays where it is, to a cell of 1 or 2 mm that is not whole, or rounding at its rim
    assert vertices[:, axis].max() * spacing[axis] == pytest.approx(
        (cut.shape[axis] - 0.5) * spacing[axis], abs=0.3
    )
    assert enclosed_mm3(vertices, faces, spacing) == pytest.approx(cut.sum() * np.prod(spacing), rel=0.04)


def test_the_same_voxels_with_thicker_slices_make_a_longer_surface() -> None:
    mask = ellipsoids((2.0, 2.0, 2.0))
    thin, thick = (lung_surface(mask, (z, 2.0, 2.0)) for z in (2.0, 4.0))
    # in voxels both lie alike, in mm the second holds twice as much
    assert np.abs(thin[0].max(axis=0) - thick[0].max(axis=0)).max() < 1
    ratio = enclosed_mm3(*thick, (4.0, 2.0, 2.0)) / enclosed_mm3(*thin, (2.0, 2.0, 2.0))
    assert ratio == pytest.approx(2, rel=0.02)


def test_finer_cells_make_more_triangles_of_the_same_body() -> None:
    mask, spacing = ellipsoids((1.0, 1.0, 1.0)), (1.0, 1.0, 1.0)
    fine, coarse = lung_surface(mask, spacing, cell_mm=1), lung_surface(mask, spacing, cell_mm=4)
    assert len(fine[1]) > 4 * len(coarse[1])
    assert enclosed_mm3(*fine, spacing) == pytest.approx(enclosed_mm3(*coarse, spacing), rel=0.03)


@pytest.mark.parametrize("shape", [(1, 40, 40), (5, 1, 40), (1, 1, 1)])
def test_a_flat_or_tiny_mask_has_a_closed_surface_too(shape: tuple[int, int, int]) -> None:
    vertices, faces = lung_surface(np.ones(shape, dtype=bool), (1.0, 1.0, 1.0))
    assert is_closed(faces)
    centre = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    # a side of one voxel is rounded up to the two of a cell
    assert centre == pytest.approx((np.array(shape) - 1) / 2, abs=0.51)


def test_a_mask_is_not_changed() -> None:
    mask = ellipsoids((4.0, 4.0, 4.0))
    before = mask.copy()
    lung_surface(mask, (4.0, 4.0, 4.0))
    assert np.array_equal(mask, before)


def test_an_empty_mask_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match=r"the mask is empty.*run the network"):
        lung_surface(np.zeros((4, 5, 6), dtype=bool), (1.0, 1.0, 1.0))


def test_the_surface_of_real_lungs_holds_what_they_hold(real_ct) -> None:
    lungs = read_mask(real_ct / "test" / "lidc" / "LIDC-IDRI-0001_lungs.nii.gz")
    spacing = lungs.geometry.reordered(lungs.geometry.to_axial).spacing_mm
    vertices, faces = lung_surface(lungs.axial > 0, spacing)
    assert enclosed_mm3(vertices, faces, spacing) / 1000 == pytest.approx(lungs.volume_ml, rel=0.01)
    assert is_closed(faces)
