from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import tifffile
import torch
from image_making import SIDE, discs, tiny_card, write_discs
from PIL import Image

from napari_resunet import image_jobs
from napari_resunet.errors import CancelledError, CheckpointError, GeometryError, InputError
from napari_resunet.images.augment import INGREDIENTS, augment_images
from napari_resunet.images.dataset import load_image_slices
from napari_resunet.images.pairs import find_pairs, split_pairs
from napari_resunet.model.card import read_card
from napari_resunet.settings import ImageTask, TrainSettings

T = TypeVar("T")
SETTINGS = TrainSettings(width=8, grid=32, steps=60, batch=6, learning_rate=0.01, ema=0.9, validate_every=30)
SHORT = dataclasses.replace(SETTINGS, width=4, steps=4, batch=2, validate_every=2)
TWO = ImageTask(classes=("red", "green"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_discs(tmp_path_factory.mktemp("discs") / "data", 12)


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "discs.safetensors"
    image_jobs.train_image_model(data, path, settings=SETTINGS, task=TWO, device="cpu")
    return path


def test_a_network_learns_two_classes_from_scratch_in_a_minute(model: Path, tmp_path: Path) -> None:
    picture, labels = discs(99)  # of no training image
    Image.fromarray(picture).save(tmp_path / "new.png")
    found = image_jobs.segment_image(
        tmp_path / "new.png", tmp_path / "labels.png", model=str(model), device="cpu"
    )
    for number in (1, 2):
        overlap = np.count_nonzero((found == number) & (labels == number))
        assert 2 * overlap / (np.count_nonzero(found == number) + np.count_nonzero(labels == number)) > 0.8
    assert np.array_equal(np.array(Image.open(tmp_path / "labels.png")), found)
    assert (tmp_path / "labels.json").exists()


def test_its_card_says_what_it_finds_in_what(model: Path) -> None:
    card = read_card(model)
    assert (card.classes, card.network.in_channels, card.grid) == (("red", "green"), 3, 32)
    assert (card.window_hu, card.window, card.percentiles) == (None, None, (1, 99))
    assert card.figures["validation Dice, native grid, no clean-up"] > 0.8


def test_grey_images_make_a_network_of_one_channel(tmp_path: Path) -> None:
    data = write_discs(tmp_path / "grey", 3, grey=True)
    path = tmp_path / "grey.safetensors"
    task = ImageTask(window=(0.0, 255.0))
    image_jobs.train_image_model(data, path, settings=SHORT, task=task, device="cpu")
    card = read_card(path)
    assert (card.classes, card.network.in_channels, card.window) == (("object",), 1, (0, 255))


def test_an_image_is_learnt_from_tile_by_tile(tmp_path: Path) -> None:
    data = write_discs(tmp_path, 2)
    card = tiny_card(3, ("red", "green"), tile=24)
    slices = load_image_slices(find_pairs(data), card, 32)
    assert slices.hu.shape == (
        2 * 9,
        3,
        64,
        64,
    )  # three by three tiles of half the side, half over each other
    assert slices.lungs.shape == (2 * 9, 2, 64, 64)
    middle = slices.lungs[4, :, :, :].float().mean(dim=(1, 2)) / 255
    here = discs(0)[1][12:36, 12:36]
    assert middle.tolist() == pytest.approx([(here == 1).mean(), (here == 2).mean()], abs=0.01)


def cut_off(steps: Sequence[T], /) -> Iterator[T]:
    yield from steps[:3]
    raise CancelledError("the power went")


def test_a_training_that_was_cut_off_goes_on_to_the_same_model_but_not_with_other_classes(
    tmp_path: Path, data: Path
) -> None:
    whole, path = tmp_path / "whole.safetensors", tmp_path / "cut" / "whole.safetensors"
    path.parent.mkdir()
    image_jobs.train_image_model(data, whole, settings=SHORT, task=TWO, device="cpu")
    with pytest.raises(CancelledError):
        image_jobs.train_image_model(data, path, settings=SHORT, task=TWO, device="cpu", train_track=cut_off)
    other = ImageTask(classes=("green", "red"))
    with pytest.raises(CheckpointError, match="begun with other settings"):
        image_jobs.train_image_model(data, path, settings=SHORT, task=other, device="cpu")
    image_jobs.train_image_model(data, path, settings=SHORT, task=TWO, device="cpu")
    assert path.read_bytes() == whole.read_bytes()


def test_masks_lie_beside_the_images_or_in_a_folder_of_their_own(tmp_path: Path) -> None:
    for name in ("images", "masks", "masks.run"):
        (tmp_path / name).mkdir()
    picture, labels = discs(0)
    Image.fromarray(picture).save(tmp_path / "images" / "a.jpg")
    tifffile.imwrite(tmp_path / "masks" / "a.tif", labels)
    Image.fromarray(picture).save(tmp_path / "b.PNG")
    Image.fromarray(labels).save(tmp_path / "b_mask.png")
    (tmp_path / "masks.run" / "curve.png").touch()  # of a training
    assert [(case.name, case.mask.name) for case in find_pairs(tmp_path) if case.mask] == [
        ("b.PNG", "b_mask.png"),
        ("images/a.jpg", "a.tif"),
    ]


def test_an_image_without_a_mask_or_with_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images with masks"):
        find_pairs(tmp_path)
    write_discs(tmp_path, 1)
    with pytest.raises(InputError, match="holds one image; training needs at least two"):
        split_pairs(tmp_path, 0)
    shutil.copy(tmp_path / "disc0_mask.png", tmp_path / "disc0_mask.tif")
    with pytest.raises(InputError, match=r"disc0.png needs one mask, .*; there are 2"):
        find_pairs(tmp_path)


def test_one_image_in_six_is_held_out_or_what_lies_in_val(tmp_path: Path) -> None:
    training, validation = split_pairs(write_discs(tmp_path / "all", 12), 0)
    assert (len(training), len(validation)) == (10, 2)
    assert not {case.name for case in training} & {case.name for case in validation}
    write_discs(tmp_path / "train", 2)
    write_discs(tmp_path / "val", 1)
    assert [len(part) for part in split_pairs(tmp_path, 0)] == [2, 1]


@pytest.mark.parametrize(
    ("mask", "error", "reason"),
    [
        (
            np.full((SIDE, SIDE), 3, np.uint8),
            InputError,
            "holds the numbers 3; with 2 classes they go from 0",
        ),
        (np.ones((SIDE, SIDE), np.uint8), InputError, "no training mask holds the class green"),
        (np.zeros((4, 5), np.uint8), GeometryError, r"has \(1, 4, 5\) pixels, its image \(1, 48, 48\)"),
        (np.zeros((SIDE, SIDE, 3), np.uint8), InputError, "is in colour; a mask holds one number a pixel"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(
    tmp_path: Path, mask: np.ndarray, error: type[Exception], reason: str
) -> None:
    data = write_discs(tmp_path, 1)
    Image.fromarray(mask).save(data / "disc0_mask.png")
    with pytest.raises(error, match=reason):
        load_image_slices(find_pairs(data), tiny_card(3, ("red", "green")), 32)


@pytest.mark.parametrize("name", INGREDIENTS)
def test_every_ingredient_of_the_augmentation_does_something_and_can_be_left_out(name: str) -> None:
    picture, labels = discs(0)
    image = torch.from_numpy(picture).permute(2, 0, 1)[None].float().repeat(8, 1, 1, 1) / 255
    shares = torch.from_numpy(labels == 1)[None, None].float().repeat(8, 1, 1, 1)
    rng = np.random.default_rng
    others = [other for other in INGREDIENTS if other != name]
    alone, moved = augment_images(image, shares, rng=rng(0), without=others)
    assert not torch.allclose(alone, image, atol=1e-3)
    assert torch.allclose(moved, shares, atol=1e-3) == (name in ("light", "tint", "blur", "noise"))
    none, still = augment_images(image, shares, rng=rng(0), without=INGREDIENTS)
    assert torch.allclose(none, image, atol=1e-3)
    assert torch.allclose(still, shares, atol=1e-3)
