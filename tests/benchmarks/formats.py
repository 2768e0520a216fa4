"""Real files read by us and by the reference libraries, and a mask of each through every format and back: a table.

    python tests/benchmarks/formats.py FOLDER

FOLDER is searched for CT: DICOM series (folders and single files), NIfTI, NRRD, MetaImage. For each is told

* the reference that reads it: pydicom for DICOM slices, nibabel for NIfTI, SimpleITK for all of them;
* HU: the largest difference of a voxel between us and the reference;
* mm: how far the corners of the volume lie apart at most;
* out and back: a mask (what is below -500 HU), written in every format, read again by us and, where it can, by
  SimpleITK: how many voxels differ, and how far the corners moved at most.

0 everywhere is the goal; 32-bit affines of NIfTI allow about a micrometre.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from rich.console import Console

from napari_resunet.errors import InputError, OutputError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_seg import read_back_dicom_seg
from napari_resunet.io.dicom_seg_slices import source_slices
from napari_resunet.io.files import can_read, read_mask, read_volume, write_mask
from napari_resunet.io.kind import kind_of
from napari_resunet.volume import Mask, Volume

ENDINGS = (".nii.gz", ".nii", ".tif", ".nrrd", ".seg.nrrd", ".mha")
BY_ITK = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha")
FILES = (".nii", ".gz", ".nrrd", ".mha", ".mhd")


def main() -> None:
    """Print the table of a folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    console = Console(soft_wrap=True)
    console.print("| CT | format | shape | reference | HU | mm | out and back: voxels | mm |")
    console.print("|---|---|---|---|---|---|---|---|")
    for path in find(folder):
        console.print(row(path, folder), markup=False, highlight=False)


def find(folder: Path) -> Iterator[Path]:
    """Give the CT below a folder: of each folder of DICOM itself if it is one series, else each of its files."""
    for place in sorted([folder, *(path for path in folder.rglob("*") if path.is_dir())]):
        files = sorted(path for path in place.iterdir() if path.is_file())
        slices = [path for path in files if can_read(path) and kind_of(path) == "DICOM"]
        if len(slices) > 1 and len({pydicom.dcmread(path).SeriesInstanceUID for path in slices}) == 1:
            yield place
        else:
            yield from slices
        yield from (path for path in files if path.suffix in FILES and "lungs" not in path.name)


def row(path: Path, folder: Path) -> str:
    """Return the line of one CT."""
    name = path.relative_to(folder)
    try:
        volume = read_volume(path)
    except InputError as error:
        return f"| {name} | | | refused: {str(error).replace(str(path), path.name)} | | | | |"
    found = [
        (label, *difference(volume, array, geometry)) for label, array, geometry in references(path, volume)
    ]
    who, hu, mm = (
        ", ".join(str(cell) for cell in column)
        for column in zip(*(_cells(*entry) for entry in found), strict=True)
    )
    voxels, moved = out_and_back(volume)
    shape = " x ".join(map(str, volume.array.shape))
    kind = volume.source.format if volume.source else ""
    return f"| {name} | {kind} | {shape} | {who} | {hu} | {mm} | {voxels} | {moved:.1g} |"


def _cells(label: str, hu: float, mm: float | None) -> tuple[str, str, str]:
    return label, f"{hu:g}", "-" if mm is None else f"{mm:.1g}"


def references(path: Path, volume: Volume) -> Iterator[tuple[str, np.ndarray, Geometry | None]]:
    """Give the same CT as other libraries read it."""
    if volume.source is not None and volume.source.format == "DICOM":
        yield "pydicom", *by_pydicom(volume)
        if len(volume.array) > 1:
            yield "SimpleITK", *by_itk([str(file) for file in volume.source.files])
        return
    if volume.source is not None and volume.source.format == "NIfTI":
        image = nib.load(path)
        yield "nibabel", np.asanyarray(image.dataobj).T, Geometry.from_ras_affine(image.shape, image.affine)
    yield "SimpleITK", *by_itk([str(path)])


def by_pydicom(volume: Volume) -> tuple[np.ndarray, Geometry | None]:
    """Return the slices in the order in which we put them, by their own rescale, and where they lie by their tags."""
    slices = [pydicom.dcmread(path) for path in volume.source.files] if volume.source else []
    planes = [
        data.pixel_array * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
        for data in slices
    ]
    first, last = slices[0], slices[-1]
    along_x, along_y = np.reshape(np.array(first.ImageOrientationPatient, float), (2, 3))
    matrix = np.eye(4)
    start, end = (np.array(data.ImagePositionPatient, float) for data in (first, last))
    thickness = float(first.get("SliceThickness", None) or 1)
    step = (end - start) / (len(slices) - 1) if len(slices) > 1 else thickness * np.cross(along_x, along_y)
    y, x = map(float, first.PixelSpacing)
    matrix[:3] = np.column_stack([step, along_y * y, along_x * x, start])
    return np.stack(planes), Geometry(volume.array.shape, matrix)


def by_itk(files: list[str]) -> tuple[np.ndarray, Geometry]:
    """Return what SimpleITK reads of a file, or of the files of a series."""
    image = sitk.ReadImage(files if len(files) > 1 else files[0])
    return sitk.GetArrayFromImage(image), geometry_of(image)


def geometry_of(image: Any) -> Geometry:
    """Return where the voxels of an image lie, as ITK has it."""
    matrix = np.eye(4)
    directions = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3] = np.column_stack([directions[:, ::-1], image.GetOrigin()])
    return Geometry(image.GetSize()[::-1], matrix)


def difference(volume: Volume, array: np.ndarray, geometry: Geometry | None) -> tuple[float, float | None]:
    """Return the largest difference in HU, and of a corner in mm."""
    if array.shape != volume.array.shape:
        return np.inf, None
    hu = float(np.abs(volume.array.astype(np.float64) - array).max())
    return hu, None if geometry is None else volume.geometry.distance_mm(geometry)


def out_and_back(volume: Volume) -> tuple[int, float]:
    """Return how many voxels of a mask differ after any format, and how far a corner moved at most."""
    mask = Mask((volume.array < -500).astype(np.uint8), volume.geometry, volume.source)
    differ, moved = 0, 0.0
    with tempfile.TemporaryDirectory() as name:
        for ending in ENDINGS:
            path = Path(name) / f"mask{ending}"
            write_mask(mask, path)
            readings = [read_mask(path)]
            if ending in BY_ITK and not volume.geometry.is_sheared:  # ITK reads no sheared NIfTI
                array, geometry = by_itk([str(path)])
                readings.append(Mask(array, geometry))
            for again in readings:
                differ += int(np.count_nonzero(again.array != mask.array))
                moved = max(moved, again.geometry.distance_mm(mask.geometry))
        if volume.source is not None and volume.source.format == "DICOM":
            differ += _as_dicom(mask, Path(name) / "mask.dcm")
    return differ, moved


def _as_dicom(mask: Mask, path: Path) -> int:
    """Return how many voxels differ after a DICOM Segmentation, 0 if the series lacks what that needs."""
    try:
        write_mask(mask, path)
    except OutputError:
        return 0
    return int(
        np.count_nonzero(read_back_dicom_seg(path, source_slices(mask.source, mask.geometry)) != mask.array)
    )


if __name__ == "__main__":
    main()
