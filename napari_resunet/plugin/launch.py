"""Ways into the window: from the menus, and from the command line."""

from __future__ import annotations

from pathlib import Path

import napari
from napari.viewer import Viewer

from napari_resunet.io.open_ct import open_ct, open_mask
from napari_resunet.measure.same_grid import refuse_other_grid
from napari_resunet.plugin.dock import LungSegmentation
from napari_resunet.record import CaseRecord
from napari_resunet.settings import InputAnswers
from napari_resunet.track import Track, silent
from napari_resunet.volume import Volume

PLUGIN, WIDGET = "napari-resunet", "Lung segmentation"


def show_widget(viewer: Viewer) -> LungSegmentation:
    """Show the widget, and return it; there is one in a viewer."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    return widget


def ask_for_folder(viewer: Viewer) -> None:
    """Ask for a DICOM folder and open it in the widget."""
    show_widget(viewer).ask_folder()


def ask_for_file(viewer: Viewer) -> None:
    """Ask for a CT file and open it in the widget."""
    show_widget(viewer).ask_file()


def correct(viewer: Viewer) -> None:
    """Show the tools that correct the mask, and the slices to look at."""
    show_widget(viewer).unfold("Correct", "Review")


def measure(viewer: Viewer) -> None:
    """Show the part of the widget that measures the mask."""
    show_widget(viewer).unfold("Measure")


def export(viewer: Viewer) -> None:
    """Show the part of the widget that writes the mask."""
    show_widget(viewer).unfold("Export")


def open_window(
    source: Path,
    *,
    mask: Path | None = None,
    answers: InputAnswers | None = None,
    volume: Volume | None = None,
    record: CaseRecord | None = None,
    cohort_case: str | None = None,
    track: Track = silent,
) -> None:
    """Open napari with a CT, a mask if there is one, and the widget; return when it is closed.

    Parameters
    ----------
    source, mask : Path
        The CT, and a mask of it; or the folder of a cohort.
    answers : InputAnswers, optional
        What only a user can know of the CT.
    volume : Volume, optional
        The CT, where it is read already.
    record : CaseRecord, optional
        Work on this CT to go on with.
    cohort_case : str, optional
        Of a cohort: which case to review first; a bar leads to the next.
    track : Track
        Called with the parts of the CT that are still to be read, before there is a window.

    Raises
    ------
    InputError
        If CT or mask cannot be read, before any window opens.
    """
    if cohort_case is not None:
        _open_cohort(source, cohort_case, track)
        return
    volume = open_ct(source, answers, track) if volume is None else volume
    known = None if mask is None else open_mask(mask, answers)
    if known is not None:
        refuse_other_grid(known.geometry, volume.geometry, what=mask.name)
    session = show_widget(napari.Viewer(title="napari-resunet")).session
    session.show_ct(volume, record)
    if known is not None:
        session.adopting.adopt_mask(known, name=mask.name)
    napari.run()


def _open_cohort(out: Path, case_id: str, track: Track) -> None:
    from napari_resunet.plugin.cohort import open_cohort_case, review_cohort

    opened = open_cohort_case(out, case_id, track)
    review_cohort(show_widget(napari.Viewer(title="napari-resunet")), out, opened)
    napari.run()
