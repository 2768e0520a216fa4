"""The way through the slices, in a real window."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt

from napari_resunet.editing.review import SliceState
from napari_resunet.inference.predict import Batch
from napari_resunet.plugin import launch
from napari_resunet.plugin.panels.strip import STATE_COLOURS
from napari_resunet.volume import Run

pytestmark = pytest.mark.usefixtures("unstyled")


@pytest.fixture
def dock(make_napari_viewer, qtbot, chest):
    """The small chest; the network found its true lungs, is unsure on slice 12, and lost slice 15."""
    dock = launch.show_widget(make_napari_viewer())
    session = dock.session
    session.show_ct(chest.volume)
    session.show_layers()
    found = (chest.mask.axial > 0).astype(np.uint8) * 250
    found[12][found[12] > 0] = 140
    found[15] = 0
    case = session.case
    case.begin(Run("truth", "", 128, "cpu", "float32", (0, 96, 0, 96)))
    case.accept(case.run, Batch(0, 28, found))
    session.masking.set_clean(False)
    session.events.ran.emit("")
    qtbot.waitUntil(lambda: is_quiet(dock), timeout=30_000)
    yield dock
    session.close()
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)


def is_quiet(dock) -> bool:
    review = dock.review
    return dock.session.is_idle and review.reviewing.is_idle and not review._rest.isActive()


def quiet(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: is_quiet(dock), timeout=30_000)


def in_view(dock) -> int:
    return dock.session.slice_in_view


def test_next_goes_to_the_most_doubtful_slice_first_and_back_again(dock) -> None:
    dock.review.next.native.click()
    first = in_view(dock)
    dock.review.next.native.click()
    assert {first, in_view(dock)} == {12, 15}
    dock.review.back.native.click()
    assert in_view(dock) == first


def test_a_slice_away_from_any_lung_is_never_shown(dock, chest) -> None:
    order = dock.review.reviewing.order(only_open=False)
    holds_lung = np.flatnonzero(chest.mask.axial.any(axis=(1, 2)))
    assert min(order) >= holds_lung.min() - 1
    assert max(order) <= holds_lung.max() + 1
    assert 15 in order


def test_a_tick_goes_on_to_the_next_slice_and_the_ticked_one_is_skipped(dock) -> None:
    dock.review.next.native.click()
    first = in_view(dock)
    dock.review.tick.native.click()
    assert dock.session.case.slice_states()[first] == SliceState.REVIEWED
    assert in_view(dock) != first
    assert first not in dock.review.reviewing.order(only_open=True)
    dock.review.only_open.value = False
    assert first in dock.review.reviewing.order(only_open=False)
    assert dock.review.progress.value.startswith("1 of ")


def test_a_tick_is_gone_when_the_threshold_changes_the_slice_and_back_when_it_is_as_it_was_seen(
    dock, qtbot
) -> None:
    dock.session.show_slice(12)
    dock.review.tick.native.click()
    dock.mask.threshold.value = 0.6  # slice 12 is at 0.55
    quiet(dock, qtbot)
    assert dock.review.reviewing.states[12] != SliceState.REVIEWED
    assert "1 changed since you ticked them" in dock.review.progress.value
    dock.mask.threshold.value = 0.5
    quiet(dock, qtbot)
    assert dock.review.reviewing.states[12] == SliceState.REVIEWED


def test_a_stroke_makes_a_slice_edited_and_a_flag_stands_over_it(dock, qtbot) -> None:
    dock.session.show_slice(3)
    dock.session.mask_layer.paint((3, 5, 5), 1)
    qtbot.waitUntil(lambda: dock.review.reviewing.states[3] == SliceState.EDITED, timeout=5_000)
    dock.review.flag.native.click()
    assert dock.review.reviewing.states[3] == SliceState.FLAGGED
    dock.review.flag.native.click()
    assert dock.review.reviewing.states[3] == SliceState.EDITED


def test_the_keys_do_what_the_buttons_do(dock, qtbot) -> None:
    canvas = dock.session.viewer.window._qt_viewer.canvas.native
    qtbot.keyClick(canvas, Qt.Key.Key_N)
    assert in_view(dock) in (12, 15)
    z = in_view(dock)
    qtbot.keyClick(canvas, Qt.Key.Key_R)
    assert dock.session.case.slice_states()[z] == SliceState.REVIEWED
    z = in_view(dock)
    qtbot.keyClick(canvas, Qt.Key.Key_R, Qt.KeyboardModifier.ShiftModifier)
    assert dock.session.case.slice_states()[z] == SliceState.FLAGGED
    qtbot.keyClick(canvas, Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert dock.session.case.slice_states()[in_view(dock)] != SliceState.REVIEWED


def test_the_keys_are_given_back_when_the_widget_closes(dock) -> None:
    viewer = dock.session.viewer
    dock.session.close()
    assert not {"N", "R"} & {str(key) for key in viewer.keymap}


def test_a_click_in_the_strip_shows_that_slice(dock, qtbot) -> None:
    strip = dock.review.strip
    strip.resize(400, 96)
    at = strip.mapFromScene(strip.plotItem.vb.mapViewToScene(QPointF(20, 0)))
    qtbot.mousePress(strip.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert in_view(dock) == 20


def test_the_strip_shows_doubts_states_and_the_slice_in_view(dock) -> None:
    dock.session.show_slice(12)
    dock.review.flag.native.click()
    strip = dock.review.strip
    assert strip._line.value() == 12
    heights = strip._doubts.opts["height"]
    assert np.argmax(heights) in (12, 15)
    assert len(heights) == 28
    assert strip._states.opts["brushes"][12].color().name() == STATE_COLOURS[SliceState.FLAGGED]


def test_ticks_and_flags_are_in_the_record(dock) -> None:
    dock.session.show_slice(12)
    dock.review.tick.native.click()
    record = dock.session.case.record()
    assert record.marks[12] == SliceState.REVIEWED
    assert record.seen[12]
