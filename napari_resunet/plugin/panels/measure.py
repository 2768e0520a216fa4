"""The section Measure: how large and how dense the lungs are, and how well the mask agrees with a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, Container, PushButton
from napari.layers import Labels
from qtpy.QtWidgets import QComboBox

from napari_resunet.errors import InputError, ResUNetError, SpacingUnknownError
from napari_resunet.io.files import read_mask
from napari_resunet.io.table import write_rows
from napari_resunet.measure.agreement import Agreement, evaluate
from napari_resunet.measure.lungs import LungFigures, lung_figures
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.plugin.figures import Figures, how_made
from napari_resunet.plugin.jobs import Job
from napari_resunet.plugin.panels.enabling import OPEN_CT_FIRST, enable
from napari_resunet.plugin.panels.rows import fields, row
from napari_resunet.plugin.panels.text import text
from napari_resunet.plugin.proposed import stem_of
from napari_resunet.plugin.references import can_be_reference, reference_of
from napari_resunet.plugin.session import Session
from napari_resunet.volume import Mask, Volume

FILE = "file…"
_ASK = "Measures the mask as it is shown, right and left."
_CHANGED = "The mask has changed since: measure again."
_ABBREVIATIONS = (
    "SD: standard deviation. Perc15: 15th percentile. LAA-950: share of voxels below -950 HU. HD95: 95 % of either "
    "surface lie within this of the other one. ASSD: average distance of the surfaces. NSD: share of both surfaces "
    "that lies within 2 mm of the other one."
)


class MeasurePanel(Container):
    """Measures the mask as it is shown, compares it with a reference, and saves the figures.

    They go into the table of features of the mask layer as well.

    Parameters
    ----------
    session : Session
        Whose mask is measured.
    ask_reference : callable
        Opens a dialog and returns the mask file chosen there, or None.
    ask_figures : callable
        Opens a dialog with a proposed name and returns the CSV or JSON file chosen there, or None.
    """

    def __init__(
        self,
        session: Session,
        *,
        ask_reference: Callable[[], Path | None],
        ask_figures: Callable[[str], Path | None],
    ) -> None:
        self.session = session
        self._ask_reference, self._ask_figures = ask_reference, ask_figures
        self._job: Job | None = None
        self._reference: Labels | Path | None = None
        self._found: Figures | None = None
        self._is_stale = False  # whether the mask has changed since the figures were asked for
        self.reference = ComboBox(
            label="Compare with",
            choices=self._references,
            nullable=True,
            tooltip="A layer of labels on the grid of the CT, or a mask file. Any label above 0 is lung; "
            "where exactly 1 and 2 occur, they are right and left.",
        )
        # the name of a file must not widen the whole window
        self.reference.native.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.measure = PushButton(
            text="Measure",
            tooltip="ml and HU of each lung, and agreement with the reference if there is one.",
        )
        self.save = PushButton(
            text="Save figures…", tooltip="Write these figures as CSV or JSON, by the ending you give."
        )
        self.figures = text(_ASK, tooltip=_ABBREVIATIONS)
        self.state = text()
        super().__init__(
            widgets=[fields(self.reference), row(self.measure, self.save), self.figures, self.state],
            labels=False,
        )
        self.reference.changed.connect(self._choose)
        self.measure.changed.connect(self._measure)
        self.save.changed.connect(self._save)
        session.events.case.connect(self._show_case)
        session.events.layers.connect(self._show_references)
        session.events.mask.connect(self._note_change)
        session.events.painted.connect(self._note_change)
        self._show_case()

    # ---- what to compare with

    def _references(self, _widget: object) -> list[tuple[str, Any]]:
        session = self.session
        ours = (session.mask_layer, session.correcting.preview_layer)
        layers = [layer for layer in session.viewer.layers if can_be_reference(layer) and layer not in ours]
        layers = [layer for layer in layers if session.case is None or layer.data is not session.case.edit]
        file = self._reference if isinstance(self._reference, Path) else None
        return [
            (FILE, FILE),  # first: magicgui adds what is new at the end
            *([(f"{file.name} (file)", file)] if file is not None else []),
            *((layer.name, layer) for layer in layers),
        ]

    def _choose(self, choice: Labels | Path | str | None) -> None:
        if choice != FILE:
            self._reference = choice
            return
        self._reference = self._ask_reference() or self._reference
        self._show_references()

    def _show_references(self) -> None:
        with self.reference.changed.blocked():
            self.reference.reset_choices()
            if self._reference not in self.reference.choices:
                self._reference = None
            self.reference.value = self._reference

    def _reference_to_compare(self) -> Mask | Path | None:
        if not isinstance(self._reference, Labels):
            return self._reference
        return reference_of(self._reference, self.session.ct_layer, self.session.case.volume)

    # ---- the figures

    def _measure(self) -> None:
        case = self.session.case
        if case is None or self._job is not None:
            return
        self.session.sync()
        try:
            mask, reference = case.finished_mask(split=True), self._reference_to_compare()
        except ResUNetError as error:
            self._fail(error)
            return
        self.state.value, self._is_stale = "", False
        enable(self.measure, "It is measuring.")
        name = "" if self._reference is None else self._reference.name
        on_value = partial(self._show, how_made(case), name)
        work = (case.volume, mask, reference)
        self._job = Job(
            _measuring, *work, on_value=on_value, on_error=self._fail, on_end=self._end, label="measuring"
        )
        self._job.start()

    def _end(self) -> None:
        self._job = None
        enable(self.measure)

    def _fail(self, error: Exception) -> None:
        self.state.value = str(error)  # in full: a notification is cut after a few words
        self.session.events.failed.emit(error)

    def _show(
        self, made: dict[str, Any], reference: str, answer: tuple[list[LungFigures], dict[str, Agreement]]
    ) -> None:
        lungs, agreement = answer
        self._found = Figures(made, lungs, reference, agreement)
        self.figures.value = self._found.as_html()
        enable(self.save)
        case = self.session.case
        if self._is_stale:
            self._note_change()
            return
        if case.slices_missing:
            self.state.value = (
                f"{case.slices_missing} of {len(case.done)} slices are not run yet: this is a part."
            )
        if self.session.mask_layer is not None:
            self.session.mask_layer.features = self._found.features()

    def _note_change(self) -> None:
        if self._found is None and self._job is None:
            return
        self.state.value, self._is_stale = _CHANGED, True
        if self.session.mask_layer is not None and len(self.session.mask_layer.features):
            self.session.mask_layer.features = None  # napari tells them at each voxel the pointer is on

    def _save(self) -> None:
        if self._found is None:
            return
        ct = self._ct_name()
        path = self._ask_figures(f"{stem_of(ct)}_lung_figures.csv")
        if path is None:
            return
        try:
            write_rows(path, self._found.rows(ct=ct, mask="lung mask"))
        except ResUNetError as error:
            self._fail(error)
            return
        self.state.value = f"{path}: written."

    def _ct_name(self) -> str:
        source = self.session.case.volume.source
        return self.session.ct_layer.name if source is None else source.path.name

    def _show_case(self) -> None:
        if self._job is not None:
            self._job.abandon()
            self._job = None
        self._found = None
        enable(self.measure, OPEN_CT_FIRST if self.session.case is None else "")
        enable(self.save, "Nothing is measured yet.")
        self.figures.value, self.state.value = _ASK, ""
        self._show_references()


def _measuring(
    volume: Volume, mask: Mask, reference: Mask | Path | None
) -> Iterator[tuple[list[LungFigures], dict[str, Agreement]]]:
    """Yield the figures of the lungs, then the same and the agreement with a reference."""
    lungs = lung_figures(volume, mask, sides=True)
    yield lungs, {}
    if isinstance(reference, Path):
        reference = _read(reference, volume)
    if reference is not None:
        yield lungs, evaluate(mask, reference, sides=bool((reference.array == 2).any()))


def _read(path: Path, volume: Volume) -> Mask:
    try:
        mask = read_mask(path)
    except SpacingUnknownError as error:
        # as another error: the window answers this one by asking for the voxel size of the CT
        raise InputError(
            f"{path.name} does not say how large its voxels are, so whether it lies on the CT cannot be told; "
            "give the reference as NIfTI, NRRD or MetaImage"
        ) from error
    refuse_other_grid(mask.geometry, volume.geometry, what=path.name, other="the CT")
    return mask
