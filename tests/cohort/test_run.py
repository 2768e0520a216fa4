from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cohort_making import PutNifti

from napari_resunet import workflows
from napari_resunet.cohort import run
from napari_resunet.cohort.manifest import CaseEntry, Status, read_entry, update_entry, write_entry
from napari_resunet.cohort.recipe import Recipe
from napari_resunet.cohort.run import BusyError, run_case
from napari_resunet.errors import OutputError
from napari_resunet.io.case_file import read_case
from napari_resunet.io.files import read_mask
from napari_resunet.io.one_writer import only_writer
from napari_resunet.settings import InputAnswers, MaskSettings, PredictSettings

QUICK = Recipe(PredictSettings(device="cpu"), picture=False)


@pytest.fixture
def out(tmp_path: Path, put_nifti: PutNifti) -> Path:
    """A cohort of one case called x."""
    write_entry(tmp_path / "out", CaseEntry("x", str(put_nifti(tmp_path / "ct.nii.gz"))))
    return tmp_path / "out"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network ran")

    monkeypatch.setattr(run, "predict", refuse)


def test_a_case_gets_the_bytes_that_segment_writes(out: Path, tmp_path: Path) -> None:
    entry = run_case(out, "x", Recipe(PredictSettings(device="cpu"), probability=True, case_file=True))
    workflows.segment(
        tmp_path / "ct.nii.gz",
        tmp_path / "one.nii.gz",
        predict_settings=PredictSettings(device="cpu"),
        probability=tmp_path / "prob.nii.gz",
    )
    assert (out / entry.mask).read_bytes() == (tmp_path / "one.nii.gz").read_bytes()
    assert (out / entry.probability).read_bytes() == (tmp_path / "prob.nii.gz").read_bytes()
    assert read_case(out / entry.case_file).ct.sha256 == entry.input_sha256
    assert (out / entry.picture).read_bytes().startswith(b"\x89PNG")
    assert entry == read_entry(out, "x")


def test_what_an_earlier_run_wrote_goes_with_its_mask(out: Path) -> None:
    run_case(out, "x", replace(QUICK, probability=True, case_file=True, picture=True))
    assert len(set(names(out))) == 7
    entry = run_case(out, "x", replace(QUICK, mask=MaskSettings(threshold=0.3), picture=False))
    assert names(out) == ["case.json", "lungs.json", "lungs.nii.gz"]
    assert (entry.probability, entry.case_file, entry.picture) == ("", "", "")


def names(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "cases/x").iterdir())


def test_what_is_known_of_a_case_that_is_done(out: Path) -> None:
    entry = run_case(out, "x", QUICK)
    voxels = read_mask(out / "cases/x/lungs.nii.gz")
    assert entry.status == Status.DONE
    assert entry.ml_total == pytest.approx(voxels.volume_ml)
    assert entry.ml_right + entry.ml_left == pytest.approx(entry.ml_total)
    assert entry.hu_mean < -700
    assert len(entry.doubt_slices) == 12
    assert entry.doubt_slices[entry.doubt_worst_slice] == pytest.approx(entry.doubt_worst, abs=1e-4)
    assert (entry.version, entry.reviewed, entry.attempts, entry.log) == (1, False, 0, "")
    assert entry.model == "lung-ct"
    assert entry.device.startswith("cpu in ")
    parts = entry.seconds_read + entry.seconds_predict + entry.seconds_write
    assert 0 < parts <= entry.seconds_all
    assert sorted(path.name for path in (out / "cases/x").iterdir()) == [
        "case.json",
        "lungs.json",
        "lungs.nii.gz",
    ]


