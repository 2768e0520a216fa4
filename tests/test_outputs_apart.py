"""What is written takes nothing else away: each output has a file of its own, and is refused before the work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from image_making import tiny_model
from PIL import Image

from napari_resunet import image_jobs, workflows
from napari_resunet.errors import CheckpointError, InputError, OutputError
from napari_resunet.io import open_ct as opening
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.files import write_mask
from napari_resunet.io.table import append_rows
from napari_resunet.model.checkpoint import save_model
from napari_resunet.settings import InputAnswers, PredictSettings


@pytest.fixture
def ct(tmp_path: Path, chest) -> Path:
    write_ct_series(chest.volume, tmp_path / "ct")
    return tmp_path / "ct"


def write_cells(folder: Path) -> None:
    """Write a tiny model for grey images."""
    made = tiny_model(1)
    save_model(made.network, made.card, folder / "cells.safetensors")


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("the CT was read before the refusal")

    monkeypatch.setattr(workflows, "open_ct", fail)


@pytest.mark.usefixtures("nothing_is_read")
def test_mask_and_probabilities_need_two_files(ct: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.nii.gz"
    with pytest.raises(OutputError, match="cannot hold both mask and probabilities; give them two names"):
        workflows.segment(ct, same, probability=same)
    with pytest.raises(OutputError, match="cannot hold both"):
        workflows.export_case(tmp_path / "a.nru", same, probability=tmp_path / "ct" / ".." / "same.nii.gz")


@pytest.mark.usefixtures("nothing_is_read")
def test_a_picture_is_never_written_over_the_ct_and_ends_in_png(tmp_path: Path) -> None:
    source = tmp_path / "ct.png"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(source)
    before = source.read_bytes()
    with pytest.raises(OutputError, match="is the CT itself"):
        workflows.segment(source, tmp_path / "m.nii.gz", picture=source)
    assert source.read_bytes() == before
    with pytest.raises(OutputError, match=r"is no \.png; give the picture that ending"):
        workflows.segment(source, tmp_path / "m.nii.gz", picture=tmp_path / "p.xyz")


@pytest.mark.usefixtures("nothing_is_read")
def test_a_model_that_cannot_be_used_is_refused_before_the_ct_is_read(ct: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothere"):
        workflows.segment(ct, tmp_path / "m.nii.gz", predict_settings=PredictSettings(model="nothere"))
    write_cells(tmp_path)
    with pytest.raises(CheckpointError):
        workflows.segment(
            ct,
            tmp_path / "m.nii.gz",
            predict_settings=PredictSettings(model=str(tmp_path / "cells.safetensors")),
        )


def test_a_mask_without_a_voxel_size_is_as_the_answer_for_its_ct(tmp_path: Path, chest) -> None:
    write_mask(chest.mask, tmp_path / "states.nii.gz")
    labels = Image.fromarray(chest.mask.array[14])
    labels.save(tmp_path / "silent.tif")
    with pytest.raises(InputError, match="voxel"):
        opening.open_mask(tmp_path / "silent.tif")
    answers = InputAnswers(spacing_mm=(20.0, 3.8, 3.8))
    assert opening.open_mask(tmp_path / "silent.tif", answers).geometry.spacing_mm == (20.0, 3.8, 3.8)
    known = opening.open_mask(tmp_path / "states.nii.gz", answers).geometry.spacing_mm
    assert known == pytest.approx((11.0, 3.8, 3.8))
    same = workflows.evaluate_files(tmp_path / "silent.tif", tmp_path / "silent.tif", answers=answers)
    assert same["lungs"].dice == 1.0


def test_a_row_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes(b"a,b\r\n1,2")
    append_rows(table, [{"a": 3, "b": 4}])
    append_rows(table, [{"a": 5, "b": 6}])
    assert table.read_bytes() == b"a,b\r\n1,2\r\n3,4\r\n5,6\r\n"


def test_a_picture_of_yes_and_no_is_segmented(tmp_path: Path) -> None:
    write_cells(tmp_path)
    Image.fromarray(np.eye(40, dtype=bool)).save(tmp_path / "bits.png")
    labels = image_jobs.segment_image(
        tmp_path / "bits.png", tmp_path / "labels.tif", model=str(tmp_path / "cells.safetensors")
    )
    assert labels.shape == (40, 40)


def test_the_sidecar_of_another_file_stays(tmp_path: Path) -> None:
    write_cells(tmp_path)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "in.png")
    for name in ("cells.tif", "cells.png"):
        image_jobs.segment_image(
            tmp_path / "in.png", tmp_path / name, model=str(tmp_path / "cells.safetensors")
        )
    told = {
        name: json.loads((tmp_path / name).read_text())["output"]["name"]
        for name in ("cells.json", "cells.png.json")
    }
    assert told == {"cells.json": "cells.tif", "cells.png.json": "cells.png"}


def test_a_stack_is_refused_as_png_before_the_network_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tifffile

    from napari_resunet.images import predict as image_predict

    write_cells(tmp_path)
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 40, 40), np.uint8))
    monkeypatch.setattr(image_predict, "predict_image", lambda *_, **__: pytest.fail("the network ran"))
    with pytest.raises(OutputError, match="a PNG holds one slice, there are 5"):
        image_jobs.segment_image(
            tmp_path / "stack.tif", tmp_path / "out.png", model=str(tmp_path / "cells.safetensors")
        )


def test_what_a_ct_of_infinite_values_says_is_json(chest) -> None:
    from dataclasses import replace

    from napari_resunet.facts import describe, volume_facts

    array = chest.volume.array.astype(np.float32)
    array[0, 0, 0] = np.inf
    volume = replace(chest.volume, array=array)
    assert json.loads(json.dumps(volume_facts(volume), allow_nan=False))["values"][1] < 4000
    assert "inf" not in describe(volume)
    nothing = replace(chest.volume, array=np.full_like(array, np.nan))
    assert "no finite value" in describe(nothing)
