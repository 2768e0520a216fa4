from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import InputError
from napari_resunet.io import sidecar
from napari_resunet.io.sidecar import describe_source, read_sidecar, write_sidecar


@dataclass(frozen=True)
class Settings:
    threshold: float = 0.5


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_sidecar(tmp_path / "a.json", {"history": {"edits": 3}})
    record = read_sidecar(tmp_path / "a.json")
    assert record["history"] == {"edits": 3}
    assert record["program"] == "napari-resunet"
    assert record["created"].endswith("+00:00")
    assert "research use only" in record["notice"]


def test_numpy_records_and_paths_become_plain(tmp_path: Path) -> None:
    facts = {
        "n": np.int64(3),
        "row": np.arange(2),
        "settings": Settings(),
        "mapping": MappingProxyType({"a": 1}),
        "weights": Path("/home/Jane Doe/w.safetensors"),
        "set": {2, 1},
    }
    write_sidecar(tmp_path / "a.json", facts)
    record = read_sidecar(tmp_path / "a.json")
    expected = {"n": 3, "row": [0, 1], "settings": {"threshold": 0.5}, "mapping": {"a": 1}, "set": [1, 2]}
    assert {name: record[name] for name in expected} == expected
    assert record["weights"] == "w.safetensors"


def test_what_json_cannot_hold_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        write_sidecar(tmp_path / "a.json", {"strange": object()})
    assert list(tmp_path.iterdir()) == []


def test_no_source_is_none() -> None:
    assert describe_source(None) is None


def test_a_program_that_is_not_installed_has_an_unknown_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert sidecar.program_version() == "unknown"
    monkeypatch.setattr(metadata, "version", lambda _: "1.2")
    assert sidecar.program_version() == "1.2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "was not written by napari-resunet"),
        ('{"program": "other"}', "was not written by napari-resunet"),
        (json.dumps({"program": "napari-resunet", "format_version": 99}), "newer than 1; update"),
        (json.dumps({"program": "napari-resunet"}), "format version None"),
    ],
)
def test_b63_another_json_is_refused(text: str, message: str, tmp_path: Path, outcome: Outcome) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        read_sidecar(tmp_path / "a.json")
    outcome("REFUSE", told(refused))
