"""Help for the eye. Nothing here changes a mask or a CT; it only changes how they are shown."""

from __future__ import annotations

from napari_resunet.plugin.hu_window import HuWindow
from napari_resunet.plugin.outline import Outline
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.surface_view import SurfaceView


class Viewing:
    """How the CT and the mask of one session are shown.

    Parameters
    ----------
    session : Session
        Whose CT and mask are looked at.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.surface = SurfaceView(
            session
        )  # the first to hear of another case: the slices come back before the rest
        self.hu_window = HuWindow(session)
        self.outline = Outline(session)
        self.surface.events.coming.connect(self._rest)
        session.on_close.append(self.close)

    def _rest(self) -> None:
        self.hu_window.drag(False)

    def close(self) -> None:
        """Let go of the viewer, which is left as it was; done once, however often it is asked for."""
        for part in (self.hu_window, self.surface, self.outline):
            part.close()
