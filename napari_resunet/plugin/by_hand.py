"""A layer that shows which voxels a hand has set: what you paint stays, and here is where."""

from __future__ import annotations

from napari.layers import Labels
from napari.utils import DirectLabelColormap

from napari_resunet.plugin.correcting import ADDED_COLOUR, REMOVED_COLOUR
from napari_resunet.plugin.layers import placed_like
from napari_resunet.plugin.session import Session

NAME = "set by hand"


class ByHand:
    """Shows and hides the edits of the open case.

    Parameters
    ----------
    session : Session
        Whose edits are shown.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.layer: Labels | None = None
        session.events.case.connect(self.hide)
        for changed in (session.events.painted, session.events.mask, session.events.hand):
            changed.connect(self._refresh)

    def show(self) -> None:
        """Add the layer: green where a hand has put voxels in, magenta where it has taken them out."""
        case, ct = self.session.case, self.session.ct_layer
        if case is None or ct is None or self.layer in self.session.viewer.layers:
            return
        self.session.sync()
        active = self.session.viewer.layers.selection.active
        colours = {None: "transparent", 0: "transparent", 1: ADDED_COLOUR, -1: REMOVED_COLOUR}
        self.layer = Labels(
            case.edit,  # itself, not a copy: it follows every stroke
            name=NAME,
            opacity=0.8,
            colormap=DirectLabelColormap(color_dict=colours),
            **placed_like(ct),
        )
        self.session.viewer.add_layer(self.layer)
        self.layer.editable = False
        self.session.viewer.layers.selection.active = active  # the brush stays where it was

    def hide(self) -> None:
        """Take the layer away."""
        layer, self.layer = self.layer, None
        if layer is not None and layer in self.session.viewer.layers:
            self.session.viewer.layers.remove(layer)

    def _refresh(self) -> None:
        if self.layer in self.session.viewer.layers:
            self.layer.refresh(extent=False, thumbnail=False)
