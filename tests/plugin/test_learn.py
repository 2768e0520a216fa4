from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import pytest
import torch
from magicgui.widgets import ComboBox
from napari.components import ViewerModel
from qtpy.QtCore import QThreadPool

from napari_resunet.case import Case
from napari_resunet.io.case_file import write_case
from napari_resunet.io.open_ct import open_ct
from napari_resunet.model.checkpoint import load_model, load_state, save_model
from napari_resunet.model.resunet import ResUNet
from napari_resunet.phantom import make_phantom
from napari_resunet.plugin.panels.learn import LearnPanel
from napari_resunet.plugin.panels.segment import OTHER_FILE
from napari_resunet.plugin.session import Session
from napari_resunet.settings import TrainSettings
from napari_resunet.training import finetune, replay
from napari_resunet.training.loop import new_card

pytestmark = pytest.mark.usefixtures("unstyled")

SHAPE, SPACING_MM = (6, 64, 64), (40.0, 5.75, 5.75)


class Answers:
    """What the user answers to the dialogs, and what the window says of errors."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.path: Path | None = None
        self.errors: list[Exception] = []

    def cases(self) -> list[Path]:
        return self.files

    def model(self, _name: str) -> Path | None:
        return self.path


@pytest.fixture(autouse=True)
def small_replay(monkeypatch):
    chests = {"_SHAPE": SHAPE, "_SPACING_MM": SPACING_MM, "_TO_LEARN": (1,), "_TO_MEASURE": (101,)}
    for name, value in chests.items():
        monkeypatch.setattr(replay, name, value)


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    card = new_card(TrainSettings(width=4, grid=32), name="tiny")
    card = dataclasses.replace(card, network=dataclasses.replace(card.network, units=(1, 1, 1, 1)))
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("parent") / "tiny.safetensors"
    save_model(ResUNet(card.network), card, path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[Path]:
    """Case files of two made-up chests, whose slices are ticked."""
    folder, made = tmp_path_factory.mktemp("cases"), []
    for seed, name in ((11, "anna"), (12, "ben")):
        chest = make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=seed)
        ct = folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(chest.volume.array.transpose(2, 1, 0), chest.volume.geometry.ras_affine), ct)
        case = Case(open_ct(ct))
        case.adopt(chest.mask, name="truth")
        for z in range(len(case.mask)):
            case.tick(z)
        made.append(folder / f"{name}.nru")
        write_case(case.record(), made[-1])
    return made


@pytest.fixture
def answers(tmp_path, files) -> Answers:
    found = Answers()
    found.files, found.path = files, tmp_path / "new.safetensors"
    return found


@pytest.fixture
def panel(parent, answers, qtbot):
    session = Session(ViewerModel())
    session.events.failed.connect(answers.errors.append)
    models = ComboBox(choices=["lung-ct", str(parent), OTHER_FILE])
    panel = LearnPanel(session, models, ask_cases=answers.cases, ask_model=answers.model)
    qtbot.addWidget(panel.native)
    panel.parent_model.value, panel.recipe["steps"].value = str(parent), 3
    panel.device.value = "cpu"
    yield panel
    session.close()
    assert QThreadPool.globalInstance().waitForDone(30_000)


def ended(panel, qtbot) -> None:
    qtbot.waitUntil(lambda: not panel.learning.is_running, timeout=60_000)


def start(panel) -> None:
    panel.add.native.click()
    panel.start.native.click()


def after_steps(panel, qtbot, steps: int) -> None:
    qtbot.waitUntil(lambda: len(panel.learning.losses) >= steps, timeout=60_000)


def test_what_cannot_be_pressed_says_why(panel) -> None:
    assert {
        button.text: button.tooltip for button in (panel.start, panel.stop, panel.resume, panel.remove)
    } == {
        "Start…": "Add a corrected case first.",
        "Stop": "Nothing is at work.",
        "Resume": "Nothing was stopped.",
        "Remove": "Choose cases in the list first.",
    }
    assert not any(button.enabled for button in (panel.start, panel.stop, panel.resume, panel.remove))
    assert (panel.open_case.enabled, panel.open_case.tooltip) == (
        False,
        "Open a CT and correct its mask first.",
    )


def test_cases_are_added_held_out_and_removed(panel) -> None:
    panel.add.native.click()
    panel.add.native.click()  # the same once more
    assert list(panel.cases.choices) == ["anna.nru", "ben.nru"]
    assert list(panel.held_out.choices) == ["at random", "anna.nru", "ben.nru"]
    panel.cases.value = ["anna.nru"]
    panel.remove.native.click()
    assert list(panel.cases.choices) == ["ben.nru"]


def test_a_learning_ends_with_a_table_and_the_new_model_can_be_chosen(
    panel, answers, qtbot, monkeypatch
) -> None:
    monkeypatch.setattr(finetune, "speaks_against", lambda _before, _after: ())
    panel.add.native.click()
    panel.held_out.value = "ben.nru"
    panel.start.native.click()
    ended(panel, qtbot)
    assert answers.errors == []
    assert [line.step for line in panel.learning.lines] == [0, 3]
    assert len(panel.curves.loss.getData()[0]) == 3
    assert "Held out: ben.nru" in panel.figures.value
    assert panel.state.value == "Written. It is better on ben.nru, which it has not seen."
    panel.use.native.click()
    assert panel._models.value == str(answers.path)
    assert load_model(answers.path).card.name == "new"
    assert panel.learning.learnt is None


def test_a_model_that_is_no_better_is_written_only_if_it_is_used(panel, answers, qtbot, monkeypatch) -> None:
    monkeypatch.setattr(finetune, "speaks_against", lambda _before, _after: ("it is worse",))
    start(panel)
    ended(panel, qtbot)
    assert panel.state.value.startswith("Not better: it is worse. It was not written")
    assert not answers.path.exists()
    chosen = panel._models.value
    panel.forget.native.click()
    assert panel._models.value == chosen
    assert not answers.path.exists()
    panel.start.native.click()  # all steps are made: only the comparison is left
    ended(panel, qtbot)
    panel.use.native.click()
    assert answers.path.is_file()


def test_a_learning_is_stopped_and_resumed(panel, answers, qtbot) -> None:
    panel.recipe["steps"].value = 6
    start(panel)
    after_steps(panel, qtbot, 2)
    assert not panel.start.enabled
    panel.stop.native.click()
    ended(panel, qtbot)
    done = panel.learning.losses[-1][0]
    assert panel.state.value.startswith("stopped; what was learnt so far is kept")
    assert load_state(answers.path.with_suffix(".run") / "state.pt")["step"] >= done
    assert panel.resume.enabled
    panel.resume.native.click()
    ended(panel, qtbot)
    assert answers.errors == []
    assert panel.learning.losses[-1][0] == 6
    assert panel.learning.learnt is not None


def test_closing_the_window_stops_it_and_keeps_the_state(panel, answers, qtbot) -> None:
    panel.recipe["steps"].value = 500
    start(panel)
    after_steps(panel, qtbot, 1)
    panel.learning.session.close()
    assert QThreadPool.globalInstance().waitForDone(30_000)
    assert 1 <= load_state(answers.path.with_suffix(".run") / "state.pt")["step"] < 500


def test_the_open_case_is_learnt_from_as_it_is_now(panel, answers, files, qtbot) -> None:
    session, volume = panel.learning.session, open_ct(files[0].with_name("anna.nii.gz"))
    session.show_ct(volume)
    session.adopting.adopt_mask(make_phantom(shape=SHAPE, spacing_mm=SPACING_MM, seed=11).mask, name="truth")
    assert panel.open_case.text == "The open case, anna.nii.gz"
    panel.open_case.value = True
    panel.start.native.click()
    ended(panel, qtbot)
    (error,) = answers.errors
    assert str(error).startswith("anna.nii.gz teaches nothing: none of its slices was corrected or ticked")
    assert panel.state.value == str(error)
    session.case.mask[2, 20:40, 10:20] = 1
    panel.start.native.click()
    ended(panel, qtbot)
    assert len(answers.errors) == 1
    assert panel.learning.learnt is not None
