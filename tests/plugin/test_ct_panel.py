"""What the section of the CT tells, and what can be answered there."""

from __future__ import annotations

import re

import numpy as np
import pytest

from napari_resunet.plugin.panels.checks import check_lines
from napari_resunet.plugin.panels.ct import CtPanel
from napari_resunet.preflight import Check
from napari_resunet.volume import Volume


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def panel(session, asked) -> CtPanel:
    def way(name: str):
        return lambda *_: asked.append(name)

    return CtPanel(session, ask_folder=way("folder"), ask_file=way("file"), ask_place=way("place"))


def shown(panel: CtPanel) -> list[str]:
    names = ("subtract", "are_hu", "place", "reading", "bar", "stop")
    return [name for name in names if not getattr(panel, name).native.isHidden()]


def lines(html: str) -> list[str]:
    """Return rich text as lines without its marks-up."""
    return [
        " ".join(re.sub("<[^>]+>", "", line).replace("&nbsp;", " ").split()) for line in html.split("</p>")
    ][:-1]


def test_the_worst_stands_first_and_what_is_well_is_one_line() -> None:
    checks = (
        Check("voxel size", "ok", "1 x 1 x 5 mm"),
        Check("tilt", "note", "tilted"),
        Check("HU", "ask", "no air < -1000"),
        Check("size", "refuse", "too small"),
        Check("gaps", "ok", "none"),
    )
    assert lines(check_lines(checks, ["left out: 1 scout"])) == [
        "✕ Size: too small",
        "? HU: no air &lt; -1000",
        "• Tilt: tilted",
        "• left out: 1 scout",
        "✓ voxel size, gaps: all right",
    ]


def test_the_options_of_the_command_line_are_not_told_in_the_window() -> None:
    check = Check("HU", "ask", "they look like HU + 1024; give a HU offset of -1024 (--hu-offset), or 0")
    assert lines(check_lines([check])) == ["? HU: they look like HU + 1024; give a HU offset of -1024, or 0"]


def test_a_ct_that_is_well_asks_nothing(panel, session, chest) -> None:
    assert panel.checks.native.isHidden()
    session.show_ct(chest.volume)
    assert "?" not in "".join(lines(panel.checks.value))
    assert shown(panel) == []


def test_the_checks_of_a_ct_are_made_once(panel, session, chest, monkeypatch: pytest.MonkeyPatch) -> None:
    session.show_ct(chest.volume)
    monkeypatch.setattr("napari_resunet.plugin.session.preflight", lambda _: pytest.fail("again"))
    panel._show_case()


@pytest.fixture
def raised(chest) -> Volume:
    return Volume((chest.volume.array.astype(np.int32) + 1024).astype(np.int16), chest.volume.geometry)


def test_values_that_look_like_hu_plus_1024_are_mended_with_one_click_which_is_noted(
    panel, session, chest, raised
) -> None:
    session.show_ct(raised)
    assert shown(panel) == ["subtract", "are_hu"]
    panel.subtract.native.click()
    assert shown(panel) == []
    volume = session.case.volume
    assert np.array_equal(volume.array, chest.volume.array)
    assert volume.answers.hu_offset == -1024
    assert "-1024 was added to every value, by the user's word" in volume.notes
    assert "by the user's word" in panel.checks.value


def test_the_word_of_the_user_that_values_are_hu_is_noted(panel, session, raised) -> None:
    session.show_ct(raised)
    panel.are_hu.native.click()
    assert shown(panel) == []
    assert session.case.volume.answers.hu_offset == 0
    assert session.case.volume.array is raised.array


def test_grey_values_of_a_picture_are_not_offered_to_be_lowered_by_1024(panel, session, chest) -> None:
    array = np.clip((chest.volume.array.astype(np.int32) + 1024) // 8, 0, 255).astype(np.int16)
    session.show_ct(Volume(array, chest.volume.geometry))
    assert shown(panel) == ["are_hu"]


def test_an_orientation_that_nobody_has_said_can_be_said(panel, session, asked) -> None:
    array = np.full((6, 40, 50), -1000, dtype=np.int16)
    array[:, 5:30, 5:30] = 40
    session.choose(session.viewer.add_image(array, scale=(5, 1, 1)))
    told = "? Orientation: not in the file, assumed axial, lowest slice first (SPL)"
    assert told in "".join(lines(panel.checks.value))
    assert shown(panel) == ["place"]
    panel.place.native.click()
    assert asked == ["place"]


def test_a_file_that_is_read_is_shown_and_can_be_cancelled(
    panel, session, qtbot, chest, tmp_path, monkeypatch
) -> None:
    import napari_resunet.plugin.work as work

    def endless(_path, _answers, track):
        for _ in track(range(10_000_000)):
            pass

    monkeypatch.setattr(work, "open_ct", endless)
    session.opening.open(tmp_path / "ct")
    assert shown(panel) == ["reading", "bar", "stop"]
    assert not panel.open_file.enabled
    qtbot.waitUntil(lambda: "of 10000000 slices read" in panel.reading.value, timeout=10_000)
    assert panel.bar.max == 10_000_000
    panel.stop.native.click()
    assert panel.reading.value == "stopping …"
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert shown(panel) == []
    assert panel.open_file.enabled
    assert session.case is None
