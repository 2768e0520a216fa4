"""The window as the place where a cohort is reviewed. What it needs is imported only where there is one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from napari_resunet.cohort.manifest import read_entry
from napari_resunet.cohort.reviewing import Opened, open_for_review
from napari_resunet.plugin.dock import LungSegmentation
from napari_resunet.plugin.panels.queue import QueueBar, ask_reason
from napari_resunet.plugin.queue import ReviewQueue
from napari_resunet.track import Track, silent


def open_cohort_case(out: Path, case_id: str, track: Track = silent) -> Opened:
    """Read a case of a cohort with all that a review of it needs.

    Raises
    ------
    InputError
        If the case, its CT or its mask cannot be read.
    """
    return open_for_review(out, read_entry(out, case_id), track)


def review_cohort(dock: LungSegmentation, out: Path, opened: Opened) -> QueueBar:
    """Take a person through the cases of a cohort from this one on, with a bar below that stays in view."""
    queue = ReviewQueue(dock.session, out)
    bar = QueueBar(queue, ask_reason=partial(ask_reason, dock))
    dock.session.viewer.window.add_dock_widget(bar, name="Cohort", area="right", add_vertical_stretch=False)
    queue.show(opened)
    dock.view.viewing.outline.show(True)
    return bar
