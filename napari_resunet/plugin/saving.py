"""Writes what was done to files: the mask as it is shown, and the case with all that is known of its CT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_resunet.case import Case
from napari_resunet.errors import ResUNetError
from napari_resunet.io.case_file import write_case
from napari_resunet.io.export import MASK_ENDINGS, PROBABILITY_ENDINGS, ending_of
from napari_resunet.io.files import Receipt, write_mask, write_probability

if TYPE_CHECKING:
    from napari_resunet.plugin.session import Session


class Saving:
    """Writes the files of a session, and knows which work is in none yet.

    Parameters
    ----------
    session : Session
        Holds the cases, and tells of errors.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def export(self, path: Path, *, split: bool = False, probability: bool = False) -> Receipt | None:
        """Write the mask as it is shown, and the probability map beside it if asked for."""
        session = self._session
        case = session.open_case()
        if case is None:
            return None
        try:
            session.sync()
            receipt = write_mask(case.finished_mask(split=split), path)
            if probability:
                write_probability(case.probability_map(), _map_beside(path))
        except ResUNetError as error:
            session.events.failed.emit(error)
            return None
        if not case.review.marks.any() and not case.banked:  # which a mask cannot hold
            self._note_kept(case)
        return receipt

    def save_case(self, path: Path, case: Case | None = None) -> bool:
        """Write all that is known of a CT but the CT itself as a case file; return whether that went well.

        Parameters
        ----------
        path : Path
            Ends in .nru.
        case : Case, optional
            The open one by default.
        """
        session = self._session
        case = case or session.open_case()
        if case is None:
            return False
        try:
            session.sync()
            write_case(case.record(), path)
        except ResUNetError as error:
            session.events.failed.emit(error)
            return False
        self._note_kept(case)
        return True

    def unsaved_cases(self) -> list[Case]:
        """Return the cases with work by hand that is in no file yet."""
        self._session.sync()
        return [case for case in self._session.cases if case.has_unsaved_work]

    def _note_kept(self, case: Case) -> None:
        case.kept()
        self._session.cases.let_go(case)
        self._session.events.kept.emit()


def _map_beside(path: Path) -> Path:
    """Return ``lungs_probability.nii.gz`` for ``lungs.nii.gz``, and for formats that hold no probabilities."""
    ending = ending_of(path, MASK_ENDINGS)
    kept = path.name[-len(ending) :] if ending in PROBABILITY_ENDINGS else ".nii.gz"
    return path.with_name(f"{path.name[: -len(ending)]}_probability{kept}")
