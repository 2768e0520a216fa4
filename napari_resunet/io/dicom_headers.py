"""Which DICOM files there are, and which of them are the slices of one CT: known from their headers alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from napari_resunet.errors import InputError
from napari_resunet.io.kind import kind_of_bytes
from napari_resunet.io.regular_file import first_bytes, one_line, require_regular

THREADS = 4  # reading waits for the disk more than for the processor
_ENHANCED = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_TEXTS = ("SOPClassUID", "ImageType", "Modality", "SeriesInstanceUID", "SeriesDescription", "SamplesPerPixel")
_NUMBERS = (
    *("Rows", "Columns", "NumberOfFrames", "SliceThickness", "SpacingBetweenSlices"),
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"),
)


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """What the header of one DICOM file says."""

    path: Path
    tags: Any  # a pydicom Dataset

    def text(self, keyword: str) -> str:
        """Return a text value, "" if it is missing."""
        return str(self.tags.get(keyword) or "")

    def numbers(self, keyword: str, count: int) -> npt.NDArray[np.float64] | None:
        """Return `count` finite numbers, or None if they are missing or make no sense."""
        try:
            values = np.atleast_1d(np.asarray(self.tags.get(keyword), dtype=np.float64))
        except (TypeError, ValueError):
            return None
        return values if values.shape == (count,) and np.isfinite(values).all() else None

    def length_mm(self, keyword: str) -> float | None:
        """Return a length above 0, or None."""
        value = self.numbers(keyword, 1)
        return float(value[0]) if value is not None and value[0] > 0 else None

    @cached_property
    def position(self) -> npt.NDArray[np.float64] | None:
        """LPS in mm of the centre of the first voxel."""
        return self.numbers("ImagePositionPatient", 3)

    @cached_property
    def orientation(self) -> npt.NDArray[np.float64] | None:
        """Unit vectors (2, 3): the way columns (x) and the way rows (y) are counted."""
        values = self.numbers("ImageOrientationPatient", 6)
        if values is None:
            return None
        pair = values.reshape(2, 3)
        lengths = np.linalg.norm(pair, axis=1, keepdims=True)
        if lengths.min() < 0.5 or abs(float(np.dot(*(pair / lengths)))) > 1e-3:
            return None
        return np.asarray(pair / lengths)

    @cached_property
    def pixel_spacing_mm(self) -> npt.NDArray[np.float64] | None:
        """Distance between rows and between columns: (y, x)."""
        values = self.numbers("PixelSpacing", 2)
        return values if values is not None and values.min() > 0 else None


def scan(path: Path) -> tuple[list[SliceHeader], list[str]]:
    """Return the headers of a DICOM file, or of all in a folder (in subfolders only if it has none itself).

    Returns
    -------
    list of SliceHeader
        Of everything that is DICOM, in the order of the file names.
    list of str
        A note on empty files.

    Raises
    ------
    InputError
        If there are none, or one is damaged.
    """
    if not path.is_dir():
        require_regular(path)
        return [_read_header(path)], []
    for files in (_files_in(path), _files_below(path)):
        found = [file for file in files if kind_of_bytes(first_bytes(file, 512)) == "DICOM"]
        if found:
            empty = sum(file.stat().st_size == 0 for file in files)
            with ThreadPoolExecutor(THREADS) as pool:
                headers = list(pool.map(_read_header, found))
            return headers, [f"left out: {_count(empty, 'empty file')}"] if empty else []
    raise InputError(f"{path} holds no DICOM files; give the folder of a CT series, or a CT file")


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}); check the permissions") from error


def _files_below(folder: Path) -> list[Path]:
    # os.walk does not follow links to folders, so it cannot go round in circles
    return sorted(path for at, _, names in os.walk(folder) for n in names if (path := Path(at, n)).is_file())


def _read_header(path: Path) -> SliceHeader:
    try:
        tags = pydicom.dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*_TEXTS, *_NUMBERS])
        for keyword in _TEXTS:  # values are decoded when first looked at: now, while it can be caught
            tags.get(keyword)
    except Exception as error:  # pydicom lets through whatever the damage leads to
        raise InputError(
            f"{path} is damaged or not DICOM ({one_line(error)}); copy or export it again"
        ) from error
    return SliceHeader(path, tags)


def ct_slices(headers: Sequence[SliceHeader], where: Path) -> tuple[list[SliceHeader], list[str]]:
    """Return those headers that are CT slices, and notes on what was left out.

    Raises
    ------
    InputError
        If none is, or they are multi-frame.
    """
    reasons = [_why_left_out(header) for header in headers]
    slices = [header for header, reason in zip(headers, reasons, strict=True) if reason is None]
    counts = Counter(reason for reason in reasons if reason is not None)
    left_out = ", ".join(_count(n, reason) for reason, n in sorted(counts.items()))
    if not slices:
        raise InputError(f"{where} holds no CT slices (found: {left_out}); give the folder of a CT series")
    for header in slices:
        if header.text("SOPClassUID") in _ENHANCED or (header.numbers("NumberOfFrames", 1) or [1])[0] > 1:
            raise InputError(
                f"{header.path} is an enhanced (multi-frame) CT, which cannot be read yet; "
                "convert it to NIfTI or to single slices"
            )
    notes = [f"left out: {left_out}"] if counts else []
    nameless = sum(not header.text("Modality") for header in slices)
    if nameless:
        notes.append(f"{_count(nameless, 'file')} without a modality: taken as CT")
    return slices, notes


def _why_left_out(header: SliceHeader) -> str | None:
    """Return what a file is if it is not a CT slice, as a noun."""
    modality = header.text("Modality")
    if header.numbers("Rows", 1) is None or header.numbers("Columns", 1) is None:
        return f"{modality} file without an image".strip()
    if modality and modality != "CT":
        return f"{modality} image"
    if header.text("SOPClassUID").startswith(_SECONDARY_CAPTURE):
        return "secondary capture"
    if "LOCALIZER" in header.text("ImageType").upper():
        return "localizer"
    if int(header.tags.get("SamplesPerPixel") or 1) != 1:
        return "colour (RGB) image"
    return None


def choose_series(headers: Sequence[SliceHeader], series: str | None, where: Path) -> list[SliceHeader]:
    """Return the slices of one series.

    Parameters
    ----------
    headers : sequence of SliceHeader
        CT slices.
    series : str, optional
        The SeriesInstanceUID or its unique ending; not needed when there is one series only.
    where : Path
        Named in errors.

    Raises
    ------
    InputError
        If there are several and `series` does not say which one, or it names none or more than one.
    """
    by_uid: dict[str, list[SliceHeader]] = {}
    for header in headers:
        by_uid.setdefault(header.text("SeriesInstanceUID"), []).append(header)
    wanted = [uid for uid in by_uid if series is None or uid == series]
    if series is not None and not wanted:
        wanted = [uid for uid in by_uid if uid.endswith(series)]
    if len(wanted) == 1:
        return by_uid[wanted[0]]
    listed = "; ".join(_describe_series(uid, by_uid[uid]) for uid in (wanted or by_uid))
    if not wanted:
        raise InputError(f"{where} has no series {series!r}; it has: {listed}")
    remedy = "pass series= (--series) with one of these UIDs or its unique ending"
    named = "" if series is None else f" ending in {series!r}"
    raise InputError(f"{where} holds {len(wanted)} CT series{named}; {remedy}: {listed}")


def _describe_series(uid: str, headers: Sequence[SliceHeader]) -> str:
    description = headers[0].text("SeriesDescription") or "no description"
    return f"{uid or 'no UID'} ({description}, {_count(len(headers), 'slice')})"


def same_size(headers: Iterable[SliceHeader], where: Path) -> tuple[int, int]:
    """Return rows and columns of all slices.

    Raises
    ------
    InputError
        If they are not the same.
    """
    sizes = sorted({(int(header.tags.Rows), int(header.tags.Columns)) for header in headers})
    if len(sizes) > 1:
        shown = ", ".join(f"{rows} x {columns}" for rows, columns in sizes)
        raise InputError(f"{where} mixes slices of different sizes ({shown}); export one series only")
    return sizes[0]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
