"""Every error raised on purpose.

Each message is written for its reader: what was wrong, what was found, what to do.
None of these is a `RuntimeError`: a napari generator worker swallows those.
"""

from __future__ import annotations

import re


class ResUNetError(Exception):
    """Base of all errors of this package; its text can be shown to a user as it is."""


class InputError(ResUNetError):
    """A file or an array cannot be read rightly."""


class GeometryError(InputError):
    """Where the voxels lie in the patient is unknown or impossible."""


class SpacingUnknownError(GeometryError):
    """The file does not say how large its voxels are; the user has to."""


class NoCtSlicesError(InputError):
    """A folder holds DICOM, but no slices of a CT."""


class UnevenSlicesError(GeometryError):
    """Slices are missing or not evenly spaced; the user has to say whether to go on all the same."""


class FrameChoiceError(InputError):
    """A file holds several volumes; the user has to say which.

    Parameters
    ----------
    message : str
        For the user.
    frames : int
        How many there are.
    """

    def __init__(self, message: str, *, frames: int) -> None:
        super().__init__(message)
        self.frames = frames


class CtMissingError(InputError):
    """The CT of a case is not where it is looked for; the user has to say where it is.

    Parameters
    ----------
    message : str
        For the user.
    is_folder : bool
        Whether it is the folder of a DICOM series.
    """

    def __init__(self, message: str, *, is_folder: bool) -> None:
        super().__init__(message)
        self.is_folder = is_folder


class NewerFormatError(InputError):
    """A case file is of a later version of this program."""


class CheckpointError(InputError):
    """A weights file is not what it has to be."""


class OutputError(ResUNetError):
    """A file could not be written, or what was written is not what was meant."""


class BeingWrittenError(OutputError):
    """Another program is writing the file.

    Parameters
    ----------
    message : str
        For the user.
    holder : str
        Which process on which machine that is, in words; "" if it is not known.
    """

    def __init__(self, message: str, *, holder: str) -> None:
        super().__init__(message)
        self.holder = holder


class DeviceError(ResUNetError):
    """The device asked for is not there, or failed."""


class PredictionError(ResUNetError):
    """The network's answer cannot be used."""


class NotFiniteError(PredictionError):
    """The network gave values that are not finite.

    Parameters
    ----------
    message : str
        For the user.
    index : int
        The first of the slices it was given that has such values, counted from 0.
    """

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(message)
        self.index = index


class CancelledError(ResUNetError):
    """The user stopped the work."""


def without_options(error: Exception | str) -> str:
    """Return what an error says, without the options of the command line and of Python that would mend it."""
    return re.sub(r",? \((?=[^)]*--|\w+=\))[^)]*\)", "", str(error))
