from __future__ import annotations

import gzip
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pytest
import SimpleITK as sitk  # noqa: N813
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import FrameChoiceError, GeometryError, InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.export import write_mask
from napari_resunet.io.nifti import read_nifti, read_nifti_mask, repeats_place, write_nifti
from napari_resunet.io.nifti_header import PLACING_FIELDS
from napari_resunet.volume import Mask, Volume

XYZ = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) - 60
TURN = np.array([[0.98, -0.17, 0.10], [0.17, 0.98, 0.05], [-0.11, -0.03, 0.99]])


def oblique() -> np.ndarray:
    """A rotation by about 10 degrees, with three different spacings."""
    affine = np.eye(4)
    rotation, _ = np.linalg.qr(TURN)
    affine[:3, :3] = rotation * [0.71, 0.83, 2.5]
    affine[:3, 3] = [-101.3, 57.7, -340.1]
    return affine


def axis_orders() -> list[np.ndarray]:
    """All 48 ways to lay three array axes along the patient's, turned a little."""
    affines = []
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            change = np.eye(4)
            change[:3, :3] = np.eye(3)[:, axes] * signs
            affines.append(oblique() @ change)
    return affines


def save(path: Path, array: np.ndarray = XYZ, affine: np.ndarray | None = None, **fields: Any) -> Path:
    """Write a NIfTI file with nibabel; `fields` are set in its header, whatever they say."""
    image = nib.Nifti1Image(array, np.diag([0.7, 0.8, 2.5, 1]) if affine is None else affine)
    image.header.set_xyzt_units("mm")
    image.to_filename(path)
    if fields:
        edit(path, **fields)
    return path


def edit(path: Path, **fields: Any) -> None:
    """Change header fields of an uncompressed file in place."""
    content = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(content)


def test_the_array_is_the_files_transposed(tmp_path: Path) -> None:
    volume = read_nifti(save(tmp_path / "ct.nii.gz"))
    np.testing.assert_array_equal(volume.array, XYZ.T)
    assert volume.array.dtype == np.int16
    assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert volume.notes == ()
    assert volume.source is not None
    assert volume.source.files == (tmp_path / "ct.nii.gz",)


@pytest.mark.parametrize("affine", axis_orders())
def test_b13_b14_every_axis_order_comes_back_to_the_bit(
    affine: np.ndarray, tmp_path: Path, outcome: Outcome
) -> None:
    source = save(tmp_path / "ct.nii", affine=affine)
    volume = read_nifti(source)
    mask = (volume.array > 0).astype(np.uint8)
    write_nifti(mask, volume.geometry, volume.source, tmp_path / "mask.nii")
    before = nib.load(source).header
    after = nib.load(tmp_path / "mask.nii").header
    for name in PLACING_FIELDS:
        assert before[name].tobytes() == after[name].tobytes(), name
    np.testing.assert_array_equal(nib.load(tmp_path / "mask.nii").dataobj, XYZ > 0)
    outcome("OK", "turned by 10 degrees, left- and right-handed: the header comes back to the bit")


def test_a_ct_that_itk_wrote_comes_back_to_the_bit(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(XYZ.T.copy())
    image.SetSpacing((0.7, 0.8, 2.5))
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))  # whose pixdim is 0 where there is no axis
    volume = read_nifti(tmp_path / "ct.nii.gz")
    mask = Mask((volume.array > 0).astype(np.uint8), volume.geometry, volume.source)
    assert str(write_mask(mask, tmp_path / "mask.nii.gz")).endswith("same grid as ct.nii.gz")


@pytest.mark.parametrize("fourth", [0.0, 2.0])
def test_the_pixdim_of_an_axis_that_there_is_not_comes_back_too(fourth: float, tmp_path: Path) -> None:
    source = save(tmp_path / "ct.nii", pixdim=[1, 0.7, 0.8, 2.5, *[fourth] * 4])
    volume = read_nifti(source)
    write_nifti(np.ones(volume.array.shape, np.uint8), volume.geometry, volume.source, tmp_path / "mask.nii")
    assert repeats_place(tmp_path / "mask.nii", volume.source, volume.geometry)


