from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import dask
import distributed  # noqa: F401 its defaults have to be there before they are changed for a while
import nibabel as nib
import numpy as np
from outcomes import Outcome

sys.path.insert(0, str(Path(__file__).parent.parent / "cohort"))
from cohort_making import planted_faults

from napari_resunet import cli
from napari_resunet.cohort.manifest import CaseEntry, read_entries
from napari_resunet.phantom import make_phantom


def run_cohort(tmp_path: Path, names: Sequence[str], *options: str) -> tuple[int, dict[str, CaseEntry]]:
    """Run a cohort of chests in whose workers faults are planted; return the exit code and the cases by name."""
    volume = make_phantom(shape=(12, 96, 96), spacing_mm=(25.0, 3.8, 3.8)).volume
    (tmp_path / "in").mkdir()
    for name in names:
        image = nib.Nifti1Image(volume.array.astype(np.int16).T, volume.geometry.ras_affine)
        nib.save(image, tmp_path / f"in/{name}.nii.gz")
    arguments = ["cohort", str(tmp_path / "in"), str(tmp_path / "out"), "--device", "cpu", "--no-picture"]
    with dask.config.set({"distributed.worker.preload": [str(planted_faults(tmp_path))]}):
        code = cli.run([*arguments, "--attempts", "1", *options], open_window=print)
    entries = read_entries(tmp_path / "out")
    return code, {Path(entry.source).name.split(".")[0]: entry for entry in entries}


def test_f34_a_case_that_raises_or_crashes_is_recorded_and_the_next_is_done(
    tmp_path: Path, outcome: Outcome
) -> None:
    code, found = run_cohort(tmp_path, ("a_raises", "b_segfaults", "c_good"))
    assert code == 1
    assert [found[name].status.value for name in sorted(found)] == ["failed", "failed", "done"]
    assert found["a_raises"].reason.startswith("RuntimeError: this was planted; see case.log")
    assert found["b_segfaults"].reason.startswith("its process died (attempt 1 of 1)")
    assert "Segmentation fault" in log_of(found["b_segfaults"], tmp_path / "out")
    assert "this was planted" in log_of(found["a_raises"], tmp_path / "out")
    assert (tmp_path / "out" / found["c_good"].mask).is_file()
    outcome("recorded, the next case done", found["b_segfaults"].reason)


def test_f34_a_case_that_hangs_is_ended_and_the_next_begins(tmp_path: Path, outcome: Outcome) -> None:
    code, found = run_cohort(tmp_path, ("a_hangs", "b_raises"), "--timeout", "15")
    assert code == 1
    assert found["a_hangs"].reason.startswith("took longer than 15 s (attempt 1 of 1)")
    assert found["b_raises"].reason.startswith("RuntimeError: this was planted")
    assert "Timeout" in log_of(found["a_hangs"], tmp_path / "out")
    outcome("ended and recorded, the next begins", found["a_hangs"].reason)


def log_of(entry: CaseEntry, out: Path) -> str:
    return (out / entry.log).read_text(encoding="utf-8")
