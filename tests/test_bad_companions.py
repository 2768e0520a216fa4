"""Files that go with a CT and do not fit: a mask of another grid, another's sidecar or case, a wrong model card."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import CheckpointError, InputError, ResUNetError
from napari_resunet.geometry import Geometry
from napari_resunet.io.case_file import open_case_ct, read_case, write_case
from napari_resunet.io.files import write_mask
from napari_resunet.io.sidecar import read_sidecar
from napari_resunet.measure.agreement import evaluate
from napari_resunet.model.card import ModelCard
from napari_resunet.model.checkpoint import load_model, save_model
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet
from napari_resunet.volume import Mask

SHAPE = (3, 40, 50)
PLACE = Geometry.from_spacing(SHAPE, (2.5, 0.8, 0.7))


def mask(geometry: Geometry = PLACE) -> Mask:
    return Mask(np.ones(geometry.shape, np.uint8), geometry)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("shifted", r"3\.0+ mm"),
        ("mirrored", r"mm"),
        ("smaller", r"\(3, 40, 49\)|3 x 40 x 49"),
    ],
)
def test_b62_a_reference_on_another_grid_is_refused_with_the_difference(
    change: str, said: str, outcome: Outcome
) -> None:
    matrix = PLACE.index_to_lps.copy()
    if change == "shifted":
        matrix[0, 3] += 3
    if change == "mirrored":
        matrix[0] *= -1
    other = Geometry((3, 40, 49) if change == "smaller" else SHAPE, matrix)
    with pytest.raises(InputError, match=said) as refused:
        evaluate(mask(), mask(other))
    outcome("REFUSE", told(refused))


def test_b63_a_sidecar_that_was_changed_by_hand_is_refused_or_read_as_it_is(
    tmp_path: Path, outcome: Outcome
) -> None:
    receipt = write_mask(mask(), tmp_path / "m.nii")
    said = json.loads(receipt.sidecar.read_text())
    receipt.sidecar.write_text(json.dumps({**said, "format_version": 99}))
    with pytest.raises(InputError, match=r"newer than .*; update napari-resunet") as refused:
        read_sidecar(receipt.sidecar)
    outcome("REFUSE", told(refused))
    receipt.sidecar.write_text(json.dumps(said)[:-20])
    with pytest.raises(InputError, match="cannot be read as JSON") as refused:
        read_sidecar(receipt.sidecar)
    outcome("REFUSE", told(refused))


def test_b63_a_case_of_another_ct_is_refused(tmp_path: Path, outcome: Outcome) -> None:
    import nibabel as nib

    from napari_resunet.io.files import read_volume
    from napari_resunet.record import CaseRecord, CtReference, SliceEdits
    from napari_resunet.settings import MaskSettings

    array = np.linspace(-1000, 400, int(np.prod(SHAPE))).reshape(SHAPE).astype(np.int16)
    nib.Nifti1Image(array.T, PLACE.ras_affine).to_filename(tmp_path / "ct.nii")
    edit = np.zeros(SHAPE, np.int8)
    record = CaseRecord(
        ct=CtReference.of(read_volume(tmp_path / "ct.nii")),
        settings=MaskSettings(),
        edits=SliceEdits.of(edit, np.zeros(3, dtype=bool)),
        banked=(),
        marks=np.zeros(3, np.uint8),
        seen=np.zeros(3, np.uint32),
        run=None,
        done=np.zeros(3, dtype=bool),
        probability=None,
        adopted=array < -500,
        adopted_name="m.nii",
    )
    write_case(record, tmp_path / "a.nru")
    open_case_ct(tmp_path / "a.nru", read_case(tmp_path / "a.nru"))
    nib.Nifti1Image(array.T + np.int16(1), PLACE.ras_affine).to_filename(tmp_path / "ct.nii")
    with pytest.raises(InputError) as refused:
        open_case_ct(tmp_path / "a.nru", read_case(tmp_path / "a.nru"))
    outcome("REFUSE", told(refused))
    traversing = replace(record, ct=replace(record.ct, name="../../ct.nii"))
    with pytest.raises(ResUNetError, match="is not the bare name of a file"):
        write_case(traversing, tmp_path / "b.nru")


SETTINGS = NetworkSettings(units=(1, 1, 1, 1), width=4)
CARD = ModelCard("tiny", "1", "custom", SETTINGS, 32, (-1000.0, 400.0))


def with_card(folder: Path, change: dict[str, Any]) -> Path:
    """Return weights whose card says something else."""
    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    save_model(ResUNet(SETTINGS), CARD, path)
    tensors = safetensors.torch.load_file(path)
    with safetensors.safe_open(path, "pt") as file:
        card = json.loads(file.metadata()["card"])
    for name, value in change.items():
        if value is None:
            del card[name]
        else:
            card[name] = value
    path.write_bytes(safetensors.torch.save(tensors, metadata={"card": json.dumps(card)}))
    return path


@pytest.mark.parametrize(
    "change",
    [
        {"window_hu": [400.0, -1000.0]},
        {"window_hu": [-1000.0, float("nan")]},
        {"window_hu": [0.0, 0.0]},
        {"window_hu": None},
        {"grid": 33},
        {"grid": None},
        {"sha256": "0" * 64},
        {"network": {"units": [1, 1, 1, 1], "width": 4, "channels": 3}},
        {"network": {"units": [1, 1, 1, 1], "width": 8}},
        {"classes": ["right", "left"]},
        {"channels": 3},
    ],
    ids=str,
)
def test_b64_a_model_card_that_does_not_fit_is_refused(
    change: dict[str, Any], tmp_path: Path, outcome: Outcome
) -> None:
    """A threshold is no part of a card: it is the user's choice, and is 0.5 by default."""
    load_model(with_card(tmp_path, {}))
    with pytest.raises(CheckpointError) as refused:
        load_model(with_card(tmp_path, change))
    assert "tiny.safetensors" in str(refused.value)
    outcome("REFUSE", told(refused))
