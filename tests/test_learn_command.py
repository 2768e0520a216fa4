from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from reviewed_cohort import make_cohort

from napari_resunet import cli
from napari_resunet.case import Case
from napari_resunet.cohort.corrected import reviewed_lessons
from napari_resunet.cohort.manifest import read_entry
from napari_resunet.cohort.reviewing import accept, open_for_review
from napari_resunet.errors import CtMissingError, InputError
from napari_resunet.io.case_file import write_case
from napari_resunet.io.open_ct import open_ct
from napari_resunet.lessons import corrected_case, lessons_of
from napari_resunet.model.checkpoint import load_model, load_state, save_model
from napari_resunet.model.resunet import ResUNet
from napari_resunet.phantom import Phantom, make_phantom
from napari_resunet.settings import TrainSettings
from napari_resunet.track import silent
from napari_resunet.training import finetune, replay
from napari_resunet.training.corrected import AUTOMATIC, EDITED, REVIEWED
from napari_resunet.training.loop import new_card
from napari_resunet.volume import Run

SHAPE, SPACING_MM = (6, 64, 64), (40.0, 5.75, 5.75)


@pytest.fixture(autouse=True)
def small_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    chests = {"_SHAPE": SHAPE, "_SPACING_MM": SPACING_MM, "_TO_LEARN": (1,), "_TO_MEASURE": (101,)}
    for name, value in chests.items():
        monkeypatch.setattr(replay, name, value)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = new_card(TrainSettings(width=4, grid=32), name="tiny")
    card = dataclasses.replace(card, network=dataclasses.replace(card.network, units=(1, 1, 1, 1)))
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("parent") / "tiny.safetensors"
    save_model(ResUNet(card.network), card, path)
    return path


def put_nifti(path: Path, chest: Phantom, what: str) -> Path:
    thing = getattr(chest, what)
    nib.save(nib.Nifti1Image(thing.array.transpose(2, 1, 0), thing.geometry.ras_affine), path)
    return path


def put_case(folder: Path, name: str, seed: int) -> Path:
    """Write a CT and a case file whose slices are ticked, and in which a hand has painted."""
    chest = make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=seed)
    case = Case(open_ct(put_nifti(folder / f"{name}.nii.gz", chest, "volume")))
    case.adopt(chest.mask, name="truth")
    case.mask[3, 28:34, 28:34] = 1
    for z in range(len(case.mask)):
        case.tick(z)
    write_case(case.record(), folder / f"{name}.nru")
    return folder / f"{name}.nru"


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two case files and a pair of CT and mask."""
    folder = tmp_path_factory.mktemp("cases")
    chest = make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=13)
    put_nifti(folder / "cleo_lungs.nii.gz", chest, "mask")
    pair = put_nifti(folder / "cleo_ct.nii.gz", chest, "volume")
    return [str(path) for path in (put_case(folder, "anna", 11), put_case(folder, "ben", 12), pair)]


def learn(cases: list[str], parent: Path, output: Path, *options: str) -> int:
    fixed = ["--from", str(parent), "--steps", "2", "--batch", "2", "--device", "cpu"]
    return cli.run(["learn", *cases, "-o", str(output), *fixed, *options], open_window=lambda *_: None)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the comparison end as a test says."""

    def judge(*reasons: str) -> None:
        monkeypatch.setattr(finetune, "speaks_against", lambda _before, _after: reasons)

    return judge


