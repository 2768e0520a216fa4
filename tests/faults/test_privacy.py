"""No file that we write, and no line of the log, holds patient data of the CT; but for a DICOM Segmentation."""

from __future__ import annotations

import gzip
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from napari_resunet import workflows
from napari_resunet.case import Case
from napari_resunet.editing.journal import Journal
from napari_resunet.errors import InputError
from napari_resunet.inference import predict
from napari_resunet.io.case_file import write_case
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.files import read_volume, write_mask
from napari_resunet.phantom import Phantom
from napari_resunet.settings import PredictSettings

WHO = {
    "PatientName": "Quirk^Zyxwana",
    "PatientID": "MRN-7741903",
    "PatientBirthDate": "19310203",
    "PatientAddress": "17 Xylophone Lane",
    "OtherPatientIDs": "OLD-5550123",
    "PatientComments": "afraid of wasps",
    "InstitutionName": "Hospital of Ultima Thule",
    "InstitutionAddress": "1 Fjord Quay",
    "ReferringPhysicianName": "Jekyll^Henrietta",
    "OperatorsName": "Frankenham^Igor",
    "AccessionNumber": "ACC-90210-7",
    "StudyDescription": "staging of Quirk",
    "StationName": "SCANNER-OF-THULE",
}
# A segmentation belongs to the patient and the study of its CT: the standard wants these modules copied.
COPIED_BY_THE_STANDARD = {
    *("PatientName", "PatientID", "PatientBirthDate"),
    *("ReferringPhysicianName", "AccessionNumber", "StudyDescription"),
}
WORDS = [word for value in WHO.values() for word in value.split("^")]


@pytest.fixture
def ct(chest: Phantom, tmp_path: Path) -> Path:
    """A DICOM series that says whose it is."""
    folder = tmp_path / "ct"
    for path in write_ct_series(chest.volume, folder):
        tags = pydicom.dcmread(path)
        for keyword, value in WHO.items():
            setattr(tags, keyword, value)
        tags.save_as(path)
    return folder


def unpacked(path: Path) -> Iterator[bytes]:
    """What a file holds, packed and unpacked."""
    yield path.read_bytes()
    if path.name.endswith(".gz"):
        yield gzip.decompress(path.read_bytes())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())
            yield "".join(archive.namelist()).encode()


def told(content: bytes) -> list[str]:
    return [word for word in WORDS if word.encode() in content or word.encode("utf-16-le") in content]


def no_network(_network: Any, _card: Any, slices: Any, **_options: Any) -> Any:
    return np.where(slices < -500, np.uint8(200), np.uint8(0))


def write_all(ct: Path, out: Path) -> None:
    """Write every kind of file that this program writes."""
    cpu = PredictSettings(device="cpu")
    volume, mask, _ = workflows.segment(
        ct,
        out / "lungs.nii.gz",
        predict_settings=cpu,
        probability=out / "p.nii.gz",
        picture=out / "lungs.png",
    )
    for name in ("a.nii", "b.tif", "c.nrrd", "d.mha", "e.seg.nrrd"):
        write_mask(mask, out / name)
    workflows.measure_files(ct, out / "lungs.nii.gz", out / "figures.csv")
    workflows.evaluate_files(out / "lungs.nii.gz", out / "a.nii", out / "agreement.csv")
    case = Case(volume)
    case.adopt(mask, name="lungs.nii.gz")
    case.mask[5, 2:8, 2:8] = 1
    write_case(case.record(), out / "case.nru")
    journal = Journal(out / "journal", case.reference, ct)
    journal.write_base(case.record())
    journal.write(case.record())
    journal.close(keep=True)


def test_no_file_and_no_line_of_the_log_tells_whose_ct_it_is(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    monkeypatch.setattr(predict, "slice_probabilities", no_network)
    out = tmp_path / "out"
    out.mkdir()
    with caplog.at_level(logging.DEBUG):
        write_all(ct, out)
    files = [path for path in out.rglob("*") if path.is_file()]
    endings = {path.suffix for path in files}
    assert endings >= {".gz", ".nii", ".tif", ".nrrd", ".mha", ".json", ".nru", ".csv", ".png"}
    assert {path.name for path in files} >= {"hand-1.nru", "base-1.nru", "owner.json", "e.seg.nrrd"}
    assert {str(path): told(content) for path in files for content in unpacked(path) if told(content)} == {}
    assert told(caplog.text.encode()) == []
    assert told("".join(capfd.readouterr()).encode()) == []


def test_what_is_said_of_a_series_that_is_refused_does_not_tell_whose_it_is(
    ct: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = sorted(ct.iterdir())[0]
    tags = pydicom.dcmread(first)
    tags.PixelSpacing = [-1, 0]
    tags.save_as(first)
    with caplog.at_level(logging.DEBUG), pytest.raises(InputError) as said:
        read_volume(ct)
    assert told(f"{said.value}{said.value.__cause__}{caplog.text}".encode()) == []


def test_a_dicom_segmentation_tells_only_what_the_standard_copies(
    ct: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "slice_probabilities", no_network)
    workflows.segment(ct, tmp_path / "lungs.dcm", predict_settings=PredictSettings(device="cpu"))
    tags = pydicom.dcmread(tmp_path / "lungs.dcm")
    allowed = {word for keyword in COPIED_BY_THE_STANDARD for word in WHO[keyword].split("^")}
    assert set(told((tmp_path / "lungs.dcm").read_bytes())) <= allowed
    assert tags.PatientName == WHO["PatientName"]
    assert [keyword for keyword in WHO if keyword in tags and keyword not in COPIED_BY_THE_STANDARD] == []
    assert told((tmp_path / "lungs.json").read_bytes()) == []


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    for name in ("plain.json", "packed.nii.gz", "case.nru"):
        path = tmp_path / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(b"x" * 100 + b"MRN-7741903" + b"x" * 100))
        elif name.endswith(".nru"):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("case.json", "x" * 100 + "MRN-7741903")
        else:
            path.write_text("MRN-7741903")
        assert any(told(content) for content in unpacked(path)), name
