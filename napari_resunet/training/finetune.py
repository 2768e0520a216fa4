"""Fine-tuning: a model learns from corrected cases, is shown made-up chests again, and is compared with its parent.

The running statistics of its batch normalisation stay those of the parent. In a small test (width 8, 60 steps at the
default learning rate, made-up chests of another scanner) that took the Dice of a new chest from 0.78 to 0.93 and cost
0.007 on known ones; statistics that follow (momentum 0.1) took it to 0.97 and cost 0.036, and slow ones (0.01) took it
to 0.92 and cost 0.020.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from napari_resunet.errors import CheckpointError, InputError
from napari_resunet.io.atomic import replacing
from napari_resunet.io.folders import made_folder
from napari_resunet.model.card import ModelCard, find_model
from napari_resunet.model.checkpoint import Model, load_model, save_model
from napari_resunet.model.device import Device
from napari_resunet.model.resunet import ResUNet
from napari_resunet.settings import LearnSettings, TrainSettings
from napari_resunet.track import Track, silent
from napari_resunet.training.comparison import LearnProgress, Learnt, figures, has_forgotten, speaks_against
from napari_resunet.training.corrected import CorrectedCase, Lesson, slices_to_learn, slices_to_validate
from napari_resunet.training.dataset import LabelledCase
from napari_resunet.training.learner import Learner
from napari_resunet.training.loop import validate, write_curve
from napari_resunet.training.losses import weighted_dice_bce_loss
from napari_resunet.training.replay import WithReplay, joined, replay_to_learn, replay_to_measure, with_replay

CANDIDATE = "candidate.safetensors"
_EMA = 0.99  # of a few hundred steps, the last hundred


@dataclass(frozen=True)
class Step:
    """What became of one optimiser step.

    Parameters
    ----------
    done, of : int
        Steps done, and in all.
    loss : float
        Training loss of this step; nan where none was made.
    line : LearnProgress, optional
        Of the validation after it.
    """

    done: int
    of: int
    loss: float
    line: LearnProgress | None = None


@dataclass(frozen=True, eq=False)
class Material:
    """What there is to learn from and to validate on.

    Parameters
    ----------
    data : WithReplay
        Corrected slices, and made-up ones.
    held_out : sequence of LabelledCase
        Corrected cases that are not learnt from.
    replay : sequence of LabelledCase
        Made-up chests that are not learnt from.
    names, held_out_names : tuple of str
        Of the cases learnt from, and held out.
    """

    data: WithReplay
    held_out: Sequence[LabelledCase]
    replay: Sequence[LabelledCase]
    names: tuple[str, ...]
    held_out_names: tuple[str, ...]

    def fingerprint(self) -> str:
        """Return a checksum of all that is real in it."""
        digest = hashlib.sha256(repr((self.names, self.held_out_names)).encode())
        for tensor in (self.data.hu, self.data.lungs):
            digest.update(tensor[: self.data.new].numpy().tobytes())
        for case in self.held_out:
            digest.update(case.slices.tobytes())
            digest.update(case.lungs.tobytes())
        return digest.hexdigest()


def gather(
    to_learn: Sequence[Lesson],
    held_out: Sequence[Lesson],
    *,
    card: ModelCard,
    settings: LearnSettings,
    track: Track = silent,
) -> Material:
    """Read the cases, one after the other, and make the chests for the replay.

    Raises
    ------
    InputError
        If a case cannot be read, or teaches nothing.
    """
    grid = card.grid * (2 if _fine(card) else 1)
    rng = np.random.default_rng(settings.seed)
    names_of: dict[str, str] = {}
    new, kept = [], []
    for lesson in (*to_learn, *held_out):
        case = lesson.read(track)
        _refuse_same_ct(case, names_of)
        if lesson in held_out:
            kept.append(slices_to_validate(case))
        else:
            new.append(slices_to_learn(case, grid, rng))
    return Material(
        data=with_replay(joined(new), replay_to_learn(grid), settings.replay),
        held_out=kept,
        replay=replay_to_measure(),
        names=tuple(lesson.name for lesson in to_learn),
        held_out_names=tuple(lesson.name for lesson in held_out),
    )


def _refuse_same_ct(case: CorrectedCase, names_of: dict[str, str]) -> None:
    """Refuse a CT that was there before under another name: it could be learnt from and validated on."""
    checksum = hashlib.sha256(case.slices.tobytes()).hexdigest()
    if checksum in names_of:
        raise InputError(f"{case.name} is of the same CT as {names_of[checksum]}; give one of them")
    names_of[checksum] = case.name


class FineTuning:
    """A model that learns; resumable, and stopped between two steps by whoever does not ask for the next.

    Parameters
    ----------
    material : Material
        What it learns from.
    parent : Model
        What it begins as.
    settings : LearnSettings
        The recipe.
    device : Device
        Where to learn.
    model_path : Path
        The model to be; in a folder of that name ending in ``.run`` lie curve, state and candidate.

    Raises
    ------
    CheckpointError
        If a fine-tuning of that name was begun with other settings or cases, or its state is damaged.
    OutputError
        If the folder cannot be made.
    """

    def __init__(
        self, material: Material, parent: Model, *, settings: LearnSettings, device: Device, model_path: Path
    ) -> None:
        self._material, self._parent, self._device = material, parent, device
        self._settings, self._model_path = settings, model_path
        self.folder = made_folder(model_path.with_suffix(".run"))
        self._learner = _FineTuner(parent, settings, device, material)
        self._curve: list[LearnProgress] = self._learner.resume(self.folder)

    @property
    def candidate(self) -> Path:
        return self.folder / CANDIDATE

    @property
    def curve(self) -> tuple[LearnProgress, ...]:
        """The validations so far, those of an earlier run of the same learning included."""
        return tuple(self._curve)

    def steps(self, track: Track = silent) -> Iterator[Step]:
        """Learn step by step; the state is saved whenever it ends, be it by the end, an error or `close`.

        Where an earlier run was stopped, its validations come first.

        Parameters
        ----------
        track : Track
            Is given the cases of each validation, so that it can stop there too.
        """
        learner, total = self._learner, self._settings.steps
        try:
            for line in tuple(self._curve):
                yield Step(line.step, total, math.nan, line)
            if self._owes_validation():
                yield Step(learner.step, total, math.nan, self._validate(track))
            while learner.step < total:
                loss = learner.learn(self._material.data, learner.step)
                yield Step(learner.step, total, loss)
                if self._owes_validation():
                    yield Step(learner.step, total, math.nan, self._validate(track))
        finally:
            if learner.is_whole:
                learner.save(self.folder, self._curve)

    def _owes_validation(self) -> bool:
        step = self._learner.step
        is_due = step % self._settings.validate_every == 0 or step == self._settings.steps
        return is_due and (not self._curve or self._curve[-1].step != step)

    def _validate(self, track: Track) -> LearnProgress:
        learner = self._learner
        learner.save(self.folder, self._curve)  # it takes a while, and the power may go
        line = self._measured(learner.average, track)
        self._curve.append(line)
        learner.losses.clear()
        if line.step and self._is_best(line):
            self._write_candidate(line)
        write_curve(self._curve, self.folder)
        learner.save(self.folder, self._curve)
        return line

    def _measured(self, network: ResUNet, track: Track = silent) -> LearnProgress:
        learner, material = self._learner, self._material
        loss = float(np.mean(learner.losses)) if learner.losses else math.nan
        dice, replay = (
            _dice(network, self._parent.card, cases, self._device, track)
            for cases in (material.held_out, material.replay)
        )
        return LearnProgress(learner.step, loss, dice, replay, learner.rate(learner.step))

    def _is_best(self, line: LearnProgress) -> bool:
        """Whether no step before was better; where no case was held out, the last one is taken."""
        if not self._material.held_out:
            return True
        return self._rank(line) >= max(self._rank(each) for each in self._curve if each.step)

    def _rank(self, line: LearnProgress) -> tuple[bool, float]:
        return not has_forgotten(self._curve[0], line), line.dice

    def _write_candidate(self, line: LearnProgress) -> None:
        card = _new_card(self._parent.card, self._settings, self._material, line, name=self._model_path.stem)
        with replacing(self.candidate) as temporary:
            save_model(self._learner.average, card, temporary, half=True)

    def compare(self) -> Learnt:
        """Return how the candidate, as it is in its file, does beside its parent.

        Raises
        ------
        CheckpointError
            If the candidate is not there any more.
        """
        if not self.candidate.is_file():
            raise CheckpointError(
                f"{self.folder} holds no {CANDIDATE} any more; delete the folder to begin anew"
            )
        model = load_model(self.candidate)
        network = model.network.to(self._device.torch, memory_format=self._learner.layout)  # type: ignore[call-overload]
        before = self._curve[0]
        step = int(model.card.recipe["best step"])
        after = dataclasses.replace(self._measured(network), step=step)
        self._note_figures(model, before, after)
        names = self._material.held_out_names
        return Learnt(before, after, speaks_against(before, after), names, self.candidate)

    def _note_figures(self, model: Model, before: LearnProgress, after: LearnProgress) -> None:
        card = dataclasses.replace(model.card, figures=figures(before, after))
        if card.figures != model.card.figures:
            with replacing(self.candidate) as temporary:
                save_model(model.network, card, temporary, half=True)


def refuse_parent(model_path: Path, parent: str) -> None:
    """Refuse to write a model over the one it learns from.

    Raises
    ------
    InputError
        Naming it.
    """
    if model_path.exists() and model_path.samefile(find_model(parent)):
        raise InputError(
            f"{model_path} is the model that learns, and is not written over; choose another name"
        )


def _dice(
    network: ResUNet, card: ModelCard, cases: Sequence[LabelledCase], device: Device, track: Track
) -> float:
    scores = [validate(network, card, [case], device)[0] for case in track(cases)]
    return float(np.mean(scores)) if scores else math.nan


def _fine(card: ModelCard) -> float:
    """Return the share of steps at twice the grid that a model was trained with."""
    return float(card.recipe.get("fine", 0.0))


def _new_card(
    parent: ModelCard, settings: LearnSettings, material: Material, line: LearnProgress, *, name: str
) -> ModelCard:
    cases, seen = ", ".join(material.names), len(material.names)
    recipe = {
        **dataclasses.asdict(settings),
        "parent": {"name": parent.name, "version": parent.version, "sha256": parent.sha256},
        "fine": _fine(parent),
        "without": parent.recipe.get("without", ""),
        "best step": line.step,
        "cases": list(material.names),
        "held out": list(material.held_out_names),
    }
    return dataclasses.replace(
        parent,
        name=name,
        version="1",
        recipe=recipe,
        figures={},
        training_data=f"Fine-tuned on {seen} corrected case{'s' * (seen > 1)} ({cases}) from {parent.name} "
        f"{parent.version}, which has seen: {parent.training_data or 'unknown'}",
        definition=f"As its corrected cases have it; before, {parent.name}: {parent.definition or 'unknown'}",
    )


def _as_training(settings: LearnSettings, card: ModelCard) -> TrainSettings:
    return TrainSettings(
        grid=card.grid,
        fine=_fine(card),
        steps=settings.steps,
        batch=settings.batch,
        without=str(card.recipe.get("without", "")),
        learning_rate=settings.learning_rate,
        ema=_EMA,
        validate_every=settings.validate_every,
        seed=settings.seed,
    )


class _FineTuner(Learner):
    """A learner that begins as its parent and minds what a hand has set."""

    line = LearnProgress

    def __init__(self, parent: Model, settings: LearnSettings, device: Device, material: Material) -> None:
        super().__init__(parent.card, _as_training(settings, parent.card), device, len(material.data.hu))
        for network in (self.network, self.average):
            network.load_state_dict(parent.network.state_dict())
        self._edited_weight = settings.edited_weight
        self._said = {
            **dataclasses.asdict(settings),
            "parent": parent.card.sha256,
            "material": material.fingerprint(),
        }
        self.losses: list[float] = []  # since the last validation
        self.is_whole = True  # not in the middle of a step

    def begun_with(self) -> str:
        return json.dumps(self._said, sort_keys=True)

    def _refuse_other_settings(self, folder: Path, settings: str) -> None:
        if settings != self.begun_with():
            raise CheckpointError(
                f"{folder} holds a learning begun with other settings, cases or model; "
                "give those again, another output, or delete it"
            )

    def learn(self, data: Any, step: int) -> float:
        self.is_whole = False
        loss = super().learn(data, step)
        self.losses.append(loss)
        self.is_whole = True
        return loss

    def _make_ready(self) -> None:
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        lungs, edited = target[:, :1], target[:, 1:]
        return weighted_dice_bce_loss(logits, lungs, 1 + (self._edited_weight - 1) * edited)

    def state(self, curve: Sequence[Any]) -> dict[str, Any]:
        return {**super().state(curve), "losses": list(self.losses)}

    def _take_up(self, state: Mapping[str, Any]) -> list[Any]:
        curve = super()._take_up(state)
        self.losses = [float(loss) for loss in state["losses"]]
        return curve
