"""A CT, or a mask of it, as its user says it is."""

from __future__ import annotations

from pathlib import Path

from napari_resunet.errors import SpacingUnknownError
from napari_resunet.io.files import read_mask, read_volume
from napari_resunet.settings import InputAnswers
from napari_resunet.track import Track, silent
from napari_resunet.volume import Mask, Volume


def open_ct(path: Path, answers: InputAnswers | None = None, track: Track = silent) -> Volume:
    """Read a CT, with the user's answers to what its file leaves open.

    Raises
    ------
    InputError
        If it cannot be read rightly; says what to do.
    """
    return read_volume(path, **vars(answers or InputAnswers()), track=track)


def open_mask(path: Path, answers: InputAnswers | None = None) -> Mask:
    """Read a mask; where its file does not say how large its voxels are, it is as the user says of the CT.

    Raises
    ------
    InputError
        If it cannot be read rightly; says what to do.
    """
    try:
        return read_mask(path)
    except SpacingUnknownError:
        if answers is None or answers.spacing_mm is None:
            raise
        return read_mask(path, spacing_mm=answers.spacing_mm, orientation=answers.orientation)
