"""What a machine, a CT, a mask or a model is, told as plain names and values."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from napari_resunet.io.files import read_volume
from napari_resunet.model.card import RESEARCH_ONLY, ModelCard, builtin_models, read_card
from napari_resunet.volume import Volume


def tell(
    subject: str | None = None,
    *,
    spacing_mm: tuple[float, float, float] | None = None,
    series: str | None = None,
) -> dict[str, Any]:
    """Return facts on a file or a model, or on this machine when there is no subject; all fit for JSON.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if subject is None:
        return machine_facts()
    if subject in builtin_models() or subject.endswith(".safetensors"):
        return card_facts(read_card(subject))
    return volume_facts(read_volume(Path(subject), spacing_mm=spacing_mm, series=series))


def machine_facts() -> dict[str, Any]:
    """Return what this machine computes with."""
    import torch

    import napari_resunet
    from napari_resunet.model.device import choose_device

    device = choose_device()
    return {
        "napari-resunet": napari_resunet.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.label,
        "precision": device.precision,
        "models": builtin_models(),
        "use": RESEARCH_ONLY,
    }


def card_facts(card: ModelCard) -> dict[str, Any]:
    """Return what a model says of itself."""
    facts: dict[str, Any] = json.loads(card.to_json())
    return facts


def volume_facts(volume: Volume) -> dict[str, Any]:
    """Return what a reader found in a CT or a mask."""
    geometry = volume.geometry
    source = volume.source
    return {
        "file": "" if source is None else source.path.name,
        "format": "" if source is None else source.format,
        "shape (z, y, x)": list(geometry.shape),
        "spacing_mm (z, y, x)": [round(mm, 4) for mm in geometry.spacing_mm],
        "size_mm (z, y, x)": [
            round(n * mm, 1) for n, mm in zip(geometry.shape, geometry.spacing_mm, strict=True)
        ],
        "array axes run towards": geometry.axis_codes,
        "oblique": geometry.is_oblique,
        "tilted": geometry.is_sheared,
        "values": [float(np.nanmin(volume.array)), float(np.nanmax(volume.array))],
        "type": volume.array.dtype.name,
        "index_to_lps": geometry.index_to_lps.round(6).tolist(),
        "notes": list(volume.notes),
        "source_sha256": "" if source is None else source.sha256,
    }


def describe(volume: Volume) -> str:
    """Return the same in a few short lines for a card in the window."""
    geometry = volume.geometry.reordered(volume.geometry.to_axial)
    z, y, x = geometry.shape
    dz, dy, dx = geometry.spacing_mm
    low, high = np.nanmin(volume.array), np.nanmax(volume.array)
    lines = [
        f"{z} axial slices of {y} × {x}",
        f"{dx:.3g} × {dy:.3g} × {dz:.3g} mm",
        f"{low:.0f} to {high:.0f} HU",
    ]
    if volume.geometry.is_sheared:
        lines.append("tilted gantry: shown straight, exported as scanned")
    elif volume.geometry.is_oblique:
        lines.append("oblique: shown straight, exported as scanned")
    return "\n".join(lines)