@pytest.mark.parametrize("affine", axis_orders()[::7])
def test_corners_lie_where_itk_puts_them(affine: np.ndarray, tmp_path: Path) -> None:
    source = save(tmp_path / "ct.nii", affine=affine)
    geometry = read_nifti(source).geometry
    image = sitk.ReadImage(str(source))
    for z, y, x in itertools.product((0, 5), (0, 4), (0, 3)):
        ours = (geometry.index_to_lps @ [z, y, x, 1])[:3]
        np.testing.assert_allclose(ours, image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-3)


def test_b16_the_scale_is_applied_once(tmp_path: Path, outcome: Outcome) -> None:
    path = save(tmp_path / "ct.nii", scl_slope=0.5, scl_inter=-1024)
    np.testing.assert_array_equal(read_nifti(path).array, (XYZ * 0.5 - 1024).T)
    outcome("OK")


@pytest.mark.parametrize(("slope", "inter", "noted"), [(0, 5, True), (np.nan, 5, True), (np.nan, 0, False)])
def test_b15_a_scale_without_meaning_is_noted(
    slope: float, inter: float, noted: bool, tmp_path: Path, outcome: Outcome
) -> None:
    volume = read_nifti(save(tmp_path / "ct.nii", scl_slope=slope, scl_inter=inter))
    np.testing.assert_array_equal(volume.array, XYZ.T)
    assert ("scl_inter" in " ".join(volume.notes)) == noted
    outcome("NOTE" if noted else "OK", " ".join(volume.notes))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int16", ">i2", "uint16", "int32", "int64", "uint64", "float32", ">f4", "float64"]
)
def test_b22_every_real_type_is_read(dtype: str, tmp_path: Path, outcome: Outcome) -> None:
    image = nib.Nifti1Image(np.abs(XYZ).astype(dtype), np.eye(4), dtype=np.dtype(dtype).newbyteorder("="))
    image.to_filename(tmp_path / "ct.nii.gz")
    volume = read_nifti(tmp_path / "ct.nii.gz")
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.array, np.abs(XYZ).T)
    outcome("OK", dtype)


def test_fractions_stay_float(tmp_path: Path) -> None:
    volume = read_nifti(save(tmp_path / "ct.nii", XYZ.astype(np.float32) + 0.25))
    assert volume.array.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.complex64, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])])
def test_b22_complex_and_colour_are_refused(dtype: Any, tmp_path: Path, outcome: Outcome) -> None:
    nib.Nifti1Image(np.zeros((4, 5, 6), dtype), np.eye(4)).to_filename(tmp_path / "ct.nii")
    with pytest.raises(InputError, match="not CT values") as refused:
        read_nifti(tmp_path / "ct.nii")
    outcome("REFUSE", told(refused))


def test_b33_pairs_nifti2_and_big_endian_are_read(tmp_path: Path, outcome: Outcome) -> None:
    nib.Nifti1Pair(XYZ, oblique()).to_filename(tmp_path / "pair.img")
    nib.Nifti2Image(XYZ, oblique()).to_filename(tmp_path / "two.nii.gz")
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.Nifti1Image(XYZ, oblique(), header).to_filename(tmp_path / "big.nii")
    for name in ("pair.img", "pair.hdr", "two.nii.gz", "big.nii"):
        volume = read_nifti(tmp_path / name)
        np.testing.assert_array_equal(volume.array, XYZ.T)
        np.testing.assert_allclose(volume.geometry.ras_affine, oblique(), rtol=1e-6)
        assert volume.source is not None
        write_nifti(np.ones((6, 5, 4), np.uint8), volume.geometry, volume.source, tmp_path / "mask.nii")
        assert repeats_place(tmp_path / "mask.nii", volume.source, volume.geometry)
    assert len(read_nifti(tmp_path / "pair.hdr").source.files) == 2
    outcome("OK")


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    nib.Nifti1Pair(XYZ, oblique()).to_filename(tmp_path / "pair.img")
    (tmp_path / "pair.hdr").unlink()
    with pytest.raises(InputError, match=r"pair\.img needs pair\.hdr beside it"):
        read_nifti(tmp_path / "pair.img")


