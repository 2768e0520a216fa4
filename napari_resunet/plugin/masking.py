"""Keeps the mask at what threshold and clean-up want of it: the first at once, the second beside the window."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_resunet.case import Case
from napari_resunet.plugin.jobs import Job
from napari_resunet.plugin.work import cleaning

if TYPE_CHECKING:
    from napari_resunet.plugin.session import Session


class Masking:
    """Makes the mask of the open case of a session from its probabilities.

    Parameters
    ----------
    session : Session
        Holds that case and its layers.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._cleaning: Job | None = None
        self._clean_again = False

    @property
    def is_idle(self) -> bool:
        """Whether no clean-up is at work."""
        return self._cleaning is None

    def set_threshold(self, threshold: float) -> None:
        """Show the mask at another threshold at once; clean-up follows with `settle`."""
        session = self._session
        if session.case is not None:
            session.sync()
            session.case.set_threshold(threshold)

    def set_clean(self, clean: bool) -> None:
        """Switch the clean-up on or off."""
        if self._session.case is not None:
            self._session.case.change_settings(clean=clean)
            self.settle()

    def settle(self) -> None:
        """Clean the mask up beside the window, as the settings want it; one clean-up at a time."""
        session = self._session
        if session.case is None:
            return
        if self._cleaning is not None:
            self._clean_again = True
            return
        session.sync()
        case = session.case
        # a run may write into these probabilities meanwhile: the version then tells that the answer is stale
        work = (case.version, case.probability, case.settings.threshold, case.settings.clean)
        on_value, failed = partial(self._on_cleaned, case), session.events.failed.emit
        self._cleaning = Job(cleaning, *work, on_value=on_value, on_error=failed, on_end=self._after_cleaning)
        self._cleaning.start()

    def abandon(self) -> None:
        """Stop the clean-up and never hear from it again."""
        if self._cleaning is not None:
            self._cleaning.abandon()
        self._cleaning = None

    def _on_cleaned(self, case: Case, answer: tuple[int, npt.NDArray[np.bool_]]) -> None:
        if case is self._session.case:
            self._session.sync()
        case.accept_automatic(*answer)

    def _after_cleaning(self) -> None:
        self._cleaning = None
        # with their thumbnails, which are not worth the time while a slider moves
        for layer in (self._session.probability_layer, self._session.mask_layer):
            if layer is not None:
                layer.refresh(extent=False)
        if self._clean_again:
            self._clean_again = False
            self.settle()
