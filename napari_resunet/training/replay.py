"""Made-up chests that a model which learns something new is shown again, lest it forget what lungs are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from napari_resunet.imaging.body import body_box
from napari_resunet.phantom import make_phantom
from napari_resunet.training.cases import TrainingCase
from napari_resunet.training.dataset import LabelledCase, Slices, slices_of

# Patients to learn from, and others to measure on.
_TO_LEARN, _TO_MEASURE = (1, 2, 3, 4), (101, 102)
_SHAPE, _SPACING_MM = (28, 160, 160), (11.0, 2.3, 2.3)


def replay_to_measure() -> list[LabelledCase]:
    """Return chests whose lungs are known, none of which is learnt from."""
    return [_chest(seed) for seed in _TO_MEASURE]


def replay_to_learn(grid: int) -> Slices:
    """Return slices of several chests."""
    return joined([_slices(_chest(seed), grid) for seed in _TO_LEARN])


def joined(parts: Sequence[Slices]) -> Slices:
    """Return the slices of all parts; how likely each is stays in proportion."""
    chance = np.concatenate([part.chance for part in parts])
    hu, lungs = torch.cat([part.hu for part in parts]), torch.cat([part.lungs for part in parts])
    return Slices(hu, lungs, chance / chance.sum())


def _chest(seed: int) -> LabelledCase:
    phantom = make_phantom(shape=_SHAPE, spacing_mm=_SPACING_MM, seed=seed)
    slices, name = phantom.volume.axial, f"made-up chest {seed}"
    lungs = (phantom.mask.axial > 0).astype(np.uint8)
    return LabelledCase(TrainingCase(name, name, Path(name), None), slices, lungs, body_box(slices))


def _slices(chest: LabelledCase, grid: int) -> Slices:
    hu, lungs = slices_of(chest.slices, chest.lungs, chest.box, grid)
    unedited = torch.zeros_like(lungs)
    return Slices(hu, torch.cat([lungs, unedited], dim=1), np.ones(len(hu)))


@dataclass(frozen=True, eq=False)
class WithReplay(Slices):
    """New slices, then slices to be seen again, a fixed share of each draw.

    Parameters
    ----------
    new : int
        How many are new.
    share : float
        Of a draw, from 0 to 1; not 0 means at least one.
    """

    new: int = 0
    share: float = 0.0

    def draw(
        self, rng: np.random.Generator, count: int, *, hardness: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.int64]:
        """Return which `count` slices come next; `hardness`, (n,), makes some likelier than the others."""
        chance = self.chance if hardness is None else self.chance * hardness
        old = min(max(1, round(self.share * count)), count - 1) if self.share else 0
        new = rng.choice(self.new, size=count - old, p=chance[: self.new] / chance[: self.new].sum())
        if not old:
            return new
        again = chance[self.new :] / chance[self.new :].sum()
        return np.concatenate([new, self.new + rng.choice(len(again), size=old, p=again)])


def with_replay(new: Slices, again: Slices, share: float) -> WithReplay:
    """Return new slices with others to be seen again; `share` of each draw is of those."""
    both = joined([new, again]) if share else new
    return WithReplay(both.hu, both.lungs, both.chance, new=len(new.hu), share=share)
