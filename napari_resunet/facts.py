"""What a machine, a CT, a mask, a case or a model is, told as plain names and values."""

from __future__ import annotations

import dataclasses
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

from napari_resunet.editing.review import SliceState
from napari_resunet.errors import InputError
from napari_resunet.geometry import Geometry
from napari_resunet.io.case_file import StoredCase, is_case_file, read_stored_case
from napari_resunet.io.dicom_choice import SeriesChoiceError
from napari_resunet.io.files import read_mask
from napari_resunet.io.open_ct import open_ct
from napari_resunet.model.card import RESEARCH_ONLY, ModelCard, builtin_models, read_card
from napari_resunet.preflight import preflight
from napari_resunet.settings import InputAnswers, MaskSettings
from napari_resunet.volume import Mask, Run, Volume


def tell(subject: str | None = None, answers: InputAnswers | None = None) -> dict[str, Any]:
    """Return facts on a file or a model, or on this machine when there is no subject; all fit for JSON.

    `answers` are what the user says of a CT or a mask whose file leaves something open.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if subject is None:
        return machine_facts()
    if subject in builtin_models() or subject.endswith(".safetensors"):
        return card_facts(read_card(subject))
    path, answers = Path(subject), answers or InputAnswers()
    if not path.exists():
        raise InputError(
            f"{subject} is not there, and no built-in model is called so; check the path, or name one of "
            f"{', '.join(builtin_models())}"
        )
    if is_case_file(path):
        return case_facts(path, read_stored_case(path))
    mask = _mask_in(path, answers)
    if mask:
        return mask_facts(path, mask)
    try:
        return volume_facts(open_ct(path, answers))
    except SeriesChoiceError as error:
        if answers.series is not None:
            raise
        listed = [dataclasses.asdict(info) for info in error.series]
        return {"file": path.name, "content": "several DICOM series", "series": listed}


def _mask_in(path: Path, answers: InputAnswers) -> Mask | None:
    """Return the mask in a file that holds nothing but labels."""
    try:
        mask = read_mask(path, spacing_mm=answers.spacing_mm, orientation=answers.orientation)
    except InputError:  # a CT, or a file that reading as a CT will refuse with the right words
        return None
    return mask if mask.array.any() else None


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
    """Return what a model says of itself, what is asked first first."""
    facts: dict[str, Any] = json.loads(card.to_json())
    first = ("name", "version", "use", "definition", "known_failures", "figures")
    return {**{name: facts[name] for name in first}, **facts}


def mask_facts(path: Path, mask: Mask) -> dict[str, Any]:
    """Return what a mask holds."""
    labels, counts = np.unique(mask.array[mask.array > 0], return_counts=True)
    ml = mask.geometry.voxel_volume_mm3 / 1000
    return {
        "file": path.name,
        "content": "a mask",
        "voxels": {str(label): int(count) for label, count in zip(labels, counts, strict=True)},
        "ml": {str(label): round(float(count * ml), 3) for label, count in zip(labels, counts, strict=True)},
        **_place(mask.geometry),
    }


def case_facts(path: Path, stored: StoredCase) -> dict[str, Any]:
    """Return what a case file holds."""
    record = stored.record
    marks = {state: int(np.count_nonzero(record.marks == state)) for state in SliceState}
    return {
        "file": path.name,
        "content": "a case",
        "saved": stored.created,
        "ct": {"name": record.ct.name, "format": record.ct.format, "sha256": record.ct.sha256},
        **_place(record.ct.geometry),
        "answers": _plain(record.ct.answers),
        "run": None if record.run is None else _plain(record.run),
        "mask": _plain(record.settings),
        "began_from": record.adopted_name,
        "slices": len(record.done),
        "slices_run": int(np.count_nonzero(record.done)),
        "slices_edited": len(record.edits.slices),
        "voxels_edited_by_hand": record.edits.voxels(),
        "voxels_set_aside": sum(banked.edits.voxels() for banked in record.banked),
        "slices_reviewed": marks[SliceState.REVIEWED],
        "slices_flagged": marks[SliceState.FLAGGED],
        "probabilities": record.probability is not None,
    }


def _plain(choices: InputAnswers | Run | MaskSettings) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(choices).items()
    }


def volume_facts(volume: Volume) -> dict[str, Any]:
    """Return what a reader found in a CT."""
    source = volume.source
    return {
        "file": "" if source is None else source.path.name,
        "format": "" if source is None else source.format,
        **_place(volume.geometry),
        "values": _value_range(volume),
        "type": volume.array.dtype.name,
        "notes": list(volume.notes),
        "checks": [
            {**dataclasses.asdict(check), "answers": list(check.answers)} for check in preflight(volume)
        ],
        "source_sha256": "" if source is None else source.sha256,
    }


def _value_range(volume: Volume) -> list[float] | None:
    """Return the least and the greatest finite value, or None if there is none."""
    values = volume.array
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return [float(values.min()), float(values.max())] if values.size else None


def _place(geometry: Geometry) -> dict[str, Any]:
    sides = zip(geometry.shape, geometry.spacing_mm, strict=True)
    return {
        "shape (z, y, x)": list(geometry.shape),
        "spacing_mm (z, y, x)": [round(mm, 4) for mm in geometry.spacing_mm],
        "size_mm (z, y, x)": [round(n * mm, 1) for n, mm in sides],
        "array axes run towards": geometry.axis_codes,
        "oblique": geometry.is_oblique,
        "tilted": geometry.is_sheared,
        "index_to_lps": geometry.index_to_lps.round(6).tolist(),
    }


def describe(volume: Volume) -> str:
    """Return what a reader found in a CT in a few short lines, for a card in the window."""
    geometry = volume.axial_geometry
    z, y, x = geometry.shape
    dz, dy, dx = geometry.spacing_mm
    limits = _value_range(volume)
    values = "no finite value" if limits is None else f"values from {limits[0]:.0f} to {limits[1]:.0f}"
    lines = [f"{z} axial slices of {y} × {x}", f"{dx:.3g} × {dy:.3g} × {dz:.3g} mm, {values}"]
    if volume.geometry.is_sheared:
        lines.append("tilted gantry: shown straight, exported as scanned")
    elif volume.geometry.is_oblique:
        lines.append("oblique: shown straight, exported as scanned")
    return "\n".join(lines)
