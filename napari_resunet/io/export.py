"""Masks and probability maps to files: written beside, read again, compared, and only then put in place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError, OutputError
from napari_resunet.geometry import Geometry
from napari_resunet.io.atomic import replacing
from napari_resunet.io.folders import require_folder
from napari_resunet.io.kind import kind_of
from napari_resunet.io.one_writer import only_writer
from napari_resunet.io.regular_file import sha256_of
from napari_resunet.io.segments import Segment, segments_of
from napari_resunet.io.sidecar import describe_geometry, describe_source, read_sidecar, write_sidecar
from napari_resunet.volume import Mask, ProbabilityMap, Source, refuse_other_kind

if TYPE_CHECKING:
    from napari_resunet.io.dicom_seg_slices import SourceSlices

MASK_ENDINGS = (".nii.gz", ".nii", ".tif", ".tiff", ".seg.nrrd", ".nrrd", ".mha", ".dcm")  # the longest first
PROBABILITY_ENDINGS = (".nii.gz", ".nii", ".tif", ".tiff")


@dataclass(frozen=True)
class Receipt:
    """What was written, after it was read again and found equal.

    Parameters
    ----------
    path, sidecar : Path
        The file, and the JSON beside it.
    sha256 : str
        Of the file.
    voxels : int
        How many are lung (for a probability map: at least 50 % likely).
    volume_ml : float
        Their volume.
    geometry : str
        Where they lie, such as ``"same grid as CT.nii.gz"``.
    """

    path: Path
    sidecar: Path
    sha256: str
    voxels: int
    volume_ml: float
    geometry: str

    def __str__(self) -> str:
        return f"{self.path}: {self.voxels:,} voxels, {self.volume_ml:,.1f} ml, {self.geometry}"


@dataclass(frozen=True, eq=False)
class _Content:
    """What a mask and a probability map have in common on their way into a file."""

    array: npt.NDArray[np.uint8]
    geometry: Geometry
    source: Source | None
    slope: float
    history: Mapping[str, Any]
    facts: Mapping[str, Any]
    voxels: int

    @property
    def segments(self) -> tuple[Segment, ...]:
        return segments_of(self.array, self.history)

    @cached_property
    def slices(self) -> SourceSlices:
        """The DICOM slices that it lies on; an `OutputError` if there are none."""
        from napari_resunet.io.dicom_seg_slices import source_slices

        return source_slices(self.source, self.geometry)


def write_mask(mask: Mask, path: str | Path, *, overwrite: bool = True) -> Receipt:
    """Write a mask so that its voxels lie exactly where the CT's do, and a sidecar that says how it was made.

    Parameters
    ----------
    mask : Mask
        0, 1 and 2 as uint8.
    path : str or Path
        Its ending chooses the format: .nii.gz, .nii, .tif, .tiff, .nrrd, .mha; .seg.nrrd for a segmentation of
        3D Slicer; .dcm for a DICOM Segmentation, if the CT is a DICOM series.
    overwrite : bool
        Whether an existing file may be replaced. The CT itself never is.

    Returns
    -------
    Receipt
        After the file was read again and every voxel and its place compared.

    Raises
    ------
    OutputError
        If the ending is unknown, the path is the CT's, or the file cannot be written or reads back different. As a
        DICOM Segmentation also if the CT is not DICOM, or its files are gone or have changed.
    """
    refuse_other_kind(mask, Mask, needed_by="write_mask")
    # slice by slice: counting copies what it counts, eight bytes a voxel
    counts = np.sum([np.bincount(plane.reshape(-1), minlength=256) for plane in mask.array], axis=0)
    by_label = {str(label): int(count) for label, count in enumerate(counts) if count}
    voxels = int(counts[1:].sum())
    facts = {"kind": "mask", "voxels": by_label}
    content = _Content(mask.array, mask.geometry, mask.source, 1.0, dict(mask.history), facts, voxels)
    return _export(content, Path(path), MASK_ENDINGS, overwrite=overwrite)


def write_probability(prob: ProbabilityMap, path: str | Path, *, overwrite: bool = True) -> Receipt:
    """Write a probability map as uint8: NIfTI with a scale of 1/255, so that programs show 0-1, or plain TIFF.

    Parameters
    ----------
    prob : ProbabilityMap
        0-255 for 0-1.
    path : str or Path
        Ends in .nii.gz, .nii, .tif or .tiff.
    overwrite : bool
        Whether an existing file may be replaced.

    Returns
    -------
    Receipt
        As of `write_mask`.

    Raises
    ------
    OutputError
        As `write_mask`.
    """
    refuse_other_kind(prob, ProbabilityMap, needed_by="write_probability")
    run = None if prob.run is None else dataclasses.asdict(prob.run)
    slices = {"predicted": int(np.count_nonzero(prob.done)), "of": len(prob.done)}
    voxels = int(np.count_nonzero(prob.array >= 128))
    history, facts = {"run": run, "slices": slices}, {"kind": "probability", "scale": 1 / 255}
    content = _Content(prob.array, prob.geometry, prob.source, 1 / 255, history, facts, voxels)
    return _export(content, Path(path), PROBABILITY_ENDINGS, overwrite=overwrite)


def _export(content: _Content, path: Path, endings: tuple[str, ...], *, overwrite: bool) -> Receipt:
    ending = ending_of(path, endings)
    sidecar = sidecar_of(path, ending)
    with only_writer(path), only_writer(sidecar):
        return _write_both(content, path, sidecar, ending, overwrite=overwrite)


def _write_both(content: _Content, path: Path, sidecar: Path, ending: str, *, overwrite: bool) -> Receipt:
    _require_free(path, sidecar, content.source, overwrite=overwrite)
    # the sidecar of the old file goes with it: one that is there means "complete"
    with replacing(path, needed=_most_bytes(content), outdated=sidecar, keep=True) as temporary:
        _write(content, temporary, ending)
        _require_same(content, temporary, ending, path)
        sha256 = sha256_of(temporary)
    volume_ml = content.voxels * content.geometry.voxel_volume_mm3 / 1000
    facts = {
        **content.facts,
        "history": content.history,
        "source": describe_source(content.source),
        "geometry": describe_geometry(content.geometry),
        "output": {"name": path.name, "sha256": sha256, "volume_ml": volume_ml},
    }
    write_sidecar(sidecar, facts)
    return Receipt(path, sidecar, sha256, content.voxels, volume_ml, _statement(content))


def _most_bytes(content: _Content) -> int:
    """Return how large a file can become, packed or not; the tags of a DICOM Segmentation go by the slice."""
    return int(content.array.nbytes + (1 << 16) + (1 << 12) * content.array.shape[0])


def require_writable(path: Path, *, source: Path, endings: tuple[str, ...] = MASK_ENDINGS) -> None:
    """Raise before a long run, not after it, if `path` could not be written.

    Parameters
    ----------
    path : Path
        Of the file to be.
    source : Path
        The CT: a file, or the folder of a series.
    endings : tuple of str
        Those that can be written.

    Raises
    ------
    OutputError
        If the ending is unknown, or is .dcm and the CT is not DICOM; the folder is missing or may not be written
        to; or the path is the CT's.
    """
    ending = ending_of(path, endings)
    if ending == ".dcm" and source.exists() and kind_of(source) != "DICOM":
        raise OutputError(f"{path} needs a CT that is DICOM, and {source.name} is not; use .nii.gz")
    require_not_ct(path, source)
    _require_free(path, sidecar_of(path, ending), None, overwrite=True)


def require_not_ct(path: Path, source: Path) -> None:
    """Raise `OutputError` if `path` is the CT, or a file of its series, or its folder cannot be written to."""
    folder = require_folder(path)
    is_in_series = source.is_dir() and folder.samefile(source) and path.exists()
    if is_in_series or (path.exists() and source.exists() and path.samefile(source)):
        raise OutputError(f"{path} is the CT itself, which is never written over; choose another name")


def require_different(mask: Path, probability: Path | None) -> None:
    """Raise `OutputError` if mask and probability map would be written into one file."""
    if probability is not None and probability.resolve() == mask.resolve():
        raise OutputError(f"{mask} cannot hold both mask and probabilities; give them two names")


def sidecar_of(path: Path, ending: str) -> Path:
    """Return ``lungs.json`` for ``lungs.tif``; ``lungs.tif.json`` while ``lungs.json`` tells of another file."""
    sidecar = path.with_name(path.name[: -len(ending)] + ".json")
    try:
        other = read_sidecar(sidecar)["output"]["name"]
    except (InputError, KeyError, TypeError):
        return sidecar
    is_taken = other != path.name and path.with_name(str(other)).exists()
    return path.with_name(path.name + ".json") if is_taken else sidecar


def ending_of(path: Path, endings: tuple[str, ...]) -> str:
    """Return which of these endings a file has, or raise `OutputError` if it has none of them."""
    for ending in endings:
        if path.name.lower().endswith(ending) and len(path.name) > len(ending):
            return ending
    raise OutputError(f"{path} has an ending that cannot be written; use one of {', '.join(endings)}")


def _require_free(path: Path, sidecar: Path, source: Source | None, *, overwrite: bool) -> None:
    """Refuse to write over the CT, over a JSON of somebody else, or over anything if not allowed."""
    for target in (path, sidecar):
        if target.exists() and _is_source(target, source):
            raise OutputError(f"{target} is the CT itself, which is never written over; choose another name")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} is there already; choose another name, or allow to overwrite it")
    if sidecar.exists():
        try:
            read_sidecar(sidecar)
        except InputError as error:
            raise OutputError(
                f"{sidecar} would be replaced, but is not a sidecar of this program; choose another name"
            ) from error


def _is_source(target: Path, source: Source | None) -> bool:
    if source is None:
        return False
    return any(file.exists() and target.samefile(file) for file in (source.path, *source.files))


def _write(content: _Content, path: Path, ending: str) -> None:
    if ending in (".nii", ".nii.gz"):
        from napari_resunet.io.nifti import write_nifti

        write_nifti(content.array, content.geometry, content.source, path, slope=content.slope)
    elif ending in (".tif", ".tiff"):
        from napari_resunet.io.tiff import write_tiff

        write_tiff(content.array, content.geometry, path)
    elif ending == ".dcm":
        from napari_resunet.io.dicom_seg import write_dicom_seg

        write_dicom_seg(
            content.array, content.slices, path, segments=content.segments, history=content.history
        )
    elif ending == ".seg.nrrd":
        from napari_resunet.io.seg_nrrd import write_seg_nrrd

        write_seg_nrrd(content.array, content.geometry, path, content.segments)
    else:
        from napari_resunet.io.itk import write_itk

        write_itk(content.array, content.geometry, path)


def _require_same(content: _Content, temporary: Path, ending: str, path: Path) -> None:
    """Read what was written, and refuse it if a voxel or its place is not what was meant."""
    try:
        array, geometry = _read_back(content, temporary, ending)
    except InputError as error:
        raise OutputError(f"{path} was not written whole ({error.__cause__ or error}); try again") from error
    if not np.array_equal(array, content.array):
        raise OutputError(f"{path} reads back with other voxels than were written; try another format")
    if not geometry.matches(content.geometry) or not _repeats_place(content, temporary, ending):
        apart = geometry.distance_mm(content.geometry)
        raise OutputError(f"{path} cannot hold where the voxels lie (off by {apart:.3f} mm); use .nii.gz")


def _read_back(content: _Content, path: Path, ending: str) -> tuple[npt.NDArray[Any], Geometry]:
    if ending in (".nii", ".nii.gz"):
        from napari_resunet.io.nifti import read_back_nifti

        return read_back_nifti(path)
    if ending in (".tif", ".tiff"):
        from napari_resunet.io.tiff import read_back_tiff

        return read_back_tiff(path)
    if ending == ".dcm":
        from napari_resunet.io.dicom_seg import read_back_dicom_seg

        # a segmentation has no grid of its own: each of its frames was held against the slice it lies on
        return read_back_dicom_seg(path, content.slices), content.geometry
    from napari_resunet.io.itk import read_back_itk

    return read_back_itk(path)


def _repeats_place(content: _Content, path: Path, ending: str) -> bool:
    if content.source is None or ending not in (".nii", ".nii.gz"):
        return True
    from napari_resunet.io.nifti import repeats_place

    return repeats_place(path, content.source, content.geometry)


def _statement(content: _Content) -> str:
    if content.source is not None:
        return f"same grid as {content.source.path.name}"
    sizes = " x ".join(f"{mm:g}" for mm in content.geometry.spacing_mm)
    return f"voxels of {sizes} mm"
