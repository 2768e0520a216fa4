"""Opens what is in a file or a lazy layer, beside the window, and asks what it leaves open.

A file is read; where only the user can say what it holds, the question goes out, and with the answer it is read again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Layer

from napari_resunet.case import Case
from napari_resunet.editing.journal import Abandoned
from napari_resunet.errors import CtMissingError
from napari_resunet.plugin.asked import Asked
from napari_resunet.plugin.jobs import Generator
from napari_resunet.plugin.layers import KEY, geometry_of, laid_anew, shows
from napari_resunet.plugin.lazy import Loaded, loading
from napari_resunet.plugin.work import reading, reading_case, recovering
from napari_resunet.record import CaseRecord
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Volume

if TYPE_CHECKING:
    from napari_resunet.plugin.session import Session

Ask = Callable[[Exception], Asked]


class Opening:
    """Reads CTs, cases and abandoned work for a session.

    Parameters
    ----------
    session : Session
        Shows what was read.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._name: str | None = None  # of what is being read
        self._ask: Ask | None = None

    @property
    def is_reading(self) -> bool:
        """Whether a file is being read."""
        return self._name is not None

    def open(self, path: Path, answers: InputAnswers | None = None) -> None:
        """Read a CT beside the window and show it; what its file leaves open is asked."""
        answers = answers or InputAnswers()
        ask = partial(Asked, take=partial(self.open, path), answers=answers)
        self._read(reading, path, answers, name=path.name, ask=ask)

    def open_case(self, path: Path, ct: Path | None = None) -> None:
        """Read a case file and its CT beside the window and show them; the CT lies beside the file, or is given."""
        ask = partial(Asked, take=partial(self.open_case, path), kinds=(CtMissingError,))
        opened = [(case.reference, case.volume) for case in self._session.cases]
        self._read(reading_case, path, ct, opened, name=path.name, ask=ask)

    def recover(self, found: Abandoned) -> None:
        """Go on where a crash ended: read the CT of that time, unless it is open, and show it with the work."""
        session = self._session
        known = next((case for case in session.cases if case.reference.sha256 == found.ct_sha256), None)
        volume = None if known is None else known.volume
        show, then = partial(self._show_recovered, found), partial(self._tell_what_is_lost, found)
        self._read(recovering, found, volume, name=found.ct_name, on_value=show, then=then)

    def open_anew(self, answers: InputAnswers) -> None:
        """Open the same CT once more, with the user's word on its voxel size or orientation.

        What was painted on it stays with its layers, which go if there is none.
        """
        case = self._session.case
        if case is None:
            return
        source, show = case.volume.source, partial(self._show_instead, case)
        if source is None:  # it came from a layer
            show((laid_anew(case.volume, answers), None))
            return
        ask = partial(Asked, take=self.open_anew, answers=answers)
        self._read(reading, source.path, answers, name=source.path.name, on_value=show, ask=ask)

    def open_lazy(self, layer: Layer, answers: InputAnswers) -> None:
        """Read a layer whose slices are computed when they are looked at, and make it the open CT."""
        geometry_of(layer, answers)  # asks what is to be asked before it takes its time
        show = partial(self._show_loaded, layer, layer.data, answers)
        self._read(loading, layer.data, layer.name, name=layer.name, on_value=show)

    def end(self) -> Ask | None:
        """Note that nothing is being read any more, and return how to ask about what was."""
        ask, self._ask, self._name = self._ask, None, None
        return ask

    def ask_or_fail(self, error: Exception, ask: Ask | None) -> None:
        """Ask the user, if an answer mends an error; tell of it otherwise."""
        events = self._session.events
        if ask is not None and (asked := ask(error)).can_be_answered:
            events.asks.emit(asked)
        else:
            events.failed.emit(error)

    def _read(
        self,
        generator: Generator,
        *arguments: Any,
        name: str,
        on_value: Callable[[Any], None] | None = None,
        then: Callable[[], None] | None = None,
        ask: Ask | None = None,
    ) -> None:
        session = self._session
        if session.is_busy():
            return
        self._name, self._ask = name, ask
        ears = {"on_value": on_value or self._show, "on_progress": self._note_progress}
        session.start(generator, *arguments, **ears, then=then, label=f"reading {name}")
        session.events.reading.emit(f"reading {name} …", 0, 0)

    def _note_progress(self, of_files: bool, done: int, total: int) -> None:
        what = "files looked at" if of_files else "slices read"
        self._session.events.reading.emit(f"{self._name}: {done} of {total} {what}", done, total)

    def _show(self, found: tuple[Volume, CaseRecord | None]) -> None:
        self._session.show_ct(*found)

    def _show_instead(self, case: Case, found: tuple[Volume, CaseRecord | None]) -> None:
        """Show a CT that is read anew; the layers of before go, unless there is work on them or they are not ours."""
        session = self._session
        old = [layer for layer in session.viewer.layers if layer is session.ct_layer or shows(layer, case)]
        name = None if session.ct_layer is None else session.ct_layer.name
        has_work = case.has_unsaved_work
        session.show_ct(*found, name=name)
        if case is not session.case and not has_work and old[0].metadata.get(KEY) is case.volume:
            for layer in old:
                session.viewer.layers.remove(layer)
            session.ct_layer.name = name  # which napari had numbered

    def _show_recovered(self, found: Abandoned, work: tuple[Volume, CaseRecord]) -> None:
        volume, record = work
        if self._session.show_ct(volume, record, is_in_file=False):
            self._session.events.recovered.emit(found)

    def _tell_what_is_lost(self, found: Abandoned) -> None:
        if found.lost:
            self._session.events.ran.emit("; ".join(found.lost))

    def _show_loaded(self, layer: Layer, data: Any, answers: InputAnswers, loaded: Loaded) -> None:
        if layer in self._session.viewer.layers and layer.data is data:  # nobody took it away meanwhile
            self._session.open_layer(layer, answers, loaded=loaded)
