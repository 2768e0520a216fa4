from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import napari_resunet
from napari_resunet.errors import CheckpointError, InputError
from napari_resunet.facts import card_facts, describe, machine_facts, tell, volume_facts
from napari_resunet.geometry import Geometry
from napari_resunet.io.files import write_mask
from napari_resunet.model.card import RESEARCH_ONLY, builtin_models, read_card
from napari_resunet.volume import Mask, Source, Volume

SHAPE = (3, 4, 5)


def ct(matrix: Any = None, values: Any = (-1000, 300)) -> Volume:
    array = np.linspace(*values, 60).reshape(SHAPE).astype(np.float32)
    geometry = Geometry.from_spacing(SHAPE, (2.5, 0.8, 0.7)) if matrix is None else Geometry(SHAPE, matrix)
    source = Source(Path("folder") / "ct.nii.gz", "NIfTI", "abc")
    return Volume(array, geometry, ("one slice was doubled",), source)


def test_this_machine_is_told_when_nothing_is_asked_for() -> None:
    facts = tell()
    assert facts == machine_facts()
    assert facts["napari-resunet"] == napari_resunet.__version__
    assert facts["models"] == builtin_models()
    assert facts["precision"] in ("float32", "bfloat16", "float16")
    assert facts["use"] == RESEARCH_ONLY


def test_a_model_is_told_by_its_name_with_all_of_its_card() -> None:
    assert tell("lung-ct") == card_facts(read_card("lung-ct"))
    assert tell("lung-ct")["name"] == "lung-ct"
    assert tell("lung-ct")["use"] == RESEARCH_ONLY


def test_a_weights_file_that_is_not_there_is_refused_as_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist; check the path"):
        tell(str(tmp_path / "mine.safetensors"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ct.nii.gz"):
        tell(str(tmp_path / "ct.nii.gz"))


def test_a_ct_is_told_with_where_its_voxels_lie(tmp_path: Path) -> None:
    volume = ct()
    image = nib.Nifti1Image(volume.array.transpose(2, 1, 0), volume.geometry.ras_affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "ct.nii.gz")
    facts = tell(str(tmp_path / "ct.nii.gz"))
    assert facts["file"] == "ct.nii.gz"
    assert facts["format"] == "NIfTI"
    assert facts["shape (z, y, x)"] == [3, 4, 5]
    assert facts["spacing_mm (z, y, x)"] == [2.5, 0.8, 0.7]
    assert facts["size_mm (z, y, x)"] == [7.5, 3.2, 3.5]
    assert facts["array axes run towards"] == "SPL"
    assert facts["values"] == [-1000, 300]
    assert len(facts["source_sha256"]) == 64


@pytest.mark.parametrize("subject", [None, "lung-ct"])
def test_what_is_told_fits_into_json(subject: str | None) -> None:
    assert json.loads(json.dumps(tell(subject))) == tell(subject)


def test_the_facts_of_a_volume_fit_into_json_and_hold_its_notes() -> None:
    facts = volume_facts(ct())
    assert json.loads(json.dumps(facts)) == facts
    assert facts["notes"] == ["one slice was doubled"]
    assert facts["source_sha256"] == "abc"
    assert facts["oblique"] is facts["tilted"] is False


def test_a_volume_of_no_file_is_told_too() -> None:
    facts = volume_facts(Volume(np.zeros(SHAPE, np.int16), Geometry.from_spacing(SHAPE, (1, 1, 1))))
    assert facts["file"] == facts["format"] == facts["source_sha256"] == ""
    assert facts["type"] == "int16"


def test_values_that_are_not_numbers_are_left_out_of_the_range() -> None:
    volume = ct()
    volume.array[0, 0, 0] = np.nan
    low, high = volume_facts(volume)["values"]
    assert -1000 < low < high == 300
    assert "nan" not in describe(volume)


def test_the_card_in_the_window_speaks_of_axial_slices_whatever_the_file_holds() -> None:
    stored = np.array([[0.7, 0, 0, 0], [0, 0.8, 0, 0], [0, 0, -2.5, 0], [0, 0, 0, 1.0]])  # (x, y, z down)
    volume = Volume(
        np.linspace(-1000, 300, 60).reshape(5, 4, 3).astype(np.int16), Geometry((5, 4, 3), stored)
    )
    assert (
        describe(volume)
        == describe(ct())
        == "3 axial slices of 4 × 5\n0.7 × 0.8 × 2.5 mm, values from -1000 to 300"
    )


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (
            [[0, 0, 1, 0], [0.5, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1]],
            "tilted gantry: shown straight, exported as",
        ),
        (
            [[0, -0.6, 0.8, 0], [0, 0.8, 0.6, 0], [2, 0, 0, 0], [0, 0, 0, 1]],
            "oblique: shown straight, exported as",
        ),
    ],
)
def test_a_tilted_or_oblique_ct_is_said_to_be_so(matrix: Any, said: str) -> None:
    volume = ct(matrix)
    assert said in describe(volume)
    assert volume_facts(volume)["oblique"]
    assert volume_facts(volume)["tilted"] == said.startswith("tilted")


def test_of_a_mask_the_labels_and_their_ml_are_told(tmp_path: Path) -> None:
    array = np.zeros((2, 3, 4), dtype=np.uint8)
    array[0, 0, :3], array[1, 0, 0] = 1, 2
    write_mask(Mask(array, Geometry.from_spacing((2, 3, 4), (10, 10, 10))), tmp_path / "m.nii.gz")
    told = tell(str(tmp_path / "m.nii.gz"))
    assert told["content"] == "a mask"
    assert told["voxels"] == {"1": 3, "2": 1}
    assert told["ml"] == {"1": 3.0, "2": 1.0}
    assert told["shape (z, y, x)"] == [2, 3, 4]
