"""Train on pictures that ship inside scikit-image: coins in grey, and stained tissue in colour with two classes.

The masks are no truth. Those of the coins are made by the watershed of scikit-image's tutorial, those of the tissue by
its separation of stains and Otsu's threshold; both were looked at by eye. A Dice is agreement with that method, on a
part of the same picture that was neither learnt from nor used to choose the best step: it shows that a network can be
trained from scratch on images that are no CT, not how well it does on other pictures.

    python tests/benchmarks/any_image.py OUT [coins|tissue]

writes the parts of the pictures, their masks and the models into OUT, and OUT/coins.png with the contours of the mask
on the left and of what was found on the right; prints the Dice of the part held out, beside that
of Otsu's threshold of the grey picture for the coins.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.console import Console
from scipy import ndimage
from skimage import color, data, filters, morphology, segmentation

from napari_resunet.image_jobs import train_image_model
from napari_resunet.images.predict import image_labels, predict_image
from napari_resunet.settings import ImageTask, TrainSettings

Array = npt.NDArray[Any]
# Where along the columns of the picture a part ends: half is learnt from, a quarter chosen by, a quarter held out.
PARTS = {"train": (0.0, 0.5), "val": (0.5, 0.75), "test": (0.75, 1.0)}


@dataclass(frozen=True, eq=False)
class Example:
    """A picture with its mask, and how a network is trained on it."""

    name: str
    picture: Array
    mask: Array
    task: ImageTask
    settings: TrainSettings


def coins() -> Example:
    picture = data.coins()
    markers = np.select([picture < 30, picture > 150], [1, 2])
    mask = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(picture), markers) == 2)
    mask = morphology.remove_small_objects(mask, max_size=20)
    settings = TrainSettings(
        width=16, grid=96, steps=150, batch=6, ema=0.95, learning_rate=3e-3, validate_every=50
    )
    return Example("coins", picture, mask.astype(np.uint8), ImageTask(classes=("coin",), tile=96), settings)


def tissue() -> Example:
    picture = data.immunohistochemistry()
    stains = color.rgb2hed(picture)
    nuclei, brown = (filters.gaussian(stains[..., stain], 1.5) for stain in (0, 2))
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[nuclei > filters.threshold_otsu(nuclei)] = 1
    mask[brown > filters.threshold_otsu(brown)] = 2
    task = ImageTask(classes=("nucleus", "brown stain"), tile=128)
    settings = TrainSettings(
        width=16, grid=128, steps=120, batch=6, ema=0.95, learning_rate=3e-3, validate_every=60
    )
    return Example("tissue", picture, mask, task, settings)


def write_parts(example: Example, folder: Path) -> tuple[Array, Array]:
    """Write the parts to learn from and to choose by; return the part held out with its mask."""
    width, held_out = example.mask.shape[1], (example.picture, example.mask)
    for name, (first, last) in PARTS.items():
        here = np.s_[:, round(first * width) : round(last * width)]
        picture, mask = example.picture[here], example.mask[here]
        if name == "test":
            held_out = picture, mask
            continue
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / name / "part.png")
        Image.fromarray(mask).save(folder / name / "part_mask.png")
    return held_out


def dice(found: Array, true: Array) -> float:
    return float(2 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true)))


def run(example: Example, out: Path) -> None:
    picture, true = write_parts(example, out / example.name)
    model, started = out / f"{example.name}.safetensors", time.perf_counter()
    train_image_model(out / example.name, model, settings=example.settings, task=example.task, device="cpu")
    seconds = time.perf_counter() - started
    found = image_labels(predict_image(picture, model=model, device="cpu"))[0]
    lines = [
        f"{name}: Dice {dice(found == number, true == number):.3f}"
        for number, name in enumerate(example.task.classes, 1)
    ]
    if example.name == "coins":
        threshold = filters.threshold_otsu(example.picture)
        lines.append(f"Otsu's threshold instead: Dice {dice(picture > threshold, true == 1):.3f}")
    for line in (*lines, f"trained in {seconds:.0f} s"):
        Console().print(f"{example.name}: {line}", highlight=False)
    drawn = [segmentation.mark_boundaries(picture, labels) for labels in (true, found)]
    Image.fromarray((np.concatenate(drawn, axis=1) * 255).astype(np.uint8)).save(out / f"{example.name}.png")


def main() -> None:
    out, wanted = Path(sys.argv[1]), sys.argv[2:] or ["coins", "tissue"]
    for make in (coins, tissue):
        if make.__name__ in wanted:
            run(make(), out)


if __name__ == "__main__":
    main()
