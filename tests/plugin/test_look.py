"""What helps the eye: the button that leads on, reasons on what cannot be used, texts as high as they are."""

from __future__ import annotations

from magicgui.widgets import ComboBox, LineEdit, PushButton
from napari.utils.theme import get_theme
from qtpy.QtWidgets import QAbstractButton, QLabel, QWidget

from napari_resunet.plugin.panels.enabling import enable
from napari_resunet.plugin.panels.rows import fields
from napari_resunet.plugin.panels.text import text


def colour_of(button: PushButton) -> str:
    """Return the colour that a button is filled with."""
    return button.native.grab().toImage().pixelColor(4, button.native.height() // 2).name()


def test_the_button_that_leads_on_stands_out(dock, viewer, chest, qtbot):
    ct, segment, export = dock.ct, dock.segment, dock.export
    accent = get_theme("dark").current.as_hex(format="long")
    viewer.theme = "dark"
    assert dock._next_step.marked == (ct.open_folder, ct.open_file)
    assert colour_of(ct.open_folder) == accent

    dock.session.show_ct(chest.volume)
    assert dock._next_step.marked == (segment.start,)
    assert colour_of(segment.start) == accent
    assert colour_of(ct.open_folder) != accent

    segment.start.native.click()
    qtbot.waitUntil(lambda: dock.session.is_idle, timeout=120_000)
    assert dock._next_step.marked == (export.export,)
    assert colour_of(export.export) == accent
    assert colour_of(segment.start) != accent

    viewer.theme = "light"
    assert colour_of(export.export) == get_theme("light").current.as_hex(format="long")


def test_everything_that_cannot_be_used_says_why_or_is_explained(dock, chest):
    def silent() -> list[str]:
        panels = (dock.ct, dock.view, dock.segment, dock.mask, dock.correct, dock.review, dock.measure)
        buttons = [
            button
            for panel in (*panels, dock.export, dock.learn)
            for button in panel.native.findChildren(QAbstractButton)
            if button.text()
        ]
        return [button.text() for button in buttons if not button.toolTip()]

    assert silent() == []
    assert dock.review.next.tooltip == dock.export.export.tooltip == "Open a CT first."
    dock.session.show_ct(chest.volume)
    assert silent() == []
    assert dock.export.save_case.tooltip.startswith("All but the CT")
    assert dock.correct.apply.tooltip == "Let the tool show first what it would change."


def test_a_reason_goes_and_the_explanation_comes_back(qtbot):
    button = PushButton(text="Go", tooltip="Goes.")
    enable(button, "Nowhere to go.")
    assert (button.enabled, button.tooltip) == (False, "Nowhere to go.")
    enable(button)
    assert (button.enabled, button.tooltip) == (True, "Goes.")


def test_a_text_is_as_high_as_it_needs_and_takes_no_room_if_it_is_empty(qtbot):
    label = text("")
    host = label.native
    qtbot.addWidget(host)
    host.show()  # only then does it hear of its size
    line = host.fontMetrics().lineSpacing()
    host.resize(150, 10)
    assert host.height() == 0
    label.value = (
        "A sentence of several words, which a narrow panel breaks into more lines than a wide one does."
    )
    assert host.height() > 3 * line
    host.resize(2000, host.height())
    assert line <= host.height() < 2 * line
    host.resize(150, host.height())
    label.value = "One."
    assert line <= host.height() < 2 * line


def test_labels_have_the_same_width_in_the_font_of_the_window(qtbot):
    rows = fields(LineEdit(label="A"), ComboBox(label="A longer one", choices=["x"]))
    window = QWidget()
    window.setStyleSheet("QLabel { font-size: 30px; }")
    rows.native.setParent(window)
    qtbot.addWidget(window)
    window.show()
    labels = rows.native.findChildren(QLabel)
    assert len(labels) == 2
    assert len({label.width() for label in labels}) == 1
    assert labels[0].width() >= max(label.sizeHint().width() for label in labels)
