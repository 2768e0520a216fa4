"""napari's page of preferences: what it offers, and that the widget begins as it says."""

from __future__ import annotations

import pytest
from npe2 import PluginManifest

from napari_resunet.plugin.preferences import preferred_mask, preferred_network
from napari_resunet.settings import MaskSettings, PredictSettings, explain

PAGES = PluginManifest.from_distribution("napari-resunet").contributions.configurations
RECORDS = {"network": PredictSettings, "mask": MaskSettings}
TYPES = {"string": str, "integer": int, "number": float, "boolean": bool}


@pytest.fixture
def preferences(monkeypatch, tmp_path):
    """The plugin's page in a folder of its own."""
    settings = pytest.importorskip("napari.settings")
    if not hasattr(settings, "get_plugin_settings"):
        pytest.skip("this napari has no preferences of plugins")
    monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))
    settings._clear_plugin_settings_cache()
    yield settings.get_plugin_settings("napari-resunet")
    settings._clear_plugin_settings_cache()


def test_the_pages_say_what_the_settings_say():
    assert set(PAGES) == set(RECORDS)
    for key, page in PAGES.items():
        for name, shown in page.properties.items():
            known = explain(RECORDS[key], name)
            assert (shown.title, shown.description) == (known["label"], known["tip"])
            assert shown.default == known["default"]
            assert (
                TYPES[str(shown.type.value if hasattr(shown.type, "value") else shown.type)] is known["type"]
            )
            assert tuple(shown.enum or ()) == tuple(known["options"] or ())
            assert (shown.minimum, shown.maximum) == (known["low"], known["high"])


def test_without_preferences_all_begins_as_on_the_command_line(preferences):
    assert preferred_network() == PredictSettings()
    assert preferred_mask() == MaskSettings()


def test_the_widget_and_a_ct_that_is_opened_begin_as_preferred(preferences, open_widget, chest, tmp_path):
    preferences.network.grid = 256
    preferences.network.device = "cpu"
    preferences.network.model = str(tmp_path / "mine.safetensors")
    preferences.mask.threshold = 0.35
    preferences.mask.split = True

    dock = open_widget()
    assert dock.segment.settings == PredictSettings(str(tmp_path / "mine.safetensors"), "cpu", 256)
    assert "mine.safetensors" in dock.segment.model_card.value  # which is not there: said at once

    dock.session.show_ct(chest.volume)
    assert dock.session.case.settings == MaskSettings(threshold=0.35, split=True)
    assert dock.mask.threshold.value == 0.35
    assert dock.export.split.value is True


@pytest.mark.parametrize("command", ["correct", "measure", "export"])
def test_a_menu_entry_unfolds_its_part_of_the_widget(make_napari_viewer, open_widget, command, qtbot):
    from napari_resunet.plugin import launch

    viewer = make_napari_viewer(show=True)
    dock = open_widget(viewer)
    section = dock._sections[command.capitalize()]
    section.collapse(animate=False)
    getattr(launch, command)(viewer)
    assert section.isExpanded()
    qtbot.waitUntil(lambda: not section.visibleRegion().isEmpty())
