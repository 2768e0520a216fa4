"""What a training is made from, written into its folder: code, data, split and corrections, each with its checksum."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from napari_resunet.errors import CheckpointError
from napari_resunet.io.atomic import replacing
from napari_resunet.io.folders import made_folder
from napari_resunet.io.regular_file import sha256_of
from napari_resunet.settings import TrainSettings
from napari_resunet.training.cases import TrainingCase

FILE_NAME = "run.json"
_KEPT = {  # what may not change while a training goes on
    "settings": "settings",
    "training": "training files",
    "validation": "validation files",
    "corrections": "corrections files",
}


def record_provenance(
    folder: Path,
    *,
    settings: TrainSettings,
    device: str,
    training: Sequence[TrainingCase],
    validation: Sequence[TrainingCase],
    corrections: Path | None,
) -> dict[str, Any]:
    """Write what a training is made from, and return it.

    Parameters
    ----------
    folder : Path
        Of the training; made if need be.
    settings : TrainSettings
        The recipe.
    device : str
        Where it runs.
    training, validation : sequence of TrainingCase
        The split.
    corrections : Path, optional
        The list that mends masks.

    Raises
    ------
    CheckpointError
        If the folder holds a training that was begun with other settings or data.
    OutputError
        If it cannot be written.
    """
    made_from = {
        "napari-resunet": metadata.version("napari-resunet"),
        "git revision": _git_revision(),
        "torch": str(torch.__version__),
        "device": device,
        "settings": dataclasses.asdict(settings),
        "training": _checksums(training),
        "validation": _checksums(validation),
        "corrections": {"file": corrections.name, "sha256": _sha256(corrections)} if corrections else None,
    }
    _refuse_another_training(folder, made_from)
    made_folder(folder)
    with replacing(folder / FILE_NAME) as temporary:
        temporary.write_text(json.dumps(made_from, indent=1))
    return made_from


def _refuse_another_training(folder: Path, made_from: dict[str, Any]) -> None:
    path = folder / FILE_NAME
    if not (path.exists() and (folder / "state.pt").exists()):
        return
    try:
        before = json.loads(path.read_text())
        differs = [words for name, words in _KEPT.items() if before[name] != made_from[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read; delete {folder} to begin anew") from error
    if differs:
        raise CheckpointError(
            f"{folder} holds a training begun with other {' and '.join(differs)}; "
            "give those again, another output, or delete it"
        )


def _checksums(cases: Sequence[TrainingCase]) -> dict[str, dict[str, str | None]]:
    return {
        case.name: {"image": _sha256(case.image), "mask": _sha256(case.mask) if case.mask else None}
        for case in cases
    }


def _sha256(path: Path) -> str:
    """Return that of a file, or of those of all files of a folder, in the order of their names."""
    if path.is_dir():
        digests = [sha256_of(file) for file in sorted(path.rglob("*")) if file.is_file()]
        return hashlib.sha256("".join(digests).encode()).hexdigest()
    return sha256_of(path)


def _git_revision() -> str | None:
    """Return the commit of the code, marked where files have changed since; None where it is not in a repository."""
    try:
        result = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty= with changes"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
