"""The made-up chest under File > Open Sample."""

from __future__ import annotations

from napari_resunet.phantom import make_phantom
from napari_resunet.plugin.layers import LayerData, ct_layer_data


def chest() -> list[LayerData]:
    return [ct_layer_data(make_phantom().volume, name="made-up chest CT")]
