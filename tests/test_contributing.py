"""What a contributor is told, and the workflow that tests their work, hold to the project as it is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
WORKFLOW = ROOT / ".github" / "workflows" / "test.yml"
TEST_COMMAND = "python -m pytest -n logical --dist worksteal"


def jobs() -> dict[str, Any]:
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]


def commands() -> str:
    """Whatever a step of any job runs, a line each."""
    steps = [step for job in jobs().values() for step in job["steps"]]
    return "\n".join(step.get("run") or step.get("with", {}).get("run", "") for step in steps)


def test_every_file_that_a_contributor_is_sent_to_is_there() -> None:
    named = re.findall(r"`((?:napari_resunet|tests|docs|\.ci)/[\w/.-]+)`", CONTRIBUTING)
    paths = [path for path in named if "NAME" not in path]
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_names_in_the_recipes_are_in_the_code() -> None:
    for path, name in (
        ("io/kind.py", "KINDS"),
        ("io/kind.py", "kind_of_bytes"),
        ("io/files.py", "read_volume"),
        ("io/files.py", "read_mask"),
        ("settings.py", "ToolSettings"),
        ("plugin/tools.py", "TOOLS"),
    ):
        assert f"`{name}`" in CONTRIBUTING
        assert re.search(
            rf"^(def |class )?{name}\b", (ROOT / "napari_resunet" / path).read_text("utf-8"), re.MULTILINE
        ), name


def test_the_workflow_tests_each_system_python_and_qt_that_is_promised() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = {line.rpartition(" ")[2] for line in project["classifiers"] if ":: 3." in line}
    matrix = jobs()["test"]["strategy"]["matrix"]
    assert set(matrix["python"]) == promised
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["qt"] == ["PyQt6", "PySide6"]


def test_the_workflow_runs_the_projects_own_commands() -> None:
    assert "bash .ci/run" in commands()
    assert "bash .ci/setup" in commands()
    assert TEST_COMMAND in commands()
    assert TEST_COMMAND in (ROOT / "README.md").read_text(encoding="utf-8")
    install = re.search(
        r"install .*(--constraint \S+ --editable \S+)$", (ROOT / ".ci" / "setup").read_text(), re.M
    )
    assert install is not None
    assert install[1] in commands()


def test_the_release_checks_what_contributing_says() -> None:
    for command in (
        "python -m build",
        "python -m twine check --strict dist/*",
        "python -m zipfile -l dist/*.whl",
    ):
        assert command in CONTRIBUTING
        assert command in commands()