def test_b04_gzip_is_known_by_content(tmp_path: Path, outcome: Outcome) -> None:
    plain = save(tmp_path / "ct.nii").read_bytes()
    (tmp_path / "really_plain.nii.gz").write_bytes(plain)
    (tmp_path / "really_packed.nii").write_bytes(gzip.compress(plain))
    for name in ("really_plain.nii.gz", "really_packed.nii"):
        volume = read_nifti(tmp_path / name)
        np.testing.assert_array_equal(volume.array, XYZ.T)
        assert "gzip" in volume.notes[0]
        outcome("NOTE", volume.notes[0])


def test_b02_b03_a_truncated_file_is_refused(tmp_path: Path, outcome: Outcome) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    for name in ("ct.nii", "ct.nii.gz"):
        content = save(tmp_path / name, noise).read_bytes()
        for keep in (len(content) // 2, len(content) - 1):
            (tmp_path / name).write_bytes(content[:keep])
            with pytest.raises(InputError, match=f"{name} is truncated or damaged.*again") as refused:
                read_nifti(tmp_path / name)
            outcome("REFUSE", told(refused))


def test_a_file_cut_inside_its_header_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "ct.nii.gz")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError, match="does not start with a NIfTI header"):
        read_nifti(path)


def test_b05_a_wrong_checksum_is_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = save(tmp_path / "ct.nii.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="CRC") as refused:
        read_nifti(path)
    outcome("REFUSE", told(refused))


def test_b07_zeros_without_end_behind_the_voxels_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    plain = save(tmp_path / "ct.nii").read_bytes()
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(plain + bytes(1 << 26)))
    unpacked = []
    read = gzip.GzipFile.read

    def counted(file: gzip.GzipFile, size: int | None = -1) -> bytes:
        block = read(file, size)
        unpacked.append(len(block))
        return block

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    np.testing.assert_array_equal(read_nifti(tmp_path / "ct.nii.gz").array, XYZ.T)
    assert sum(unpacked) < 1 << 22
    outcome("OK", "what follows the voxels is not unpacked")


