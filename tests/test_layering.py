from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import napari_resunet

ROOT = Path(napari_resunet.__file__).parent
PACKAGE = "napari_resunet"

# Bottom first. A module imports only from lower levels and from its own group.
LEVELS = [
    {"errors"},
    {"geometry", "hu", "settings", "track"},
    {"volume"},
    {"record"},
    {"imaging", "io", "measure", "model", "phantom", "pictures"},
    {"editing", "inference", "preflight", "training"},
    {"case", "facts", "images", "saved_case"},
    {"image_jobs", "lessons", "workflows"},
    {"cohort"},
    {"cli", "plugin"},
    {"__main__"},
]
LEVEL_OF = {group: level for level, groups in enumerate(LEVELS) for group in groups}

# Big libraries have homes. `facts` tells which torch there is, and imports it only when it is asked; `cohort` asks it
# how many GPUs there are to share out.
HOMES = {
    "torch": {"model", "inference", "training", "images", "facts", "cohort"},
    "safetensors": {"model"},
    "nibabel": {"io"},
    "pydicom": {"io"},
    "tifffile": {"io"},
    "SimpleITK": {"io"},
    "highdicom": {"io"},
    "filelock": {"editing", "io"},
    "platformdirs": {"editing"},
    "pydantic": {"io", "cohort"},
    "distributed": {"cohort"},
    "dask": {"cohort"},
    "jinja2": {"cohort"},
    "PIL": {"io"},
    "skimage": {"imaging"},
    "pyqtgraph": {"plugin"},
    "cc3d": {"imaging"},
    "fill_voids": {"imaging"},
    "matplotlib": {"pictures"},
    "psygnal": {"case", "plugin"},
    "napari": {"plugin"},
    "qtpy": {"plugin"},
    "magicgui": {"plugin"},
    "superqt": {"plugin"},
    "vispy": {"plugin"},
    "typer": {"cli"},
    "rich": {"cli"},
}
NOWHERE = {"PyQt5", "PyQt6", "PySide2", "PySide6"}
HEAVY = {
    "numpy",
    "scipy",
    "torch",
    "matplotlib",
    "nibabel",
    "SimpleITK",
    "napari",
    "qtpy",
    "magicgui",
    "superqt",
    "distributed",
    "dask",
    "pydantic",
}


@dataclass(frozen=True)
class Import:
    """One thing that a module imports."""

    name: str  # dotted
    line: int
    in_function: bool
    for_types: bool


class Reader(ast.NodeVisitor):
    """Collects what a module imports, names and calls, wherever in it."""

    def __init__(self) -> None:
        self.imports: list[Import] = []
        self.names: set[str] = set()  # dotted, with what imports call them resolved
        self.aliases: dict[str, str] = {}
        self.functions = self.type_checks = 0

    def add(self, name: str, line: int) -> None:
        self.imports.append(Import(name, line, self.functions > 0, self.type_checks > 0))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.add(alias.name, node.lineno)
            self.aliases[alias.asname or alias.name.split(".")[0]] = (
                alias.name if alias.asname else alias.name.split(".")[0]
            )

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are absolute"
        for alias in node.names:
            self.add(f"{node.module}.{alias.name}", node.lineno)
            self.names.add(f"{node.module}.{alias.name}")
            self.aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        self.functions += 1
        self.generic_visit(node)
        self.functions -= 1

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_If(self, node: ast.If) -> None:
        for_types = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self.type_checks += for_types
        for child in node.body:
            self.visit(child)
        self.type_checks -= for_types
        for child in node.orelse:
            self.visit(child)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.names.add(self.resolved(ast.unparse(node)))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        self.names.add(self.resolved(node.id))

    def resolved(self, dotted: str) -> str:
        first, *rest = dotted.split(".")
        return ".".join([self.aliases.get(first, first), *rest])


def read(source: str) -> Reader:
    reader = Reader()
    reader.visit(ast.parse(source))
    return reader


