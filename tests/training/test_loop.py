from __future__ import annotations

import csv
import dataclasses
import errno
import functools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from napari_resunet.errors import CancelledError, CheckpointError, InputError, OutputError
from napari_resunet.model.checkpoint import load_model, load_state
from napari_resunet.model.device import Device
from napari_resunet.model.presets import PRESETS
from napari_resunet.phantom import make_phantom
from napari_resunet.settings import TrainSettings
from napari_resunet.training import loop
from napari_resunet.training.cases import TrainingCase, split_cases
from napari_resunet.training.dataset import LabelledCase, Slices, load_case, load_slices
from napari_resunet.training.learner import Learner, Progress
from napari_resunet.training.loop import new_card, train, validate

T = TypeVar("T")
CPU = Device("cpu", "float32", "this CPU")
SETTINGS = TrainSettings(width=4, grid=32, fine=0.0, steps=12, batch=4, learning_rate=0.01, validate_every=4)
CARD = new_card(SETTINGS, name="tiny", licence="CC0", training_data="two made-up chests")
# one unit a level, which is three times as fast
CARD = dataclasses.replace(CARD, network=dataclasses.replace(CARD.network, units=(1, 1, 1, 1)))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Slices, list[LabelledCase]]:
    """Two made-up chests as NIfTI, one to learn from and one to validate on."""
    folder = tmp_path_factory.mktemp("people")
    for seed, name in enumerate(("anna", "ben")):
        phantom = make_phantom(shape=(6, 64, 64), spacing_mm=(40, 5.75, 5.75), seed=seed)
        for thing, what in ((phantom.volume, "ct"), (phantom.mask, "lungs")):
            image = nib.Nifti1Image(thing.array.transpose(2, 1, 0), thing.geometry.ras_affine)
            image.header.set_xyzt_units("mm")
            nib.save(image, folder / f"{name}_{what}.nii.gz")
    training, validation = split_cases(folder, seed=0)
    return load_slices(training, grid=32), [load_case(case) for case in validation]


def run(people: Any, path: Path, settings: TrainSettings = SETTINGS, **options: Any) -> list[Progress]:
    data, validation = people
    return train(data, validation, card=CARD, settings=settings, device=CPU, model_path=path, **options)


@pytest.fixture(scope="module")
def trained(people: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Progress]]:
    path = tmp_path_factory.mktemp("trained") / "tiny.safetensors"
    return path, run(people, path)


def cut_off_after(steps: int) -> Callable[[Sequence[T]], Iterator[T]]:
    def track(all_steps: Sequence[T], /) -> Iterator[T]:
        yield from all_steps[:steps]
        raise CancelledError("the power went")

    return track


def test_a_training_lowers_the_loss(trained: Any) -> None:
    _, curve = trained
    assert [line.step for line in curve] == [4, 8, 12]
    # seeds 0 to 4 come down to 0.68-0.91 of the first four steps, this one to 0.68; without learning it is about 1
    assert curve[-1].loss < 0.9 * curve[0].loss


def test_a_training_writes_model_curve_and_state(trained: Any) -> None:
    path, curve = trained
    folder = path.with_suffix(".run")
    assert sorted(p.name for p in folder.iterdir()) == ["curve.csv", "curve.png", "state.pt"]
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{k: float(v) for k, v in row.items()} for row in rows] == [dataclasses.asdict(c) for c in curve]


def test_the_model_carries_its_recipe_and_the_best_of_its_figures(trained: Any) -> None:
    path, curve = trained
    card = load_model(path).card
    best = max(line.dice for line in curve)
    assert card.figures == {"validation Dice, native grid, no clean-up": round(best, 4)}
    recipe = dict(card.recipe)
    assert recipe.pop("best step") == max(line.step for line in curve if line.dice == best)
    assert recipe == dataclasses.asdict(SETTINGS)
    assert (card.name, card.licence, card.training_data) == ("tiny", "CC0", "two made-up chests")


