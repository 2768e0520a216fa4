from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from journal_writer import CT, RUN, SHAPE, record

from napari_resunet.editing import journal as journals
from napari_resunet.editing.journal import Abandoned, Journal, abandoned, journal_root
from napari_resunet.errors import InputError, OutputError
from napari_resunet.io import case_text
from napari_resunet.record import BankedEdits, CaseRecord, SliceEdits
from napari_resunet.settings import InputAnswers

WRITER = Path(__file__).with_name("journal_writer.py")
KILLS = 24
NO_EDITS = SliceEdits(np.empty(0, np.int64), np.empty((0, *SHAPE[1:]), np.int8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal"


@pytest.fixture
def journal(root: Path) -> Journal:
    return Journal(root, CT, Path("ct.nii.gz"))


def hand(number: int) -> CaseRecord:
    return replace(record(number), probability=None)


def folder_of(root: Path) -> Path:
    (folder,) = root.iterdir()
    return folder


def names(root: Path) -> set[str]:
    return {path.name for path in folder_of(root).iterdir()} - {"lock", "owner.json"}


def only(root: Path) -> Abandoned:
    (found,) = abandoned(root)
    return found


def number_of(found: CaseRecord) -> int:
    """The number that a record is of; all of it has to be of that."""
    number = int(found.seen[0])
    wanted = record(number)
    np.testing.assert_array_equal(found.edits.values, wanted.edits.values)
    np.testing.assert_array_equal(found.marks, wanted.marks)
    np.testing.assert_array_equal(found.seen, wanted.seen)
    return number


def base_of(found: CaseRecord) -> int:
    """The number of the base that the probabilities of a record are from, all of them."""
    for number in range(1, 1000):
        if np.array_equal(found.probability, record(1, base=number).probability):
            return number
    raise AssertionError("the probabilities are of no base")


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    middle = len(whole) // 2
    if how == "cut short":
        path.write_bytes(whole[:middle])
    elif how == "a bit flipped":
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


# ---- what is written is found


def test_nothing_is_on_the_disk_before_the_first_write_nor_after_closing(
    root: Path, journal: Journal
) -> None:
    assert abandoned(root) == []
    assert not root.exists()
    journal.write(hand(1))
    journal.close()
    assert list(root.iterdir()) == []
    Journal(root, CT, None).close()


def test_what_was_left_is_offered_with_all_that_one_needs_to_know(root: Path, journal: Journal) -> None:
    journal.write_base(record(1, base=1))
    journal.write(hand(1))
    journal.close(keep=True)
    found = only(root)
    assert (found.ct_name, found.ct_sha256) == (CT.name, CT.sha256)
    assert found.ct_path == Path("ct.nii.gz").absolute()
    assert found.edited_slices == 3
    assert found.voxels == np.count_nonzero(record(1).edits.values)
    assert abs(datetime.now(UTC) - found.when) < timedelta(minutes=1)
    assert found.when.utcoffset() == datetime.now().astimezone().utcoffset()
    assert found.refusal == ""
    taken = found.record()
    assert number_of(taken) == base_of(taken) == 1
    assert taken.run == RUN
    assert taken.done.all()
    assert found.lost == ()


def test_ticks_and_edits_set_aside_are_work_too_but_settings_alone_are_not(root: Path) -> None:
    nothing = replace(hand(2), edits=NO_EDITS)  # marks of an even number are 0
    banked = (BankedEdits(record(1).edits, "2025-01-01T00:00:00+00:00"),)
    for work in ({"marks": record(1).marks}, {"banked": banked}, {}):
        journal = Journal(root, CT, None)
        journal.write(replace(nothing, **work))
        journal.close(keep=True)
    offers = abandoned(root)
    assert len(offers) == 2
    assert {found.ct_path for found in offers} == {None}
    assert sum(len(found.record().banked) for found in offers) == 1


def test_the_newest_work_comes_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for hours in (3, 1, 2):
        set_clock(monkeypatch, datetime(2025, 1, 1, hours, tzinfo=UTC))
        journal = Journal(root, CT, None)
        journal.write(hand(hours))
        journal.close(keep=True)
    assert [number_of(found.record()) for found in abandoned(root)] == [3, 2, 1]


def test_discarded_work_is_gone_and_released_work_is_offered_again(root: Path, journal: Journal) -> None:
    journal.write(hand(1))
    journal.close(keep=True)
    found = only(root)
    assert abandoned(root) == []  # another window is offered nothing
    found.release()
    only(root).discard()
    assert list(root.iterdir()) == []


def test_the_journal_is_where_the_variable_says_or_else_where_the_system_keeps_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_RESUNET_STATE", str(tmp_path))
    assert journal_root() == tmp_path / "journal"
    monkeypatch.delenv("NAPARI_RESUNET_STATE")
    assert journal_root().parts[-2:] == ("napari-resunet", "journal")
    assert journal_root().is_relative_to(Path.home())


@pytest.mark.skipif(os.name == "nt", reason="there the user's folders are private by themselves")
def test_nobody_else_may_look_into_a_journal(root: Path, journal: Journal) -> None:
    journal.write(hand(1))
    assert root.stat().st_mode & 0o777 == 0o700
    assert folder_of(root).stat().st_mode & 0o777 == 0o700
    journal.close()


# ---- two files in turn, and the base they name


@pytest.mark.parametrize("how", ["cut short", "a bit flipped", "empty", "gone"])
@pytest.mark.parametrize("writes", [2, 3])
def test_f03_where_the_newest_part_is_damaged_the_one_before_is_taken(
    how: str, writes: int, root: Path, journal: Journal, outcome
) -> None:
    for number in range(1, writes + 1):
        journal.write(hand(number))
    journal.close(keep=True)
    damage(folder_of(root) / f"hand-{writes % 2}.nru", how)
    found = only(root)
    assert number_of(found.record()) == writes - 1
    if writes > 2:  # after the very first part none is missed
        assert found.lost[0] == "one of the two copies is damaged: the last strokes may be missing"
    outcome("the part before", "one of the two copies is damaged: the last strokes may be missing")


def test_f33_parts_are_told_apart_by_a_counter_not_by_the_clock(
    root: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    for number, year in ((1, 2030), (2, 2029), (3, 2001), (4, 2000)):
        set_clock(monkeypatch, datetime(year, 1, 1, tzinfo=UTC))
        journal.write(hand(number))
        os.utime(folder_of(root) / f"hand-{number % 2}.nru", (0, year))
    journal.close(keep=True)
    found = only(root)
    assert number_of(found.record()) == 4
    assert found.when.astimezone(UTC).year == 2000
    outcome("the newest by its counter", "nothing")


def set_clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return now.astimezone(tz)

    monkeypatch.setattr(case_text, "datetime", Clock)


def test_a_base_is_kept_for_as_long_as_a_part_names_it(root: Path, journal: Journal) -> None:
    journal.write_base(record(1, base=1))
    journal.write(hand(1))
    journal.write_base(record(1, base=2))
    assert names(root) == {"hand-1.nru", "base-1.nru", "base-2.nru"}
    journal.write(hand(2))
    assert names(root) == {"hand-0.nru", "hand-1.nru", "base-1.nru", "base-2.nru"}
    journal.write(hand(3))
    assert names(root) == {"hand-0.nru", "hand-1.nru", "base-2.nru"}
    journal.write_base(record(1, base=3))
    journal.write_base(record(1, base=4))
    assert names(root) == {"hand-0.nru", "hand-1.nru", "base-2.nru", "base-4.nru"}
    journal.close()


def test_a_part_that_falls_back_has_its_own_base(root: Path, journal: Journal) -> None:
    for number in (1, 2):
        journal.write_base(record(number, base=number))
        journal.write(hand(number))
    journal.close(keep=True)
    damage(folder_of(root) / "hand-0.nru", "cut short")
    taken = only(root).record()
    assert number_of(taken) == base_of(taken) == 1


@pytest.mark.parametrize("how", ["cut short", "a bit flipped", "gone"])
def test_a_damaged_base_costs_the_probabilities_and_not_one_edit(
    how: str, root: Path, journal: Journal
) -> None:
    adopted = {"adopted": np.ones(SHAPE, bool), "adopted_name": "m.nii"}
    journal.write_base(replace(record(1, base=1), **adopted))
    journal.write(replace(hand(1), adopted_name="m.nii"))
    journal.close(keep=True)
    damage(folder_of(root) / "base-1.nru", how)
    found = only(root)
    taken = found.record()
    assert number_of(taken) == 1
    assert taken.probability is None
    assert taken.run is None
    assert not taken.done.any()
    assert taken.adopted is taken.adopted_name is None
    assert found.lost == (
        "the result of the network on 6 of 6 slices; run it again",
        "the mask it began from, m.nii; choose it again",
    )


def test_slices_that_ran_after_the_base_was_written_are_told_as_lost(root: Path, journal: Journal) -> None:
    done = np.array([1, 1, 0, 0, 0, 0], bool)
    journal.write_base(replace(record(1, base=1), done=done))
    journal.write(hand(1))
    journal.close(keep=True)
    found = only(root)
    np.testing.assert_array_equal(found.record().done, done)
    assert found.lost == ("the result of the network on 4 of 6 slices; run it again",)


@pytest.mark.parametrize(
    "later",
    [
        {"run": replace(RUN, grid=256), "done": np.zeros(6, bool)},
        {"run": None, "done": np.zeros(6, bool), "ct": replace(CT, answers=InputAnswers(hu_offset=-24.0))},
        {"done": np.zeros(6, bool), "ct": replace(CT, answers=InputAnswers(hu_offset=-24.0))},
    ],
    ids=["another run", "other HU", "the same run on other HU"],
)
def test_probabilities_that_the_case_had_forgotten_are_not_brought_back(
    later: dict[str, Any], root: Path, journal: Journal
) -> None:
    begun = {"adopted": np.ones(SHAPE, bool), "adopted_name": "m.nii"}
    journal.write_base(replace(record(1, base=1), **begun))
    journal.write(replace(hand(1), adopted_name="m.nii", **later))
    journal.close(keep=True)
    found = only(root)
    taken = found.record()
    assert taken.run is None
    assert not taken.done.any()
    assert not taken.probability.any()
    assert taken.adopted.all()  # where it began from has not changed
    assert found.lost == ()


# ---- whatever goes wrong


def writer(what: str, root: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), what, str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_f02_f03_killed_at_any_moment_it_leaves_the_last_part_or_the_one_it_was_writing(
    root: Path, outcome
) -> None:
    moment = random.Random(0)
    unfinished = 0
    coming = writer("write_for_ever", root / "0")
    for kill in range(KILLS):
        child, coming = (
            coming,
            writer("write_for_ever", root / f"{kill + 1}"),
        )  # begins while the other one writes
        assert child.stdout.readline() == "1\n"
        time.sleep(moment.uniform(0, 0.15))
        child.kill()
        last = [1, *map(int, child.communicate()[0].split())][-1]
        place = root / f"{kill}"
        unfinished += any(".part." in path.name for path in folder_of(place).iterdir())
        found = only(place)
        taken = found.record()
        assert number_of(taken) in (last, last + 1)
        assert base_of(taken) == (number_of(taken) + 3) // 4
        assert found.lost == ()
        assert not any(".part." in path.name for path in folder_of(place).iterdir())
        found.discard()
        assert not list(place.iterdir())
    coming.kill()
    coming.communicate()
    assert unfinished  # some were killed while they wrote
    outcome("the last part or the one being written", "Recover?")


def test_f02_a_living_process_keeps_its_work_to_itself_and_a_killed_one_leaves_it(
    root: Path, outcome
) -> None:
    child = writer("write_once", root, stdin=subprocess.PIPE)
    assert child.stdout.readline() == "written\n"
    assert abandoned(root) == []
    assert names(root) == {"hand-1.nru"}
    child.kill()
    child.communicate()
    found = only(root)
    assert number_of(found.record()) == 1
    assert said_by("count", root) == ["0"]  # while we look at it
    found.release()
    assert said_by("count", root) == ["1"]
    outcome("left for the next start", "Recover?")


def said_by(what: str, root: Path, *before: str) -> list[str]:
    command = [*before, sys.executable, str(WRITER), what, str(root)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="makes a small disk in a name space of its own")
def test_f05_a_full_disk_costs_what_was_being_written_and_nothing_before(tmp_path: Path, outcome) -> None:
    small = tmp_path / "small"
    small.mkdir()
    as_root = ["unshare", "--user", "--map-root-user", "--mount"]
    mounts = f'mount -t tmpfs -o size=24k tmpfs {small} && exec "$@"'
    if not shutil.which("unshare") or subprocess.run([*as_root, "sh", "-c", mounts, "sh", "true"]).returncode:
        pytest.skip("this system does not let us mount a small disk")
    said = said_by("fill_the_disk", small / "journal", *as_root, "sh", "-c", mounts, "sh")
    assert len(said) == 4
    for line, name in ((said[0], "hand-0.nru"), (said[1], "base-1.nru")):
        assert f"{name} could not be written: the disk is full (" in line
    assert said[2] == "1 ('the result of the network on 6 of 6 slices; run it again',)"
    assert said[3] == "['hand-1.nru', 'lock', 'owner.json']"
    outcome("what was written before", said[0].replace(str(tmp_path), "…"))


@pytest.mark.skipif(os.name == "nt", reason="has no such limit")
def test_f05_after_a_failed_write_the_next_one_goes_on(root: Path, outcome) -> None:
    said = said_by("fill_the_quota", root)
    assert "hand-0.nru could not be written: File too large" in said[0]
    assert said[1] == "written"
    assert names(root) == {"hand-0.nru", "hand-1.nru"}
    assert number_of(only(root).record()) == 3
    outcome("the next write goes on", said[0].replace(str(root), "…"))


def test_f06_a_folder_that_cannot_be_made_is_named_and_may_be_tried_again(
    root: Path, journal: Journal, outcome
) -> None:
    root.parent.mkdir(parents=True)
    root.write_text("a file")
    for _ in range(2):
        with pytest.raises(OutputError, match=r"edits cannot be kept in .*journal .*NAPARI_RESUNET_STATE"):
            journal.write(hand(1))
    root.unlink()
    journal.write(hand(1))
    journal.close(keep=True)
    assert number_of(only(root).record()) == 1
    outcome(
        "tried again",
        "edits cannot be kept in …; make room there, or name another folder in NAPARI_RESUNET_STATE",
    )


def test_a_closed_journal_takes_nothing_more(root: Path, journal: Journal) -> None:
    journal.write(hand(1))
    journal.close()
    for write in (journal.write, journal.write_base):
        with pytest.raises(OutputError, match=r"the journal of ct\.nii\.gz is closed"):
            write(record(2))
    journal.close()
    assert list(root.iterdir()) == []


def test_many_threads_may_write_and_one_waits_for_the_other(root: Path, journal: Journal) -> None:
    def write(number: int) -> None:
        for _ in range(5):
            journal.write_base(record(number, base=number))
            journal.write(hand(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close(keep=True)
    found = only(root)
    assert base_of(found.record()) in (1, 2, 3)
    assert number_of(found.record()) in (1, 2, 3)
    assert found._parts[0].journal.counter == 15


# ---- what is swept, and what is left alone


def make_old(folder: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))


def leave(root: Path, *, of: CaseRecord) -> Path:
    journal = Journal(root, CT, None)
    journal.write(of)
    journal.close(keep=True)
    return folder_of(root)


@pytest.mark.parametrize("hours", [23, 25])
@pytest.mark.parametrize("how", ["nothing in it", "no work in it", "all damaged"])
def test_what_holds_nothing_goes_after_a_day(hours: int, how: str, root: Path) -> None:
    folder = leave(root, of=replace(hand(2), edits=NO_EDITS) if how == "no work in it" else hand(1))
    if how != "no work in it":
        damage(folder / "hand-1.nru", "gone" if how == "nothing in it" else "a bit flipped")
    make_old(folder, hours)
    assert abandoned(root) == []
    assert folder.exists() == (hours < 24)


def test_work_on_a_disk_that_fails_now_is_there_when_it_is_well_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = leave(root, of=hand(1))
    make_old(folder, 25)
    with monkeypatch.context() as failing:

        def fail(*_: Any, **__: Any) -> None:
            raise OSError(errno.EIO, "Input/output error")

        failing.setattr(Path, "read_bytes", fail)
        failing.setattr(journals, "read_stored_case", refuse)
        assert abandoned(root) == []
    assert len(abandoned(root)) == 1


def refuse(path: Path) -> None:
    raise InputError(f"{path} cannot be read")


def test_f01_unfinished_files_are_swept_at_once_and_work_is_kept_for_ever(root: Path, outcome) -> None:
    folder = leave(root, of=hand(1))
    (folder / ".hand-0.0a1b2c3d.part.nru").write_bytes(b"half")
    make_old(folder, 10_000)
    only(root).release()
    assert names(root) == {"hand-1.nru"}
    outcome("swept", "nothing")


def test_what_is_not_the_journals_own_is_never_touched(root: Path) -> None:
    folder = leave(root, of=hand(1))
    (folder / "hand-1.nru").unlink()
    (folder / "letter.txt").write_text("mine")
    (root / "other").mkdir()
    (root / "other" / "hand-0.nru").write_bytes(b"")
    (root / "case-note.txt").write_text("mine")
    for place in (folder, root / "other"):
        make_old(place, 100)
    assert abandoned(root) == []
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]
    assert [path.name for path in (root / "other").iterdir()] == ["hand-0.nru"]
    assert (root / "case-note.txt").exists()


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    said = json.loads(members["case.json"])
    change(said)
    members["case.json"] = json.dumps(said).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_f31_work_of_a_later_version_is_named_and_left_alone(root: Path, outcome) -> None:
    folder = leave(root, of=hand(1))
    rewrite(folder / "hand-1.nru", lambda said: said.update(format_version=2, colour="red"))
    make_old(folder, 100)
    found = only(root)
    assert found.ct_name == "ct.nii.gz"
    assert "has format version 2, newer than 1; update napari-resunet" in found.refusal
    assert found.when < datetime.now().astimezone() - timedelta(hours=99)
    with pytest.raises(InputError, match="update napari-resunet"):
        found.record()
    found.release()
    assert names(root) == {"hand-1.nru"}
    outcome("left alone", found.refusal.replace(str(root), "…"))


@pytest.mark.parametrize("owner", ["", "[]", "{", '{"ct_path": null}', None])
def test_without_its_owner_file_work_is_still_offered(owner: str | None, root: Path) -> None:
    folder = leave(root, of=hand(1))
    if owner is None:
        (folder / "owner.json").unlink()
    else:
        (folder / "owner.json").write_text(owner)
    found = only(root)
    assert (found.ct_name, found.ct_sha256, found.ct_path) == (CT.name, CT.sha256, None)
    assert number_of(found.record()) == 1


def test_a_part_that_names_a_file_elsewhere_is_damaged(root: Path) -> None:
    folder = leave(root, of=hand(1))
    rewrite(folder / "hand-1.nru", lambda said: said["journal"].update(base="../../base-1.nru"))
    assert abandoned(root) == []
    assert names(root) == {"hand-1.nru"}
