from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_resunet.errors import InputError, NewerFormatError, OutputError
from napari_resunet.geometry import AxisOrder, Geometry
from napari_resunet.io import case_file
from napari_resunet.io.case_file import (
    find_case_ct,
    is_case_file,
    open_case_ct,
    read_case,
    read_stored_case,
    refuse_other_ct,
    write_case,
)
from napari_resunet.io.case_text import JournalPart
from napari_resunet.io.nifti_header import PLACING_FIELDS, header_like
from napari_resunet.io.open_ct import open_ct
from napari_resunet.record import BankedEdits, CaseRecord, CtReference, SliceEdits
from napari_resunet.settings import InputAnswers, MaskSettings
from napari_resunet.volume import Run, Source, Volume

SHAPE = (5, 6, 9)  # axial; 9 columns do not fill whole bytes
STORED = AxisOrder((2, 0, 1), (True, False, True))
MATRIX = np.array([[0, 0, 0.7, -100.5], [0, 0.8, 0, 1 / 3], [2.5, 0, 0, 30], [0, 0, 0, 1]])
GEOMETRY = Geometry(SHAPE, MATRIX).reordered(STORED)
SHA256 = "0123456789abcdef" * 4


def edits(*slices: int) -> SliceEdits:
    values = np.zeros((len(slices), *SHAPE[1:]), np.int8)
    values[:, 0, :3] = [1, -1, 1]
    return SliceEdits(np.array(slices, np.int64), values)


def nifti_header(geometry: Geometry = GEOMETRY) -> Any:
    header = nib.Nifti1Image(np.zeros(geometry.shape[::-1], np.int16), geometry.ras_affine).header
    header["descrip"], header["db_name"], header["aux_file"] = b"Jane Doe 1949", b"Doe^Jane", b"Doe.txt"
    header["intent_name"], header["data_type"] = b"Doe, Jane", b"Doe"
    return header


def record(**changes: Any) -> CaseRecord:
    """A record in which everything is said, and no two slices are equal."""
    count = int(np.prod(SHAPE))
    whole = CaseRecord(
        ct=CtReference(
            name="ct.nii.gz",
            format="NIfTI",
            sha256=SHA256,
            geometry=GEOMETRY,
            notes=("one slice was doubled", "Lünge 肺"),
            answers=InputAnswers(spacing_mm=(2.5, 0.8, 0.7), series="1.2.3", hu_offset=-1024.0),
            nifti_header=nifti_header().binaryblock,
        ),
        settings=MaskSettings(threshold=0.37, clean=False, split=True),
        edits=edits(1, 3),
        banked=(
            BankedEdits(edits(0), "2025-03-30T02:59:59+01:00"),
            BankedEdits(edits(2, 4), "2025-03-30T03:00:00"),
        ),
        marks=np.array([0, 2, 3, 2, 0], np.uint8),
        seen=np.array([0, 1, 2**31, 2**32 - 1, 5], np.uint32),
        run=Run("lung-ct", "f" * 64, 128, "cpu", "bfloat16", (1, 6, 0, 9)),
        done=np.array([True, True, False, True, True]),
        probability=(np.arange(count) % 256).astype(np.uint8).reshape(SHAPE),
        adopted=(np.arange(count) % 3 == 0).reshape(SHAPE),
        adopted_name="yesterday.nii.gz",
    )
    return replace(whole, **changes)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write_case(record(), tmp_path / "case.nru")
    return tmp_path / "case.nru"


