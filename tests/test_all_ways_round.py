"""Every order of the axes, through every format and back: no voxel moves in the patient, and right stays right."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import Outcome
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from napari_resunet.geometry import Geometry
from napari_resunet.inference.postprocess import to_mask
from napari_resunet.inference.predict import predict
from napari_resunet.io.dicom import write_ct_series
from napari_resunet.io.dicom_seg import read_back_dicom_seg
from napari_resunet.io.dicom_seg_slices import source_slices
from napari_resunet.io.files import read_mask, read_volume, write_mask
from napari_resunet.phantom import Phantom
from napari_resunet.volume import Mask, ProbabilityMap, Volume

WRITTEN = (".nii.gz", ".nii", ".tif", ".nrrd", ".seg.nrrd", ".mha")
CODES = [
    "".join(letters[axis] for axis in axes)
    for axes in itertools.permutations(range(3))
    for letters in itertools.product("SI", "AP", "LR")
]
TURN = Rotation.from_euler("zyx", [10, 6, -2], degrees=True).as_matrix()


def lungs(shape: tuple[int, int, int]) -> np.ndarray:
    """HU of a body with a larger lung on the patient's right and a smaller one on the left, as axial slices."""
    z, y, x = shape
    hu = np.full(shape, 40, np.int16)
    hu[2 : z - 1, 3 : y - 3, 2 : x // 2 - 1] = -850
    hu[3 : z - 2, 4 : y - 3, x // 2 + 2 : x - 3] = -840
    return hu


def laid(codes: str, *, turned: bool) -> Volume:
    """The same body, with the array axes running as `codes` says, and another spacing along each."""
    axial = lungs((8, 12, 16))
    order = Geometry.from_spacing((1, 1, 1), (1, 1, 1), codes).to_axial
    array = np.ascontiguousarray(order.undo(axial))
    matrix = Geometry.from_spacing(array.shape, (2.5, 0.8, 0.7), codes).index_to_lps.copy()
    if turned:
        matrix[:3] = TURN @ matrix[:3]
    matrix[:3, 3] = [-101.3, 57.7, -340.1]
    return Volume(array, Geometry(array.shape, matrix))


def save(volume: Volume, kind: str, folder: Path) -> Path:
    """Write a CT as other programs would."""
    if kind in ("sform", "qform"):
        image = nib.Nifti1Image(volume.array.T, None)
        image.header.set_xyzt_units("mm")
        image.header.set_sform(volume.geometry.ras_affine, code=int(kind == "sform"))
        image.header.set_qform(volume.geometry.ras_affine, code=int(kind == "qform"))
        image.to_filename(folder / "ct.nii")
        return folder / "ct.nii"
    image = sitk.GetImageFromArray(volume.array)
    image.SetOrigin(volume.geometry.index_to_lps[:3, 3].tolist())
    image.SetSpacing(volume.geometry.spacing_mm[::-1])
    image.SetDirection(volume.geometry.directions[:, ::-1].ravel().tolist())
    sitk.WriteImage(image, str(folder / f"ct.{kind}"))
    return folder / f"ct.{kind}"


def found_by_threshold(volume: Volume) -> Mask:
    """A mask as `predict` and `to_mask` make it, right lung 1 and left lung 2."""
    array = np.where(volume.array < -500, np.uint8(255), np.uint8(0))
    done = np.ones(len(volume.axial), dtype=bool)
    prob = ProbabilityMap(array, volume.geometry, done, None, volume.source, volume.notes)
    return to_mask(prob, threshold=0.5, clean=False, split=True)


def most_apart(mask: Mask, other: Mask, label: int) -> float:
    """Return how far in mm a voxel of a label lies at most from one of the other mask's, which must be as many."""
    one, two = (
        np.argwhere(each.array == label) @ each.geometry.index_to_lps[:3, :3].T
        + each.geometry.index_to_lps[:3, 3]
        for each in (mask, other)
    )
    assert len(one) == len(two) > 0
    return float(max(cKDTree(one).query(two)[0].max(), cKDTree(two).query(one)[0].max()))


def by_itk(path: Path) -> Mask:
    """Read a written mask with the library of another project."""
    image = sitk.ReadImage(str(path))
    matrix = np.eye(4)
    directions = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3] = np.column_stack([directions[:, ::-1], image.GetOrigin()])
    array = sitk.GetArrayFromImage(image)
    return Mask(array, Geometry(array.shape, matrix))


@pytest.mark.parametrize("kind", ["sform", "qform", "mha", "nrrd"])
@pytest.mark.parametrize("codes", CODES)
def test_b31_b32_in_any_order_no_voxel_moves_and_right_stays_right(
    codes: str, kind: str, tmp_path: Path, outcome: Outcome
) -> None:
    wanted = laid(codes, turned=True)
    assert wanted.geometry.axis_codes == codes
    volume = read_volume(save(wanted, kind, tmp_path))
    np.testing.assert_array_equal(volume.array, wanted.array)
    assert volume.geometry.distance_mm(wanted.geometry) < 1e-3  # NIfTI keeps 32 bits
    mask = found_by_threshold(volume)
    for label, hu in ((1, -850), (2, -840)):
        np.testing.assert_array_equal(mask.array == label, wanted.array == hu)
    for ending in WRITTEN:
        write_mask(mask, tmp_path / f"mask{ending}")
        again = read_mask(tmp_path / f"mask{ending}")
        np.testing.assert_array_equal(again.array, mask.array, err_msg=ending)
        assert again.geometry.distance_mm(volume.geometry) < 1e-3, ending
        for label in (1, 2):
            assert most_apart(again, mask, label) < 1e-3, ending
    for ending in (".nii.gz", ".nrrd", ".mha"):  # and where another program puts them
        elsewhere = by_itk(tmp_path / f"mask{ending}")
        for label in (1, 2):
            assert most_apart(elsewhere, mask, label) < 1e-3, ending
    outcome("OK", "no voxel of a mask moves, the right lung stays 1")


@pytest.mark.usefixtures("quick_network")
@pytest.mark.parametrize("codes", ["SPL", "SAR", "IPL", "PIL", "LIP", "RSA"])
def test_b31_b32_a_real_run_labels_the_right_lung_1_however_the_patient_lay(
    codes: str, chest: Phantom, tmp_path: Path, outcome: Outcome
) -> None:
    order = Geometry.from_spacing((1, 1, 1), (1, 1, 1), codes).to_axial
    array = np.ascontiguousarray(order.undo(chest.volume.axial))
    spacing = [11.0 if letter in "SI" else 3.8 for letter in codes]
    path = save(Volume(array, Geometry.from_spacing(array.shape, spacing, codes)), "sform", tmp_path)
    mask = to_mask(predict(read_volume(path)), split=True)
    write_mask(mask, tmp_path / "mask.nii.gz")
    truth = chest.mask.axial
    found = read_mask(tmp_path / "mask.nii.gz").axial
    for label in (1, 2):
        side = truth == label
        assert np.count_nonzero(found[side] == label) > 0.8 * np.count_nonzero(side)
        assert np.count_nonzero(found[side] == 3 - label) < 0.02 * np.count_nonzero(side)
    outcome("OK", "the right lung is 1")


POSES = {
    # row and column direction of the slices in LPS, and the way from slice to slice
    "head first, supine": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "head first, prone": ((-1, 0, 0), (0, -1, 0), (0, 0, 1)),
    "feet first, supine": ((1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "on the right side": ((0, 1, 0), (-1, 0, 0), (0, 0, 1)),
    "coronal": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1), (1, 0, 0)),
}


@pytest.mark.parametrize("pose", POSES)
def test_b31_b32_dicom_of_any_pose_comes_back_where_it_was(
    pose: str, tmp_path: Path, outcome: Outcome
) -> None:
    row, column, across = (np.array(direction, dtype=float) for direction in POSES[pose])
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([2.5 * across, 0.8 * column, 0.7 * row])
    matrix[:3, 3] = [-101.3, 57.7, -340.1]
    stored = Geometry((1, 1, 1), matrix).to_axial.undo(lungs((8, 12, 16)))
    wanted = Volume(np.ascontiguousarray(stored), Geometry(stored.shape, matrix))
    _write_series(wanted, tmp_path / "series")
    volume = read_volume(tmp_path / "series")
    mask = found_by_threshold(volume)
    there = found_by_threshold(wanted)
    for label, hu in ((1, -850), (2, -840)):
        assert np.count_nonzero(mask.array == label) == np.count_nonzero(wanted.array == hu)
        assert most_apart(mask, there, label) < 1e-6
    for ending in (*WRITTEN, ".dcm"):
        write_mask(mask, tmp_path / f"mask{ending}")
        if ending == ".dcm":
            slices = source_slices(volume.source, volume.geometry)
            np.testing.assert_array_equal(read_back_dicom_seg(tmp_path / "mask.dcm", slices), mask.array)
            continue
        again = read_mask(tmp_path / f"mask{ending}")
        for label in (1, 2):
            assert most_apart(again, mask, label) < 1e-3, ending
    outcome("OK", pose)


def _write_series(volume: Volume, folder: Path) -> None:
    """Write a series whose slices lie as the geometry says, whichever way that is."""
    plain = Volume(volume.array, Geometry.from_spacing(volume.array.shape, volume.geometry.spacing_mm))
    matrix = volume.geometry.index_to_lps
    for index, path in enumerate(write_ct_series(plain, folder)):
        data = pydicom.dcmread(path)
        data.ImagePositionPatient = (matrix @ [index, 0, 0, 1])[:3].tolist()
        data.ImageOrientationPatient = [*volume.geometry.directions[:, 2], *volume.geometry.directions[:, 1]]
        data.save_as(path)


@st.composite
def placed(draw: st.DrawFn) -> tuple[tuple[int, int, int], np.ndarray]:
    """A shape (x, y, z), and a RAS affine: any order of the axes, turned, with any voxel size and origin."""
    codes = draw(st.sampled_from(CODES))
    shape = draw(st.tuples(*[st.integers(2, 6)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 10)] * 3))
    turn = Rotation.from_euler("zyx", draw(st.tuples(*[st.floats(-30, 30)] * 3)), degrees=True).as_matrix()
    matrix = Geometry.from_spacing(shape[::-1], spacing, codes).index_to_lps.copy()
    matrix[:3, :3] = turn @ matrix[:3, :3]
    matrix[:3, 3] = draw(st.tuples(*[st.floats(-1000, 1000)] * 3))
    return shape, Geometry(shape[::-1], matrix).ras_affine


