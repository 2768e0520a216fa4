from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_resunet.errors import CancelledError, CheckpointError, InputError
from napari_resunet.model.checkpoint import load_model, load_state, save_model
from napari_resunet.model.device import Device
from napari_resunet.model.resunet import ResUNet
from napari_resunet.phantom import Phantom, make_phantom
from napari_resunet.settings import LearnSettings, TrainSettings
from napari_resunet.training import replay
from napari_resunet.training.comparison import FORGETTING, LearnProgress, keep, speaks_against
from napari_resunet.training.corrected import (
    AUTOMATIC,
    EDITED,
    REVIEWED,
    CorrectedCase,
    Lesson,
    hold_out,
    slices_to_learn,
    slices_to_validate,
)
from napari_resunet.training.dataset import Slices
from napari_resunet.training.finetune import FineTuning, Material, gather, refuse_parent
from napari_resunet.training.loop import new_card
from napari_resunet.training.losses import dice_bce_loss, weighted_dice_bce_loss
from napari_resunet.training.replay import with_replay

CPU = Device("cpu", "float32", "this CPU")
SETTINGS = LearnSettings(steps=6, batch=4, validate_every=3, learning_rate=1e-3)
SHAPE, SPACING_MM = (6, 64, 64), (40.0, 5.75, 5.75)


@pytest.fixture(autouse=True, scope="module")
def small_replay() -> Iterator[None]:
    chests = {"_SHAPE": SHAPE, "_SPACING_MM": SPACING_MM, "_TO_LEARN": (1, 2), "_TO_MEASURE": (101,)}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in chests.items():
            patch.setattr(replay, name, value)
        yield


@cache
def chest(seed: int) -> Phantom:
    return make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=seed)


def corrected(seed: int, trust: float = REVIEWED) -> CorrectedCase:
    """A made-up chest whose left lung a hand has taken out."""
    lungs = chest(seed).mask.axial
    slices, right = chest(seed).volume.axial, (lungs == 1).astype(np.uint8)
    return CorrectedCase(f"case{seed}.nru", slices, right, lungs == 2, np.full(len(lungs), trust))


