"""Changes of a CT and its mask that a model should bear: used to score models, never to train them.

Each takes axial slices (n, y, x) of HU, front up, with their masks, and returns both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage
from scoring import Predict, dice

from napari_resunet.imaging.body import body_box
from napari_resunet.training.dataset import LabelledCase

Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
AIR_HU = -1024


def as_it_is(hu: np.ndarray, lungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return hu, lungs


def noise(sd_hu: float) -> Change:
    def add(hu: np.ndarray, lungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        return (hu + rng.normal(0, sd_hu, hu.shape)).astype(np.float32), lungs

    return add


def blur(pixels: float) -> Change:
    def smooth(hu: np.ndarray, lungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        clipped = np.maximum(hu, AIR_HU).astype(np.float32)
        return ndimage.gaussian_filter(clipped, (0, pixels, pixels)), lungs

    return smooth


def shift(by_hu: float) -> Change:
    return lambda hu, lungs: (hu + np.float32(by_hu), lungs)


def rotate(degrees: float) -> Change:
    def turn(hu: np.ndarray, lungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        clipped = np.maximum(hu, AIR_HU).astype(np.float32)
        turned = ndimage.rotate(clipped, degrees, axes=(1, 2), reshape=False, order=1, cval=AIR_HU)
        return turned, ndimage.rotate(lungs, degrees, axes=(1, 2), reshape=False, order=0)

    return turn


def mirror(hu: np.ndarray, lungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return hu[..., ::-1].copy(), lungs[..., ::-1].copy()


def prone(hu: np.ndarray, lungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn the patient over, as if nobody had said so: front down, sides kept."""
    return hu[:, ::-1, ::-1].copy(), lungs[:, ::-1, ::-1].copy()


def half_field(hu: np.ndarray, lungs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Show one half of the patient alone."""
    half = hu.shape[2] // 2
    return hu[:, :, :half].copy(), lungs[:, :, :half].copy()


PERTURBATIONS: dict[str, Change] = {
    "as it is": as_it_is,
    "noise 50 HU": noise(50),
    "blur 1.5 px": blur(1.5),
    "HU + 30": shift(30),
    "HU - 30": shift(-30),
    "half field": half_field,
    "rotated 20": rotate(20),
    "rotated -20": rotate(-20),
    "mirrored": mirror,
    "prone": prone,
}


def dice_under(predict: Predict, cases: Sequence[LabelledCase], *, every: int = 1) -> dict[str, float]:
    """Return the mean Dice over cases that hold lung, of each perturbation; of one slice in `every`."""
    result = {}
    for name, change in PERTURBATIONS.items():
        dices = []
        for case in cases:
            hu, lungs = change(case.slices[::every], case.lungs[::every])
            if lungs.any():
                dices.append(dice(predict(hu, body_box(hu)) > 127, lungs > 0))
        result[name] = float(np.mean(dices))
    return result