def assert_same(found: CaseRecord, wanted: CaseRecord) -> None:
    for name in ("settings", "run", "adopted_name", "shape"):
        assert getattr(found, name) == getattr(wanted, name), name
    for name in ("name", "format", "sha256", "notes", "answers"):
        assert getattr(found.ct, name) == getattr(wanted.ct, name), name
    assert found.ct.geometry.index_to_lps.tobytes() == wanted.ct.geometry.index_to_lps.tobytes()
    for name in ("marks", "seen", "done", "probability", "adopted"):
        array, other = getattr(found, name), getattr(wanted, name)
        assert (array is None) == (other is None), name
        if array is not None:
            assert array.dtype == other.dtype, name
            np.testing.assert_array_equal(array, other, err_msg=name)
    pairs = [(found.edits, wanted.edits)]
    pairs += [(a.edits, b.edits) for a, b in zip(found.banked, wanted.banked, strict=True)]
    for one, other in pairs:
        assert one.slices.dtype == np.int64
        assert one.values.dtype == np.int8
        np.testing.assert_array_equal(one.slices, other.slices)
        np.testing.assert_array_equal(one.values, other.values)
    assert [b.when for b in found.banked] == [b.when for b in wanted.banked]


# ---- what is written is read


def test_all_that_is_known_of_a_case_is_read_as_it_was_written(saved: Path) -> None:
    assert_same(read_case(saved), record())


@pytest.mark.parametrize(
    "changes",
    [
        {"probability": None, "adopted": None},
        {"edits": edits(), "banked": (), "run": None, "adopted": None, "adopted_name": None},
        {"done": np.zeros(5, bool), "probability": None, "adopted_name": None, "adopted": None},
    ],
    ids=["only what a hand did", "only what the network did", "nothing at all"],
)
def test_a_record_of_less_is_read_too(changes: dict[str, Any], tmp_path: Path) -> None:
    write_case(record(**changes), tmp_path / "case.nru")
    assert_same(read_case(tmp_path / "case.nru"), record(**changes))


places = st.floats(-1000, 1000, allow_subnormal=True)


@given(numbers=st.lists(places, min_size=6, max_size=6), threshold=st.floats(0.01, 0.99))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numbers_are_kept_to_the_bit(numbers: list[float], threshold: float, tmp_path: Path) -> None:
    matrix = MATRIX.copy()
    matrix[:3, 3], matrix[0, 1], matrix[1, 0], matrix[2, 2] = numbers[:3], *(n / 1e4 for n in numbers[3:])
    ct = replace(record().ct, geometry=Geometry(SHAPE, matrix), nifti_header=None)
    wanted = record(ct=ct, settings=MaskSettings(threshold=threshold))
    write_case(wanted, tmp_path / "case.nru")
    assert_same(read_case(tmp_path / "case.nru"), wanted)