def test_the_model_is_the_moving_average_rounded_to_half(trained: Any, tmp_path: Path, people: Any) -> None:
    # with one validation, at the end, the model is that of the last step
    path = tmp_path / "last.safetensors"
    run(people, path, dataclasses.replace(SETTINGS, steps=2))
    average = load_state(tmp_path / "last.run" / "state.pt")["average"]
    loaded = load_model(path).network.state_dict()
    for name, tensor in average.items():
        expected = tensor.half().float() if tensor.ndim == 4 else tensor
        assert torch.equal(loaded[name], expected), name


def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    people: Any, trained: Any, tmp_path: Path
) -> None:
    whole, curve = trained
    path = tmp_path / "tiny.safetensors"
    with pytest.raises(CancelledError, match="the power went"):
        run(people, path, track=cut_off_after(6))  # two steps beyond what was saved
    assert load_state(tmp_path / "tiny.run" / "state.pt")["step"] == 4
    seen: list[int] = []

    def track(steps: Sequence[Any], /) -> Sequence[Any]:
        seen.extend(steps)
        return steps

    assert run(people, path, track=track) == curve
    assert seen == list(range(4, 12))
    again = load_state(tmp_path / "tiny.run" / "state.pt")
    first = load_state(whole.with_suffix(".run") / "state.pt")
    for part in ("network", "average"):
        for name, tensor in first[part].items():
            assert torch.equal(again[part][name], tensor), name
    assert path.read_bytes() == whole.read_bytes()


def test_a_training_that_is_done_does_nothing_more(people: Any, trained: Any) -> None:
    path, curve = trained
    before = path.read_bytes()
    assert run(people, path, track=cut_off_after_none) == curve
    assert path.read_bytes() == before


def cut_off_after_none(steps: Sequence[T], /) -> Sequence[T]:
    assert not steps
    return steps


@pytest.mark.parametrize("changes", [{"seed": 1}, {"steps": 13}, {"learning_rate": 0.02}])
def test_a_training_is_not_taken_up_with_other_settings(people: Any, trained: Any, changes: Any) -> None:
    path, _ = trained
    with pytest.raises(CheckpointError, match=r"tiny.run holds a training begun with other settings; give"):
        run(people, path, dataclasses.replace(SETTINGS, **changes))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda state: state.pop("settings"), "settings is missing"),
        (lambda state: state.pop("network"), "network is missing"),
        (lambda state: state.pop("average"), "average is missing"),
        (lambda state: state.pop("optimiser"), "optimiser is missing"),
        (lambda state: state.pop("step"), "step is missing"),
        (lambda state: state.pop("curve"), "curve is missing"),
        (lambda state: state["network"].pop("head.2.bias"), "Error.* in loading state_dict for ResUNet"),
        (lambda state: state.update(average=3), "state_dict to be dict-like"),
        (lambda state: state["optimiser"].pop("state"), "state is missing"),
        (lambda state: state["optimiser"]["state"][0].pop("exp_avg"), "exp_avg is missing"),
        (lambda state: state["optimiser"]["state"][0].update(exp_avg=torch.zeros(3)), "of another network"),
        (lambda state: state.update(step="four"), "four"),
        (lambda state: state.update(step=13), "step 13 of 12"),
        (lambda state: state.update(step=-1), "step -1 of 12"),
        (lambda state: state.update(curve=[(4, 0.5)]), "missing 3 required positional arguments"),
        (lambda state: state.update(curve=[("4", "a", 0, 0, 0)]), "could not convert string to float"),
        (lambda state: state.update(curve=3), "not iterable"),
    ],
)
def test_a_state_that_lacks_something_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], Any], what: str, people: Any, trained: Any, tmp_path: Path
) -> None:
    state = load_state(trained[0].with_suffix(".run") / "state.pt")
    change(state)
    (tmp_path / "tiny.run").mkdir()
    torch.save(state, tmp_path / "tiny.run" / "state.pt")
    match = rf"state\.pt is the damaged state of a training \(.*{what}.*\); delete it to begin anew"
    with pytest.raises(CheckpointError, match=match) as said:
        run(people, tmp_path / "tiny.safetensors")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("state", [[1, 2], torch.zeros(2), "settings", None], ids=type)