def modules() -> Iterator[tuple[str, Path]]:
    """Every module as a path within the package; `__init__.py` at the top imports lazily and is tested apart."""
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        if relative != Path("__init__.py"):
            yield relative.as_posix(), path


MODULES = dict(modules())
READ = {name: read(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def group_of(module: str) -> str:
    return module.split("/")[0].removesuffix(".py")


def group_imported(name: str) -> str | None:
    """The group that a dotted name imports from; None for other packages, and for the package's own version."""
    parts = name.split(".")
    if parts[0] != PACKAGE or len(parts) == 1:
        return None
    return parts[1]


def misplaced(module: str, reader: Reader) -> list[str]:
    """The imports of a module that are neither from below nor from its own group."""
    own = group_of(module)
    found = []
    for entry in reader.imports:
        group = group_imported(entry.name)
        if group is None or group == own:
            continue
        if group not in LEVEL_OF or LEVEL_OF[group] >= LEVEL_OF[own]:
            found.append(f"{module}:{entry.line} imports {entry.name}")
    return found


def homeless(module: str, reader: Reader) -> list[str]:
    """The imports of a library outside of its home."""
    found = []
    for entry in reader.imports:
        library = entry.name.split(".")[0]
        if library in NOWHERE or group_of(module) not in HOMES.get(library, {group_of(module)}):
            found.append(f"{module}:{entry.line} imports {library}")
    return found


def using(name: str) -> set[str]:
    return {module for module, reader in READ.items() if name in reader.names}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_module_and_folder_has_a_level() -> None:
    assert {group_of(module) for module in MODULES} == set(LEVEL_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down_only(module: str) -> None:
    assert misplaced(module, READ[module]) == []


@pytest.mark.parametrize("module", MODULES)
def test_big_libraries_stay_in_their_homes(module: str) -> None:
    assert homeless(module, READ[module]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("volume.py", "from napari_resunet.io.files import read_volume"),
        ("io/nifti.py", "from napari_resunet.model import card"),
        ("imaging/body.py", "def f():\n    from napari_resunet.io import files"),
        ("geometry.py", "import napari_resunet.settings"),
        ("case.py", "from napari_resunet import workflows"),
        ("editing/correction.py", "if TYPE_CHECKING:\n    from napari_resunet.case import Case"),
        ("workflows.py", "from napari_resunet import predict"),  # the lazy API is for users
        ("cli/view.py", "from napari_resunet.plugin import launch"),
    ],
)
def test_a_planted_import_from_above_or_beside_is_found(module: str, source: str) -> None:
    assert len(misplaced(module, read(source))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("case.py", "import torch"),
        ("imaging/body.py", "def f():\n    import nibabel as nib"),
        ("cli/view.py", "from napari import Viewer"),
        ("plugin/dock.py", "from PyQt6.QtCore import Qt"),
        ("workflows.py", "import matplotlib.pyplot as plt"),
    ],
)
def test_a_planted_library_away_from_home_is_found(module: str, source: str) -> None:
    assert len(homeless(module, read(source))) == 1


def test_facts_imports_torch_only_when_asked_for_them() -> None:
    for module in ("facts.py",):
        at_once = [
            entry
            for entry in READ[module].imports
            if not (entry.in_function or entry.for_types)
            and entry.name.startswith(
                ("torch", "napari_resunet.model.device", "napari_resunet.model.checkpoint")
            )
        ]
        assert at_once == []
    assert "torch" not in loaded_by("import napari_resunet.facts")


def test_imports_for_types_alone_are_the_cases_and_the_cohort_commands_own() -> None:
    for_types = {
        module
        for module, reader in READ.items()
        for entry in reader.imports
        if entry.for_types and group_imported(entry.name) not in (None, group_of(module))
    }
    assert for_types <= {"case.py", "cli/cohort.py", "cli/learn.py"}


@pytest.mark.parametrize(
    ("name", "homes"),
    [
        ("torch.load", {"model/checkpoint.py"}),
        ("sys.exit", {"__main__.py"}),
        ("print", {module for module in MODULES if group_of(module) == "cli"}),
        ("napari.qt.threading.create_worker", {"plugin/jobs.py"}),
        ("napari.qt.threading.thread_worker", {"plugin/jobs.py"}),
        ("napari.qt.create_worker", {"plugin/jobs.py"}),
        ("napari.qt.thread_worker", {"plugin/jobs.py"}),
        ("napari.current_viewer", set()),
        ("napari.viewer.current_viewer", set()),
        ("exit", set()),
        ("quit", set()),
        ("os._exit", set()),
        ("breakpoint", set()),
    ],
)
def test_what_is_done_in_one_place_is_done_only_there(name: str, homes: set[str]) -> None:
    assert using(name) <= homes


def test_those_places_are_found() -> None:
    assert using("torch.load") == {"model/checkpoint.py"}
    assert {"cli/lungs.py", "cli/cohort.py"} <= using("print")
    assert using("napari.qt.threading.create_worker") == {"plugin/jobs.py"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch as t\ndef f(p):\n    return t.load(p)", "torch.load"),
        ("from torch import load", "torch.load"),
        ("import sys\nsys.exit(1)", "sys.exit"),
        ("from napari import current_viewer as viewer", "napari.current_viewer"),
        ("f = print", "print"),
    ],
)
def test_a_name_is_found_by_whatever_way_it_came_in(source: str, name: str) -> None:
    assert name in read(source).names


