from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from image_making import discs, tiny_model, write_discs
from PIL import Image

from napari_resunet import cli
from napari_resunet.model.checkpoint import save_model

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.run([str(each) for each in arguments], open_window=lambda *_: None)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = tiny_model(3, ("red", "green"))
    save_model(made.network, made.card, tmp_path / "discs.safetensors")
    return tmp_path / "discs.safetensors"


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    image = nib.Nifti1Image(np.random.default_rng(0).integers(-1000, 400, (64, 64, 3), np.int16), np.eye(4))
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "anna_ct.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((64, 64, 3), np.uint8), np.eye(4)), tmp_path / "anna_lungs.nii.gz")
    return tmp_path / "anna_ct.nii.gz"


def test_a_model_is_trained_told_of_and_used(command: Command, tmp_path: Path) -> None:
    data, path = write_discs(tmp_path / "data", 3), tmp_path / "new.safetensors"
    short = (
        "--steps",
        2,
        "--batch",
        2,
        "--width",
        4,
        "--grid",
        32,
        "--device",
        "cpu",
        "--without",
        "turn,tint",
    )
    code, out, _ = command("train-images", data, "-o", path, "--classes", "red, green", "--tile", 32, *short)
    assert code == 0
    assert out.startswith(f"{path}: validation Dice ")
    code, out, _ = command("info", path)
    assert code == 0
    assert 'classes: ["red", "green"]' in out
    assert "tile: 32" in out
    code, out, _ = command(
        "segment-image", data / "disc0.png", "-o", tmp_path / "labels.tif", "--model", path
    )
    assert code == 0
    assert out.startswith(f"{tmp_path / 'labels.tif'}: 1 red ")


@pytest.mark.parametrize(
    ("flags", "code", "reason"),
    [
        (("--percentiles", "99"), 2, "--percentiles needs two numbers such as 1,99; got 99"),
        (("--percentiles", "99,1"), 2, "the percentiles must rise"),
        (("--classes", "a,,b"), 2, "every class needs a name of its own"),
        (("--tile", "7"), 2, "tiles must be at least 16 pixels"),
        (("--without", "gas"), 3, "gas: no ingredient of the augmentation; there are flip, turn"),
    ],
)
def test_wrong_choices_are_answered_in_one_line(
    command: Command, tmp_path: Path, flags: tuple[str, ...], code: int, reason: str
) -> None:
    data = write_discs(tmp_path / "data", 2)
    found, _, err = command("train-images", data, "-o", tmp_path / "new.safetensors", *flags)
    assert found == code
    assert reason in " ".join(err.replace("│", " ").split())


@pytest.mark.parametrize("way", ["segment", "cohort", "learn"])
def test_a_ct_is_refused_to_a_model_of_other_images(
    command: Command, model: Path, ct: Path, tmp_path: Path, way: str
) -> None:
    arguments = {
        "segment": (ct, "-o", tmp_path / "mask.nii.gz", "--model", model),
        "cohort": (tmp_path, tmp_path / "out", "--model", model),
        "learn": (ct, "-o", tmp_path / "learnt.safetensors", "--from", model),
    }[way]
    code, _, err = command(way, *arguments)
    assert code == 3
    assert "the model tiny finds red, green in images that are no CT; choose a model for CT" in err
    assert not list(tmp_path.glob("*.run"))  # nothing was begun


def test_a_picture_is_refused_to_a_model_for_ct(command: Command, tmp_path: Path) -> None:
    Image.fromarray(discs(0)[0]).save(tmp_path / "a.png")
    code, _, err = command(
        "segment-image", tmp_path / "a.png", "-o", tmp_path / "b.png", "--model", "lung-ct"
    )
    assert code == 3
    assert "the model lung-ct is for CT in HU" in err


def test_a_stack_is_not_written_as_a_png_nor_over_itself(
    command: Command, model: Path, ct: Path, tmp_path: Path
) -> None:
    code, _, err = command("segment-image", ct, "-o", tmp_path / "labels.png", "--model", model)
    assert code == 4
    assert "a PNG holds one slice, there are 3; choose .tif" in err
    Image.fromarray(discs(0)[0]).save(tmp_path / "a.png")
    code, _, err = command("segment-image", tmp_path / "a.png", "-o", tmp_path / "a.png", "--model", model)
    assert code == 4
    assert "never written over" in err
