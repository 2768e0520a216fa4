from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from napari_resunet.errors import OutputError
from napari_resunet.io import atomic
from napari_resunet.io.atomic import replacing


def fail_halfway(path: Path, error: BaseException) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def test_the_temporary_file_is_hidden_and_beside_and_ends_alike(tmp_path: Path) -> None:
    with replacing(tmp_path / "lungs.v1.nii.gz") as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".lungs.v1.")
        assert temporary.name.endswith(".part.nii.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["lungs.v1.nii.gz"]
    assert (tmp_path / "lungs.v1.nii.gz").read_text() == "new"


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.nii") as first, replacing(tmp_path / "a.nii") as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a.nii").read_text() == "first"


def test_f01_until_the_end_the_old_file_is_there(tmp_path: Path, outcome) -> None:
    path = tmp_path / "lungs.nii"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    outcome("old file until the end", "nothing")


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_after_a_failure_the_old_file_is_there_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "lungs.nii"
    path.write_text("old")
    with pytest.raises(type(error)):
        fail_halfway(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, r"the disk is full \([\d,.]+ MB free\); make room"),
        (errno.EACCES, "not permitted, or another program has it open"),
        (errno.EIO, "choose another folder or name"),
    ],
)
def test_f04_f06_f07_what_the_system_refuses_is_explained(
    code: int, message: str, tmp_path: Path, outcome
) -> None:
    path = tmp_path / "lungs.nii"
    path.write_text("old")
    with pytest.raises(OutputError, match=message):
        fail_halfway(path, OSError(code, os.strerror(code)))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    outcome("old file", message)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder .*gone; make it"):
        fail_halfway(tmp_path / "gone" / "lungs.nii", ValueError("not reached"))


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "lungs.nii").mkdir()
    with pytest.raises(OutputError, match="it is a folder"), replacing(tmp_path / "lungs.nii") as temporary:
        temporary.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["lungs.nii"]


def test_the_file_is_on_the_disk_before_it_takes_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lungs.nii"
    synced = []
    monkeypatch.setattr(atomic, "_to_disk", lambda what: synced.append((what.name, path.exists())))
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert synced == [(temporary.name, False), (tmp_path.name, True)]


def test_b56_odd_and_long_names_are_written(tmp_path: Path) -> None:
    for name in ("肺 %d #1.nii.gz", "Lünge 🫁.tif", "x" * 240 + ".nii.gz"):
        with replacing(tmp_path / name) as temporary:
            temporary.write_text("new")
        assert (tmp_path / name).read_text() == "new"
