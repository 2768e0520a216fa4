"""Every error raised on purpose.

Each message is written for its reader: what was wrong, what was found, what to do.
None of these is a `RuntimeError`: a napari generator worker swallows those.
"""


class ResUNetError(Exception):
    """Base of all errors of this package; its text can be shown to a user as it is."""


class InputError(ResUNetError):
    """A file or an array cannot be read rightly."""


class GeometryError(InputError):
    """Where the voxels lie in the patient is unknown or impossible."""


class SpacingUnknownError(GeometryError):
    """The file does not say how large its voxels are; the user has to."""


class CheckpointError(InputError):
    """A weights file is not what it has to be."""


class OutputError(ResUNetError):
    """A file could not be written, or what was written is not what was meant."""


class DeviceError(ResUNetError):
    """The device asked for is not there, or failed."""


class PredictionError(ResUNetError):
    """The network's answer cannot be used."""


class CancelledError(ResUNetError):
    """The user stopped the work."""
