"""Write every file of this folder anew: ``python sample_data/make.py``."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import tifffile

from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.nifti import write_nifti
from napari_resunet.phantom import make_phantom
from napari_resunet.volume import Volume

HERE = Path(__file__).parent


def write_nifti_ct(volume: Volume, path: Path) -> None:
    """Write HU as int16; nibabel leaves the time out of the gzip header, so that the bytes stay the same."""
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.geometry.ras_affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(volume.geometry.ras_affine, code=1)
    image.set_sform(volume.geometry.ras_affine, code=1)
    nib.save(image, path)


def write_imagej_ct(volume: Volume, path: Path) -> None:
    """Write a TIFF stack as ImageJ does: it knows the size of a voxel, but not where the patient's left is."""
    dz, dy, dx = volume.geometry.spacing_mm
    metadata = {"axes": "ZYX", "spacing": dz, "unit": "mm"}
    tifffile.imwrite(path, volume.array, imagej=True, resolution=(1 / dx, 1 / dy), metadata=metadata)


def main() -> None:
    phantom = make_phantom()
    write_nifti_ct(phantom.volume, HERE / "phantom_ct.nii.gz")
    write_imagej_ct(phantom.volume, HERE / "phantom_ct.tif")
    write_ct_series(phantom.volume, HERE / "phantom_dicom")
    write_nifti(phantom.mask.array, phantom.mask.geometry, None, HERE / "phantom_lungs.nii.gz")


if __name__ == "__main__":
    main()
