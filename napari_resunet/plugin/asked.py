"""What only the user can know of a CT, and where the answer goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from napari_resunet.errors import (
    CtMissingError,
    FrameChoiceError,
    ResUNetError,
    SpacingUnknownError,
    UnevenSlicesError,
    without_options,
)
from napari_resunet.io.dicom_choice import SeriesChoiceError
from napari_resunet.settings import InputAnswers

ANSWERABLE = (SeriesChoiceError, UnevenSlicesError, FrameChoiceError, SpacingUnknownError, CtMissingError)


@dataclass(frozen=True, eq=False)
class Asked:
    """A question that came up while a CT was opened.

    Parameters
    ----------
    error : ResUNetError
        One of `ANSWERABLE`; what it says is the question.
    take : callable
        Goes on with the answer: `InputAnswers`, or the path of a CT that is missing.
    answers : InputAnswers
        What the user has said already.
    kinds : tuple of types
        Of the errors that `take` can be given an answer to.
    """

    error: ResUNetError
    take: Callable[[Any], None]
    answers: InputAnswers = field(default_factory=InputAnswers)
    kinds: tuple[type[ResUNetError], ...] = ANSWERABLE

    @property
    def can_be_answered(self) -> bool:
        return isinstance(self.error, self.kinds)


def for_a_notification(error: Exception | str) -> str:
    """Return the same, beginning with the name of a file and not with its folders: a notification is cut short."""
    return re.sub(r"^(?:[A-Za-z]:)?[/\\]{1,2}(?:[^/\\\s]+[/\\])+", "", without_options(error))
