"""Takes work that was made elsewhere into the open case: a mask to correct, or the record of a case to go on with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer

from napari_resunet.errors import InputError, ResUNetError
from napari_resunet.record import CaseRecord
from napari_resunet.volume import Mask

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_resunet.plugin.session import Session


class Adopting:
    """Takes masks and records into the open case of a session.

    Parameters
    ----------
    session : Session
        Holds that case, and shows its layers.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def adopt_mask(self, mask: Mask, *, name: str) -> None:
        """Show a mask made elsewhere, to be corrected."""
        session = self._session
        if session.case is not None:
            session.show_layers()
            session.sync()
            session.case.adopt(mask, name=name)

    def take_in(self, record: CaseRecord, *, is_in_file: bool = True) -> bool:
        """Go on where a record of the open CT was made; return whether it was of this CT."""
        session = self._session
        try:
            if session.case is None:
                raise InputError(f"open {record.ct.name} first")
            session.show_layers()
            session.sync()
            was_clean = not session.case.has_unsaved_work
            session.case.take_in(record)
        except ResUNetError as error:
            session.events.failed.emit(error)
            return False
        if was_clean and is_in_file:
            session.case.kept()
        session.events.case.emit()
        session.events.hand.emit()
        # later: napari chooses the CT it has opened
        QTimer.singleShot(0, partial(self._choose_mask, session.mask_layer))
        return True

    def _choose_mask(self, layer: Labels) -> None:
        if layer is self._session.mask_layer and layer in self._session.viewer.layers:
            self._session.viewer.layers.selection.active = layer
