"""What the user has set on napari's page of preferences: where the network runs, and how a mask begins."""

from __future__ import annotations

from typing import Any

from napari_resunet.settings import MaskSettings, PredictSettings

_PLUGIN = "napari-resunet"


def preferred_network() -> PredictSettings:
    """Return with what model, device and grid the widget begins."""
    return PredictSettings(**_page("network"))


def preferred_mask() -> MaskSettings:
    """Return with what threshold and clean-up a CT begins that is opened."""
    return MaskSettings(**_page("mask"))


def _page(key: str) -> dict[str, Any]:
    """Return what stands on a page; nothing where napari has none, as before 0.9."""
    try:
        from napari.settings import get_plugin_settings

        page = getattr(get_plugin_settings(_PLUGIN), key)
    except (ImportError, KeyError):
        return {}
    return dict(page.model_dump())
