from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import dask
import distributed
import pytest
import tifffile
from cohort_making import PutNifti, begun, planted_faults, wait_until
from manifest_table import manifest_rows

from napari_resunet.cohort.engine import Standing, run_cohort
from napari_resunet.cohort.manifest import Status, read_entries
from napari_resunet.cohort.recipe import Recipe
from napari_resunet.errors import DeviceError, InputError, OutputError
from napari_resunet.io.one_writer import only_writer
from napari_resunet.phantom import Phantom
from napari_resunet.settings import MaskSettings, PredictSettings

QUICK = Recipe(PredictSettings(device="cpu"), picture=False)


def test_a_cohort_is_done_and_what_is_asked_is_parked_and_then_answered(
    tmp_path: Path, put_nifti: PutNifti, small: Phantom, in_process: None
) -> None:
    put_nifti(tmp_path / "in/a/ct.nii.gz")
    put_nifti(tmp_path / "in/b/ct.nii.gz", hu=7)
    tifffile.imwrite(tmp_path / "in/sizeless.tif", small.volume.array)
    (tmp_path / "in/bad.nii").write_bytes(b"no CT")
    out = tmp_path / "out"
    entries = {entry.id.rsplit("-", 1)[0]: entry for entry in run_cohort(str(tmp_path / "in"), out, QUICK)}
    assert {name: entry.status for name, entry in entries.items()} == {
        "a-ct": Status.DONE,
        "b-ct": Status.DONE,
        "sizeless": Status.ASKED,
        "bad": Status.REFUSED,
    }
    assert {row["id"]: row["status"] for row in manifest_rows(out)} == {
        entry.id: entry.status for entry in entries.values()
    }
    assert (out / "index.html").is_file()

    answers = tmp_path / "answers.csv"
    answers.write_text(f'case,spacing_mm\n{entries["sizeless"].id},"25,3.8,3.8"\n')
    again = run_cohort(str(tmp_path / "in"), out, QUICK, answers=answers)
    sizeless = next(entry for entry in again if entry.id == entries["sizeless"].id)
    assert sizeless.status == Status.DONE
    assert sizeless.ml_total == pytest.approx(entries["a-ct"].ml_total, rel=1e-6)


def test_what_is_done_starts_no_worker(
    tmp_path: Path, put_nifti: PutNifti, in_process: None, request: pytest.FixtureRequest
) -> None:
    put_nifti(tmp_path / "in/ct.nii.gz")
    first = run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK)
    request.getfixturevalue("no_workers")
    assert run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK) == first
    with pytest.raises(AssertionError, match="workers were started"):
        run_cohort(str(tmp_path / "in"), tmp_path / "out", Recipe(mask=MaskSettings(threshold=0.4)))


def test_prepare_writes_what_waits_and_runs_nothing(
    tmp_path: Path, put_nifti: PutNifti, in_process: None
) -> None:
    put_nifti(tmp_path / "in/ct.nii.gz")
    (entry,) = run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK, prepare_only=True)
    assert entry.status == Status.WAITING
    assert (tmp_path / "out/waiting.txt").read_text() == f"{entry.id}\n"


def test_a_second_command_on_one_folder_is_refused(tmp_path: Path, put_nifti: PutNifti) -> None:
    put_nifti(tmp_path / "in/ct.nii.gz")
    out = tmp_path / "out"
    out.mkdir()
    told = rf"out is being worked on by another cohort command \(process {os.getpid()} on .*wait until it is done"
    with only_writer(out / "cohort.json"), pytest.raises(OutputError, match=told):
        run_cohort(str(tmp_path / "in"), out, QUICK)


def test_ctrl_c_leaves_no_case_running_and_no_attempt_counted(
    tmp_path: Path, put_nifti: PutNifti, in_process: None
) -> None:
    for index in range(4):
        put_nifti(tmp_path / f"in/ct{index}.nii.gz")

    def interrupt(now: Standing) -> None:
        if now.newest is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK, report=interrupt)
    entries = list(read_entries(tmp_path / "out"))
    assert {entry.status for entry in entries} <= {Status.DONE, Status.WAITING}
    assert [entry.attempts for entry in entries] == [0] * 4
    assert not (tmp_path / "out/stop").exists()
    again = run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK)
    assert [entry.status for entry in again] == [Status.DONE] * 4


def test_a_scheduler_that_does_not_answer_is_told(
    tmp_path: Path, put_nifti: PutNifti, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_resunet.cohort.workers._CONNECT_S", 0.2)
    put_nifti(tmp_path / "in/ct.nii.gz")
    with pytest.raises(InputError, match=r"no dask scheduler answers at tcp://127.0.0.1:9"):
        run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK, scheduler="tcp://127.0.0.1:9")


