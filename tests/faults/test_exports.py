from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_resunet import workflows
from napari_resunet.errors import OutputError
from napari_resunet.geometry import Geometry
from napari_resunet.io import atomic
from napari_resunet.io.atomic import replacing
from napari_resunet.io.export import write_mask
from napari_resunet.io.files import read_mask
from napari_resunet.io.one_writer import only_writer
from napari_resunet.volume import Mask

HERE = Path(__file__).parent
SHAPE = (3, 4, 5)


def mask(value: int = 1) -> Mask:
    return Mask(np.full(SHAPE, value, np.uint8), Geometry.from_spacing(SHAPE, (2.5, 0.7, 0.7)))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def killed(*what: str) -> subprocess.CompletedProcess[str]:
    script = HERE.parent / "benchmarks" / "kill.py"
    command = [sys.executable, "-W", "ignore", str(script), "--points", "8", "--only", *what]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_f01_a_kill_at_any_moment_of_an_export_leaves_the_old_file_or_the_new_one(outcome) -> None:
    done = killed("nifti", "tiff", "case")
    assert done.returncode == 0, done.stdout + done.stderr
    outcome("old or new file", "nothing: what was left unfinished is swept away by the next export")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_f03_a_kill_at_any_moment_of_an_autosave_leaves_the_last_one_or_the_new_one(outcome) -> None:
    done = killed("journal")
    assert done.returncode == 0, done.stdout + done.stderr
    outcome("old or new file", "Recover?")


def test_f01_what_a_killed_export_left_is_swept_by_the_next_one(tmp_path: Path, outcome) -> None:
    path = tmp_path / "lungs.nii.gz"
    left = [atomic._temporary(path), atomic._temporary(tmp_path / "lungs.json")]
    others = [tmp_path / ".lungs.nii.gz.part", tmp_path / ".a.part.nii", tmp_path / "notes.part"]
    fresh, stale = (atomic._temporary(tmp_path / f"other{i}.nii.gz") for i in range(2))
    for file in (*left, *others, fresh, stale):
        file.write_text("half")
    two_days_ago = time.time() - 2 * 86_400
    for file in (stale, *others):
        os.utime(file, (two_days_ago, two_days_ago))
    write_mask(mask(), path)
    assert names(tmp_path) == {"lungs.nii.gz", "lungs.json", fresh.name, *(file.name for file in others)}
    outcome("swept", "nothing")


