from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_in_the_readme_runs_and_finds_the_lungs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (snippet,) = blocks("python")
    shutil.copytree(ROOT / "sample_data/phantom_dicom", tmp_path / "demo/ct")
    shutil.copy(ROOT / "sample_data/phantom_lungs.nii.gz", tmp_path / "demo/truth.nii.gz")
    (tmp_path / "snippet.py").write_text(snippet)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("snippet.py")
    out = capsys.readouterr().out
    assert "same grid as ct" in out
    assert float(out.split()[-1]) > 0.97


def test_ci_runs_the_test_command_of_the_readme() -> None:
    demo, tests = (block.strip() for block in blocks("bash")[:2])
    assert demo.endswith("napari-resunet demo")
    assert tests in (ROOT / ".ci" / "run").read_text()


def test_every_command_in_the_readme_is_one_with_those_options() -> None:
    from typer.main import get_command

    from napari_resunet.cli import app

    commands = get_command(app).commands
    lines = [line for line in blocks("bash")[2].splitlines() if line.startswith("napari-resunet")]
    assert len(lines) == 7
    for line in lines:
        name = line.split()[1]
        known = {flag for parameter in commands[name].params for flag in parameter.opts}
        assert {word for word in line.partition("#")[0].split() if word.startswith("-")} <= known, line


def test_research_use_only_is_said_before_anything_else_is_done() -> None:
    assert README.index("For research use only") < README.index("```")


def test_every_file_the_readme_names_is_there() -> None:
    links = re.findall(r"\]\(((?!https?://)[^)]+)\)", README)
    for path in (*links, "napari_resunet/model/resunet.py", ".ci/setup"):
        assert (ROOT / path).exists(), path
