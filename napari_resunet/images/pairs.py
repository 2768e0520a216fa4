"""Which images and masks a data folder holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from napari_resunet.errors import InputError
from napari_resunet.training.cases import TrainingCase

_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".dcm")
_MASK = "_mask"
_HELD_OUT = 6  # one image in so many, where the folder names no part for validation


def find_pairs(folder: Path) -> list[TrainingCase]:
    """Return the images with their masks below a folder, in the order of their paths.

    ``NAME.png`` goes with ``NAME_mask.png`` beside it, or ``images/NAME.png`` with ``masks/NAME.png``; image and mask
    may be of different formats.

    Raises
    ------
    InputError
        If the folder holds no image, or one has not exactly one mask.
    """
    images = sorted(_images_in(folder))
    if not images:
        raise InputError(
            f"{folder} holds no images with masks: NAME.png with NAME_mask.png, or images/NAME.png with "
            "masks/NAME.png; also TIFF, JPEG, NIfTI, NRRD, MetaImage, DICOM"
        )
    return [_pair(image, folder) for image in images]


def split_pairs(folder: Path, seed: int) -> tuple[list[TrainingCase], list[TrainingCase]]:
    """Return the images for training and for validation.

    The subfolders ``train`` and ``val`` decide where they are there; else one image in six is held out at random.

    Raises
    ------
    InputError
        If there are too few to hold one out.
    """
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        return find_pairs(folder / "train"), find_pairs(folder / "val")
    pairs = find_pairs(folder)
    if len(pairs) < 2:
        raise InputError(f"{folder} holds one image; training needs at least two, one of them to validate on")
    count = max(1, len(pairs) // _HELD_OUT)
    held_out = set(np.random.default_rng(seed).permutation(len(pairs))[:count].tolist())
    training = [pair for index, pair in enumerate(pairs) if index not in held_out]
    return training, [pair for index, pair in enumerate(pairs) if index in held_out]


def _images_in(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        inner = path.relative_to(folder).parts[:-1]
        is_other = "masks" in inner or any(part.endswith(".run") for part in inner)  # curves of a training
        stem = _stem(path)
        if stem and not stem.endswith(_MASK) and not is_other and path.is_file():
            yield path


def _pair(image: Path, folder: Path) -> TrainingCase:
    stem = _stem(image)
    beside = [image.with_name(f"{stem}{_MASK}{end}") for end in _ENDINGS]
    if image.parent.name == "images":
        others = image.parent.with_name("masks")
        beside += [others / f"{stem}{infix}{end}" for infix in ("", _MASK) for end in _ENDINGS]
    masks = [path for path in beside if path.is_file()]
    if len(masks) != 1:
        raise InputError(
            f"{image} needs one mask, {stem}{_MASK}.* beside it or {stem}.* in masks; there are {len(masks)}"
        )
    name = image.relative_to(folder).as_posix()
    return TrainingCase(name, name, image, masks[0])


def _stem(path: Path) -> str:
    """Return the name without its ending; nothing for what is no image."""
    return next((path.name[: -len(end)] for end in _ENDINGS if path.name.lower().endswith(end)), "")
