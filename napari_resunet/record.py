"""A case as it can be put away: all that is known of an open CT but the CT itself.

A case file and the journal of edits hold such a record, and a window takes one in again.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Self

import numpy as np
import numpy.typing as npt

from napari_resunet.geometry import Geometry
from napari_resunet.settings import InputAnswers, MaskSettings
from napari_resunet.volume import Run, Source, Volume

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class CtReference:
    """Which CT a case is of, and what an export of its mask has to know of it.

    Parameters
    ----------
    name : str
        Of the file, or of the folder of a series, without the folders above, which may name a patient.
    format : str
        As in `Source`; ``"layer"`` for a CT that came from no file of its own.
    sha256 : str
        Of the bytes read, as in `Source`; of the voxels, for a CT without a file.
    geometry : Geometry
        In the order of the source.
    notes : tuple of str
        What was noted when it was read.
    answers : InputAnswers
        What its user said of it.
    nifti_header : bytes, optional
        As in `Source`.
    """

    name: str
    format: str
    sha256: str
    geometry: Geometry
    notes: tuple[str, ...] = ()
    answers: InputAnswers = field(default_factory=InputAnswers)
    nifti_header: bytes | None = None

    @classmethod
    def of(cls, volume: Volume) -> Self:
        """Return the reference to a CT."""
        source = volume.source
        if source is None:
            return cls("CT", "layer", _voxels_sha256(volume), volume.geometry, volume.notes, volume.answers)
        return cls(
            _bare_name(source.path),
            source.format,
            source.sha256,
            volume.geometry,
            volume.notes,
            volume.answers,
            source.nifti_header,
        )

    def is_same_as(self, other: CtReference) -> bool:
        """Whether both are of the same bytes, on the same grid."""
        return self.sha256 == other.sha256 and self.geometry.matches(other.geometry)

    @property
    def source(self) -> Source | None:
        """The source as an export needs it; its path is a bare name."""
        if self.format == "layer":
            return None
        return Source(Path(self.name), self.format, self.sha256, nifti_header=self.nifti_header)


def _bare_name(path: Path) -> str:
    """Return the name of a file or folder, of ``.`` too, without a folder of whatever system in it."""
    return PureWindowsPath(os.path.abspath(path)).name or "CT"  # noqa: PTH100 a link keeps its own name


def _voxels_sha256(volume: Volume) -> str:
    digest = hashlib.sha256(volume.geometry.index_to_lps.tobytes())
    for part in volume.array:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class SliceEdits:
    """Edits by hand on the slices that have any.

    Parameters
    ----------
    slices : (n,) array of int
        Axial slices, rising.
    values : (n, y, x) array of int8
        0 untouched, +1 put in, -1 taken out.
    """

    slices: npt.NDArray[np.int64]
    values: npt.NDArray[np.int8]

    @classmethod
    def of(cls, edit: npt.NDArray[np.int8], edited: Bools) -> Self:
        """Return a copy of the slices of a (z, y, x) array of edits that `edited`, (z,), names."""
        slices = np.flatnonzero(edited)
        return cls(slices, edit[slices])

    def voxels(self) -> int:
        """Return how many voxels they set."""
        return int(np.count_nonzero(self.values))


@dataclass(frozen=True, eq=False)
class BankedEdits:
    """Edits that were set aside when the user said to forget them.

    Parameters
    ----------
    edits : SliceEdits
        What was forgotten.
    when : str
        Local date and time, ISO 8601.
    """

    edits: SliceEdits
    when: str


@dataclass(frozen=True, eq=False)
class CaseRecord:
    """All that is known of a case but its CT; arrays are axial slices, lowest first.

    Parameters
    ----------
    ct : CtReference
        Which CT.
    settings : MaskSettings
        How the probabilities become a mask.
    edits : SliceEdits
        What a hand changed.
    banked : tuple of BankedEdits
        What a hand had changed and the user then said to forget, the oldest first.
    marks, seen : (z,) arrays of uint8 and uint32
        The review: see `napari_resunet.editing.review.Review`.
    run : Run, optional
        What made the probabilities.
    done : (z,) array of bool
        Which slices the network has seen.
    probability : (z, y, x) array of uint8, optional
        0-255 for 0-1. None where a record holds only what a hand did.
    adopted : (z, y, x) array of bool, optional
        A mask made elsewhere that the case began from.
    adopted_name : str, optional
        Its name.
    """

    ct: CtReference
    settings: MaskSettings
    edits: SliceEdits
    banked: tuple[BankedEdits, ...]
    marks: npt.NDArray[np.uint8]
    seen: npt.NDArray[np.uint32]
    run: Run | None
    done: Bools
    probability: npt.NDArray[np.uint8] | None = None
    adopted: Bools | None = None
    adopted_name: str | None = None

    @classmethod
    def untouched(
        cls,
        ct: CtReference,
        settings: MaskSettings,
        run: Run | None,
        done: Bools,
        probability: npt.NDArray[np.uint8],
    ) -> Self:
        """Return the record of a case that nobody has corrected or reviewed yet."""
        slices, *image = probability.shape
        return cls(
            ct,
            settings,
            SliceEdits(np.zeros(0, np.int64), np.zeros((0, *image), np.int8)),
            banked=(),
            marks=np.zeros(slices, np.uint8),
            seen=np.zeros(slices, np.uint32),
            run=run,
            done=done,
            probability=probability,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the axial arrays."""
        geometry = self.ct.geometry
        return geometry.axial.shape
