from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import napari_resunet as nru
from napari_resunet import cli
from napari_resunet.case import Case
from napari_resunet.geometry import Geometry
from napari_resunet.io.case_file import write_case
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.open_ct import open_ct
from napari_resunet.settings import InputAnswers
from napari_resunet.volume import Mask

pytestmark = pytest.mark.usefixtures("quick_network")


class Window:
    """Stands for napari, and remembers how it was opened."""

    def __init__(self) -> None:
        self.opened: list[tuple] = []

    def __call__(self, *arguments, **options) -> None:
        self.opened.append((arguments, options))


@pytest.fixture
def window() -> Window:
    return Window()


@pytest.fixture
def command(window):
    def run(*arguments: object) -> int:
        return cli.run([str(a) for a in arguments], open_window=window)

    return run


@pytest.fixture(scope="module")
def dicom(chest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom") / "ct"
    write_ct_series(chest.volume, folder)
    return folder


def test_segment_writes_the_mask_its_sidecar_and_one_line(
    command, dicom: Path, tmp_path: Path, capsys
) -> None:
    assert command("segment", dicom, "-o", tmp_path / "lungs.nii.gz", "--device", "cpu") == 0
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1
    assert "same grid as ct" in out
    sidecar = json.loads((tmp_path / "lungs.json").read_text())
    assert sidecar["history"]["mask"] == {
        "clean": True,
        "split": False,
        "swap_sides": False,
        "threshold": 0.5,
    }
    assert sidecar["history"]["run"]["device"] == "cpu"


@pytest.mark.computed
def test_segment_gives_the_bytes_that_the_api_gives(command, chest, dicom: Path, tmp_path: Path) -> None:
    options = ["--device", "cpu", "--threshold", "0.4", "--no-clean", "--split", "--grid", "256"]
    options += ["--slices", "8:14"]
    assert command("segment", dicom, "-o", tmp_path / "cli.nii.gz", *options) == 0
    prob = nru.predict(nru.read_volume(dicom), device="cpu", grid=256, slices=(8, 14))
    nru.write_mask(nru.to_mask(prob, threshold=0.4, clean=False, split=True), tmp_path / "api.nii.gz")
    assert (tmp_path / "cli.nii.gz").read_bytes() == (tmp_path / "api.nii.gz").read_bytes()


def test_segment_runs_only_the_slices_asked_for(command, dicom: Path, tmp_path: Path, capsys) -> None:
    assert command("segment", dicom, "-o", tmp_path / "m.tif", "--slices", "10:12", "--no-clean") == 0
    assert "note: 2 of 28 slices were run" in capsys.readouterr().err
    filled = nru.read_mask(tmp_path / "m.tif").array.any(axis=(1, 2))
    assert np.flatnonzero(filled).tolist() == [10, 11]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["segment", "ct", "-o", "m.tif", "--slices", "12:10"],
            2,
            "first number up to the second; got 12:10",
        ),
        (["segment", "ct", "-o", "m.tif", "--swap-sides"], 2, "give --split too"),
        (
            ["info", "lung_ct"],
            3,
            "lung_ct is not there, and no built-in model is called so; check the path, or name one of lung-ct",
        ),
    ],
)
def test_what_contradicts_itself_or_is_misspelt_is_told(command, capsys, arguments, code, message) -> None:
    assert command(*arguments) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_masks_on_two_grids_are_both_named(command, tmp_path: Path, capsys) -> None:
    mask, _ = two_masks(tmp_path)
    other = nib.load(mask)
    nib.save(nib.Nifti1Image(np.asarray(other.dataobj)[:-1], other.affine), tmp_path / "smaller.nii.gz")
    assert command("evaluate", mask, tmp_path / "smaller.nii.gz") == 3
    err = capsys.readouterr().err
    assert "error: a.nii.gz has (" in err
    assert ", smaller.nii.gz (" in err
    assert "write both on the grid of one CT" in err


