"""What the pages in docs/ say is so: their commands, their Python, their links and the words of the window."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_making import tiny_model
from typer.main import get_command

from napari_resunet import cli, workflows
from napari_resunet.case import Case
from napari_resunet.cohort.answers import read_rows, said_in
from napari_resunet.geometry import Geometry
from napari_resunet.model.card import read_card
from napari_resunet.model.checkpoint import save_model
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.phantom import Phantom
from napari_resunet.training.corrections import read_corrections
from napari_resunet.volume import Volume

pytestmark = pytest.mark.usefixtures("quick_network")
ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "napari_resunet" / "model" / "builtin" / "lung-ct.md"]
WINDOW_PAGES = ("another-image", "one-ct", "correction-and-review", "cohort", "teaching")
NAPARIS_OWN = {
    "Plugins",
    "Segment any image",
    "Residual U-Net lung segmentation",
}  # menus, and names in napari.yaml


def text_of(page: str) -> str:
    return (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The arguments of each napari-resunet command, without what the shell does to its output."""
    lines = "\n".join(blocks(text, "bash")).splitlines()
    found = [shlex.split(line.partition(" > ")[0], comments=True) for line in lines]
    return [words[1:] for words in found if words and words[0] == "napari-resunet"]


def words_of_the_window() -> set[str]:
    """Every text in the code of the window and in the choices it is made from."""
    files = [*(ROOT / "napari_resunet" / "plugin").rglob("*.py"), ROOT / "napari_resunet" / "settings.py"]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    return {
        node.value
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_is_one_that_the_command_line_takes(page: Path) -> None:
    known = get_command(cli.app).commands
    for name, *arguments in commands(page.read_text(encoding="utf-8")):
        known[name].make_context(name, arguments)  # raises for a wrong option, value or number of arguments


def test_the_tutorials_hold_the_commands_that_are_checked() -> None:
    counts = {page.stem: len(commands(page.read_text(encoding="utf-8"))) for page in PAGES}
    assert {page: count for page, count in counts.items() if count} == {
        "another-image": 4,
        "cohort": 12,
        "correction-and-review": 5,
        "lung-ct": 1,
        "one-ct": 6,
        "teaching": 6,
        "training": 7,
    }


def test_the_commands_for_one_ct_do_what_they_say(
    chest: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    windows = []
    monkeypatch.setattr(workflows, "make_phantom", lambda: chest)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.chdir(tmp_path)
    for arguments in commands(text_of("one-ct")):
        opened = cli.run(arguments, open_window=lambda ct, **_options: windows.append(ct))
        assert opened == 0, capsys.readouterr().err
    assert windows == [Path("demo/ct")]
    assert all(
        (tmp_path / name).exists()
        for name in ("demo/lungs.png", "demo/truth.nii.gz", "lungs.json", "lungs.png", "figures.csv")
    )
    dice = re.search(r"^lungs: Dice ([\d.]+)", capsys.readouterr().out, flags=re.MULTILINE)
    assert dice is not None
    assert float(dice[1]) > 0.9


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text("utf-8")], ids=lambda page: page.stem
)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = tiny_model(1, ("nucleus", "membrane"))
    save_model(cells.network, cells.card, tmp_path / "cells.safetensors")
    shutil.copytree(ROOT / "sample_data" / "phantom_dicom", tmp_path / "demo" / "ct")
    monkeypatch.chdir(tmp_path)
    for number, snippet in enumerate(blocks(page.read_text(encoding="utf-8"), "python")):
        (tmp_path / f"{number}.py").write_text(snippet, encoding="utf-8")
        runpy.run_path(f"{number}.py")


@pytest.mark.parametrize("page", WINDOW_PAGES)
def test_what_stands_in_italics_is_in_the_window(page: str) -> None:
    prose = re.sub(r"```.*?```|`[^`]*`|\*\*[^*]*\*\*", "", text_of(page), flags=re.DOTALL)
    told = {
        " ".join(part.split()) for phrase in re.findall(r"\*([^*]+)\*", prose) for part in phrase.split(" > ")
    }
    assert len(told) > 2
    assert told - words_of_the_window() - NAPARIS_OWN == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(((?!https?://|#)[^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_tables_of_the_tutorials_are_read_as_they_stand(tmp_path: Path) -> None:
    (answers,) = re.findall(r"```\n(case,spacing_mm.*?)```", text_of("cohort"), flags=re.DOTALL)
    (corrections,) = re.findall(r"```\n(case,slices.*?)```", text_of("training"), flags=re.DOTALL)
    for name, table in (("answers.csv", answers), ("corrections.csv", corrections)):
        (tmp_path / name).write_text(table, encoding="utf-8")
    said = [said_in(row, "") for _, row in read_rows(tmp_path / "answers.csv")]
    assert said == [{"spacing_mm": (5.0, 0.7, 0.7)}, {"accept_gaps": True}]
    mended = read_corrections(tmp_path / "corrections.csv")
    assert [(each.first, each.stop, each.action) for each in mended] == [
        (40, 52, "close"),
        (12, 13, "leave out"),
    ]


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert pages == set(re.findall(r"\(([\w/-]+/[\w-]+\.md)\)", readme))


def test_a_slice_of_an_open_case_takes_the_memory_that_the_questions_tell() -> None:
    volume = Volume(np.zeros((4, 512, 512), np.int16), Geometry.from_spacing((4, 512, 512), (1, 1, 1)))
    case = Case(volume)
    parts = (volume.array, case.probability, case.mask, case.edit, case.automatic)
    mib = sum(part.nbytes for part in parts) / 4 / 2**20
    assert f"| together, in the window | {mib:g} MiB | {300 * mib:g} MiB |" in text_of("faq")


def test_the_reference_is_what_the_code_says() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["page"]()
    assert text_of("reference") == made, "run: python docs/make_reference.py"


def test_the_picture_of_the_network_is_that_of_the_weights_that_ship() -> None:
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
    card = read_card("lung-ct")
    down, up = drawing["boxes"](card.network, card.grid)
    words = {drawing["caption"](card), *(text for box in (*down, *up) for text in (box.label, box.what))}
    picture = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r">([^<>]+)</text>", picture))
    assert words <= drawn, "run: python docs/draw_architecture.py"


def test_the_drawing_takes_its_shapes_from_the_network() -> None:
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))
    down, up = drawing["boxes"](NetworkSettings(shortcut="identity", stem=1, units=(2, 1), width=8), 64)
    assert [box.shape for box in down] == [(8, 64, 64), (8, 32, 32), (16, 16, 16)]
    assert [box.shape for box in up] == [(8, 32, 32), (8, 64, 64), (1, 64, 64)]
