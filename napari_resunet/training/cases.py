"""Which CT and masks a data folder holds, and whose they are."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import numpy as np

from napari_resunet.errors import InputError

_SERIES_ENDING = "_dicom"  # of a folder
_IMAGE_ENDINGS = ("_ct.nii.gz", "_ct.nii", ".dcm", _SERIES_ENDING)
_MASK_ENDINGS = ("_lungs.nii.gz", "_lungs.nii", "_lungs.png")
_HELD_OUT = 6  # one person in so many, where the folder names no part for validation


@dataclass(frozen=True)
class TrainingCase:
    """One CT with its mask.

    Parameters
    ----------
    name : str
        Of the image file, without its ending.
    patient : str
        Whose it is; cases of one patient never part between training and validation.
    image : Path
        The CT.
    mask : Path, optional
        None says that there is no lung in it.
    """

    name: str
    patient: str
    image: Path
    mask: Path | None


def find_cases(folder: Path) -> list[TrainingCase]:
    """Return the cases below a folder, in the order of their paths.

    ``NAME_ct.nii.gz`` goes with ``NAME_lungs.nii.gz``, ``NAME.dcm`` with ``NAME_lungs.png``, and the DICOM series in
    the folder ``NAME_dicom`` with the ``NAME_lungs.nii.gz`` beside it. A table (CSV with
    the columns file, patient and content) in the folder or above it may say whose an image is, and that it holds
    ``no lung``. Without a table the patient is the first word of the file's name.

    Raises
    ------
    InputError
        If the folder holds no case, or an image has neither a mask nor an entry that says ``no lung``.
    """
    table = _read_tables(folder)
    cases = []
    for image in sorted(path for path in folder.rglob("*") if _is_image(path)):
        name = _stem(image)
        entry = table.get(image.resolve(), {})
        mask = next(
            (image.with_name(name + end) for end in _MASK_ENDINGS if image.with_name(name + end).is_file()),
            None,
        )
        if mask is None and entry.get("content") != "no lung":
            raise InputError(
                f"{image} has no mask beside it ({name}_lungs.*), and no table says that it holds no lung"
            )
        cases.append(TrainingCase(name, entry.get("patient") or name.split("_")[0], image, mask))
    if not cases:
        raise InputError(
            f"{folder} holds no NAME_ct.nii.gz with NAME_lungs.nii.gz, no NAME.dcm with NAME_lungs.png, "
            "and no folder NAME_dicom with NAME_lungs.nii.gz"
        )
    return cases


def _is_image(path: Path) -> bool:
    if not path.name.endswith(_IMAGE_ENDINGS) or path.parent.name.endswith(_SERIES_ENDING):
        return False
    return path.is_dir() == path.name.endswith(_SERIES_ENDING)


def find_pair(image: Path) -> TrainingCase:
    """Return the case of one CT in any format: ``NAME_ct.*`` goes with ``NAME_lungs.*`` beside it.

    Raises
    ------
    InputError
        If the CT is not named so, or has not exactly one mask beside it.
    """
    name, ct, _ = image.name.partition("_ct.")
    if not ct or not image.exists():
        raise InputError(
            f"{image} is no case: give a case file, a cohort's folder, or NAME_ct.* with NAME_lungs.*"
        )
    beside = sorted(image.parent.glob(f"{escape(name)}_lungs.*"))
    masks = [path for path in beside if path.suffix not in (".json", ".raw")]
    if len(masks) != 1:
        raise InputError(f"{image} needs one mask beside it, {name}_lungs.*; there are {len(masks)}")
    return TrainingCase(name, name.split("_")[0], image, masks[0])


def split_cases(folder: Path, seed: int) -> tuple[list[TrainingCase], list[TrainingCase]]:
    """Return the cases for training and for validation, no patient in both.

    The subfolders ``train`` and ``val`` decide where they are there; else one person in six is held out at random.

    Raises
    ------
    InputError
        If a patient is in both parts, or there are too few to hold one out.
    """
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        train, val = find_cases(folder / "train"), find_cases(folder / "val")
    else:
        train, val = _hold_out(find_cases(folder), seed)
    both = {case.patient for case in train} & {case.patient for case in val}
    if both:
        raise InputError(f"patients both in training and in validation: {', '.join(sorted(both))}")
    return train, val


def _hold_out(cases: Sequence[TrainingCase], seed: int) -> tuple[list[TrainingCase], list[TrainingCase]]:
    patients = sorted({case.patient for case in cases})
    if len(patients) < 2:
        raise InputError("training needs the CT of at least two patients, one of them to validate on")
    count = max(1, len(patients) // _HELD_OUT)
    held_out = set(np.random.default_rng(seed).permutation(patients)[:count])
    train = [case for case in cases if case.patient not in held_out]
    return train, [case for case in cases if case.patient in held_out]


def _stem(image: Path) -> str:
    return next(image.name.removesuffix(end) for end in _IMAGE_ENDINGS if image.name.endswith(end))


def _read_tables(folder: Path) -> dict[Path, dict[str, str]]:
    entries = {}
    for table in [*folder.glob("*.csv"), *folder.parent.glob("*.csv")]:
        with table.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.DictReader(file):
                if row.get("file") and "patient" in row:
                    entries[(table.parent / row["file"]).resolve()] = row
    return entries