def test_help_lists_the_commands_as_they_are_met(command, capsys) -> None:
    assert command("--help") == 0
    listed = re.findall(r"^  ([a-z-]+)  ", capsys.readouterr().out.partition("Commands:")[2], flags=re.M)
    assert listed[:3] == ["demo", "segment", "view"]
    assert len(listed) == len(set(listed)) == 15


def test_an_empty_mask_is_written_with_a_word_about_it(command, dicom: Path, tmp_path: Path, capsys) -> None:
    assert command("segment", dicom, "-o", tmp_path / "m.nii.gz", "--slices", "0:2") == 0
    out, err = capsys.readouterr()
    assert "0 voxels" in out
    assert "note: no lung was found" in err


def test_segment_writes_probabilities_and_a_picture_where_asked(command, dicom: Path, tmp_path: Path) -> None:
    probability, picture = tmp_path / "p.nii.gz", tmp_path / "p.png"
    options = ["--probability", probability, "--picture", picture]
    assert command("segment", dicom, "-o", tmp_path / "m.nii.gz", *options) == 0
    assert np.asarray(nib.load(probability).dataobj).max() == pytest.approx(1)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["segment", "nothing.nii.gz", "-o", "m.nii.gz"], 3, "nothing.nii.gz"),
        (["segment", "{ct}", "-o", "m.nii.gz", "--model", "none"], 3, "no model 'none'"),
        (["segment", "{ct}", "-o", "m.nii.gz", "--slices", "0:99"], 3, "slices 0:99 are not in"),
        (["segment", "{ct}", "-o", "nowhere/m.nii.gz"], 4, "nowhere does not exist; create it"),
        (["segment", "{ct}", "-o", "m.jpg"], 4, "m.jpg"),
        (["segment", "{ct}"], 2, "--output"),
        (["segment", "{ct}", "-o", "m.nii.gz", "--threshold", "2"], 2, "threshold"),
        (["segment", "{ct}", "-o", "m.nii.gz", "--slices", "abc"], 2, "40:60"),
        (["segment", "{ct}", "-o", "m.nii.gz", "--grid", "200"], 2, "128, 256"),
        (
            ["segment", "{ct}", "-o", "m.nii.gz", "--probability", "no/p.nii.gz"],
            4,
            "no does not exist; create it",
        ),
        (["segment", "{ct}", "-o", "m.nii.gz", "--picture", "no/p.png"], 4, "no does not exist; create it"),
        (["segment", "{ct}", "-o", "m.nii.gz", "--spacing", "1,2"], 2, "2.5,0.7,0.7"),
        (["evaluate", "{ct}", "{ct}"], 3, "is DICOM"),
        (["train", "{ct}", "-o", "m.pt"], 3, ".safetensors"),
        (["train", "{ct}", "-o", "m.safetensors", "--card", "none.json"], 3, "none.json"),
        (["info", "nothing.nii.gz"], 3, "nothing.nii.gz"),
    ],
)
def test_what_is_refused_gives_one_line_and_an_exit_code(
    command, dicom: Path, tmp_path: Path, monkeypatch, capsys, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*(a.format(ct=dicom) for a in arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    if code in (3, 4):
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert not list(tmp_path.glob("m.*"))


def test_debug_shows_the_traceback(command, capsys) -> None:
    assert command("--debug", "segment", "nothing.nii.gz", "-o", "m.nii.gz") == 3
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_ends_with_130_and_writes_nothing(
    command, dicom: Path, tmp_path: Path, monkeypatch
) -> None:
    from napari_resunet.inference import predict

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "slice_probabilities", interrupted)
    assert command("segment", dicom, "-o", tmp_path / "m.nii.gz") == 130
    assert not list(tmp_path.iterdir())


def test_values_that_are_not_hu_are_refused_with_the_remedy_which_works(
    command, chest, tmp_path: Path, capsys
) -> None:
    array = (chest.volume.array.astype(np.int32) + 1024).astype(np.int16)
    nib.save(nib.Nifti1Image(array.T, chest.volume.geometry.ras_affine), tmp_path / "ct.nii.gz")
    assert command("segment", tmp_path / "ct.nii.gz", "-o", tmp_path / "m.nii.gz") == 3
    assert "HU offset of -1024" in capsys.readouterr().err
    assert (
        command("segment", tmp_path / "ct.nii.gz", "-o", tmp_path / "m.nii.gz", "--hu-offset", "-1024") == 0
    )
    assert np.array_equal(
        nru.read_mask(tmp_path / "m.nii.gz").array, nru.to_mask(nru.predict(chest.volume)).array
    )


def two_masks(folder: Path) -> tuple[Path, Path]:
    """One of 4 voxels, one of 4 that shares 2 of them; voxels are 10 x 10 x 10 mm = 1 ml."""
    geometry = Geometry.from_spacing((1, 2, 4), (10, 10, 10))
    first, second = np.zeros((2, 1, 2, 4), dtype=np.uint8)
    first[0, 0], second[0, :, :2] = 1, 1
    nru.write_mask(Mask(first, geometry), folder / "a.nii.gz")
    nru.write_mask(Mask(second, geometry), folder / "b.nii.gz")
    return folder / "a.nii.gz", folder / "b.nii.gz"


def test_evaluate_prints_dice_and_iou_and_adds_rows_to_a_table(command, tmp_path: Path, capsys) -> None:
    mask, reference = two_masks(tmp_path)
    for _ in range(2):
        assert command("evaluate", mask, reference, "--csv", tmp_path / "t.csv") == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("lungs: Dice 0.5000, IoU 0.3333, NSD at 2 mm ")
    assert line.endswith(" mm, 4.0 ml, reference 4.0 ml")
    rows = (tmp_path / "t.csv").read_text().splitlines()
    distances, volumes = "hd95_mm,assd_mm,nsd_2mm", "volume_ml,reference_ml,volume_difference_ml,missed"
    assert rows[0] == f"mask,reference,lung,dice,iou,{distances},{volumes}"
    assert rows[1] == rows[2]
    assert rows[1].startswith("a.nii.gz,b.nii.gz,lungs,0.5,0.333333,")
    assert rows[1].endswith(",4.0,4.0,0.0,False")


def test_measure_prints_ml_and_hu_of_each_lung_and_adds_rows_to_a_table(
    command, chest, dicom: Path, tmp_path: Path, capsys
) -> None:
    nru.write_mask(chest.mask, tmp_path / "truth.nii.gz")
    assert command("measure", dicom, tmp_path / "truth.nii.gz", "--csv", tmp_path / "t.csv") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["right", "left", "both"]
    assert f"{chest.mask.volume_ml:,.0f} ml, mean -8" in lines[2]
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows[0] == "ct,mask,name,voxels,volume_ml,mean_hu,sd_hu,p15_hu,laa950_percent"
    assert len(rows) == 4


def test_a_table_that_cannot_be_written_exits_with_4(command, tmp_path: Path) -> None:
    mask, reference = two_masks(tmp_path)
    assert command("evaluate", mask, reference, "--csv", tmp_path / "no" / "t.csv") == 4


def test_info_tells_of_the_machine_a_ct_and_a_model_in_words_and_json(command, dicom: Path, capsys) -> None:
    assert command("info") == 0
    assert "precision: " in capsys.readouterr().out
    assert command("info", dicom, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["shape (z, y, x)"] == [28, 96, 96]
    assert facts["format"] == "DICOM"
    assert command("info", "lung-ct", "--json") == 0
    card = json.loads(capsys.readouterr().out)
    assert card["preset"] == "paper"
    assert card["window_hu"] == [-1000, 400]
    assert "research use only" in card["use"]
    assert command("info", "lung-ct") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "name: lung-ct"
    assert "network:" in said
    assert f"  width: {card['network']['width']}" in said


def test_view_opens_the_window_with_the_ct_the_mask_and_the_answers(command, window, tmp_path: Path) -> None:
    assert command("view", "ct.tif", "--mask", "m.tif", "--spacing", "5,1,1", "--hu-offset", "-1024") == 0
    answers = InputAnswers(spacing_mm=(5, 1, 1), hu_offset=-1024)
    ((_, options),) = window.opened
    assert callable(options.pop("track"))  # reading a CT takes a while
    assert window.opened == [((Path("ct.tif"),), {"mask": Path("m.tif"), "answers": answers})]


@pytest.fixture
def saved(chest, dicom: Path, tmp_path: Path) -> Path:
    """A case file beside its CT: the lungs painted by hand on two slices, one of them ticked."""
    shutil.copytree(dicom, tmp_path / "ct")
    case = Case(open_ct(tmp_path / "ct", InputAnswers(hu_offset=0.0)))
    truth = case.volume.geometry.to_axial.apply(chest.mask.array) > 0
    case.mask[12:14] = truth[12:14]
    case.tick(12)
    write_case(case.record(), tmp_path / "case.nru")
    return tmp_path / "case.nru"


def test_export_writes_the_mask_of_a_case_file_its_sidecar_and_one_line(
    command, saved: Path, tmp_path: Path, capsys
) -> None:
    shutil.rmtree(tmp_path / "ct")  # not needed
    output, probability = tmp_path / "lungs.nii.gz", tmp_path / "p.nii.gz"
    assert command("export", saved, "-o", output, "--split", "--probability", probability) == 0
    out, err = capsys.readouterr()
    voxels = np.count_nonzero(nru.read_mask(output).array)
    assert out.startswith(f"{output}: {voxels:,} voxels, ")
    assert out.endswith("same grid as ct\n")
    assert err == ""
    assert set(np.unique(nru.read_mask(output).array)) == {0, 1, 2}
    history = json.loads((tmp_path / "lungs.json").read_text())["history"]
    assert history["voxels_edited_by_hand"] == voxels > 1000
    assert history["mask"]["split"]
    assert probability.exists()


def test_export_says_when_it_replaces_a_file_and_when_the_mask_is_empty(
    command, chest, saved: Path, tmp_path: Path, capsys
) -> None:
    case = Case(chest.volume)
    case.mask[3, 3, 3] = 1
    case.absorb_edits()
    case.mask[3, 3, 3] = 0
    case.done[3] = True
    write_case(case.record(), tmp_path / "empty.nru")
    assert command("export", saved, "-o", tmp_path / "m.tif") == 0
    assert command("export", tmp_path / "empty.nru", "-o", tmp_path / "m.tif") == 0
    err = capsys.readouterr().err
    assert err == "note: an older m.tif was replaced\nnote: the mask is empty\n"


def test_info_tells_what_a_case_file_holds(command, saved: Path, capsys) -> None:
    assert command("info", saved, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["content"] == "a case"
    assert facts["ct"]["name"] == "ct"
    assert facts["ct"]["format"] == "DICOM"
    assert len(facts["ct"]["sha256"]) == 64
    assert facts["answers"] == {
        "spacing_mm": None,
        "series": None,
        "hu_offset": 0.0,
        "accept_gaps": False,
        "frame": None,
        "orientation": None,
    }
    assert facts["shape (z, y, x)"] == [28, 96, 96]
    assert facts["run"] is None
    assert facts["mask"]["threshold"] == 0.5
    counts = ("slices", "slices_run", "slices_edited", "slices_reviewed", "slices_flagged")
    assert [facts[name] for name in counts] == [28, 0, 2, 1, 0]
    assert facts["voxels_edited_by_hand"] > 1000
    assert facts["saved"].endswith("+00:00")
    assert command("info", saved) == 0
    assert "content: a case\n" in capsys.readouterr().out


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":7")


def test_view_opens_a_case_file_on_the_ct_beside_it_with_the_answers_it_was_made_with(
    command, window, display, saved: Path, tmp_path: Path
) -> None:
    assert command("view", saved) == 0
    (((source,), options),) = window.opened
    assert source == tmp_path / "ct"
    assert options["volume"].answers == InputAnswers(hu_offset=0.0)
    assert options["record"].edits.slices.tolist() == [12, 13]
    assert set(options) == {"volume", "record"}


def test_view_opens_a_case_file_on_a_ct_elsewhere(
    command, window, display, saved: Path, tmp_path: Path
) -> None:
    (tmp_path / "ct").rename(tmp_path / "moved")
    assert command("view", saved, "--ct", tmp_path / "moved") == 0
    assert window.opened[0][0] == (tmp_path / "moved",)


def test_view_refuses_another_ct_before_there_is_a_window(
    command, window, display, chest, saved: Path, tmp_path: Path, capsys
) -> None:
    nib.save(nib.Nifti1Image(chest.volume.array.T, chest.volume.geometry.ras_affine), tmp_path / "other.nii")
    assert command("view", saved, "--ct", tmp_path / "other.nii") == 3
    err = capsys.readouterr().err
    assert err.startswith("error: case.nru was made on ct (SHA-256 ")
    assert ", other.nii (SHA-256 " in err
    assert err.endswith("is another CT; give ct\n")
    assert not window.opened


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["view", "{case}"], 3, "case.nru needs its CT ct, which is not beside it in"),
        (["view", "{case}", "--ct", "none"], 3, "case.nru needs its CT none, which is not there"),
        (["view", "{case}", "--mask", "m.tif"], 2, "give nothing but --ct"),
        (["view", "{case}", "--spacing", "1,1,1"], 2, "give nothing but --ct"),
        (["view", "ct.tif", "--ct", "ct"], 2, "INPUT is none"),
        (["view", "{damaged}"], 3, "damaged.nru is truncated or damaged"),
        (["info", "{damaged}"], 3, "damaged.nru is truncated or damaged"),
        (["export", "{damaged}", "-o", "m.nii.gz"], 3, "damaged.nru is truncated or damaged"),
        (["export", "none.nru", "-o", "m.nii.gz"], 3, "none.nru cannot be opened"),
        (["export", "{case}"], 2, "--output"),
        (["export", "{case}", "-o", "m.jpg"], 4, "m.jpg"),
        (
            ["export", "{case}", "-o", "m.nii.gz", "--probability", "no/p.nii"],
            4,
            "no does not exist; create it",
        ),
    ],
)
def test_what_cannot_be_done_with_a_case_file_gives_one_line_and_an_exit_code(
    command, window, display, saved: Path, tmp_path: Path, monkeypatch, capsys, arguments, code, message
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ct").rename(tmp_path / "away")
    damaged = tmp_path / "damaged.nru"
    damaged.write_bytes(saved.read_bytes()[:500])
    assert command(*(a.format(case=saved, damaged=damaged) for a in arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in " ".join(err.replace("│", " ").split())
    if code in (3, 4):
        assert err.startswith("error: ")
        assert err.count("\n") == 1
    assert not window.opened
    assert not list(tmp_path.glob("m.*"))


def test_the_demo_does_the_whole_job_and_finds_the_lungs(command, window, tmp_path: Path, capsys) -> None:
    assert command("demo", tmp_path / "demo", "--no-window") == 0
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"ct", "lungs.nii.gz", "lungs.tif", "lungs.json", "lungs.png", "truth.nii.gz"} <= made
    out = capsys.readouterr().out
    dice = float(out.partition("chest: ")[2].split()[0])
    assert dice > 0.97
    assert not window.opened
    truth = nru.read_mask(tmp_path / "demo" / "truth.nii.gz")
    assert nru.evaluate(nru.read_mask(tmp_path / "demo" / "lungs.nii.gz"), truth)[
        "lungs"
    ].dice == pytest.approx(dice, abs=1e-4)


def test_the_demo_opens_the_window_where_there_is_a_display(
    command, window, tmp_path: Path, monkeypatch
) -> None:
    from napari_resunet import workflows

    result = {"receipt": "written", "dice": 1.0, "ml": {"right": 1.0, "left": 1.0}}
    monkeypatch.setattr(workflows, "demo", lambda *_, **__: result)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert command("demo", tmp_path) == 0
    assert not window.opened
    monkeypatch.setenv("DISPLAY", ":7")
    assert command("demo", tmp_path) == 0
    assert window.opened == [((tmp_path / "ct",), {"mask": tmp_path / "lungs.nii.gz"})]


def test_train_makes_a_model_that_segments(command, chest, tmp_path: Path, capsys) -> None:
    data = tmp_path / "data"
    data.mkdir()
    affine = chest.volume.geometry.ras_affine
    for patient in ("p1", "p2"):
        nib.save(nib.Nifti1Image(chest.volume.array.T, affine), data / f"{patient}_ct.nii.gz")
        nib.save(
            nib.Nifti1Image((chest.mask.array > 0).astype(np.uint8).T, affine),
            data / f"{patient}_lungs.nii.gz",
        )
    (tmp_path / "card.json").write_text('{"name": "tiny", "training_data": "a made-up chest"}')
    mending = tmp_path / "mending.csv"
    mending.write_text("case,slices,action,where,why\np1,2,leave out,,it is blurred\n")
    text = "--steps 3 --width 4 --grid 32 --batch 2 --fine 0.5 --without gas,noise --validate-every 2 --device cpu"
    settings = [*text.split(), "--corrections", mending]
    model = tmp_path / "tiny.safetensors"
    assert command("train", data, "-o", model, "--card", tmp_path / "card.json", *settings) == 0
    assert "of 3; curve in" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "tiny.run").iterdir()} == {
        "curve.csv",
        "curve.png",
        "run.json",
        "state.pt",
    }
    card = nru.load_model(model).card
    assert (card.name, card.training_data, card.grid) == ("tiny", "a made-up chest", 32)
    assert (card.recipe["width"], card.recipe["fine"], card.recipe["without"]) == (4, 0.5, "gas,noise")
    assert card.recipe["corrections"]["file"] == "mending.csv"
    assert 0.5 <= card.recipe["temperature"] <= 2.5
    mending.write_text("case,slices,action,where,why\np1,3,leave out,,it is blurred\n")
    assert command("train", data, "-o", model, "--card", tmp_path / "card.json", *settings) == 3
    assert "other corrections files" in capsys.readouterr().err


