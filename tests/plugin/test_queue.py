"""A person goes through a cohort in a real window."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QDockWidget
from reviewed_cohort import make_cohort

from napari_resunet.cohort.manifest import read_entry, update_entry
from napari_resunet.cohort.reviewing import in_order_of_doubt, next_open, open_for_review
from napari_resunet.errors import InputError
from napari_resunet.io.files import read_mask
from napari_resunet.plugin import launch
from napari_resunet.plugin.cohort import review_cohort
from napari_resunet.plugin.panels import queue as queue_panel
from napari_resunet.plugin.panels.queue import QueueBar, ask_reason
from napari_resunet.plugin.queue import ReviewQueue
from napari_resunet.plugin.session import Session

pytestmark = pytest.mark.usefixtures("unstyled")

DOUBTS = {"a": 0.1, "b": 0.3, "c": 0.2}


@pytest.fixture
def out(chest, tmp_path: Path) -> Path:
    return make_cohort(tmp_path / "out", chest, DOUBTS)


class Review:
    """What a window has of a cohort, without the window."""

    def __init__(self, out: Path, case_id: str | None, qtbot) -> None:
        entry = next_open(in_order_of_doubt(out)) if case_id is None else read_entry(out, case_id)
        self.session = Session(ViewerModel())
        self.errors: list[Exception] = []
        self.session.events.failed.connect(self.errors.append)
        self.queue = ReviewQueue(self.session, out)
        self.queue_bar = QueueBar(self.queue, ask_reason=partial(ask_reason, None))
        self.queue.show(open_for_review(out, entry))
        at_rest(qtbot, self)


@pytest.fixture
def review(qtbot):
    """Opens a cohort at its most doubtful case, or at another one."""
    opened = []

    def opens(out: Path, case_id: str | None = None) -> Review:
        opened.append(Review(out, case_id, qtbot))
        return opened[-1]

    yield opens
    for found in opened:
        at_rest(qtbot, found)
        found.session.close()


@pytest.fixture
def dock(make_napari_viewer, qtbot, out: Path):
    """A real window, opened as the command line does."""
    dock = launch.show_widget(make_napari_viewer())
    dock.queue_bar = review_cohort(dock, out, open_for_review(out, next_open(in_order_of_doubt(out))))
    dock.queue = dock.queue_bar.queue
    at_rest(qtbot, dock)
    yield dock
    at_rest(qtbot, dock)
    dock.session.close()


def at_rest(qtbot, dock) -> None:
    qtbot.waitUntil(lambda: dock.queue.is_idle and dock.session.is_idle, timeout=60_000)


def press(qtbot, dock, button) -> None:
    button.native.click()
    at_rest(qtbot, dock)


def shown(dock) -> str | None:
    return None if dock.queue.entry is None else dock.queue.entry.id


def layers(dock) -> list[str]:
    return [layer.name for layer in dock.session.viewer.layers]


def paint(dock) -> int:
    """Paint a patch outside of the lungs, and return how many voxels that are."""
    where = (np.full(100, 9), *(np.indices((10, 10)).reshape(2, -1)))
    dock.session.mask_layer.data_setitem(where, 1)
    return 100


def test_the_window_shows_ct_mask_outline_doubtful_slice_and_why_and_goes_on(dock, out: Path, qtbot) -> None:
    assert layers(dock) == ["b", "lung probability", "lung mask"]
    assert np.array_equal(dock.session.mask_layer.data > 0, read_mask(out / "cases/b/lungs.nii.gz").axial > 0)
    assert dock.session.mask_layer.contour == 1
    assert dock.session.slice_in_view == 9
    assert dock.queue_bar.words.value == "b, 0 of 3 reviewed. Doubt 0.30, most in slice 9 (0.60)."
    assert not dock.session.saving.unsaved_cases()
    press(qtbot, dock, dock.queue_bar.accept)
    assert shown(dock) == "c"
    assert dock.session.mask_layer.contour == 1
    assert dock.main_window.findChild(QDockWidget, "Cohort").isAncestorOf(dock.queue_bar.native)


def test_accepting_notes_it_and_shows_the_next_instead(review, out: Path, qtbot) -> None:
    dock = review(out)
    press(qtbot, dock, dock.queue_bar.accept)
    entry = read_entry(out, "b")
    assert (entry.reviewed, entry.version, entry.edited_voxels) == (True, 1, 0)
    assert shown(dock) == "c"
    assert layers(dock) == ["c", "lung probability", "lung mask"]
    assert dock.session.case.volume.source.path.name == "c.nii.gz"
    assert dock.queue_bar.words.value.startswith("c, 1 of 3 reviewed.")
    assert not dock.errors


def test_a_correction_becomes_version_2_and_no_unsaved_work(review, out: Path, qtbot) -> None:
    dock = review(out)
    first = (out / "cases/b/lungs.nii.gz").read_bytes()
    painted = paint(dock)
    expected = dock.session.case.finished_mask().array
    press(qtbot, dock, dock.queue_bar.accept)
    entry = read_entry(out, "b")
    assert (entry.version, entry.edited_voxels, entry.reviewed) == (2, painted, True)
    assert np.array_equal(read_mask(out / entry.mask).array, expected)
    assert (out / "cases/b/lungs.nii.gz").read_bytes() == first
    assert not dock.session.saving.unsaved_cases()


def test_a_skipped_case_comes_again_with_what_was_painted_on_it(review, out: Path, qtbot) -> None:
    dock = review(out)
    painted = paint(dock)
    press(qtbot, dock, dock.queue_bar.skip)
    assert shown(dock) == "c"
    assert [case.reference.name for case in dock.session.saving.unsaved_cases()] == ["b.nii.gz"]
    press(qtbot, dock, dock.queue_bar.accept)
    press(qtbot, dock, dock.queue_bar.accept)
    assert shown(dock) == "b"
    assert dock.session.case.voxels_edited == painted
    assert read_entry(out, "b").version == 1
    press(qtbot, dock, dock.queue_bar.accept)
    assert read_entry(out, "b").version == 2


def test_the_last_case_that_is_open_cannot_be_skipped(review, out: Path, qtbot) -> None:
    dock = review(out)
    for _ in range(len(DOUBTS) - 1):
        press(qtbot, dock, dock.queue_bar.accept)
    assert shown(dock) is not None
    skip = dock.queue_bar.skip
    assert (skip.enabled, skip.tooltip) == (False, "No other case is left to look at.")
    assert dock.queue_bar.accept.enabled


def test_after_the_last_case_nothing_is_left_to_press(review, out: Path, qtbot) -> None:
    dock = review(out)
    for _ in DOUBTS:
        press(qtbot, dock, dock.queue_bar.accept)
    assert shown(dock) is None
    assert layers(dock) == []
    bar = dock.queue_bar
    assert bar.words.value == "3 of 3 reviewed: no case is left. The page index.html shows them all."
    assert not any(button.enabled for button in (bar.accept, bar.skip, bar.reject))


def test_rejecting_asks_for_the_reason(review, out: Path, qtbot, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [None, {"reason": " "}, {"reason": "left lung missing"}]
    monkeypatch.setattr(queue_panel, "request_values", lambda *_, **__: answers.pop(0))
    dock = review(out)
    for _ in range(2):
        press(qtbot, dock, dock.queue_bar.reject)
        assert read_entry(out, "b").rejected == ""
        assert shown(dock) == "b"
    press(qtbot, dock, dock.queue_bar.reject)
    assert read_entry(out, "b").rejected == "left lung missing"
    assert shown(dock) == "c"


def test_the_next_case_is_read_while_this_one_is_looked_at(review, out: Path, qtbot, monkeypatch) -> None:
    dock = review(out)
    (out.with_name("cts") / "c.nii.gz").unlink()  # it is there already
    press(qtbot, dock, dock.queue_bar.skip)
    assert shown(dock) == "c"
    assert layers(dock)[0] == "c"


def test_a_case_that_cannot_be_read_says_so_and_the_next_can_be_gone_to(review, out: Path, qtbot) -> None:
    (out.with_name("cts") / "c.nii.gz").unlink()
    dock = review(out)
    press(qtbot, dock, dock.queue_bar.accept)
    assert shown(dock) == "c"
    assert "It cannot be shown:" in dock.queue_bar.words.value
    assert "c.nii.gz" in dock.queue_bar.words.value
    assert layers(dock) == []
    assert not dock.queue_bar.accept.enabled
    press(qtbot, dock, dock.queue_bar.skip)
    assert shown(dock) == "a"
    assert layers(dock)[0] == "a"


def test_what_cannot_be_noted_leaves_the_case_and_its_edits_open(review, out: Path, qtbot) -> None:
    dock = review(out)
    painted = paint(dock)
    update_entry(out, "b", reviewed_at="2026-01-01T00:00:00+00:00")  # by somebody else
    press(qtbot, dock, dock.queue_bar.accept)
    assert "somebody else meanwhile" in str(dock.errors[0])
    assert shown(dock) == "b"
    assert dock.session.case.voxels_edited == painted
    assert dock.session.saving.unsaved_cases()
    assert dock.queue_bar.accept.enabled


def test_another_ct_in_view_cannot_be_accepted_by_mistake(review, out: Path, chest) -> None:
    dock = review(out)
    case_layer = dock.session.ct_layer
    dock.session.show_ct(chest.volume)
    assert not dock.queue_bar.accept.enabled
    assert dock.queue_bar.words.value.endswith("Another CT is open: choose this one under CT to go on.")
    dock.session.choose(case_layer)
    assert dock.queue_bar.accept.enabled


def test_a_stroke_made_while_the_mask_is_written_is_not_taken_for_saved(review, out: Path, qtbot) -> None:
    dock = review(out)
    dock.queue_bar.accept.native.click()
    assert dock.queue_bar.words.value == "Saving b …"
    paint(dock)
    at_rest(qtbot, dock)
    assert [case.reference.name for case in dock.session.saving.unsaved_cases()] == ["b.nii.gz"]


def test_a_named_case_is_opened_though_it_was_reviewed(review, out: Path, qtbot) -> None:
    update_entry(out, "a", reviewed=True, reviewed_at="2026-01-01T00:00:00+00:00")
    dock = review(out, "a")
    assert dock.queue_bar.words.value.endswith("Accepted before, as version 1.")
    press(qtbot, dock, dock.queue_bar.accept)
    assert shown(dock) == "b"


def test_a_kept_probability_map_is_in_the_window_too(review, chest, tmp_path: Path, qtbot) -> None:
    dock = review(make_cohort(tmp_path / "out", chest, {"a": 0.1}, probability=True))
    assert dock.session.case.done.all()
    press(qtbot, dock, dock.queue_bar.accept)
    assert read_entry(tmp_path / "out", "a").version == 1


def test_every_button_of_the_bar_has_a_tool_tip(review, out: Path) -> None:
    bar = review(out).queue_bar
    assert all(button.tooltip for button in (bar.accept, bar.skip, bar.reject))


def test_a_window_is_not_opened_for_a_case_that_cannot_be_read(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("a window was opened")

    monkeypatch.setattr(launch.napari, "Viewer", refuse)
    update_entry(out, "b", source=str(out / "gone.nii.gz"))
    with pytest.raises(InputError, match="gone"):
        launch.open_window(out, cohort_case="b")
