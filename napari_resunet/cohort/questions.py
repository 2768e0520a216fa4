"""Which errors are questions to a user, and which columns of a table answer them."""

from __future__ import annotations

from napari_resunet.errors import (
    FrameChoiceError,
    InputError,
    SpacingUnknownError,
    UnevenSlicesError,
)
from napari_resunet.io.dicom_choice import SeriesChoiceError
from napari_resunet.preflight import preflight
from napari_resunet.volume import Volume


class QuestionError(InputError):
    """Something has to be said about a CT before it can run.

    Parameters
    ----------
    message : str
        For the user.
    columns : tuple of str
        Fields of `InputAnswers`, any of which answers it.
    """

    def __init__(self, message: str, columns: tuple[str, ...]) -> None:
        super().__init__(message)
        self.columns = columns


def columns_that_answer(error: Exception) -> tuple[str, ...]:
    """Return the fields of `InputAnswers` that answer an error, none if it is no question."""
    if isinstance(error, QuestionError):
        return error.columns
    for kind, column in (
        (SpacingUnknownError, "spacing_mm"),
        (FrameChoiceError, "frame"),
        (SeriesChoiceError, "series"),
        (UnevenSlicesError, "accept_gaps"),
    ):
        if isinstance(error, kind):
            return (column,)
    return ()


def ask_of_values(volume: Volume) -> None:
    """Raise what the network would refuse a CT for, as a question where the user can answer it.

    Raises
    ------
    QuestionError
        If the values may not be HU.
    InputError
        If the CT cannot be used.
    """
    for check in preflight(volume):
        if check.level == "ask" and "hu_offset" in check.answers:
            raise QuestionError(check.text, check.answers)
        if check.level == "refuse":
            raise InputError(check.text)