def test_a_state_of_another_kind_is_refused_in_one_line(state: Any, people: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.run").mkdir()
    torch.save(state, tmp_path / "tiny.run" / "state.pt")
    with pytest.raises(CheckpointError, match=r"state\.pt is not the state of a training; delete it"):
        run(people, tmp_path / "tiny.safetensors")


@pytest.mark.parametrize("name", ["tiny.safetensors", "tiny.run/state.pt"])
def test_what_could_not_be_written_leaves_the_last_model_and_state(
    name: str, people: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.safetensors"
    with pytest.raises(CancelledError):
        run(people, path, track=cut_off_after(4))
    before = {file: file.read_bytes() for file in (path, tmp_path / "tiny.run" / "state.pt")}

    def half(*arguments: Any, **_options: Any) -> None:
        written = next(argument for argument in arguments if isinstance(argument, Path))
        written.write_bytes(b"half of")
        raise OSError(errno.ENOSPC, "no space")

    write = "learner.save_state" if name.endswith(".pt") else "loop.save_model"
    monkeypatch.setattr(f"napari_resunet.training.{write}", half)
    monkeypatch.setattr(loop, "validate", lambda *_arguments: (2.0, 0.0))  # better than the last
    with pytest.raises(OutputError, match=rf"{name} could not be written: the disk is full"):
        run(people, path)
    assert (tmp_path / name).read_bytes() == before[tmp_path / name]
    assert not list(tmp_path.rglob("*.part*"))


def test_model_and_state_are_on_the_disk_before_they_take_their_places(
    people: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    forced = os.fsync

    def fsync(descriptor: int) -> None:
        is_it = os.fstat(descriptor)
        synced.extend(p.name for p in tmp_path.rglob("*.part.*") if os.path.samestat(p.stat(), is_it))
        forced(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    run(people, tmp_path / "tiny.safetensors", dataclasses.replace(SETTINGS, steps=1))
    assert [name.split(".")[1] for name in synced] == ["tiny", "state"]


def test_a_last_step_that_is_no_validation_point_is_validated_too(people: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, steps=3, validate_every=2)
    assert [line.step for line in run(people, tmp_path / "a.safetensors", settings)] == [2, 3]


def test_validation_cases_without_any_lung_are_refused_before_the_training(
    people: Any, tmp_path: Path
) -> None:
    data, (case,) = people
    empty = dataclasses.replace(case, lungs=np.zeros_like(case.lungs))
    with pytest.raises(InputError, match="no validation case holds lung"):
        run((data, [empty]), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_rises_and_then_falls_to_nothing() -> None:
    settings = dataclasses.replace(SETTINGS, steps=100)
    rate = Learner(CARD, settings, CPU, slices=6).rate
    assert rate(0) == pytest.approx(0.01 * (1 / 100) / 0.04)
    assert rate(2) == pytest.approx(0.01 * 0.5)
    assert rate(4) == pytest.approx(0.01)
    assert rate(52) == pytest.approx(0.01 / 2)
    assert rate(100) == pytest.approx(0, abs=1e-9)
    assert [rate(step) for step in range(4, 101)] == sorted((rate(s) for s in range(4, 101)), reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 12, 24])
def test_the_rate_of_a_training_of_few_steps_is_never_above_the_one_that_was_set(steps: int) -> None:
    rate = Learner(CARD, dataclasses.replace(SETTINGS, steps=steps), CPU, slices=6).rate
    assert rate(0) == SETTINGS.learning_rate
    assert max(rate(step) for step in range(steps + 1)) <= SETTINGS.learning_rate


@pytest.mark.parametrize("steps", [25, 26, 60, 1000])
def test_a_training_of_25_steps_and_more_rises_by_equal_parts_and_then_follows_a_cosine(steps: int) -> None:
    rate = Learner(CARD, dataclasses.replace(SETTINGS, steps=steps), CPU, slices=6).rate
    rise = 0.04 * steps
    for step in range(steps + 1):
        falling = 0.01 * (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2
        expected = 0.01 * max(step, 1) / rise if step < rise else falling
        assert rate(step) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_norms_and_biases_are_not_decayed() -> None:
    learner = Learner(CARD, SETTINGS, CPU, slices=6)
    decayed, kept = learner.optimiser.param_groups
    assert decayed["weight_decay"] == SETTINGS.weight_decay
    assert kept["weight_decay"] == 0
    assert all(p.ndim == 4 for p in decayed["params"])
    assert len(decayed["params"]) + len(kept["params"]) == len(list(learner.network.parameters()))


def test_the_average_follows_closely_at_first_and_counts_batches_as_the_network_does(people: Any) -> None:
    learner = Learner(CARD, SETTINGS, CPU, slices=6)
    before = {name: t.clone() for name, t in learner.network.state_dict().items()}
    learner.learn(people[0], 0)
    for name, kept in learner.average.state_dict().items():
        new = learner.network.state_dict()[name]
        if kept.is_floating_point():
            torch.testing.assert_close(kept, before[name].lerp(new, 10 / 11))  # a decay of 1 / (1 + 10)
        else:
            assert kept == new == 1


def test_the_norms_of_the_average_are_measured_with_its_own_weights(people: Any) -> None:
    learner = Learner(CARD, SETTINGS, CPU, slices=6)
    first = next(m for m in learner.average.modules() if isinstance(m, nn.BatchNorm2d))
    seen: list[Tensor] = []
    first.register_forward_hook(lambda _norm, arguments, _result: seen.append(arguments[0]))
    first.running_mean.fill_(1000)  # of weights long gone
    weights = [parameter.clone() for parameter in learner.average.parameters()]
    learner.calibrate(people[0])
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in seen])
    torch.testing.assert_close(first.running_mean, means.mean(dim=0))
    assert {batch.shape[0] for batch in seen} == {SETTINGS.batch}
    assert {batch.shape[-1] for batch in seen} == {SETTINGS.grid}
    assert first.momentum == nn.BatchNorm2d(1).momentum
    assert not learner.average.training
    assert all(map(torch.equal, weights, learner.average.parameters()))


def test_some_steps_are_at_twice_the_grid_with_a_quarter_of_the_slices(
    people: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    data = people[0]
    twice = [t.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3) for t in (data.hu, data.lungs)]
    learner = Learner(CARD, dataclasses.replace(SETTINGS, batch=12, fine=0.5), CPU, slices=6)
    learner.network.register_forward_pre_hook(lambda _network, given: seen.append(tuple(given[0].shape)))
    for step in range(12):
        learner.learn(dataclasses.replace(data, hu=twice[0], lungs=twice[1]), step)
    assert set(seen) == {(12, 1, 32, 32), (3, 1, 64, 64)}
    assert 2 <= seen.count((3, 1, 64, 64)) <= 10


def test_slices_on_which_the_network_errs_are_drawn_more_often(people: Any) -> None:
    settings = dataclasses.replace(SETTINGS, hard=2.0)
    learner = Learner(CARD, settings, CPU, slices=6)
    assert learner._hardness() is None  # nothing was seen yet
    learner.errors[:] = [0.1, 0.1, 0.1, 0.1, 0.1, np.nan]
    np.testing.assert_allclose(learner._hardness(), 3)  # what was not seen yet counts as the mean
    learner.errors[:] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.6]
    np.testing.assert_allclose(learner._hardness(), [1, 1, 1, 1, 1, 1 + 2 * 4])  # at most four times the mean
    learner = Learner(CARD, settings, CPU, slices=6)
    learner.learn(people[0], 0)
    assert np.isfinite(learner.errors).any()
    assert (learner.errors[np.isfinite(learner.errors)] <= 1).all()


def test_an_ingredient_that_is_none_is_refused_by_name(people: Any, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, without="noise, smoke")
    with pytest.raises(
        InputError, match="smoke: no ingredient of the augmentation; there are consolidation,"
    ):
        run(people, tmp_path / "a.safetensors", settings)


def test_a_training_with_other_slices_is_not_taken_up(people: Any, tmp_path: Path) -> None:
    data, validation = people
    path = tmp_path / "a.safetensors"
    run(people, path, dataclasses.replace(SETTINGS, steps=2))
    fewer = dataclasses.replace(data, hu=data.hu[:3], lungs=data.lungs[:3], chance=np.full(3, 1 / 3))
    with pytest.raises(CheckpointError, match="it has seen other slices"):
        run((fewer, validation), path, dataclasses.replace(SETTINGS, steps=2))


@functools.cache
def one_lung() -> LabelledCase:
    hu = np.full((3, 32, 32), 400, np.int16)
    lungs = np.zeros(hu.shape, np.uint8)
    lungs[0, 8:16, 8:24] = 1
    hu[lungs > 0] = -1000
    return LabelledCase(TrainingCase("a", "a", Path("a"), None), hu, lungs, (0, 32, 0, 32))


class CallsAir(nn.Module):
    """Calls lung what is darker than the middle of the window."""

    def forward(self, image: Tensor) -> Tensor:
        return 40 * (0.5 - image)


def validated(slices: npt.NDArray[np.int16]) -> tuple[float, float]:
    network: Any = CallsAir()
    case = dataclasses.replace(one_lung(), slices=slices)
    return validate(network, dataclasses.replace(CARD, grid=32), [case], CPU)


def test_validation_counts_a_perfect_answer_as_1_with_no_false_positive() -> None:
    assert validated(one_lung().slices) == (1.0, 0.0)


def test_validation_counts_dice_over_the_case_and_false_positives_by_slices_without_lung() -> None:
    wrong = one_lung().slices.copy()
    wrong[1, :8, :8] = -1000  # 64 of 1024 voxels on one of two slices without lung
    dice, false_positive = validated(wrong)
    assert dice == pytest.approx(2 * 128 / (128 + 192))
    assert false_positive == 0.5


def test_one_pixel_in_a_thousand_is_forgiven_on_a_slice_without_lung() -> None:
    wrong = one_lung().slices.copy()
    wrong[1, 0, 0] = -1000  # 1 of 1024
    assert validated(wrong)[1] == 0


def test_without_a_slice_free_of_lung_there_is_no_false_positive() -> None:
    network: Any = CallsAir()
    case = one_lung()
    only = dataclasses.replace(case, slices=case.slices[:1], lungs=case.lungs[:1])
    assert validate(network, CARD, [only], CPU) == (1.0, 0.0)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_new_card_says_what_the_settings_build(preset: str) -> None:
    card = new_card(TrainSettings(preset=preset, width=8, grid=64), name="mine", definition="air")
    assert card.network == dataclasses.replace(PRESETS[preset], width=8)
    assert (card.preset, card.grid, card.window_hu) == (preset, 64, (-1000.0, 400.0))
    assert (card.name, card.version, card.definition) == ("mine", "1", "air")


def test_a_validation_case_without_lung_counts_for_false_positives_and_not_for_the_dice() -> None:
    network: Any = CallsAir()
    case = one_lung()
    free = dataclasses.replace(
        case, lungs=np.zeros_like(case.lungs)
    )  # the first slice is called lung wrongly
    dice, false_positive = validate(network, CARD, [case, free], CPU)
    assert dice == 1.0
    assert false_positive == pytest.approx(
        1 / 5
    )  # of the two free slices of the one and the three of the other