def test_b06_b07_a_header_that_declares_too_much_is_refused_before_it_is_believed(
    tmp_path: Path, outcome: Outcome
) -> None:
    path = save(tmp_path / "ct.nii", dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    with pytest.raises(InputError, match="declares 70,362,301,923,326 bytes"):
        read_nifti(path)
    (tmp_path / "ct.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="declares 70,362,301,923,326 bytes") as refused:
        read_nifti(tmp_path / "ct.nii.gz")
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize(
    "dim", [[0, 1, 1, 1, 1, 1, 1, 1], [3, 4, 0, 6, 1, 1, 1, 1], [9, 4, 5, 6, 1, 1, 1, 1]]
)
def test_an_impossible_shape_is_refused(dim: list[int], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ct\.nii"):
        read_nifti(save(tmp_path / "ct.nii", dim=dim))


def test_b08_without_codes_the_orientation_is_assumed_aloud_and_not_made_up_on_export(
    tmp_path: Path, outcome: Outcome
) -> None:
    path = save(tmp_path / "ct.nii", sform_code=0, qform_code=0)
    volume = read_nifti(path)
    assert volume.notes[0].startswith("ORIENTATION ASSUMED")
    np.testing.assert_allclose(volume.geometry.ras_affine, nib.load(path).affine)
    write_nifti(np.ones((6, 5, 4), np.uint8), volume.geometry, volume.source, tmp_path / "mask.nii")
    header = nib.load(tmp_path / "mask.nii").header
    assert (header["sform_code"], header["qform_code"]) == (0, 0)
    outcome("ASK", volume.notes[0])


@pytest.mark.parametrize("codes", ["SAL", "IPR", "lip"])
def test_b08_an_orientation_by_the_users_word_is_used_noted_and_exported(
    codes: str, tmp_path: Path, outcome: Outcome
) -> None:
    path = save(tmp_path / "ct.nii", sform_code=0, qform_code=0)
    volume = read_nifti(path, orientation=codes)
    assert volume.source is not None
    assert volume.source.nifti_header is None  # an export must not repeat codes of 0
    assert volume.geometry.axis_codes == codes.upper()
    assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    write_nifti((volume.array > 0).astype(np.uint8), volume.geometry, volume.source, tmp_path / "mask.nii")
    written = nib.load(tmp_path / "mask.nii")
    assert (written.header["sform_code"], written.header["qform_code"]) == (1, 1)
    assert "".join(nib.aff2axcodes(written.affine))[::-1] == codes.upper()
    np.testing.assert_array_equal(written.dataobj, XYZ > 0)
    assert "by the user's word" in volume.notes[0]
    outcome("NOTE", volume.notes[0])


def test_b08_a_unit_other_than_mm_counts_for_the_users_orientation_too(tmp_path: Path) -> None:
    path = save(tmp_path / "ct.nii", sform_code=0, qform_code=0, xyzt_units=3)
    assert read_nifti(path, orientation="SPL").geometry.spacing_mm == pytest.approx((2.5e-3, 0.8e-3, 0.7e-3))


def test_b12_without_codes_and_voxel_size_the_spacing_is_asked_for(tmp_path: Path, outcome: Outcome) -> None:
    path = save(tmp_path / "ct.nii", sform_code=0, qform_code=0, pixdim=[1, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(SpacingUnknownError, match="spacing_mm=") as asked:
        read_nifti(path)
    outcome("ASK", told(asked))
    volume = read_nifti(path, spacing_mm=(3, 2, 1))
    assert volume.geometry.spacing_mm == (3, 2, 1)
    assert volume.source is not None
    assert volume.source.nifti_header is None  # an export must not repeat a size of 0
    assert read_nifti(path, spacing_mm=(3, 2, 1), orientation="IAR").geometry.axis_codes == "IAR"


@pytest.mark.parametrize("row", [[0, 0, 0, 1], [np.nan, 0, 0, 1], [np.inf, 0, 0, 1]])
def test_b11_b12_an_affine_that_flattens_or_is_not_finite_is_refused(
    row: list[float], tmp_path: Path, outcome: Outcome
) -> None:
    """A flat affine is refused, not asked about: it says where the voxels lie, and what else is wrong is unknown."""
    with pytest.raises(GeometryError, match=r"ct\.nii.*(flattens|not finite).*; mend") as refused:
        read_nifti(save(tmp_path / "ct.nii", srow_x=row))
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize("fields", [{"quatern_b": 5.0}, {"pixdim": [1, -1, 1, 1, 1, 1, 1, 1]}])
def test_an_impossible_qform_is_refused_only_where_it_is_needed(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    assert read_nifti(save(tmp_path / "ct.nii", qform_code=1, **fields)).notes == ()
    with pytest.raises(GeometryError, match="impossible qform"):
        read_nifti(save(tmp_path / "ct.nii", sform_code=0, qform_code=1, **fields))


def test_a_qfac_of_0_counts_as_1(tmp_path: Path) -> None:
    path = save(tmp_path / "ct.nii", sform_code=0, qform_code=1, pixdim=[0, 0.7, 0.8, 2.5, 0, 0, 0, 0])
    np.testing.assert_allclose(
        read_nifti(path).geometry.ras_affine[:3, :3], np.diag([0.7, 0.8, 2.5]), rtol=1e-6
    )


def test_b09_when_sform_and_qform_disagree_the_sform_is_used_and_both_are_kept(
    tmp_path: Path, outcome: Outcome
) -> None:
    path = save(tmp_path / "ct.nii", qform_code=1, qoffset_x=44)
    volume = read_nifti(path)
    assert "44.0 mm apart" in volume.notes[0]
    assert volume.geometry.index_to_lps[0, 3] == 0
    write_nifti(np.ones((6, 5, 4), np.uint8), volume.geometry, volume.source, tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").header["qoffset_x"] == 44
    outcome("NOTE", volume.notes[0])


def test_b10_a_sheared_sform_is_kept(tmp_path: Path, outcome: Outcome) -> None:
    sheared = np.diag([0.7, 0.8, 2.5, 1])
    sheared[1, 2] = 0.6
    volume = read_nifti(save(tmp_path / "ct.nii", srow_y=sheared[1]))
    assert volume.geometry.is_sheared
    assert any("right angles" in note for note in volume.notes)
    np.testing.assert_allclose(volume.geometry.ras_affine, sheared, rtol=1e-6)
    outcome("NOTE", volume.notes[-1])


def test_other_units_of_length_become_mm(tmp_path: Path) -> None:
    volume = read_nifti(save(tmp_path / "ct.nii", np.eye(4)[:3, :3, None].astype(np.int16), xyzt_units=3))
    assert volume.geometry.spacing_mm == pytest.approx((2.5e-3, 0.8e-3, 0.7e-3))
    assert "0.001 mm" in volume.notes[0]


def test_b24_one_frame_is_squeezed(tmp_path: Path, outcome: Outcome) -> None:
    volume = read_nifti(save(tmp_path / "one.nii", XYZ[..., None]))
    assert volume.array.shape == (6, 5, 4)
    assert "4-D" in volume.notes[0]
    write_nifti((volume.array > 0).astype(np.uint8), volume.geometry, volume.source, tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").shape == (4, 5, 6)
    outcome("NOTE", volume.notes[0])
    with pytest.raises(InputError, match="holds one volume, number 1 was asked for"):
        read_nifti(tmp_path / "one.nii", frame=1)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_b24_of_several_volumes_one_is_asked_for(name: str, tmp_path: Path, outcome: Outcome) -> None:
    path = save(tmp_path / name, np.stack([XYZ, XYZ + 1, XYZ + 2], -1))
    with pytest.raises(FrameChoiceError, match=rf"{name} holds 3 volumes.*\(--frame or frame=\)") as asked:
        read_nifti(path)
    assert asked.value.frames == 3
    outcome("ASK", told(asked))
    for frame in range(3):
        volume = read_nifti(path, frame=frame)
        np.testing.assert_array_equal(volume.array, XYZ.T + frame)
        assert volume.notes == (f"volume {frame} was read, by the user's word (0 to 2 are there)",)
    for frame in (-1, 3):
        with pytest.raises(InputError, match=f"has no volume {frame}: its 3 volumes are 0 to 2"):
            read_nifti(path, frame=frame)


def test_b24_only_the_volume_asked_for_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    path = save(tmp_path / "ct.nii", np.stack([XYZ, XYZ + 1, XYZ + 2], -1))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2 * XYZ.size))
    np.testing.assert_array_equal(read_nifti(path, frame=2).array, XYZ.T + 2)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2 * XYZ.size - 1))
    with pytest.raises(InputError, match="of memory"):
        read_nifti(path, frame=2)
    outcome("OK", "memory is needed for one volume")


@pytest.mark.parametrize("frame", [0, 2])
def test_b05_b24_damage_in_another_volume_is_found(frame: int, tmp_path: Path, outcome: Outcome) -> None:
    noise = np.random.default_rng(0).integers(-1000, 1000, (100, 100, 100, 3)).astype(np.int16)
    path = save(tmp_path / "ct.nii.gz", noise)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="CRC") as refused:
        read_nifti(path, frame=frame)
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize("dim", [[5, 4, 5, 2, 1, 3, 1, 1], [5, 4, 5, 2, 3, 1, 1, 1]])
def test_b25_a_field_of_vectors_is_refused(dim: list[int], tmp_path: Path, outcome: Outcome) -> None:
    path = save(tmp_path / "ct.nii", dim=dim, intent_code=1007)
    if dim[4] == 1:
        with pytest.raises(
            InputError, match=r"is 5-D \(4 x 5 x 2 x 1 x 3\), such as a field of vectors"
        ) as refused:
            read_nifti(path)
        outcome("REFUSE", told(refused))
    else:  # five axes, but three plain volumes: these can be chosen from
        np.testing.assert_array_equal(read_nifti(path, frame=1).array, XYZ.T[2:4])


def test_b26_a_single_slice_is_read(tmp_path: Path, outcome: Outcome) -> None:
    assert read_nifti(save(tmp_path / "ct.nii", XYZ[:, :, 0])).array.shape == (1, 5, 4)
    assert read_nifti(save(tmp_path / "flat.nii", XYZ[:, :, :1])).array.shape == (1, 5, 4)
    outcome("OK")


def test_b34_extensions_are_read_over_and_not_copied(tmp_path: Path, outcome: Outcome) -> None:
    image = nib.Nifti1Image(XYZ, np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    image.to_filename(tmp_path / "ct.nii")
    volume = read_nifti(tmp_path / "ct.nii")
    np.testing.assert_array_equal(volume.array, XYZ.T)
    write_nifti(np.ones((6, 5, 4), np.uint8), volume.geometry, volume.source, tmp_path / "mask.nii")
    assert b"Jane" not in (tmp_path / "mask.nii").read_bytes()
    outcome("OK")


def test_a_mask_of_another_kind_of_source_gets_the_geometry_with_code_1(
    volume: Volume, tmp_path: Path
) -> None:
    write_nifti(np.ones((5, 6, 7), np.uint8), volume.geometry, None, tmp_path / "mask.nii.gz")
    header = nib.load(tmp_path / "mask.nii.gz").header
    assert (header["sform_code"], header["qform_code"]) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-4)
    assert read_nifti_mask(tmp_path / "mask.nii.gz").geometry.matches(volume.geometry, within_mm=1e-4)
    assert header.get_xyzt_units()[0] == "mm"


def test_a_sheared_mask_has_no_qform(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[0, 1] = 0.3
    write_nifti(np.ones((2, 3, 4), np.uint8), Geometry((2, 3, 4), matrix), None, tmp_path / "mask.nii")
    assert nib.load(tmp_path / "mask.nii").header["qform_code"] == 0


def test_a_source_with_another_geometry_is_not_repeated(volume: Volume, tmp_path: Path) -> None:
    source = read_nifti(save(tmp_path / "ct.nii")).source
    write_nifti(np.ones((5, 6, 7), np.uint8), volume.geometry, source, tmp_path / "mask.nii")
    assert read_nifti_mask(tmp_path / "mask.nii").geometry.matches(volume.geometry, within_mm=1e-4)


def test_the_same_mask_gives_the_same_bytes(volume: Volume, tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(np.ones((5, 6, 7), np.uint8), volume.geometry, None, tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_real_ct_has_the_voxels_and_places_that_itk_reads(real_ct: Path) -> None:
    path = real_ct / "formats" / "abdomen_3mm.nii.gz"
    volume = read_nifti(path)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    last = tuple(n - 1 for n in image.GetSize())
    np.testing.assert_allclose(
        volume.geometry.corners_lps()[-1], image.TransformIndexToPhysicalPoint(last), atol=1e-3
    )


@pytest.mark.parametrize("offset", [0, 348, 351.5, np.nan, np.inf])
def test_voxels_that_begin_within_the_header_or_nowhere_are_refused(offset: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"begin at byte .*, within its header of 352 bytes"):
        read_nifti(save(tmp_path / "ct.nii", vox_offset=offset))


def test_an_unknown_type_of_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has a datatype of 77, which NIfTI does not know"):
        read_nifti(save(tmp_path / "ct.nii", datatype=77))


@pytest.mark.parametrize("name", ["sform_code", "qform_code"])
@pytest.mark.parametrize("code", [-1, 6, 130])
def test_b08_a_code_that_is_none_is_refused_since_programs_differ_in_what_they_make_of_it(
    name: str, code: int, tmp_path: Path, outcome: Outcome
) -> None:
    with pytest.raises(GeometryError, match=f"code {code}, which NIfTI does not know") as refused:
        read_nifti(save(tmp_path / "ct.nii", **{name: code}))
    outcome("REFUSE", told(refused))
