"""Triton has an LLVM of its own, which ends a process with a window drawn by Mesa: it is not to be imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOADING = """
from napari_resunet.model.checkpoint import load_model
load_model("lung-ct")
"""
LEARNING = """
from napari_resunet.model.card import read_card
from napari_resunet.model.device import choose_device
from napari_resunet.settings import TrainSettings
from napari_resunet.training.learner import Learner
Learner(read_card("lung-ct"), TrainSettings(), choose_device("cpu"), 6)
import triton  # whoever wants it later still gets it
"""


def imports_of_triton(code: str, folder: Path) -> int:
    """Return how often some code imports Triton, where there is one to import."""
    log = folder / "imported"
    (folder / "triton").mkdir()
    (folder / "triton" / "__init__.py").write_text(f"open({str(log)!r}, 'a').write('once\\n')\n")
    code = f"import sys\nsys.path.insert(0, {str(folder)!r})\n{code}"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
    return len(log.read_text().splitlines()) if log.exists() else 0


@pytest.mark.parametrize(("code", "count"), [(LOADING, 0), (LEARNING, 1)], ids=["loading", "learning"])
def test_a_model_is_loaded_and_learns_without_triton(code: str, count: int, tmp_path: Path) -> None:
    assert imports_of_triton(code, tmp_path) == count