@settings(max_examples=150)
@given(
    placed(),
    st.sampled_from(["int16", "uint16", "uint8", "int32", "float32", "float64"]),
    st.integers(0, 2**32),
)
def test_wherever_a_ct_lies_its_mask_lies_there_too_for_nibabel_and_for_itk(
    place: tuple[tuple[int, int, int], np.ndarray], dtype: str, seed: int
) -> None:
    shape, affine = place
    values = np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)
    with TemporaryDirectory() as folder:
        source, output = Path(folder) / "ct.nii", Path(folder) / "lungs.nii.gz"
        image = nib.Nifti1Image(values, affine)
        image.set_qform(affine, code=1)
        image.set_sform(affine, code=1)
        image.to_filename(source)
        volume = read_volume(source)
        np.testing.assert_array_equal(volume.array, values.T)
        write_mask(Mask((volume.array > 100).astype(np.uint8), volume.geometry, volume.source), output)
        ct, mask, by_itk = nib.load(source), nib.load(output), sitk.ReadImage(str(output))
        np.testing.assert_array_equal(mask.affine, ct.affine)
        np.testing.assert_array_equal(mask.dataobj, values > 100)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(by_itk), values.T > 100)
        for corner in itertools.product(*[(0, n - 1) for n in shape]):
            in_ras = nib.affines.apply_affine(mask.affine, corner)
            in_lps = by_itk.TransformIndexToPhysicalPoint(corner)
            np.testing.assert_allclose(in_lps, in_ras * [-1, -1, 1], atol=1e-3)
