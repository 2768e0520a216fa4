"""A training ends with steps at two grids, whose batch normalisations stay those of the first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_resunet.errors import CancelledError
from napari_resunet.imaging.body import body_box
from napari_resunet.model.checkpoint import load_model
from napari_resunet.model.device import Device
from napari_resunet.model.resunet import ResUNet
from napari_resunet.phantom import make_phantom
from napari_resunet.settings import TrainSettings
from napari_resunet.training import loop
from napari_resunet.training.both_grids import train_for_both_grids
from napari_resunet.training.cases import Case
from napari_resunet.training.dataset import LabelledCase, Slices, slices_of
from napari_resunet.training.loop import Progress, new_card, train, validate

CPU = Device("cpu", "float32", "this CPU")
SETTINGS = TrainSettings(
    width=4, grid=32, steps=4, fine_steps=6, fine=0.5, batch=8, learning_rate=0.01, validate_every=2
)
CARD = new_card(SETTINGS, name="tiny")
# one unit a level, which is three times as fast
CARD = dataclasses.replace(CARD, network=dataclasses.replace(CARD.network, units=(1, 1, 1, 1)))


@pytest.fixture(scope="module")
def people() -> tuple[Slices, list[LabelledCase]]:
    chests = []
    for seed in (0, 1):
        phantom = make_phantom(shape=(6, 64, 64), spacing_mm=(40, 5.75, 5.75), seed=seed)
        hu, lungs = phantom.volume.axial, (phantom.mask.axial > 0).astype(np.uint8)
        chests.append(LabelledCase(Case(str(seed), str(seed), Path(), None), hu, lungs, body_box(hu)))
    hu, lungs = slices_of(chests[0].slices, chests[0].lungs, chests[0].box, 64)
    return Slices(hu, lungs, np.full(len(hu), 1 / len(hu))), chests[1:]


def run(people: Any, path: Path, settings: TrainSettings = SETTINGS, **options: Any) -> list[Progress]:
    data, validation = people
    return train_for_both_grids(
        data, validation, card=CARD, settings=settings, device=CPU, model_path=path, **options
    )


@pytest.fixture(scope="module")
def trained(people: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    path = tmp_path_factory.mktemp("trained") / "tiny.safetensors"
    return path, run(people, path)


def norms(path: Path) -> list[nn.BatchNorm2d]:
    return [m for m in load_model(path).network.modules() if isinstance(m, nn.BatchNorm2d)]


def test_batch_normalisations_go_by_what_was_measured_at_the_first_grid(trained: Any) -> None:
    path, _ = trained
    before, after = norms(path.with_suffix(".run") / "one-grid.safetensors"), norms(path)
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.running_mean, new.running_mean)
        assert torch.equal(old.running_var, new.running_var)
    assert any(not torch.equal(old.weight, new.weight) for old, new in zip(before, after, strict=True))


def test_the_first_part_sees_one_grid_and_the_last_part_both(
    people: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    learn = loop.Learner._update

    def update(self: loop.Learner, image: torch.Tensor, target: torch.Tensor) -> Any:
        seen.append(image.shape[-1])
        return learn(self, image, target)

    monkeypatch.setattr(loop.Learner, "_update", update)
    run(people, tmp_path / "tiny.safetensors")
    assert len(seen) == SETTINGS.steps + SETTINGS.fine_steps
    assert set(seen[: SETTINGS.steps]) == {32}
    assert set(seen[SETTINGS.steps :]) == {32, 64}


def test_the_curve_holds_the_mean_of_both_grids(people: Any, trained: Any) -> None:
    path, curve = trained
    model = load_model(path)
    best = max(curve, key=lambda line: (line.dice, line.step))
    assert [line.step for line in curve] == [2, 4, 6]
    dices = [
        validate(model.network, dataclasses.replace(CARD, grid=grid), people[1], CPU)[0] for grid in (32, 64)
    ]
    assert dices[0] != dices[1]
    assert np.mean(dices) == pytest.approx(best.dice, abs=1e-3)  # stored in float16


def test_the_card_tells_the_settings_as_they_were_given(trained: Any) -> None:
    recipe = dict(load_model(trained[0]).card.recipe)
    assert recipe.pop("best step") in (2, 4, 6)
    assert recipe.pop("best step before") in (2, 4)
    assert recipe == dataclasses.asdict(SETTINGS)


def test_the_last_part_learns_more_gently(trained: Any) -> None:
    rates = [line.learning_rate for line in trained[1]]
    assert 0 < max(rates) <= 0.2 * SETTINGS.learning_rate


@pytest.mark.parametrize("steps", [3, 4 + 3], ids=["in the first part", "in the last part"])
def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    people: Any, trained: Any, tmp_path: Path, steps: int
) -> None:
    left = iter(range(steps))

    def cut_off(all_steps: Sequence[Any], /) -> Iterator[Any]:
        for step in all_steps:
            yield step
            if next(left, None) is None:
                raise CancelledError("the power went")

    path = tmp_path / "tiny.safetensors"
    with pytest.raises(CancelledError, match="the power went"):
        run(people, path, track=cut_off)
    run(people, path)
    assert path.read_bytes() == trained[0].read_bytes()


def test_without_fine_steps_it_is_the_training_at_one_grid(people: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, fine_steps=0)
    curve = run(people, tmp_path / "tiny.safetensors", settings)
    data, validation = people
    same = train(
        data,
        validation,
        card=CARD,
        settings=dataclasses.replace(settings, fine=0.0),
        device=CPU,
        model_path=tmp_path / "same.safetensors",
    )
    assert curve == same
    one, two = (load_model(tmp_path / f"{name}.safetensors").network for name in ("tiny", "same"))
    assert isinstance(one, ResUNet)
    assert all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))