def on_a_small_disk(folder: Path, *command: str) -> dict[str, Any]:
    """What a command says on a file system of 100 kB of its own."""
    as_root = ["unshare", "--user", "--map-root-user", "--mount"]
    mounts = f'mount -t tmpfs -o size=100k tmpfs {folder} && exec "$@"'
    shell = [*as_root, "sh", "-c", mounts, "sh"]
    if not shutil.which("unshare") or subprocess.run([*shell, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let us mount a small disk")
    done = subprocess.run([*shell, *command], capture_output=True, text=True, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".tif", ".mha", ".seg.nrrd", ".nru"])
def test_f04_a_full_disk_is_told_with_the_bytes_and_nothing_is_touched(
    ending: str, tmp_path: Path, outcome
) -> None:
    script = [sys.executable, "-W", "ignore", str(HERE / "small_disk.py"), str(tmp_path), ending]
    found = on_a_small_disk(tmp_path, *script)
    assert re.search(
        rf"lungs{ending} could not be written: the disk is full \(0\.\d MB free, at most 0\.\d MB needed\)",
        found["said"],
    ), found["said"]
    assert found["untouched"]  # the old file and its sidecar, and nothing beside them
    outcome("old file", found["said"].replace(str(tmp_path), "…"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="has no folder that nobody can write to")
def test_f06_a_folder_that_takes_no_file_is_told_before_the_ct_is_read(
    monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    monkeypatch.setattr(workflows, "open_ct", lambda *_: pytest.fail("the CT was read"))
    # to root, it says that it can be written to
    with pytest.raises(
        OutputError, match=r"the folder /proc may not be written to \(.+\); choose another"
    ) as said:
        workflows.segment(Path("ct.nii.gz"), Path("/proc/lungs.nii.gz"))
    outcome("old file", said.value)


def test_f06_a_folder_that_is_gone_is_told_before_the_ct_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, outcome
) -> None:
    monkeypatch.setattr(workflows, "open_ct", lambda *_: pytest.fail("the CT was read"))
    with pytest.raises(
        OutputError, match=r"the folder .*usb does not exist; create it, or choose another"
    ) as said:
        workflows.segment(Path("ct.nii.gz"), tmp_path / "usb" / "lungs.nii.gz")
    outcome("no file", str(said.value).replace(str(tmp_path), "…"))


@pytest.fixture
def in_use(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the system refuse a place a number of times, as Windows does while another program has it open."""

    def refuse(place: Path, times: int) -> list[Path]:
        replace, asked = Path.replace, []

        def refusing(self: Path, target: Path) -> Path:
            if Path(target) == place and len(asked) < times:
                asked.append(self)
                raise PermissionError(13, "The process cannot access the file")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", refusing)
        return asked

    monkeypatch.setattr(atomic, "_PAUSES_S", (0, 0, 0))
    return refuse


def test_f07_a_file_that_is_in_use_for_a_moment_is_written_all_the_same(
    in_use: Any, tmp_path: Path, outcome
) -> None:
    path = tmp_path / "lungs.nii.gz"
    write_mask(mask(1), path)
    asked = in_use(path, 3)
    write_mask(mask(2), path)
    assert len(asked) == 3
    assert (read_mask(path).array == 2).all()
    assert names(tmp_path) == {"lungs.nii.gz", "lungs.json"}
    outcome("new file", "nothing")


def test_f07_of_a_file_that_stays_in_use_the_new_one_is_kept_and_named(
    in_use: Any, tmp_path: Path, outcome
) -> None:
    path = tmp_path / "lungs.nii.gz"
    write_mask(mask(1), path)
    sidecar = (tmp_path / "lungs.json").read_text()
    in_use(path, 99)
    with pytest.raises(
        OutputError, match=r"lungs\.nii\.gz is in use by another program, or protected"
    ) as said:
        write_mask(mask(2), path)
    kept = re.search(r"whole in (lungs\.new-\w{8}\.nii\.gz)", str(said.value))
    assert kept
    assert (read_mask(path).array == 1).all()
    assert (tmp_path / "lungs.json").read_text() == sidecar
    assert (read_mask(tmp_path / kept[1]).array == 2).all()
    assert names(tmp_path) == {"lungs.nii.gz", "lungs.json", kept[1]}
    outcome("old file, new one beside it", str(said.value).replace(str(tmp_path), "…"))


def test_f07_a_journal_keeps_no_such_file(in_use: Any, tmp_path: Path, outcome) -> None:
    path = tmp_path / "hand-0.nru"
    path.write_text("old")
    in_use(path, 99)
    with (
        pytest.raises(OutputError, match="another program has it open") as said,
        replacing(path) as temporary,
    ):
        temporary.write_text("new")
    assert names(tmp_path) == {"hand-0.nru"}
    outcome("old file", str(said.value).replace(str(tmp_path), "…"))


WRITER = """
import sys
from pathlib import Path
from napari_resunet.io.one_writer import only_writer
with only_writer(Path(sys.argv[1])):
    print("at it", flush=True)
    sys.stdin.readline()
"""


def another_program(path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", "-c", WRITER, str(path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "at it\n"
    return child


@pytest.mark.parametrize("name", ["lungs.nii.gz", "lungs.json"])
def test_f08_what_another_program_is_writing_is_left_to_it(name: str, tmp_path: Path, outcome) -> None:
    path = tmp_path / "lungs.nii.gz"
    write_mask(mask(1), path)
    child = another_program(tmp_path / name)
    try:
        with pytest.raises(OutputError, match=rf"{name} is being written by another program") as said:
            write_mask(mask(2), path)
        assert (read_mask(path).array == 1).all()
    finally:
        child.communicate("done\n")
    if os.name != "nt":  # where nobody can read a locked file
        assert f"(process {child.pid} on {socket.gethostname()})" in str(said.value)
    write_mask(mask(2), path)
    assert names(tmp_path) == {"lungs.nii.gz", "lungs.json"}
    text = str(said.value).replace(str(tmp_path), "…").replace(str(child.pid), "N")
    outcome("old file", text.replace(socket.gethostname(), "HOST"))


def test_f08_a_program_that_was_killed_holds_up_nobody(tmp_path: Path, outcome) -> None:
    path = tmp_path / "lungs.nii.gz"
    child = another_program(path)
    child.kill()
    child.communicate()
    write_mask(mask(), path)
    assert names(tmp_path) == {"lungs.nii.gz", "lungs.json"}
    outcome("new file", "nothing")


def test_f08_two_threads_of_one_program_do_not_meet_either(tmp_path: Path, outcome) -> None:
    path = tmp_path / "lungs.nii.gz"
    with only_writer(path), pytest.raises(OutputError, match="is being written by another program"):
        write_mask(mask(), path)
    assert names(tmp_path) == set()
    outcome("no file", "is being written by another program")
