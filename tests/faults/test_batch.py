from __future__ import annotations

import sys
from pathlib import Path

import dask
import nibabel as nib
import numpy as np
from outcomes import Outcome

sys.path.insert(0, str(Path(__file__).parent.parent / "cohort"))
from cohort_making import planted_faults

from napari_resunet import cli
from napari_resunet.cohort.manifest import CaseEntry, read_entries
from napari_resunet.phantom import make_phantom


def test_f34_a_case_that_raises_crashes_or_hangs_is_recorded_and_the_next_is_done(
    tmp_path: Path, outcome: Outcome
) -> None:
    volume = make_phantom(shape=(12, 96, 96), spacing_mm=(25.0, 3.8, 3.8)).volume
    (tmp_path / "in").mkdir()
    for name in ("a_raises", "b_segfaults", "c_hangs", "d_good"):
        image = nib.Nifti1Image(volume.array.astype(np.int16).T, volume.geometry.ras_affine)
        nib.save(image, tmp_path / f"in/{name}.nii.gz")
    arguments = ["cohort", str(tmp_path / "in"), str(tmp_path / "out"), "--device", "cpu", "--no-picture"]
    limits = ["--timeout", "45", "--attempts", "1"]
    with dask.config.set({"distributed.worker.preload": [str(planted_faults(tmp_path))]}):
        code = cli.run([*arguments, *limits], open_window=print)
    found = {Path(entry.source).name.split(".")[0]: entry for entry in read_entries(tmp_path / "out")}
    assert code == 1
    assert {name: entry.status.value for name, entry in found.items()} == {
        "a_raises": "failed",
        "b_segfaults": "failed",
        "c_hangs": "failed",
        "d_good": "done",
    }
    assert found["a_raises"].reason.startswith("RuntimeError: this was planted; see case.log")
    assert found["b_segfaults"].reason.startswith("its process died (attempt 1 of 1)")
    assert found["c_hangs"].reason.startswith("took longer than 45 s (attempt 1 of 1)")
    assert "Segmentation fault" in log_of(found["b_segfaults"], tmp_path / "out")
    assert "this was planted" in log_of(found["a_raises"], tmp_path / "out")
    assert (tmp_path / "out" / found["d_good"].mask).is_file()
    outcome("recorded, the next case done", found["b_segfaults"].reason)


def log_of(entry: CaseEntry, out: Path) -> str:
    return (out / entry.log).read_text(encoding="utf-8")
