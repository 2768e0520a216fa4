"""A CT as its user says it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_resunet.io.files import read_volume
from napari_resunet.settings import InputAnswers
from napari_resunet.track import Track, silent
from napari_resunet.volume import Volume


def open_ct(path: Path, answers: InputAnswers | None = None, track: Track = silent) -> Volume:
    """Read a CT, with the user's answers to what its file leaves open.

    Raises
    ------
    InputError
        If it cannot be read rightly; says what to do.
    """
    answers = answers or InputAnswers()
    volume = read_volume(
        path,
        spacing_mm=answers.spacing_mm,
        series=answers.series,
        accept_gaps=answers.accept_gaps,
        frame=answers.frame,
        orientation=answers.orientation,
        track=track,
    )
    volume = replace(volume, answers=replace(answers, hu_offset=None))
    return volume if answers.hu_offset is None else volume.with_hu_offset(answers.hu_offset)