def test_a_scheduler_without_workers_is_told(
    tmp_path: Path, put_nifti: PutNifti, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_resunet.cohort.workers._CONNECT_S", 1)
    put_nifti(tmp_path / "in/ct.nii.gz")
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(InputError, match="has no workers; start them with dask worker"),
    ):
        run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK, scheduler=cluster.scheduler_address)


@pytest.mark.parametrize(
    "error",
    [
        InputError("out/cases/ct/case.json cannot be read (No such file or directory)"),
        ModuleNotFoundError("No module named 'napari_resunet'"),
        distributed.KilledWorker("a task", None, 0),
    ],
)
def test_workers_that_cannot_begin_end_the_command_instead_of_going_round(
    tmp_path: Path,
    put_nifti: PutNifti,
    in_process: None,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def raising(*_: object) -> None:
        raise error

    monkeypatch.setattr("napari_resunet.cohort.engine.run_case", raising)
    put_nifti(tmp_path / "in/ct.nii.gz")
    with pytest.raises(DeviceError, match="each worker needs the same napari-resunet"):
        run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK)
    (entry,) = read_entries(tmp_path / "out")
    assert (entry.status, entry.attempts) == (Status.WAITING, 0)


def test_a_wrong_model_or_answer_is_told_before_any_ct_is_looked_at(
    tmp_path: Path, put_nifti: PutNifti, no_workers: None
) -> None:
    put_nifti(tmp_path / "in/ct.nii.gz")
    answers = tmp_path / "answers.csv"
    answers.write_text("ct,frame\nin/ct.nii.gz,first\n")
    with pytest.raises(InputError, match=r"no_such\.safetensors"):
        run_cohort(
            str(tmp_path / "in"), tmp_path / "out", Recipe(PredictSettings(model="no_such.safetensors"))
        )
    with pytest.raises(InputError, match=r"answers\.csv, line 2: frame cannot be 'first'"):
        run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK, answers=answers)


def test_two_workers_share_a_cohort_and_one_that_is_killed_loses_nothing(
    tmp_path: Path, put_nifti: PutNifti
) -> None:
    for name in ("waits", "b", "c"):
        put_nifti(tmp_path / f"in/{name}.nii.gz")
    found = {}

    def work() -> None:
        preload = {"distributed.worker.preload": [str(planted_faults(tmp_path))]}
        with dask.config.set(preload):
            found["entries"] = run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK, workers=2)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: any(name == "waits.nii.gz" for name, _ in begun(tmp_path)), "a worker at work")
    os.kill(next(process for name, process in begun(tmp_path) if name == "waits.nii.gz"), signal.SIGKILL)
    (tmp_path / "go").touch()
    thread.join(120)
    assert [entry.status for entry in found["entries"]] == [Status.DONE] * 3
    times = Counter(name for name, _ in begun(tmp_path))
    assert times == {"waits.nii.gz": 2, "b.nii.gz": 1, "c.nii.gz": 1}


def test_a_command_that_is_killed_goes_on_where_it_was(
    tmp_path: Path, put_nifti: PutNifti, in_process: None
) -> None:
    for name in ("a", "b_waits", "c"):
        put_nifti(tmp_path / f"in/{name}.nii.gz")
    command = [sys.executable, "-m", "napari_resunet", "cohort", str(tmp_path / "in"), str(tmp_path / "out")]
    preload = {"DASK_DISTRIBUTED__WORKER__PRELOAD": f"['{planted_faults(tmp_path)}']"}
    options = ["--device", "cpu", "--no-picture"]
    with subprocess.Popen(
        [*command, *options], env=os.environ | preload, stderr=subprocess.DEVNULL
    ) as process:
        wait_until(lambda: any(name == "b_waits.nii.gz" for name, _ in begun(tmp_path)), "a worker at work")
        process.kill()
    status = {Path(entry.source).name: entry.status for entry in read_entries(tmp_path / "out")}
    assert status == {
        "a.nii.gz": Status.DONE,
        "b_waits.nii.gz": Status.RUNNING,
        "c.nii.gz": Status.WAITING,
    }
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("lungs.nii.gz")}
    entries = run_cohort(str(tmp_path / "in"), tmp_path / "out", QUICK)
    assert [entry.status for entry in entries] == [Status.DONE] * 3
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())
    assert Counter(name for name, _ in begun(tmp_path))["a.nii.gz"] == 1