def test_version_and_help_answer_without_torch_or_napari() -> None:
    for option in ("--version", "--help"):
        code = (
            "import sys; from napari_resunet import cli; "
            f"code = cli.run([{option!r}], open_window=None); "
            "heavy = [m for m in ('torch', 'napari', 'qtpy', 'numpy', 'rich') if m in sys.modules]; "
            "assert not heavy, heavy; sys.exit(code)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_the_list_of_commands_tells_of_each_in_whole_words(command, capsys) -> None:
    assert command("--help") == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert len(listed) >= 13
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def test_python_m_runs_the_same_command_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_resunet", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == nru.__version__


@pytest.fixture
def silent_about_axes(chest, tmp_path: Path) -> Path:
    """Two time points in a NIfTI whose codes are 0, stored head first, front up."""
    stored = chest.volume.array[::-1].T
    image = nib.Nifti1Image(np.stack([stored + np.int16(7), stored], axis=-1), None)
    image.header.set_zooms((3.8, 3.8, 11.0, 1.0))
    image.header.set_xyzt_units("mm")
    image.header["sform_code"] = image.header["qform_code"] = 0
    image.to_filename(tmp_path / "ct.nii")
    return tmp_path / "ct.nii"


def test_b08_b24_what_a_file_leaves_open_is_answered_on_the_command_line_and_kept_in_the_sidecar(
    command, silent_about_axes: Path, chest, tmp_path: Path, capsys, outcome
) -> None:
    run = ("segment", silent_about_axes, "-o", tmp_path / "lungs.nii.gz", "--device", "cpu", "--split")
    assert command(*run) == cli.REFUSED
    refused = capsys.readouterr().err
    assert "holds 2 volumes" in refused
    assert "(--frame or frame=)" in refused
    outcome("ASK", refused.replace(f"{tmp_path}/", ""))
    assert command(*run, "--frame", "1", "--orientation", "ipl") == 0
    told = capsys.readouterr().err
    assert "note: volume 1 was read, by the user's word (0 to 1 are there)" in told
    assert "(IPL), by the user's word" in told
    notes = json.loads((tmp_path / "lungs.json").read_text())["history"]["notes_on_the_ct"]
    assert [note for note in notes if "by the user's word" in note] == notes
    assert len(notes) == 2
    outcome("NOTE", "; ".join(notes))
    mask = nru.read_mask(tmp_path / "lungs.nii.gz")
    assert mask.geometry.axis_codes == "IPL"
    for label in (1, 2):
        truth = chest.mask.axial == label
        assert np.count_nonzero(mask.axial[truth] == label) > 0.8 * np.count_nonzero(truth)


def test_info_lists_the_checks_with_the_users_answers_taken_in(
    command, silent_about_axes: Path, capsys
) -> None:
    assert command("info", silent_about_axes, "--frame", "0", "--json") == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["orientation"]["level"] == "ask"
    assert checks["orientation"]["answers"] == ["orientation"]
    assert checks["HU"]["level"] == "ok"
    assert command("info", silent_about_axes, "--frame", "0", "--orientation", "IPL") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "note   orientation: IPL by the user's word" in lines
    assert lines[-1] == "ok     size: 28 axial slices of 96 x 96"
    assert command("info", silent_about_axes, "--frame", "0", "--hu-offset", "0") == 0
    assert "note   HU: taken as HU by the user's word" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--orientation", "SPX"), 2, "three letters"),
        (("--orientation", ""), 2, "three letters"),
        (("--frame", "-1"), 2, "greater than or equal to 0"),
        (("--frame", "9"), cli.REFUSED, "has no volume 9: its 2 volumes are 0 to 1"),
    ],
)
def test_an_answer_that_is_none_is_refused(
    command, silent_about_axes: Path, capsys, arguments: tuple[str, ...], code: int, said: str
) -> None:
    assert command("info", silent_about_axes, *arguments) == code
    assert said in " ".join(capsys.readouterr().err.split()).replace("│", "").replace("  ", " ")