def lesson(seed: int, patient: str = "") -> Lesson:
    name = f"case{seed}.nru"
    return Lesson(name, patient or name, lambda _: corrected(seed))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that knows nothing yet, but whose statistics are not those of a new network."""
    card = new_card(TrainSettings(width=4, grid=32), name="tiny", training_data="nobody", definition="lung")
    card = dataclasses.replace(card, network=dataclasses.replace(card.network, units=(1, 1, 1, 1)))
    torch.manual_seed(0)
    network = ResUNet(card.network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(0.1)
    path = tmp_path_factory.mktemp("parent") / "tiny.safetensors"
    save_model(network, card, path)
    return path


@pytest.fixture(scope="module")
def material(parent: Path) -> Material:
    card = load_model(parent).card
    return gather([lesson(1), lesson(2)], [lesson(3)], card=card, settings=SETTINGS)


def tuning(material: Material, parent: Path, path: Path, settings: LearnSettings = SETTINGS) -> FineTuning:
    return FineTuning(material, load_model(parent), settings=settings, device=CPU, model_path=path)


@pytest.fixture(scope="module")
def learnt(material: Material, parent: Path, tmp_path_factory: pytest.TempPathFactory) -> FineTuning:
    whole = tuning(material, parent, tmp_path_factory.mktemp("learnt") / "new.safetensors")
    list(whole.steps())
    return whole


# ---- what is learnt from


def test_a_case_that_nobody_looked_at_teaches_nothing() -> None:
    with pytest.raises(InputError, match=r"case1.nru teaches nothing: none of its slices was corrected"):
        corrected(1, trust=AUTOMATIC)


def test_slices_are_drawn_as_they_are_trusted_and_untrusted_ones_not_at_all() -> None:
    case = corrected(1)
    case.trust[:4] = [0.0, AUTOMATIC, EDITED, REVIEWED]
    data = slices_to_learn(case, 32, np.random.default_rng(0))
    assert len(data.hu) == len(case.slices) - 1
    assert data.chance[:3] / data.chance[2] == pytest.approx([AUTOMATIC, EDITED, REVIEWED])


def test_edits_are_shrunk_as_the_mask_is() -> None:
    case = corrected(1)
    case = dataclasses.replace(case, edited=case.lungs > 0)
    data = slices_to_learn(case, 32, np.random.default_rng(0))
    assert data.lungs.shape[1] == 2
    assert data.lungs[:, 0].any()
    assert torch.equal(data.lungs[:, 0], data.lungs[:, 1])


def test_only_slices_that_a_person_saw_count_in_a_validation() -> None:
    case = corrected(1)
    case.trust[[0, 5]] = AUTOMATIC
    assert len(slices_to_validate(case).slices) == 4


def test_a_held_out_case_without_lung_is_refused() -> None:
    case = dataclasses.replace(corrected(1), lungs=np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match=r"case1.nru has no lung on the slices looked at"):
        slices_to_validate(case)


def test_the_same_ct_under_two_names_is_refused(parent: Path) -> None:
    twin = Lesson("twin.nru", "twin", lambda _: dataclasses.replace(corrected(1), name="twin.nru"))
    with pytest.raises(InputError, match=r"twin.nru is of the same CT as case1.nru"):
        gather([lesson(1)], [twin], card=load_model(parent).card, settings=SETTINGS)


def test_one_of_three_patients_is_held_out_by_lot_and_none_of_two() -> None:
    lessons = [lesson(seed) for seed in (1, 2, 3)]
    to_learn, held_out = hold_out(lessons, (), seed=0)
    assert (len(to_learn), len(held_out)) == (2, 1)
    assert hold_out(lessons, (), seed=0) == (to_learn, held_out)
    assert hold_out(lessons[:2], (), seed=0) == (lessons[:2], [])


def test_cases_of_one_patient_are_held_out_together() -> None:
    lessons = [lesson(1, "anna"), lesson(2, "ben"), lesson(3, "cleo"), lesson(4, "anna")]
    for seed in range(5):
        to_learn, held_out = hold_out(lessons, (), seed=seed)
        assert not {each.patient for each in to_learn} & {each.patient for each in held_out}
    with pytest.raises(InputError, match="patients both in learning and in validation: anna"):
        hold_out(lessons, ["case1"], seed=0)


def test_cases_are_held_out_by_name_with_or_without_the_ending() -> None:
    lessons = [lesson(1), lesson(2)]
    for name in ("case2", "case2.nru"):
        assert hold_out(lessons, [name], seed=0) == (lessons[:1], lessons[1:])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["case9"], "case9: no such case to hold out; there are case1.nru, case2.nru"),
        (["case1", "case2"], "every case is held out"),
    ],
)
def test_a_wrong_choice_of_what_to_hold_out_is_refused(names: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        hold_out([lesson(1), lesson(2)], names, seed=0)


# ---- replay and weights


@pytest.mark.parametrize(("share", "old"), [(0.25, 2), (0.0, 0), (0.01, 1), (0.9, 7)])
def test_a_fixed_share_of_each_batch_is_replay(material: Material, share: float, old: int) -> None:
    known = material.data
    new = Slices(known.hu[: known.new], known.lungs[: known.new], known.chance[: known.new])
    again = Slices(known.hu[known.new :], known.lungs[known.new :], known.chance[known.new :])
    data = with_replay(new, again, share)
    for seed in range(5):
        assert np.count_nonzero(data.draw(np.random.default_rng(seed), 8) >= data.new) == old


def test_chests_to_measure_on_are_none_of_those_learnt_from() -> None:
    seen = replay.replay_to_learn(32)
    assert not set(replay._TO_LEARN) & set(replay._TO_MEASURE)
    assert len(seen.hu) == len(replay._TO_LEARN) * SHAPE[0]
    assert not seen.lungs[:, 1].any()


def test_weights_of_one_change_no_loss_and_higher_ones_count_as_so_many_pixels() -> None:
    logits = torch.tensor([[1.0, -2.0]]).reshape(1, 1, 1, 2)
    lungs = torch.tensor([[0.0, 1.0]]).reshape(1, 1, 1, 2)
    ones = torch.ones_like(lungs)
    assert float(weighted_dice_bce_loss(logits, lungs, ones)) == pytest.approx(
        float(dice_bce_loss(logits, lungs))
    )
    threefold = torch.tensor([[1.0, 3.0]]).reshape(1, 1, 1, 2)
    repeated = dice_bce_loss(logits[..., [0, 1, 1, 1]], lungs[..., [0, 1, 1, 1]])
    assert float(weighted_dice_bce_loss(logits, lungs, threefold)) == pytest.approx(float(repeated))


def test_the_weight_of_edits_changes_what_is_learnt(material: Material, parent: Path, tmp_path: Path) -> None:
    losses = []
    for weight in (1.0, 20.0):
        settings = dataclasses.replace(SETTINGS, steps=1, edited_weight=weight)
        run = tuning(material, parent, tmp_path / f"{weight}.safetensors", settings)
        losses += [step.loss for step in run.steps() if step.line is None]
    assert losses[0] != losses[1]


# ---- the learning


def test_it_begins_as_its_parent(material: Material, parent: Path, tmp_path: Path) -> None:
    run = tuning(material, parent, tmp_path / "new.safetensors")
    first = next(iter(run.steps()))
    assert first.line is not None
    assert first.line.step == 0
    assert math.isnan(first.line.loss)
    for name, tensor in load_model(parent).network.state_dict().items():
        assert torch.equal(run._learner.average.state_dict()[name], tensor), name


def test_the_statistics_of_the_batch_normalisation_stay_the_parents(learnt: FineTuning, parent: Path) -> None:
    before, after = (load_model(path).network.state_dict() for path in (parent, learnt.candidate))
    running = [name for name in before if "running" in name]
    assert running
    for name in running:
        assert torch.equal(before[name], after[name]), name
    assert not torch.equal(before["head.0.weight"], after["head.0.weight"])


def test_it_writes_curve_state_and_candidate_and_no_model(learnt: FineTuning) -> None:
    assert sorted(path.name for path in learnt.folder.iterdir()) == [
        "candidate.safetensors",
        "curve.csv",
        "curve.png",
        "state.pt",
    ]
    assert [line.step for line in learnt.curve] == [0, 3, 6]
    assert not learnt.folder.with_suffix(".safetensors").exists()


def test_the_card_names_parent_cases_and_figures_and_no_folder(learnt: FineTuning, parent: Path) -> None:
    result = learnt.compare()
    card, old = load_model(learnt.candidate).card, load_model(parent).card
    assert card.recipe["parent"] == {"name": "tiny", "version": "1", "sha256": old.sha256}
    assert card.recipe["cases"] == ["case1.nru", "case2.nru"]
    assert card.recipe["held out"] == ["case3.nru"]
    assert card.name == "new"
    figures = card.figures["Dice of held-out cases, native grid, no clean-up"]
    assert figures == {"parent": round(result.before.dice, 4), "this": round(result.after.dice, 4)}
    assert "case1.nru" in card.training_data
    assert "nobody" in card.training_data
    for folder in (learnt.folder.parent, parent.parent):
        assert str(folder) not in card.to_json()


def cut_off(run: FineTuning, after: int) -> None:
    steps = run.steps()
    for step in steps:
        if step.line is None and step.done == after:
            break
    steps.close()


@pytest.mark.parametrize("after", [2, 3])
def test_a_learning_that_was_stopped_ends_with_the_same_model(
    material: Material, parent: Path, learnt: FineTuning, tmp_path: Path, after: int
) -> None:
    path = tmp_path / "new.safetensors"
    cut_off(tuning(material, parent, path), after)
    assert load_state(tmp_path / "new.run" / "state.pt")["step"] == after
    again = tuning(material, parent, path)
    seen = [step.done for step in again.steps() if step.line is None]
    assert seen == list(range(after + 1, 7))
    assert str(again.curve) == str(learnt.curve)  # nan is not equal to itself
    assert str(again.compare()) == str(dataclasses.replace(learnt.compare(), candidate=again.candidate))
    first, second = (load_state(run.folder / "state.pt")["average"] for run in (learnt, again))
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor), name


def test_a_learning_stopped_in_a_validation_makes_up_for_it(
    material: Material, parent: Path, tmp_path: Path
) -> None:
    def stop(cases: Sequence[Any], /) -> Any:
        raise CancelledError("stopped")

    path = tmp_path / "new.safetensors"
    run = tuning(material, parent, path)
    with pytest.raises(CancelledError):
        list(run.steps(stop))
    again = tuning(material, parent, path)
    first = next(iter(again.steps()))
    assert first.line is not None
    assert first.line.step == 0


def test_a_step_that_fails_in_the_middle_is_not_saved(
    material: Material, parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tuning(material, parent, tmp_path / "new.safetensors")
    steps = run.steps()
    next(steps), next(steps)

    def fail() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run._learner, "_follow", fail)
    with pytest.raises(KeyboardInterrupt):
        next(steps)
    assert load_state(run.folder / "state.pt")["step"] == 0


@pytest.mark.parametrize("changes", [{"steps": 7}, {"edited_weight": 1.0}, {"replay": 0.5}])
def test_a_learning_is_not_taken_up_with_other_settings(
    material: Material, parent: Path, learnt: FineTuning, changes: Any
) -> None:
    path = learnt.folder.with_suffix(".safetensors")
    with pytest.raises(CheckpointError, match=r"new.run holds a learning begun with other settings, cases"):
        tuning(material, parent, path, dataclasses.replace(SETTINGS, **changes))


def test_a_learning_is_not_taken_up_after_a_case_was_corrected_further(
    material: Material, parent: Path, learnt: FineTuning
) -> None:
    lungs = material.data.lungs.clone()
    lungs[0, 0, 0, 0] += 1
    other = dataclasses.replace(material, data=dataclasses.replace(material.data, lungs=lungs))
    with pytest.raises(CheckpointError, match="other settings, cases or model"):
        tuning(other, parent, learnt.folder.with_suffix(".safetensors"))


# ---- never worse silently


def line(dice: float, replay_dice: float) -> LearnProgress:
    return LearnProgress(1, 0.1, dice, replay_dice, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((0.9, 0.95), (0.91, 0.95), ()),
        ((0.9, 0.95), (0.9, 0.95), ("it is no better on what was held out",)),
        ((0.9, 0.95), (0.90004, 0.95), ("it is no better on what was held out",)),
        ((0.9, 0.95), (0.91, 0.95 - 0.9 * FORGETTING), ()),
        ((0.9, 0.95), (0.91, 0.95 - 1.1 * FORGETTING), ("it forgets made-up chests",)),
        ((0.9, 0.95), (0.8, 0.9), ("it is no better on what was held out", "it forgets made-up chests")),
        ((math.nan, 0.95), (math.nan, 0.95), ()),
    ],
)
def test_what_is_no_better_or_has_forgotten_is_spoken_against(before: Any, after: Any, said: Any) -> None:
    reasons = speaks_against(line(*before), line(*after))
    assert len(reasons) == len(said)
    assert all(reason.startswith(words) for reason, words in zip(reasons, said, strict=True))


def test_the_candidate_is_the_best_step_of_those_that_have_not_forgotten(
    material: Material, parent: Path, tmp_path: Path
) -> None:
    run = tuning(material, parent, tmp_path / "new.safetensors")
    run._curve = [LearnProgress(0, math.nan, 0.5, 0.9, 0.0)]
    best = []
    for step, dice, replay_dice in ((1, 0.6, 0.9), (2, 0.8, 0.8), (3, 0.7, 0.9), (4, 0.65, 0.9)):
        now = LearnProgress(step, 0.1, dice, replay_dice, 0.0)
        run._curve.append(now)
        if run._is_best(now):
            best.append(step)
    assert best == [1, 3]


def test_without_a_held_out_case_only_forgetting_is_measured(parent: Path, tmp_path: Path) -> None:
    alone = gather([lesson(1)], [], card=load_model(parent).card, settings=SETTINGS)
    run = tuning(alone, parent, tmp_path / "new.safetensors", dataclasses.replace(SETTINGS, steps=2))
    list(run.steps())
    result = run.compare()
    assert math.isnan(result.before.dice)
    assert result.held_out == ()
    assert list(load_model(run.candidate).card.figures) == [
        "Dice of made-up chests, native grid, no clean-up"
    ]


def test_what_is_kept_is_the_candidate_to_the_byte(learnt: FineTuning, tmp_path: Path) -> None:
    kept = keep(learnt.compare(), tmp_path / "kept.safetensors")
    assert kept.model == tmp_path / "kept.safetensors"
    assert kept.model.read_bytes() == learnt.candidate.read_bytes()


def test_a_candidate_that_was_deleted_is_missed(material: Material, parent: Path, tmp_path: Path) -> None:
    run = tuning(material, parent, tmp_path / "new.safetensors", dataclasses.replace(SETTINGS, steps=1))
    list(run.steps())
    run.candidate.unlink()
    with pytest.raises(CheckpointError, match=r"holds no candidate.safetensors any more; delete the folder"):
        run.compare()


def test_a_model_is_not_written_over_the_one_it_learns_from(parent: Path) -> None:
    with pytest.raises(InputError, match=r"tiny.safetensors is the model that learns"):
        refuse_parent(parent, str(parent))
