"""Masks of single slices drawn as PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from napari_resunet.errors import InputError


def read_png_mask(path: Path) -> npt.NDArray[np.uint8]:
    """Return a PNG as a (y, x) array of uint8: 1 where it is not black.

    Raises
    ------
    InputError
        If it is not a whole grey-scale PNG.
    """
    try:
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="PNGImageIO"))
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read as PNG; export it again") from error
    if image.ndim != 2:
        raise InputError(f"{path} is a colour image; a mask has one channel")
    return (image > 0).astype(np.uint8)