def test_a_case_that_is_done_is_not_run_again(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = run_case(out, "x", QUICK)
    monkeypatch.setattr(run, "open_ct", None)
    assert run_case(out, "x", QUICK) == entry


def test_a_ct_that_was_only_copied_is_not_run_again(
    out: Path, tmp_path: Path, put_nifti: PutNifti, request: pytest.FixtureRequest
) -> None:
    first = run_case(out, "x", QUICK)
    ct = tmp_path / "ct.nii.gz"
    content = ct.read_bytes()
    ct.unlink()
    ct.write_bytes(content)
    request.getfixturevalue("no_network")
    entry = run_case(out, "x", QUICK)
    assert entry.status == Status.DONE
    assert entry.input_stamp != first.input_stamp
    assert entry.input_sha256 == first.input_sha256


def test_other_settings_and_another_ct_are_run_again(out: Path, tmp_path: Path, put_nifti: PutNifti) -> None:
    first = run_case(out, "x", QUICK)
    split = run_case(out, "x", replace(QUICK, mask=replace(QUICK.mask, split=True)))
    assert split.mask_sha256 != first.mask_sha256
    put_nifti(tmp_path / "ct.nii.gz", hu=3)
    assert run_case(out, "x", QUICK).input_sha256 != first.input_sha256


def test_a_mask_corrected_by_hand_is_not_run_over(out: Path, no_network: None) -> None:
    update_entry(
        out,
        "x",
        status=Status.DONE,
        version=2,
        edited_voxels=9,
        input_stamp=run.stamp_of(out.parent / "ct.nii.gz"),
    )
    assert run_case(out, "x", QUICK).version == 2


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (RuntimeError("it was planted"), Status.FAILED, "RuntimeError: it was planted; see case.log"),
        (OutputError("the disk is full"), Status.FAILED, "the disk is full"),
    ],
)
def test_an_error_is_kept_with_its_reason(
    out: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: Status, told: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(run, "predict", fail)
    entry = run_case(out, "x", QUICK)
    assert (entry.status, entry.attempts) == (status, 1)
    assert entry.reason.startswith(told)
    is_ours = isinstance(error, OutputError)
    assert (out / "cases/x/case.log").exists() != is_ours
    assert entry.log == ("" if is_ours else "cases/x/case.log")


def test_values_that_may_not_be_hu_are_asked_about_and_the_answer_is_heard(
    out: Path, tmp_path: Path, put_nifti: PutNifti
) -> None:
    put_nifti(tmp_path / "ct.nii.gz", hu=1024)
    asked = run_case(out, "x", QUICK)
    assert (asked.status, asked.answer_with) == (Status.ASKED, ("hu_offset",))
    assert "give a HU offset of -1024" in asked.reason
    update_entry(out, "x", status=Status.WAITING, answers=InputAnswers(hu_offset=-1024))
    assert run_case(out, "x", QUICK).status == Status.DONE


def test_a_damaged_ct_is_refused(out: Path, tmp_path: Path) -> None:
    content = (tmp_path / "ct.nii.gz").read_bytes()
    (tmp_path / "ct.nii.gz").write_bytes(content[: len(content) // 2])
    entry = run_case(out, "x", QUICK)
    assert entry.status == Status.REFUSED
    assert "truncated or damaged" in entry.reason


def test_the_attempt_is_on_disk_before_the_work_begins(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(run, "predict", lambda *_, **__: seen.append(read_entry(out, "x")))
    run_case(out, "x", QUICK)
    assert [(entry.status, entry.attempts) for entry in seen] == [(Status.RUNNING, 1)]


def test_a_case_whose_process_died_is_tried_again_and_then_given_up(out: Path) -> None:
    update_entry(out, "x", status=Status.RUNNING, attempts=1)
    assert run_case(out, "x", QUICK).status == Status.DONE
    update_entry(out, "x", status=Status.RUNNING, attempts=2, input_sha256="other", settings={})
    entry = run_case(out, "x", QUICK)
    assert entry.status == Status.FAILED
    assert entry.reason.startswith("its process died (attempt 2 of 2); what it was at is in case.log")
    assert run_case(out, "x", QUICK) == entry


def test_two_processes_never_work_on_one_case(out: Path, no_network: None) -> None:
    with only_writer(out / "cases/x/case.json"), pytest.raises(BusyError, match="works on case x"):
        run_case(out, "x", QUICK)


def test_a_file_called_stop_puts_the_work_down(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = run.predict

    def stopped(*arguments: object, **choices: object) -> object:
        (out / "stop").touch()
        return real(*arguments, **choices)

    monkeypatch.setattr(run, "predict", stopped)
    entry = run_case(out, "x", QUICK)
    assert (entry.status, entry.attempts) == (Status.WAITING, 0)
    assert not (out / "cases/x/lungs.nii.gz").exists()


def test_ctrl_c_leaves_the_case_waiting(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "predict", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_case(out, "x", QUICK)
    assert (read_entry(out, "x").status, read_entry(out, "x").attempts) == (Status.WAITING, 0)


def test_a_picture_that_fails_loses_no_mask(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import napari_resunet.pictures

    monkeypatch.setattr(napari_resunet.pictures, "draw_case", None)
    entry = run_case(out, "x", replace(QUICK, picture=True))
    assert (entry.status, entry.picture) == (Status.DONE, "")
    assert any("no picture could be drawn" in note for note in entry.notes)