def test_it_says_what_it_is_and_when_it_was_written_in_json_that_anybody_can_read(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        said = json.loads(archive.read("case.json"))
        probability = np.load(BytesIO(archive.read("probability.npy")))
    assert said["program"] == "napari-resunet"
    assert said["format_version"] == 1
    assert "research use only" in said["notice"]
    assert said["created"] == read_stored_case(saved).created
    assert said["created"].endswith("+00:00")
    assert said["done"] == [0, 1, 3, 4]
    assert said["edited"] == [1, 3]
    np.testing.assert_array_equal(probability, record().probability)


def test_a_part_of_a_journal_is_known_as_one(tmp_path: Path) -> None:
    write_case(record(), tmp_path / "a.nru", journal=JournalPart(7, "base-2.nru"))
    assert read_stored_case(tmp_path / "a.nru").journal == JournalPart(7, "base-2.nru")
    write_case(record(), tmp_path / "a.nru")
    assert read_stored_case(tmp_path / "a.nru").journal is None


def test_it_is_known_by_its_content_or_by_its_name(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "a")
    assert not is_case_file(other)
    assert not is_case_file(tmp_path)
    assert not is_case_file(tmp_path / "gone.nru")
    (tmp_path / "damaged.NRU").write_bytes(b"")
    assert is_case_file(tmp_path / "damaged.NRU")
    assert is_case_file(saved.rename(tmp_path / "renamed.bin"))


# ---- nothing in it names a patient


def test_nothing_of_the_header_but_the_place_of_the_voxels_is_written(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        said = json.loads(archive.read("case.json"))
    block = base64.b64decode(said["ct"]["nifti_header"])
    assert b"Doe" not in block
    assert b"Jane" in record().ct.nifti_header


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_place_of_the_voxels_is_kept_to_the_bit(kind: Any, order: str, tmp_path: Path) -> None:
    header = kind.from_header(nifti_header()).as_byteswapped(order)
    header["pixdim"][0], header["qform_code"], header["sform_code"] = -1, 3, 2
    header["pixdim"][5:], header["xyzt_units"] = [np.nan, np.inf, 7], 10
    ct = replace(record().ct, nifti_header=header.binaryblock)
    write_case(record(ct=ct), tmp_path / "case.nru")
    found = read_case(tmp_path / "case.nru").ct
    assert len(found.nifti_header) == len(ct.nifti_header)
    assert found.nifti_header[:4] == ct.nifti_header[:4]  # its size, in its order of bytes
    assert b"Doe" not in found.nifti_header
    ours, theirs = (header_like(each.source, GEOMETRY) for each in (found, ct))
    assert theirs is not None
    for name in PLACING_FIELDS:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


def test_no_folder_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "Doe^Jane"
    folder.mkdir()
    source = Source(folder / "ct.nii.gz", "NIfTI", SHA256, (folder / "ct.nii.gz",))
    volume = Volume(np.zeros(GEOMETRY.shape, np.int16), GEOMETRY, source=source)
    write_case(record(ct=CtReference.of(volume)), tmp_path / "case.nru")
    with zipfile.ZipFile(tmp_path / "case.nru") as archive:
        assert b"Doe" not in archive.read("case.json")
    assert read_case(tmp_path / "case.nru").ct.name == "ct.nii.gz"


@pytest.mark.parametrize(
    ("path", "name"), [(".", "scan"), ("", "scan"), ("../scan", "scan"), ("C:\\Doe\\ct.mha", "ct.mha")]
)
def test_a_ct_always_has_a_bare_name(
    path: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scan").mkdir()
    monkeypatch.chdir(tmp_path / "scan")
    volume = Volume(np.zeros(GEOMETRY.shape, np.int16), GEOMETRY, source=Source(Path(path), "DICOM", SHA256))
    write_case(record(ct=CtReference.of(volume)), tmp_path / "case.nru")
    assert read_case(tmp_path / "case.nru").ct.name == name


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_does_not_keep_a_case_from_being_saved(tmp_path: Path) -> None:
    ct = replace(record().ct, name=os.fsdecode(b"ct-\xff.nii"), notes=(os.fsdecode(b"\xfe"),))
    write_case(record(ct=ct), tmp_path / "case.nru")
    assert read_case(tmp_path / "case.nru").ct.name == "ct-?.nii"


# ---- whole or not at all


def test_f01_what_reads_back_other_than_it_was_written_never_takes_the_place_of_the_old_one(
    saved: Path, monkeypatch: pytest.MonkeyPatch, outcome
) -> None:
    before = saved.read_bytes()
    write_zip = case_file.write_zip

    def flips_a_voxel(path: Path, text: bytes, arrays: Any) -> None:
        wrong = arrays["probability"].copy()
        wrong[2, 3, 4] ^= 1
        write_zip(path, text, {**arrays, "probability": wrong})

    monkeypatch.setattr(case_file, "write_zip", flips_a_voxel)
    with pytest.raises(OutputError, match=r"case\.nru reads back other than it was written"):
        write_case(record(), saved)
    monkeypatch.setattr(case_file, "write_zip", lambda path, *_: path.write_bytes(before[:-30]))
    with pytest.raises(OutputError, match=r"case\.nru was not written whole \(File is not a zip file\)"):
        write_case(record(), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    outcome("old file", "… reads back other than it was written; try another folder")


def test_a_record_that_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    for wrong in (
        {"probability": record().probability.astype(np.int16)},
        {"edits": SliceEdits(np.array([3, 1]), edits(1, 3).values)},
        {"marks": np.zeros(4, np.uint8)},
    ):
        with pytest.raises(OutputError, match="was not written whole"):
            write_case(record(**wrong), tmp_path / "case.nru")
    assert not list(tmp_path.iterdir())


def test_f09_a_ct_is_never_written_over_and_the_ending_has_to_be_right(tmp_path: Path, outcome) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4)), tmp_path / "ct.nii")
    ct = (tmp_path / "ct.nii").rename(tmp_path / "ct.nru")
    before = ct.read_bytes()
    with pytest.raises(OutputError, match="is a CT or a mask, which is not written over"):
        write_case(record(), ct)
    with pytest.raises(OutputError, match=r"does not end in \.nru"):
        write_case(record(), tmp_path / "ct.nii.gz")
    assert ct.read_bytes() == before
    assert list(tmp_path.iterdir()) == [ct]
    outcome("REFUSE", "… is a CT or a mask, which is not written over; choose another name")


# ---- what is damaged or hostile is refused


def rewritten(saved: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The case file with its members changed: the text as JSON, arrays as bytes; checksums are right again."""
    with zipfile.ZipFile(saved) as archive:
        members: dict[str, Any] = {name: archive.read(name) for name in archive.namelist()}
    members["case.json"] = json.loads(members["case.json"])
    change(members)
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, json.dumps(content) if isinstance(content, (dict, list)) else content)
    return saved


def saying(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(members: dict[str, Any]) -> None:
        where = members["case.json"]
        for key in path[:-1]:
            where = where[key]
        where[path[-1]] = value

    return change


def holding(name: str, content: Any) -> Callable[[dict[str, Any]], None]:
    def change(members: dict[str, Any]) -> None:
        members[name] = content

    return change


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_case(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(str(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (saying("program", value="other"), "was written by 'other', not by napari-resunet"),
        (saying("program", value=3), "is no case file of napari-resunet (program"),
        (saying("format_version", value=2), "has format version 2, newer than 1; update napari-resunet"),
        (saying("format_version", value="1"), "is no case file of napari-resunet (format_version"),
        (saying("format_version", value=0), "format_version: Input should be greater than"),
        (holding("case.json", "["), "is no case file of napari-resunet (Invalid JSON"),
        (holding("case.json", "[" * 100_000), "is no case file of napari-resunet (Invalid JSON: recursion"),
        (holding("case.json", b"\xff\xfe{}"), "is no case file of napari-resunet (Invalid JSON"),
        (saying("colour", value="red"), "colour: Unexpected keyword argument"),
        (saying("settings", "threshold", value=1.5), "threshold must be at most 0.99; got 1.5"),
        (saying("settings", "threshold", value=float("nan")), "settings.threshold: Input should be a finite"),
        (saying("settings", "threshold", value="0.5"), "settings.threshold: Input should be a valid number"),
        (saying("settings", "split", value=1), "settings.split: Input should be a valid boolean"),
        (saying("settings", "colour", value=1), "settings.colour: Unexpected keyword argument"),
        (saying("run", "grid", value=True), "run.grid: Input should be a valid integer"),
        (
            saying("run", "crop", value=[0, 6, 0, 10]),
            "the run was cropped to (0, 6, 0, 10), outside of 6 x 9",
        ),
        (saying("created", value="yesterday"), "created: Value error"),
        (saying("banked", 0, "when", value="0001-01-01T00:00:00+01:00"), "banked.0.when: Value error"),
        (saying("ct", "name", value="../ct.nii.gz"), "ct.name: Value error, is not the bare name"),
        (saying("ct", "name", value="/etc/passwd"), "ct.name: Value error, is not the bare name"),
        (saying("ct", "name", value="a\\ct.nii.gz"), "ct.name: Value error, is not the bare name"),
        (saying("ct", "name", value="C:ct.nii.gz"), "ct.name: Value error, is not the bare name"),
        (saying("ct", "name", value=".."), "ct.name: Value error, is not the bare name"),
        (saying("ct", "name", value="."), "ct.name: Value error, is not the bare name"),
        (saying("ct", "name", value=""), "ct.name: Value error, is not the bare name"),
        (saying("ct", "name", value="a\0"), "ct.name: Value error, is not the bare name"),
        (saying("ct", "geometry", "shape_zyx", value=[0, 1, 1]), "shape_zyx.0: Input should be greater"),
        (
            saying("ct", "geometry", "shape_zyx", value=[6, 9, 5.0]),
            "shape_zyx.2: Input should be a valid int",
        ),
        (saying("ct", "geometry", "index_to_lps", 3, value=[0, 0, 1, 1]), "the last row of index_to_lps"),
        (saying("ct", "geometry", "index_to_lps", 0, value=[0, 0, 0, 0]), "index_to_lps flattens the volume"),
        (saying("ct", "geometry", "index_to_lps", 0, 3, value=1e300), "Input should be less than 1000000000"),
        (saying("ct", "nifti_header", value="!!"), "its NIfTI header cannot be used"),
        (saying("ct", "nifti_header", value="QUJD"), "its NIfTI header holds more than the place"),
        (
            saying("ct", "nifti_header", value=base64.b64encode(nifti_header().binaryblock).decode()),
            "its NIfTI header holds more than the place of the voxels",
        ),
        (saying("done", value=[0, 5]), "its slices do not rise from 0 to at most 4"),
        (saying("edited", value=[3, 1]), "its slices do not rise from 0 to at most 4"),
        (saying("edited", value=[1, 1]), "its slices do not rise from 0 to at most 4"),
        (saying("edited", value=[-1, 1]), "edited.0: Input should be greater than or equal to 0"),
        (saying("edited", value=[1]), "edits.npy of 108 bytes that is not int8 of shape (1, 6, 9)"),
        (saying("marks", value=[0, 0, 0, 0]), "it has 4 marks of 5 slices"),
        (saying("marks", 0, value=4), "marks.0: Input should be less than or equal to 3"),
        (saying("seen", 0, value=2**32), "seen.0: Input should be less than"),
        (
            saying("holds_probability", value=False),
            "holds 'probability.npy', which a case file does not have",
        ),
        (
            saying("journal", value={"counter": 1, "base": "../base-1.nru"}),
            "journal.base: String should match",
        ),
        (lambda members: members.pop("case.json"), "holds no case.json, so it is no case file"),
        (lambda members: members.pop("adopted.npy"), "lacks 'adopted.npy'"),
        (lambda members: members.pop("banked-1.npy"), "lacks 'banked-1.npy'"),
        (holding("../evil.npy", b""), "holds '../evil.npy', which a case file does not have"),
        (holding("/tmp/evil.npy", b""), "holds '/tmp/evil.npy', which a case file does not have"),
        (holding("edits.npy", b""), "is truncated or damaged"),
        (holding("edits.npy", b"\x93NUMPY\x01\x00\x10\x27{" + b"[" * 9999), "is truncated or damaged"),
        (holding("edits.npy", npy(np.full((2, 6, 9), 2, np.int8))), "holds edits other than -1, 0 and 1"),
        (holding("edits.npy", npy(edits(1, 3).values) + b"0"), "edits.npy of 109 bytes that is not int8"),
        (holding("edits.npy", npy(np.zeros((2, 6, 9), np.int16))), "of 216 bytes that is not int8 of shape"),
        (holding("edits.npy", npy(np.zeros((2, 9, 6), np.int8))), "that is not int8 of shape (2, 6, 9)"),
        (holding("edits.npy", npy(np.zeros((9, 6, 2), np.int8).T)), "that is not int8 of shape (2, 6, 9)"),
    ],
)
def test_b63_what_is_not_as_it_has_to_be_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], None], message: str, saved: Path
) -> None:
    assert message in refusal(rewritten(saved, change))


def test_f31_a_later_version_is_told_from_damage(saved: Path, outcome) -> None:
    rewritten(saved, lambda members: members["case.json"].update(format_version=2, new_field=1))
    with pytest.raises(NewerFormatError, match="update napari-resunet") as said:
        read_case(saved)
    outcome("REFUSE", str(said.value).replace(str(saved.parent), "…"))


def test_f24_what_is_pickled_is_never_run(saved: Path, tmp_path: Path, outcome) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "evil",))

    array = np.array([Evil()], dtype=object)
    header = npy(np.zeros((5, 6, 9), np.uint8))[:128]
    for content in (npy(array, allow_pickle=True), header + pickle.dumps(Evil()), pickle.dumps(Evil())):
        rewritten(saved, holding("probability.npy", content))
        assert "damaged" in refusal(saved)
    assert not (tmp_path / "evil").exists()
    pickle.loads(pickle.dumps(Evil()))
    assert (tmp_path / "evil").exists()
    outcome("REFUSE", refusal(saved).replace(str(saved.parent), "…"))


def test_f27_a_member_twice_or_encrypted_is_refused(saved: Path, outcome) -> None:
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("edits.npy", npy(edits(1, 3).values))
    assert "holds a member twice" in refusal(saved)
    entry = whole.index(b"PK\x01\x02")  # of the text, in the list of members
    saved.write_bytes(whole[: entry + 8] + b"\x01" + whole[entry + 9 :])
    assert "'case.json' encrypted or packed in a way that is not ours" in refusal(saved)
    outcome("REFUSE", refusal(saved).replace(str(saved.parent), "…"))


def peak_of(path: Path) -> int:
    tracemalloc.start()
    try:
        refusal(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def huge(members: dict[str, Any]) -> None:
    said = members["case.json"]
    said["ct"]["geometry"]["shape_zyx"] = [60_000, 5, 60_000]
    said["ct"]["nifti_header"] = said["run"] = None
    members["probability.npy"] = npy(np.zeros((5, 6, 9), np.uint8)).replace(
        b"(5, 6, 9)", b"(5, 60000, 60000)"
    )


def test_f25_no_room_is_made_for_what_a_header_merely_declares(saved: Path, outcome) -> None:
    said = refusal(rewritten(saved, huge))
    assert "its header declares" in said
    assert peak_of(saved) < 2_000_000
    outcome("REFUSE", said.replace(str(saved.parent), "…"))


def test_b07_what_unpacks_to_more_than_it_says_is_refused(saved: Path) -> None:
    rewritten(saved, holding("case.json", b" " * (1 << 25)))
    assert saved.stat().st_size < 100_000
    assert f"declares {1 << 25:,} bytes of case.json" in refusal(saved)
    assert peak_of(saved) < 2_000_000


def test_b07_a_bomb_behind_a_small_size_is_not_unpacked(saved: Path) -> None:
    wanted = npy(record().probability)
    rewritten(saved, holding("probability.npy", wanted + bytes(1 << 25)))
    content, size = bytearray(saved.read_bytes()), (len(wanted) + (1 << 25)).to_bytes(4, "little")
    assert content.count(size) == 2
    saved.write_bytes(content.replace(size, len(wanted).to_bytes(4, "little")))
    assert "Bad CRC-32 for file 'probability.npy'" in refusal(saved)
    assert peak_of(saved) < 2_000_000


def test_b01_b02_whatever_byte_is_damaged_it_is_refused_or_read_as_it_was(saved: Path) -> None:
    whole = saved.read_bytes()
    for at in range(0, len(whole), 5):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :]):
            saved.write_bytes(damaged)
            with contextlib.suppress(InputError):
                assert_same(read_case(saved), record())


def test_what_is_no_plain_file_or_may_not_be_read_is_refused(saved: Path, tmp_path: Path) -> None:
    assert "is not a regular file" in refusal(tmp_path)
    assert "No such file" in refusal(tmp_path / "gone.nru")
    saved.chmod(0)
    if not os.access(saved, os.R_OK):  # root may read everything
        assert "cannot be read (Permission denied)" in refusal(saved)


# ---- the CT of a case


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    array = np.arange(6 * 5 * 9, dtype=np.int16).reshape(9, 5, 6) - 1000
    nib.save(nib.Nifti1Image(array, np.diag([0.7, 0.8, 2.5, 1])), tmp_path / "ct.nii.gz")
    return tmp_path / "ct.nii.gz"


def case_of(path: Path, answers: InputAnswers | None = None) -> CaseRecord:
    reference = CtReference.of(open_ct(path, answers))
    shape = reference.geometry.reordered(reference.geometry.to_axial).shape
    none = SliceEdits(np.empty(0, np.int64), np.empty((0, *shape[1:]), np.int8))
    marks = np.zeros(shape[0], np.uint8)
    return CaseRecord(
        reference, MaskSettings(), none, (), marks, marks.astype(np.uint32), None, marks.astype(bool)
    )


def test_the_ct_is_found_beside_the_case_and_opened_with_the_same_answers(ct: Path, tmp_path: Path) -> None:
    write_case(case_of(ct, InputAnswers(hu_offset=-24.0)), tmp_path / "case.nru")
    record = read_case(tmp_path / "case.nru")
    volume = open_case_ct(tmp_path / "case.nru", record)
    assert volume.answers == InputAnswers(hu_offset=-24.0)
    assert volume.array.min() == -1024
    assert volume.source.path == ct
    assert CtReference.of(volume).nifti_header != record.ct.nifti_header  # that one says less


def test_a_ct_that_is_elsewhere_is_opened_where_the_user_says(ct: Path, tmp_path: Path) -> None:
    record = case_of(ct)
    (tmp_path / "away").mkdir()
    moved = ct.rename(tmp_path / "away" / "renamed.nii.gz")
    case = tmp_path / "case.nru"
    with pytest.raises(
        InputError, match=r"case\.nru needs its CT ct\.nii\.gz, which is not beside it .*say where it is"
    ):
        find_case_ct(case, record)
    with pytest.raises(InputError, match=r"needs its CT none\.nii, which is not there"):
        find_case_ct(case, record, tmp_path / "none.nii")
    assert open_case_ct(case, record, moved).source.path == moved


def test_b63_another_ct_is_refused_naming_both(ct: Path, tmp_path: Path) -> None:
    record = case_of(ct)
    other = tmp_path / "other.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((9, 5, 6), np.int16), np.diag([0.7, 0.8, 2.5, 1])), other)
    said = (
        r"case\.nru was made on ct\.nii\.gz \(SHA-256 [0-9a-f]{12}…\), "
        r"other\.nii\.gz \(SHA-256 [0-9a-f]{12}…\) is another CT"
    )
    with pytest.raises(InputError, match=said):
        open_case_ct(tmp_path / "case.nru", record, other)


def test_b63_the_same_ct_on_another_grid_is_refused(ct: Path, tmp_path: Path) -> None:
    volume, record = open_ct(ct), case_of(ct)
    moved = volume.geometry.index_to_lps.copy()
    moved[0, 3] += 0.1
    shifted = replace(record.ct, geometry=Geometry(volume.geometry.shape, moved))
    with pytest.raises(InputError, match=r"the case was made on another grid than that of ct\.nii\.gz"):
        refuse_other_ct(volume, replace(record, ct=shifted))


def test_a_ct_that_came_from_no_file_is_known_by_its_voxels(ct: Path) -> None:
    volume = open_ct(ct)
    reference = CtReference.of(replace(volume, source=None))
    record = replace(case_of(ct), ct=reference)
    assert reference.format == "layer"
    refuse_other_ct(volume, record)
    other = replace(volume, array=volume.array + np.int16(1))
    with pytest.raises(InputError, match="is another CT"):
        refuse_other_ct(other, record)