@pytest.mark.parametrize("module", MODULES)
def test_no_assert_is_left_to_the_users_machine(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not loaded_by("import napari_resunet") & (HEAVY | {"typer", "rich", "psygnal"})


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    assert not loaded_by("import napari_resunet.cli") & HEAVY
    assert not loaded_by("import napari_resunet.__main__") & HEAVY


def test_a_case_can_be_opened_and_painted_in_without_torch() -> None:
    assert "torch" not in loaded_by("import napari_resunet.case")


def documented() -> list[str]:
    """The names in the map of the package's docstring, in its order, a folder without its slash."""
    text = napari_resunet.__doc__ or ""
    rows = (
        text.split("Where things live", 1)[1].split("::", 1)[1].strip("\n").split("\n\n", 1)[0].splitlines()
    )
    return [name.rstrip("/") for row in rows for name in re.split(r"\s{2,}", row.strip())[0].split(", ")]


def test_the_map_in_the_docstring_names_every_module_and_folder_once() -> None:
    assert sorted(documented()) == sorted(LEVEL_OF)


def test_the_map_marks_folders_as_folders() -> None:
    for name in LEVEL_OF:
        is_folder = (ROOT / name).is_dir()
        assert re.search(rf"(^|[ ,]){name}/?[, ]", napari_resunet.__doc__ or "", re.MULTILINE), name
        assert (f" {name}/ " in (napari_resunet.__doc__ or "")) == is_folder, name


def test_in_the_map_whatever_is_imported_stands_above() -> None:
    place = {name: i for i, name in enumerate(documented())}
    upward = {
        f"{group_of(module)} imports {group_imported(entry.name)}"
        for module, reader in READ.items()
        for entry in reader.imports
        if (group := group_imported(entry.name)) in place and group_of(module) in place
        if place[group] > place[group_of(module)]
    }
    assert upward == set()


@pytest.mark.parametrize("name", napari_resunet.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert callable(getattr(napari_resunet, name))
    assert name in dir(napari_resunet)


def test_the_package_knows_its_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", napari_resunet.__version__)


def test_a_name_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(AttributeError, match="module 'napari_resunet' has no attribute 'segmnet'"):
        napari_resunet.segmnet  # noqa: B018 the look is the test