def test_measure_takes_the_same_answers(
    command, silent_about_axes: Path, chest, tmp_path: Path, capsys
) -> None:
    answers = ("--frame", "1", "--orientation", "IPL")
    mask = Mask(
        chest.mask.array[::-1].copy(), Geometry.from_spacing(chest.mask.array.shape, (11, 3.8, 3.8), "IPL")
    )
    nru.write_mask(mask, tmp_path / "m.nii.gz")
    assert command("measure", silent_about_axes, tmp_path / "m.nii.gz", *answers) == 0
    assert "both: " in capsys.readouterr().out
    assert command("measure", silent_about_axes, tmp_path / "m.nii.gz", "--frame", "1") == cli.REFUSED


def test_view_hands_the_answers_to_the_window(command, window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":7")
    assert command("view", "ct.tif", "--frame", "1", "--orientation", "ipl") == 0
    assert window.opened[0][1]["answers"] == InputAnswers(frame=1, orientation="IPL")


def test_b26_one_slice_as_a_picture_is_segmented(command, chest, tmp_path: Path, capsys, outcome) -> None:
    from PIL import Image

    Image.fromarray((chest.volume.array[14] + 1024).clip(0).astype(np.uint16)).save(tmp_path / "slice.png")
    run = ("segment", tmp_path / "slice.png", "-o", tmp_path / "m.nii.gz", "--device", "cpu", "--split")
    assert command(*run) == cli.REFUSED
    assert "--spacing Z,Y,X" in capsys.readouterr().err
    assert command(*run, "--spacing", "11,3.8,3.8") == cli.REFUSED
    assert "--hu-offset" in capsys.readouterr().err
    assert command(*run, "--spacing", "11,3.8,3.8", "--hu-offset", "-1024") == 0
    assert "note: one slice from a PNG" in capsys.readouterr().err
    mask = nru.read_mask(tmp_path / "m.nii.gz").array
    assert mask.shape == (1, 96, 96)
    for label in (1, 2):
        truth = chest.mask.array[14:15] == label
        assert np.count_nonzero(mask[truth] == label) > 0.8 * np.count_nonzero(truth)
    outcome("OK", "one slice runs as one slice")
