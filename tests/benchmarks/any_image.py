"""Train on pictures that ship inside scikit-image: coins in grey, and stained tissue in colour with two classes.

The masks are no truth. Those of the coins are made by the watershed of scikit-image's tutorial, those of the tissue by
its separation of stains and Otsu's threshold; both were looked at by eye. A Dice is agreement with that method, on a
part of the same picture that was neither learnt from nor used to choose the best step: it shows that a network can be
trained from scratch on images that are no CT, not how well it does on other pictures.

    python tests/benchmarks/any_image.py OUT [coins|tissue]

writes tiles, masks, models and a picture of the result into OUT, and prints the Dice of the part held out, beside that
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
from scipy import ndimage
from skimage import color, data, filters, morphology, segmentation

from napari_resunet.image_jobs import train_image_model
from napari_resunet.images.predict import image_labels, predict_image
from napari_resunet.settings import ImageTask, TrainSettings

Array = npt.NDArray[Any]
COLUMNS = ("train", "train", "val", "test")  # of tiles, from left to right


@dataclass(frozen=True, eq=False)
class Example:
    """A picture with its mask, and how a network is trained on it."""

    name: str
    picture: Array
    mask: Array
    task: ImageTask
    settings: TrainSettings

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of a tile."""
        rows, columns = self.mask.shape
        return rows // (rows * 4 // columns), columns // 4


def coins() -> Example:
    picture = data.coins()
    markers = np.select([picture < 30, picture > 150], [1, 2])
    mask = ndimage.binary_fill_holes(segmentation.watershed(filters.sobel(picture), markers) == 2)
    mask = morphology.remove_small_objects(mask, max_size=20)
    settings = TrainSettings(
        width=16, grid=96, steps=150, batch=6, ema=0.95, learning_rate=3e-3, validate_every=50
    )
    return Example("coins", picture, mask.astype(np.uint8), ImageTask(classes=("coin",)), settings)


def tissue() -> Example:
    picture = data.immunohistochemistry()
    stains = color.rgb2hed(picture)
    nuclei, brown = (filters.gaussian(stains[..., stain], 1.5) for stain in (0, 2))
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[nuclei > filters.threshold_otsu(nuclei)] = 1
    mask[brown > filters.threshold_otsu(brown)] = 2
    task = ImageTask(classes=("nucleus", "brown stain"))
    settings = TrainSettings(
        width=16, grid=128, steps=120, batch=6, ema=0.95, learning_rate=3e-3, validate_every=60
    )
    return Example("tissue", picture, mask, task, settings)


def write_tiles(example: Example, folder: Path) -> list[tuple[Array, Array]]:
    """Write the tiles to learn from and to choose by; return those of the last column with their masks."""
    height, width = example.tile
    held_out = []
    for number, part in enumerate(COLUMNS):
        for row in range(len(example.mask) // height):
            here = np.s_[row * height : (row + 1) * height, number * width : (number + 1) * width]
            picture, mask = example.picture[here], example.mask[here]
            if part == "test":
                held_out.append((picture, mask))
                continue
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / part / f"tile{number}{row}.png")
            Image.fromarray(mask).save(folder / part / f"tile{number}{row}_mask.png")
    return held_out


def dice(found: Array, true: Array) -> float:
    return float(2 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true)))


def run(example: Example, out: Path) -> None:
    held_out = write_tiles(example, out / example.name)
    model, started = out / f"{example.name}.safetensors", time.perf_counter()
    train_image_model(out / example.name, model, settings=example.settings, task=example.task, device="cpu")
    seconds = time.perf_counter() - started
    found = np.stack([image_labels(predict_image(picture, model=model))[0] for picture, _ in held_out])
    true = np.stack([mask for _, mask in held_out])
    pictures = np.stack([picture for picture, _ in held_out])
    lines = [
        f"{name}: Dice {dice(found == number, true == number):.3f}"
        for number, name in enumerate(example.task.classes, 1)
    ]
    if example.name == "coins":
        threshold = filters.threshold_otsu(example.picture)
        lines.append(f"Otsu's threshold instead: Dice {dice(pictures > threshold, true == 1):.3f}")
    tiles = len(list((out / example.name / "train").glob("*_mask.png")))
    lines.append(f"trained in {seconds:.0f} s on {tiles} tiles, held out {len(true)}")
    for line in lines:
        print(f"{example.name}: {line}", flush=True)  # noqa: T201
    draw(pictures, true, found, out / f"{example.name}.png")


def draw(pictures: Array, true: Array, found: Array, path: Path) -> None:
    """Draw the tiles below each other, with the contours of the mask on the left and of what was found on the right."""
    drawn = [
        np.concatenate([segmentation.mark_boundaries(picture, labels) for labels in pair], axis=1)
        for picture, *pair in zip(pictures, true, found, strict=True)
    ]
    Image.fromarray((np.concatenate(drawn) * 255).astype(np.uint8)).save(path)


def main() -> None:
    out, wanted = Path(sys.argv[1]), sys.argv[2:] or ["coins", "tissue"]
    for make in (coins, tissue):
        if make.__name__ in wanted:
            run(make(), out)


if __name__ == "__main__":
    main()
