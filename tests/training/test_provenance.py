from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from napari_resunet.errors import CheckpointError
from napari_resunet.settings import TrainSettings
from napari_resunet.training.cases import TrainingCase
from napari_resunet.training.provenance import FILE_NAME, record_provenance


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "carl_dicom").mkdir(parents=True)
    for name in ("anna_ct", "anna_lungs", "ben_ct", "carl_dicom/1", "carl_dicom/2", "carl_lungs", "list.csv"):
        (folder / name).write_text(name)
    return folder


def record(files: Path, run: Path, **changes: Any) -> dict[str, Any]:
    told = {
        "settings": TrainSettings(seed=3),
        "device": "this CPU",
        "training": [
            TrainingCase("anna", "anna", files / "anna_ct", files / "anna_lungs"),
            TrainingCase("ben", "ben", files / "ben_ct", None),
        ],
        "validation": [TrainingCase("carl", "carl", files / "carl_dicom", files / "carl_lungs")],
        "corrections": files / "list.csv",
    }
    return record_provenance(run, **{**told, **changes})


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_run_tells_settings_split_and_checksums(files: Path, tmp_path: Path) -> None:
    record(files, tmp_path / "run")
    told = json.loads((tmp_path / "run" / FILE_NAME).read_text())
    assert told["settings"]["seed"] == 3
    assert told["training"] == {
        "anna": {"image": sha256("anna_ct"), "mask": sha256("anna_lungs")},
        "ben": {"image": sha256("ben_ct"), "mask": None},
    }
    series = sha256(sha256("carl_dicom/1") + sha256("carl_dicom/2"))
    assert told["validation"] == {"carl": {"image": series, "mask": sha256("carl_lungs")}}
    assert told["corrections"] == {"file": "list.csv", "sha256": sha256("list.csv")}


def test_what_is_told_is_what_is_written(files: Path, tmp_path: Path) -> None:
    told = record(files, tmp_path / "run", corrections=None)
    assert told["corrections"] is None
    assert told == json.loads((tmp_path / "run" / FILE_NAME).read_text())


@pytest.mark.parametrize(
    ("changed", "what"), [("ben_ct", "training"), ("carl_dicom/2", "validation"), ("list.csv", "corrections")]
)
def test_a_training_is_not_taken_up_with_other_files(
    changed: str, what: str, files: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    record(files, run)
    (run / "state.pt").touch()
    record(files, run)  # the same again is welcome
    (files / changed).write_text("something else")
    with pytest.raises(CheckpointError, match=f"begun with other {what} files; give those again"):
        record(files, run)


def test_a_training_that_is_refused_for_its_settings_keeps_its_record(files: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    record(files, run)
    (run / "state.pt").touch()
    with pytest.raises(CheckpointError, match="begun with other settings; give those again"):
        record(files, run, settings=TrainSettings(seed=4))
    assert json.loads((run / FILE_NAME).read_text())["settings"]["seed"] == 3


def test_without_a_state_there_is_nothing_to_be_taken_up(files: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    record(files, run)
    (files / "ben_ct").write_text("something else")
    assert record(files, run)["training"]["ben"]["image"] == sha256("something else")


def test_a_damaged_record_is_refused(files: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    record(files, run)
    (run / "state.pt").touch()
    (run / FILE_NAME).write_text("{")
    with pytest.raises(CheckpointError, match=r"run.json cannot be read; delete .*run to begin anew"):
        record(files, run)
