"""The cases that were open in a viewer: found again by their CT layer, or kept while work on them is in no file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

from napari.components import ViewerModel
from napari.layers import Layer

from napari_resunet.case import Case
from napari_resunet.plugin.layers import KEY, shows_ct
from napari_resunet.record import CaseRecord, CtReference
from napari_resunet.volume import Volume


class Cases:
    """Every case that was open in a viewer: its CT is still there, or work on it is in no file.

    Parameters
    ----------
    viewer : napari.components.ViewerModel
        Where the CT layers are.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        # what was painted on a CT is there again when the user comes back to it
        self._of_layer: WeakKeyDictionary[Layer, Case] = WeakKeyDictionary()
        self._data: WeakKeyDictionary[Layer, Any] = WeakKeyDictionary()  # what such a layer held then
        self._without_layer: list[Case] = []  # whose CT was deleted, and whose work is in no file yet

    def __iter__(self) -> Iterator[Case]:
        return iter([*self._of_layer.values(), *self._without_layer])

    def __len__(self) -> int:
        return len(self._of_layer) + len(self._without_layer)

    def add(self, layer: Layer, case: Case) -> None:
        """Note whose CT a layer shows, and what it holds now."""
        self._of_layer[layer] = case
        self._data[layer] = layer.data

    def of(self, layer: Layer) -> Case | None:
        """Return the case of a CT that was open before, perhaps in a widget that was closed since."""
        case = self._of_layer.get(layer)
        if case is not None and self._data[layer] is layer.data:
            return case
        volume = layer.metadata.get(KEY)
        cases = (found.metadata.get(KEY) for found in self._viewer.layers)
        known = (case for case in cases if isinstance(case, Case) and case.volume is volume)
        return next(known, None) or self._work_on(volume)

    def layer_of(self, volume: Volume, record: CaseRecord | None) -> Layer | None:
        """Return the layer of a CT that is to be shown, or of the one that a record was made on, if it is there."""
        known = (layer for layer, case in self._of_layer.items() if _is_same(case, volume, record))
        found = next(known, None)
        if found is None and record is None:  # a widget that was closed leaves its layers
            found = next((layer for layer in self._viewer.layers if shows_ct(layer, volume)), None)
        return found

    def keep(self, case: Case) -> None:
        """Keep a case with its work, also where its CT was deleted and its mask was not."""
        if all(case is not known for known in self):
            self._without_layer.append(case)

    def lose(self, layer: Layer) -> None:
        """Note that a layer was deleted; of a CT with unsaved work the case stays."""
        case = self._of_layer.pop(layer, None)
        if case is not None and case.has_unsaved_work:
            self._without_layer.append(case)

    def let_go(self, case: Case) -> None:
        """Keep a case no longer than its CT layer: its work is in a file."""
        self._without_layer = [other for other in self._without_layer if other is not case]

    def _work_on(self, volume: Volume | None) -> Case | None:
        """Return the case of a CT that was deleted with unsaved work on it, and is opened once more."""
        for case in self._without_layer:
            if volume is not None and case.reference.sha256 == CtReference.of(volume).sha256:
                self._without_layer.remove(case)
                case.volume = volume
                return case
        return None


def _is_same(case: Case, volume: Volume, record: CaseRecord | None) -> bool:
    """Whether a case is of a CT that is to be shown: the very volume, or the one a record was made on."""
    return case.volume is volume or (record is not None and case.is_of(record))