def test_a_better_model_is_written(
    cases: list[str], parent: Path, tmp_path: Path, judged: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    judged()
    output = tmp_path / "new.safetensors"
    assert learn(cases, parent, output, "--hold-out", "ben") == 0
    out, err = capsys.readouterr()
    assert load_model(output).card.recipe["held out"] == ["ben.nru"]
    assert "held out (ben.nru): Dice " in out
    assert f"{output}: step 2" in out
    assert "step 0: Dice held out" in err


def test_a_model_that_is_no_better_is_not_written_and_says_why(
    cases: list[str], parent: Path, tmp_path: Path, judged: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    judged("it is worse")
    output = tmp_path / "new.safetensors"
    output.write_bytes(b"an older one")
    assert learn(cases, parent, output) == 1
    out, err = capsys.readouterr()
    assert "note: it is worse" in err
    assert "was not written" in out
    assert output.read_bytes() == b"an older one"
    assert load_model(tmp_path / "new.run" / "candidate.safetensors").card.name == "new"
    # the same command goes on: nothing is left to do but to keep it
    assert learn(cases, parent, output, "--keep-anyway") == 0
    assert load_model(output).card.name == "new"


def test_with_two_cases_none_is_held_out_and_the_command_says_so(
    cases: list[str], parent: Path, tmp_path: Path, judged: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    judged()
    assert learn(cases[:2], parent, tmp_path / "new.safetensors") == 0
    out, err = capsys.readouterr()
    assert "no case was held out" in err
    assert "held out (" not in out


def test_control_c_ends_the_step_and_keeps_the_state(
    cases: list[str], parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finetune._FineTuner.learn

    def interrupted(self: Any, data: Any, step: int) -> float:
        if step == 0:  # a second one would end it at once
            signal.raise_signal(signal.SIGINT)
        return whole(self, data, step)

    monkeypatch.setattr(finetune._FineTuner, "learn", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert learn(cases[:1], parent, tmp_path / "new.safetensors") == cli.INTERRUPTED
    assert load_state(tmp_path / "new.run" / "state.pt")["step"] == 1
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["no_such_ct.nii.gz"], "is no case: give a case file"),
        (["{cases}/anna.nii.gz"], "is no case: give a case file"),
        (["{cases}/anna.nru", "{cases}/anna.nru"], "anna.nru: given more than once"),
    ],
)
def test_what_is_no_case_is_refused(
    cases: list[str],
    parent: Path,
    tmp_path: Path,
    wrong: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = str(Path(cases[0]).parent)
    given = [each.format(cases=folder) for each in wrong]
    assert learn(given, parent, tmp_path / "new.safetensors") == cli.REFUSED
    assert said in capsys.readouterr().err


def test_the_parent_is_not_written_over(cases: list[str], parent: Path) -> None:
    assert learn(cases, parent, parent) == cli.REFUSED


# ---- what the cases say


def test_a_case_file_is_read_with_its_edits_and_ticks(cases: list[str]) -> None:
    (lesson,) = lessons_of(Path(cases[0]))
    case = lesson.read(silent)
    chest = make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=11)
    changed = np.zeros(SHAPE, dtype=bool)
    changed[3, 28:34, 28:34] = chest.mask.axial[3, 28:34, 28:34] == 0
    assert np.array_equal(case.edited, changed)
    assert np.array_equal(case.lungs > 0, (chest.mask.axial > 0) | changed)
    assert set(case.trust) == {REVIEWED}
    assert lesson.name == "anna.nru"


def test_a_case_file_without_its_ct_is_refused(cases: list[str], tmp_path: Path) -> None:
    alone = tmp_path / "anna.nru"
    alone.write_bytes(Path(cases[0]).read_bytes())
    with pytest.raises(CtMissingError, match=r"anna.nru needs its CT anna.nii.gz"):
        lessons_of(alone)[0].read(silent)


def test_slices_are_trusted_by_what_a_person_said_of_them(cases: list[str]) -> None:
    chest = make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=11)
    case = Case(open_ct(Path(cases[0]).with_name("anna.nii.gz")))
    case.begin(Run("m", "0" * 64, 32, "cpu", "float32", (0, 64, 0, 64)))
    case.probability[...] = np.where(chest.mask.axial > 0, 200, 20)
    case.done[:5] = True
    case.settle()
    case.mask[0, 5, 5] = 1  # edited
    case.mask[1, 5, 5] = 1
    case.tick(1)  # edited and ticked
    case.mask[2, 5, 5] = 1
    case.flag(2)  # edited and flagged
    case.tick(3)
    case.mask[3, 5, 5] = 1  # edited since it was ticked
    found = corrected_case("anna", case.record(), case.volume)  # slice 4 was run, 5 was not
    assert list(found.trust) == [EDITED, REVIEWED, 0, EDITED, AUTOMATIC, 0]


def test_a_pair_that_lacks_its_mask_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dora_ct.nii.gz").touch()
    with pytest.raises(
        InputError, match=r"dora_ct.nii.gz needs one mask beside it, dora_lungs.\*; there are 0"
    ):
        lessons_of(tmp_path / "dora_ct.nii.gz")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    chest = make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=11)
    return make_cohort(tmp_path / "out", chest, {"anna": 0.1, "ben": 0.2})


def test_of_a_cohort_the_accepted_cases_count_with_what_was_changed(cohort: Path) -> None:
    opened = open_for_review(cohort, read_entry(cohort, "anna"))
    array = opened.mask.array.copy()
    array[3, 5:8, 5:8] = 1
    accept(cohort, opened.entry, opened.volume, dataclasses.replace(opened.mask, array=array))
    (lesson,) = reviewed_lessons(cohort)
    case = lesson.read(silent)
    assert (lesson.name, int(case.edited.sum())) == ("anna", 9)
    assert case.edited[3, 5:8, 5:8].all()
    assert set(case.trust) == {REVIEWED}


def test_a_cohort_in_which_nothing_was_accepted_is_refused(cohort: Path) -> None:
    with pytest.raises(InputError, match=r"no case of .* was accepted yet; review it first"):
        reviewed_lessons(cohort)
