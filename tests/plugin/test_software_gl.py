from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from vispy.gloo import gl, glir

from napari_resunet.plugin.software_gl import spare_programs


def test_layers_come_and_go_without_a_crash_of_the_software_renderer() -> None:
    script = Path(__file__).with_name("layers_that_go.py")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "spare"],
        capture_output=True,
        text=True,
        env={**os.environ, "QT_QPA_PLATFORM": "xcb"},
    )
    assert "drawn to the end" in done.stdout, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("renderer", "deleted"), [("llvmpipe (LLVM 15.0.6, 256 bits)", []), ("NVIDIA GeForce", ["program"])]
)
def test_a_program_is_spared_in_software_alone(
    renderer: str, deleted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone: list[str] = []
    monkeypatch.setattr(glir.GlirProgram, "delete", gone.append)
    monkeypatch.setattr(gl, "glGetParameter", lambda _name: renderer)
    spare_programs()
    glir.GlirProgram.delete("program")
    assert gone == deleted


def test_programs_are_spared_once_however_many_widgets_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glir.GlirProgram, "delete", lambda _program: None)
    spare_programs()
    first = glir.GlirProgram.delete
    spare_programs()
    assert glir.GlirProgram.delete is first
