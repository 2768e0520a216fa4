from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import napari_resunet as nru
from napari_resunet.case import Case
from napari_resunet.errors import InputError, OutputError
from napari_resunet.geometry import AxisOrder
from napari_resunet.inference.predict import Batch
from napari_resunet.io.case_file import write_case
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.files import write_mask, write_probability
from napari_resunet.io.open_ct import open_ct
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Mask, Run
from napari_resunet.workflows import export_case

RUN = Run("tiny", "0123", 32, "cpu", "float32", (0, 96, 10, 90))
STORED = AxisOrder((1, 2, 0), (True, False, True))


@pytest.fixture(scope="module", params=["NIfTI", "DICOM"])
def ct(request: pytest.FixtureRequest, chest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CT whose array lies otherwise than as axial slices, and a DICOM series."""
    folder = tmp_path_factory.mktemp("ct")
    if request.param == "DICOM":
        write_ct_series(chest.volume, folder / "ct")
        return folder / "ct"
    array, geometry = STORED.apply(chest.volume.array), chest.volume.geometry.reordered(STORED)
    image = nib.Nifti1Image(array.T, geometry.ras_affine)
    image.header["descrip"] = b"Jane Doe"
    image.set_qform(geometry.ras_affine, code=3)
    nib.save(image, folder / "ct.nii.gz")
    return folder / "ct.nii.gz"


@pytest.fixture
def case(ct: Path) -> Case:
    return Case(open_ct(ct, InputAnswers(hu_offset=0.0)))  # leaves a note


@pytest.fixture
def found(chest) -> np.ndarray:
    """Probabilities of the made-up lungs, with a soft rim and gas in the bowel, which clean-up drops."""
    lungs = chest.volume.geometry.to_axial.apply(chest.mask.array) > 0
    found = np.where(lungs, 230, 20).astype(np.uint8)
    found[:, ::7][lungs[:, ::7]] = 120
    found[2:4, 60:63, 45:48] = 240
    return found


def run(case: Case, found: np.ndarray, *blocks: tuple[int, int]) -> None:
    case.begin(RUN)
    for start, stop in blocks:
        case.accept(RUN, Batch(start, stop, found[start:stop]))


def paint(case: Case) -> None:
    case.mask[5, 10:20, 10:20] = 1
    case.mask[9, 40:60, 20:50] = 0
    case.absorb_edits()


def segmented(case: Case, found: np.ndarray) -> None:
    run(case, found, (10, 28), (0, 10))
    paint(case)


def begun_elsewhere(case: Case, found: np.ndarray) -> None:
    axial = np.zeros_like(found)
    axial[:, 30:50, 60:80] = 1
    to_axial = case.volume.geometry.to_axial
    array = np.ascontiguousarray(to_axial.undo(axial))
    case.adopt(Mask(array, case.volume.geometry), name="yesterday.nii.gz")
    run(case, found, (4, 12))
    paint(case)


def painted(case: Case, found: np.ndarray) -> None:
    paint(case)


def forgotten(case: Case, found: np.ndarray) -> None:
    segmented(case, found)
    case.forget_edits()
    case.mask[20, 1:9, 1:9] = 1
    case.tick(20)


HISTORIES = [segmented, begun_elsewhere, painted, forgotten]


def same_sidecars(one: Path, other: Path) -> bool:
    said = [json.loads(path.read_text(encoding="utf-8")) for path in (one, other)]
    for sidecar in said:
        del sidecar["created"]
    return said[0] == said[1]


@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize(
    "choices", [{}, {"threshold": 0.4, "clean": False, "split": True}, {"swap_sides": True}]
)
@pytest.mark.parametrize("split", [None, True, False])
def test_a_case_file_exports_the_bytes_that_the_window_exports(
    history: Callable[[Case, Any], None],
    choices: dict[str, Any],
    split: bool | None,
    case: Case,
    found: np.ndarray,
    tmp_path: Path,
) -> None:
    history(case, found)
    case.change_settings(**choices)
    for folder in ("window", "file"):
        (tmp_path / folder).mkdir()
    receipt = write_mask(case.finished_mask(split=split), tmp_path / "window" / "lungs.nii.gz")
    write_case(case.record(), tmp_path / "case.nru")
    exported = export_case(tmp_path / "case.nru", tmp_path / "file" / "lungs.nii.gz", split=split)
    assert exported.path.read_bytes() == receipt.path.read_bytes()
    assert same_sidecars(exported.sidecar, receipt.sidecar)
    assert str(exported).removeprefix(str(exported.path)) == str(receipt).removeprefix(str(receipt.path))
    assert receipt.voxels > 0


@pytest.mark.parametrize("ending", [".nii", ".tif", ".mha", ".nrrd"])
def test_it_does_so_in_every_format(ending: str, case: Case, found: np.ndarray, tmp_path: Path) -> None:
    segmented(case, found)
    write_case(case.record(), tmp_path / "case.nru")
    receipt = write_mask(case.finished_mask(), tmp_path / f"window{ending}")
    exported = export_case(tmp_path / "case.nru", tmp_path / f"file{ending}")
    assert exported.path.read_bytes() == receipt.path.read_bytes()


def test_the_probability_map_is_written_as_the_window_writes_it(
    case: Case, found: np.ndarray, tmp_path: Path
) -> None:
    run(case, found, (4, 12))
    write_case(case.record(), tmp_path / "case.nru")
    receipt = write_probability(case.probability_map(), tmp_path / "window.nii.gz")
    export_case(tmp_path / "case.nru", tmp_path / "m.nii.gz", probability=tmp_path / "file.nii.gz")
    assert (tmp_path / "file.nii.gz").read_bytes() == receipt.path.read_bytes()
    history = json.loads((tmp_path / "file.json").read_text())["history"]
    assert history["slices"] == {"predicted": 8, "of": 28}


def test_the_mask_lies_on_the_grid_of_the_ct(ct: Path, case: Case, found: np.ndarray, tmp_path: Path) -> None:
    segmented(case, found)
    write_case(case.record(), tmp_path / "case.nru")
    export_case(tmp_path / "case.nru", tmp_path / "m.nii.gz")
    mask, volume = nru.read_mask(tmp_path / "m.nii.gz"), nru.read_volume(ct)
    assert mask.geometry.matches(volume.geometry, within_mm=1e-3)
    np.testing.assert_array_equal(mask.array, case.finished_mask().array)


def test_a_case_without_a_mask_is_refused_as_in_the_window(case: Case, tmp_path: Path) -> None:
    write_case(case.record(), tmp_path / "case.nru")
    with pytest.raises(InputError, match="there is no mask yet: run the network, or paint one"):
        export_case(tmp_path / "case.nru", tmp_path / "m.nii.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["case.nru"]


@pytest.mark.parametrize("history", [segmented, begun_elsewhere])
def test_what_a_hand_did_alone_is_not_exported_as_the_whole_mask(
    history: Callable[[Case, Any], None], case: Case, found: np.ndarray, tmp_path: Path
) -> None:
    history(case, found)
    write_case(case.record(whole=False), tmp_path / "case.nru")
    with pytest.raises(InputError, match=r"case\.nru holds only what a hand did; open its CT"):
        export_case(tmp_path / "case.nru", tmp_path / "m.nii.gz")


def test_f09_the_ct_is_never_written_over(
    ct: Path, case: Case, found: np.ndarray, tmp_path: Path, outcome
) -> None:
    segmented(case, found)
    write_case(case.record(), tmp_path / "case.nru")
    if ct.is_dir():
        shutil.copytree(ct, tmp_path / "ct")
        targets = [tmp_path / "ct" / "m.nii.gz"]
        targets[0].write_bytes(b"a file of the series")
    else:
        targets = [tmp_path / "ct.nii.gz", tmp_path / "elsewhere.nii.gz", tmp_path / "link.nii.gz"]
        for target in targets[:2]:
            shutil.copy(ct, target)
        targets[2].symlink_to(targets[0])
    for target in targets:
        before = target.read_bytes()
        with pytest.raises(OutputError, match="is the CT itself, which is never written over"):
            export_case(tmp_path / "case.nru", target)
        with pytest.raises(OutputError, match="is the CT itself, which is never written over"):
            export_case(tmp_path / "case.nru", tmp_path / "m.nii.gz", probability=target)
        assert target.read_bytes() == before
    assert not (tmp_path / "m.nii.gz").exists()
    outcome("REFUSE", "… is the CT itself, which is never written over; choose another name")


def test_f06_what_cannot_be_written_is_said_before_anything_is(case: Case, tmp_path: Path, outcome) -> None:
    write_case(case.record(), tmp_path / "case.nru")
    with pytest.raises(OutputError, match="does not exist; create it"):
        export_case(tmp_path / "case.nru", tmp_path / "no" / "m.nii.gz")
    with pytest.raises(OutputError, match="has an ending that cannot be written"):
        export_case(tmp_path / "case.nru", tmp_path / "m.nru")
    with pytest.raises(OutputError, match="has an ending that cannot be written"):
        export_case(tmp_path / "case.nru", tmp_path / "m.nii", probability=tmp_path / "p.mha")
    outcome("REFUSE", "the folder … does not exist; create it")
