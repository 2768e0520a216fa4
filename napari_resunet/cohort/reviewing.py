"""A person goes through the cases of a cohort: which is next, what there is to see, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.cohort.figures import figures_of
from napari_resunet.cohort.manifest import (
    CASE_FILE,
    MASK,
    CaseEntry,
    Status,
    case_folder,
    in_out,
    read_entries,
    read_entry,
    relative_path,
    update_entry,
)
from napari_resunet.cohort.summary import write_summary
from napari_resunet.errors import InputError
from napari_resunet.io.atomic import replacing
from napari_resunet.io.case_file import read_case, refuse_other_ct
from napari_resunet.io.files import read_mask, write_mask
from napari_resunet.io.nifti import read_back_nifti
from napari_resunet.io.one_writer import only_writer
from napari_resunet.io.open_ct import open_ct
from napari_resunet.io.sidecar import read_sidecar
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.model.card import RESEARCH_ONLY
from napari_resunet.pictures import draw_case, most_doubtful_slice
from napari_resunet.record import CaseRecord, CtReference
from napari_resunet.settings import MaskSettings
from napari_resunet.track import Track, silent
from napari_resunet.volume import Mask, Run, Volume

FIRST_SIDECAR = MASK.removesuffix(".nii.gz") + ".json"


@dataclass(frozen=True, eq=False)
class Opened:
    """A case as it is shown to a person.

    Parameters
    ----------
    entry : CaseEntry
        What is known of it.
    volume : Volume
        Its CT.
    mask : Mask
        Of its newest version.
    record : CaseRecord, optional
        The probabilities that the mask was made from, where they were kept and no hand has corrected it since.
    """

    entry: CaseEntry
    volume: Volume
    mask: Mask
    record: CaseRecord | None

    @property
    def doubtful_slice(self) -> int | None:
        """The axial slice to look at first."""
        return most_doubtful_slice(_doubt(self.entry), self.mask.axial) if self.entry.doubt_slices else None


def is_open(entry: CaseEntry) -> bool:
    """Whether a case has a mask of which no person has said anything yet."""
    return entry.status is Status.DONE and not entry.reviewed and not entry.rejected


def in_order_of_doubt(out: Path) -> list[CaseEntry]:
    """Return the cases that have a mask, the most doubtful first, reviewed or not.

    Raises
    ------
    InputError
        If `out` is no folder of a cohort, or a case's file cannot be read.
    """
    done = [entry for entry in read_entries(out) if entry.status is Status.DONE]
    return sorted(done, key=lambda entry: (-(entry.doubt_mean or 0.0), -(entry.doubt_worst or 0.0), entry.id))


def next_open(entries: Sequence[CaseEntry], after: str | None = None) -> CaseEntry | None:
    """Return the first case that is open, from the one behind `after` on and round to it; None if there is none."""
    ids = [entry.id for entry in entries]
    start = ids.index(after) + 1 if after in ids else 0
    return next(filter(is_open, [*entries[start:], *entries[:start]]), None)


def summary(out: Path) -> str:
    """Return in one line what there is to review.

    Raises
    ------
    InputError
        As `in_order_of_doubt`.
    """
    entries = list(read_entries(out))
    done = [entry for entry in entries if entry.status is Status.DONE]
    still_open = sum(is_open(entry) for entry in done)
    return f"{len(entries)} cases, {len(done)} of them done, {still_open} of these not reviewed yet"


def open_for_review(out: Path, entry: CaseEntry, track: Track = silent) -> Opened:
    """Read the CT of a case and what was found in it.

    Raises
    ------
    InputError
        If the case has no mask, a file cannot be read, or the CT is not the one that was segmented.
    """
    path = in_out(out, entry.mask)
    if path is None:
        raise InputError(
            f"case {entry.id} has no mask to review: it is {entry.status.value}; {entry.reason}".rstrip("; ")
        )
    mask = read_mask(path)
    volume = open_ct(Path(entry.source), entry.answers, track)
    if volume.source is not None and entry.input_sha256 not in ("", volume.source.sha256):
        raise InputError(
            f"{entry.source} is not the CT that case {entry.id} was made of any more; run the cohort again"
        )
    refuse_other_grid(mask.geometry, volume.geometry, what=path.name)
    return Opened(entry, volume, mask, _record(out, entry, volume) if path.name == MASK else None)


def _record(out: Path, entry: CaseEntry, volume: Volume) -> CaseRecord | None:
    case_file, probability = in_out(out, entry.case_file), in_out(out, entry.probability)
    if case_file is not None:
        record = read_case(case_file)
        refuse_other_ct(volume, record, what=case_file.name)
        return record
    if probability is None:
        return None
    array, geometry = read_back_nifti(probability)
    refuse_other_grid(geometry, volume.geometry, what=probability.name)
    history = read_sidecar(case_folder(out, entry.id) / FIRST_SIDECAR)["history"]
    return _record_of(volume, array.astype(np.uint8), history)


def _record_of(volume: Volume, probability: npt.NDArray[np.uint8], history: dict[str, Any]) -> CaseRecord:
    """Return what a run was, of its probability map and what the sidecar of its mask says."""
    geometry = volume.geometry
    axial = geometry.to_axial.apply(probability)
    done = np.zeros(len(axial), dtype=bool)
    for first, stop in history["slices_run"]:
        done[first:stop] = True
    settings = MaskSettings(**history["mask"])
    return CaseRecord.untouched(CtReference.of(volume), settings, _run_of(history), done, axial)


def _run_of(history: dict[str, Any]) -> Run | None:
    run = history.get("run")
    return None if run is None else Run(**{**run, "crop": tuple(run["crop"])})


def accept(out: Path, seen: CaseEntry, volume: Volume, mask: Mask) -> CaseEntry:
    """Note that a person has found a mask right, and keep it as a new version if it is not the one there was.

    Parameters
    ----------
    out : Path
        The folder of the cohort.
    seen : CaseEntry
        The case as the person has seen it.
    volume : Volume
        Its CT.
    mask : Mask
        As the person left it.

    Returns
    -------
    CaseEntry
        As it is on the disk now; table and page are written anew as well.

    Raises
    ------
    InputError
        If the case is not any more what the person has seen, or its mask cannot be read.
    OutputError
        If something cannot be written; the case is then as it was.
    """
    with _only_reviewer(out, seen):
        changed = _changed_voxels(out / seen.mask, mask)
        changes = _new_version(out, seen, volume, mask) | {"edited_voxels": changed} if changed else {}
        return _note(out, seen, **changes, reviewed=True, rejected="")


def _changed_voxels(before: Path, mask: Mask) -> int:
    """Return in how many voxels a mask is another than that of a file; right and left are one lung here."""
    return int(np.count_nonzero((mask.array > 0) != (read_mask(before).array > 0)))


def _new_version(out: Path, entry: CaseEntry, volume: Volume, mask: Mask) -> dict[str, Any]:
    """Write a mask beside those of before, with its picture, and return what becomes of the entry."""
    version, folder = entry.version + 1, case_folder(out, entry.id)
    mask = replace(mask, history={**mask.history, "cohort_case": entry.id, "version": version})
    path, picture = folder / f"lungs.v{version}.nii.gz", folder / f"case.v{version}.png"
    receipt = write_mask(mask, path)
    swapped = bool(entry.settings.get("swap_sides", False))
    changes: dict[str, Any] = figures_of(volume, mask, run=_run(out, entry), swap_sides=swapped)
    changes |= {"version": version, "mask": relative_path(entry.id, path.name), "mask_sha256": receipt.sha256}
    if entry.picture:
        with replacing(picture) as temporary:
            title = f"{entry.id}, version {version}. {RESEARCH_ONLY}"
            draw_case(volume, mask, _doubt(entry), temporary, title=title)
        changes["picture"] = relative_path(entry.id, picture.name)
    return changes


def _doubt(entry: CaseEntry) -> npt.NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in entry.doubt_slices])


def _run(out: Path, entry: CaseEntry) -> Run | None:
    """Return what made the first mask of a case, as its sidecar says."""
    sidecar = case_folder(out, entry.id) / FIRST_SIDECAR
    return _run_of(read_sidecar(sidecar)["history"]) if sidecar.is_file() else None


@contextmanager
def _only_reviewer(out: Path, seen: CaseEntry) -> Iterator[None]:
    """Keep the cohort's own workers, and other people, from writing to a case; refuse if they have done so."""
    with only_writer(case_folder(out, seen.id) / CASE_FILE):
        now = read_entry(out, seen.id)
        if (now.status, now.mask_sha256, now.reviewed_at) != (
            seen.status,
            seen.mask_sha256,
            seen.reviewed_at,
        ):
            raise InputError(
                f"case {seen.id} was reviewed or run again by somebody else meanwhile; skip it, or open it again"
            )
        yield


def reject(out: Path, seen: CaseEntry, reason: str) -> CaseEntry:
    """Note that a person cannot use a case, and why.

    Raises
    ------
    ValueError
        If no reason is given.
    InputError, OutputError
        As `accept`.
    """
    if not reason.strip():
        raise ValueError("a case is rejected for a reason; say which")
    with _only_reviewer(out, seen):
        return _note(out, seen, reviewed=False, rejected=" ".join(reason.split()))


def _note(out: Path, seen: CaseEntry, **changes: Any) -> CaseEntry:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    entry = update_entry(out, seen.id, **changes, reviewed_at=now)
    write_summary(out)
    return entry
