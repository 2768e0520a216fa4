from __future__ import annotations

import os
import signal
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cohort_making import PutNifti
from manifest_table import manifest_rows
from packaging.specifiers import SpecifierSet

from napari_resunet import cli
from napari_resunet.cohort import run
from napari_resunet.cohort.manifest import Status, read_entries
from napari_resunet.cohort.workers import OneGpuEach

ROOT = Path(__file__).parent.parent.parent
TEMPLATES = Path(str(resources.files("napari_resunet"))) / "cohort" / "templates"
OPTIONS = ("--device", "cpu", "--no-picture")


def command(*arguments: object) -> int:
    return cli.run([str(argument) for argument in arguments], open_window=print)


def test_the_exit_code_says_whether_all_cases_are_done(
    tmp_path: Path, put_nifti: PutNifti, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    put_nifti(tmp_path / "in/ct.nii.gz")
    assert command("cohort", tmp_path / "in", tmp_path / "out", *OPTIONS) == 0
    told = capsys.readouterr()
    assert told.out.strip().endswith("manifest.csv: 1 done")
    assert "1 of 1: ct-" in told.err
    assert " ml, " in told.err
    put_nifti(tmp_path / "in/other.nii.gz", hu=1024)
    assert command("cohort", tmp_path / "in", tmp_path / "out", *OPTIONS) == 1
    told = capsys.readouterr()
    assert told.out.strip().endswith("manifest.csv: 1 done, 1 asked")
    assert "2 of 2: other-" in told.err
    assert told.err.count("(--answers CSV, column hu_offset)") == 1
    assert (
        command("cohort", tmp_path / "in", tmp_path / "out", *OPTIONS) == 1
    )  # nothing to run, and told again
    assert capsys.readouterr().err.count("(--answers CSV, column hu_offset)") == 1


def test_a_folder_without_cts_and_wrong_options_have_the_exit_codes_of_all_commands(
    tmp_path: Path, put_nifti: PutNifti, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    assert command("cohort", tmp_path / "in", tmp_path / "out") == 3
    assert "holds no CT; give a folder" in capsys.readouterr().err
    put_nifti(tmp_path / "in/ct.nii.gz")
    assert command("cohort", tmp_path / "in", tmp_path / "in") == 3
    assert "holds the CTs; give another folder for the results" in capsys.readouterr().err
    assert not (tmp_path / "in/cases").exists()
    (tmp_path / "file").touch()
    assert command("cohort", tmp_path / "in", tmp_path / "file" / "out") == 4
    assert command("cohort", tmp_path / "in", tmp_path / "out", "--timeout", "0") == 2
    assert "the timeout must be more than 0 s" in capsys.readouterr().err


def test_what_is_passed_over_as_a_mask_is_told_before_anything_runs(
    tmp_path: Path, put_nifti: PutNifti, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ct", "ct_lungs", "ct_seg"):
        put_nifti(tmp_path / f"in/{name}.nii.gz")
    assert command("cohort", tmp_path / "in", tmp_path / "out", *OPTIONS, "--prepare") == 1
    told = f"note: {tmp_path}/in/ct_lungs.nii.gz and 1 more were passed over, as masks or probability maps"
    assert told in capsys.readouterr().err


def test_one_case_runs_alone_as_batch_systems_call_it(
    tmp_path: Path, put_nifti: PutNifti, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    put_nifti(tmp_path / "in/ct.nii.gz")
    assert command("cohort", tmp_path / "in", tmp_path / "out", *OPTIONS, "--prepare") == 1
    case = (tmp_path / "out/waiting.txt").read_text().strip()
    assert command("cohort-case", tmp_path / "out", case) == 0
    assert command("cohort-case", tmp_path / "out", "zz") == 3
    assert command("cohort", tmp_path / "in", tmp_path / "out", *OPTIONS, "--prepare") == 0
    assert [row["status"] for row in manifest_rows(tmp_path / "out")] == ["done"]


def test_a_term_signal_is_taken_as_ctrl_c(
    tmp_path: Path, put_nifti: PutNifti, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_nifti(tmp_path / "in/ct.nii.gz")
    command("cohort", tmp_path / "in", tmp_path / "out", *OPTIONS, "--prepare")
    (entry,) = read_entries(tmp_path / "out")
    monkeypatch.setattr(run, "predict", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert command("cohort-case", tmp_path / "out", entry.id) == 130
    (entry,) = read_entries(tmp_path / "out")
    assert (entry.status, entry.attempts) == (Status.WAITING, 0)


@pytest.mark.parametrize("name", ["slurm", "snakemake", "container"])
def test_a_template_is_printed_whole(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("template", name) == 0
    files = {"slurm": "slurm.sh", "snakemake": "Snakefile", "container": "Containerfile"}
    assert capsys.readouterr().out == (TEMPLATES / files[name]).read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_the_tasks_of_a_slurm_array_share_the_cases_out(tmp_path: Path) -> None:
    """With a `srun` that runs its command, and a program that notes what it is called with."""
    out, programs = tmp_path / "the out", tmp_path / "bin"
    out.mkdir()
    programs.mkdir()
    (out / "waiting.txt").write_text("".join(f"case-{index}\n" for index in range(60)))
    write_program(programs / "srun", 'shift; exec "$@"')
    write_program(programs / "napari-resunet", f'echo "$@" >> "{tmp_path}/called.txt"; [ "$2" != "$0" ]')
    environment = os.environ | {"OUT": str(out), "PATH": f"{programs}:{os.environ['PATH']}"}
    environment |= {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "2"}
    for task in ("1", "2"):
        script = ["bash", str(TEMPLATES / "slurm.sh")]
        subprocess.run(script, env=environment | {"SLURM_ARRAY_TASK_ID": task}, check=True)
    calls = (tmp_path / "called.txt").read_text().splitlines()
    assert all(call.startswith(f"cohort-case {out} case-") for call in calls)
    named = [word for call in calls for word in call.split() if word.startswith("case-")]
    assert sorted(named) == sorted(f"case-{index}" for index in range(60))
    assert len(calls) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_a_slurm_task_whose_time_is_up_begins_no_other_batch(tmp_path: Path) -> None:
    (tmp_path / "waiting.txt").write_text("".join(f"case-{index}\n" for index in range(60)))
    write_program(tmp_path / "srun", f"echo begun >> {tmp_path}/called.txt; exit 130")
    environment = os.environ | {"OUT": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment |= {"SLURM_ARRAY_TASK_ID": "1"}
    done = subprocess.run(["bash", str(TEMPLATES / "slurm.sh")], env=environment, capture_output=True)
    assert done.returncode == 130
    assert (tmp_path / "called.txt").read_text() == "begun\n"


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_container_has_a_python_and_extras_that_the_package_knows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (TEMPLATES / "Containerfile").read_text(encoding="utf-8")
    version = text.split("docker.io/library/python:")[1].split("-")[0]
    assert version in SpecifierSet(project["requires-python"])
    extras = text.split('"/src[')[1].split("]")[0].split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    assert 'ENTRYPOINT ["napari-resunet"]' in text
    assert "napari-resunet" in project["scripts"]


def test_the_snakefile_calls_a_command_that_there_is() -> None:
    text = (TEMPLATES / "Snakefile").read_text(encoding="utf-8")
    names = {
        each.name or each.callback.__name__.replace("_", "-")
        for each in cli.cohort.commands.registered_commands
    }
    assert "napari-resunet cohort-case {OUT:q} {wildcards.id:q}" in text
    assert names == {"cohort", "cohort-case", "template"}


def test_workers_of_one_machine_share_its_gpus_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    seen = []
    for name in (0, 1, 2):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        OneGpuEach().setup(SimpleNamespace(name=name))
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert seen == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    OneGpuEach().setup(SimpleNamespace(name=1))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6"
