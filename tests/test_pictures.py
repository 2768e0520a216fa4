from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from napari_resunet import pictures
from napari_resunet.geometry import AxisOrder, Geometry
from napari_resunet.pictures import LEFT_COLOUR, RIGHT_COLOUR, draw_curve, draw_overlay
from napari_resunet.volume import Mask, Volume

SHAPE = (12, 20, 30)
GEOMETRY = Geometry.from_spacing(SHAPE, (5, 2, 1))
STORED = AxisOrder((0, 1, 2), (True, True, False))


def ct() -> Volume:
    array = np.full(SHAPE, -1350, np.int16)
    array += (100 * np.arange(12, dtype=np.int16))[:, None, None]  # each slice is brighter than the one below
    return Volume(array, GEOMETRY)


def lungs(right: int = 1, left: int = 2) -> Mask:
    array = np.zeros(SHAPE, np.uint8)
    array[2:11, 5:15, 4:12] = right
    array[2:11, 5:15, 18:26] = left
    return Mask(array, GEOMETRY)


def pixels_of(path: Path, colour: str) -> int:
    """How many pixels have just this colour."""
    picture = imread(path)[..., :3]
    return int(np.count_nonzero(np.abs(picture - to_rgb(colour)).max(axis=-1) < 0.02))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each small picture is made of."""
    seen: list[dict[str, Any]] = []

    def note(
        axis: Any, hu: npt.NDArray[Any], labels: npt.NDArray[Any], *, aspect: float, caption: str
    ) -> None:
        seen.append({"hu": hu, "labels": labels, "aspect": aspect, "caption": caption})

    monkeypatch.setattr(pictures, "_draw_slice", note)
    return seen


def test_the_contours_of_the_right_and_the_left_lung_have_their_colours(tmp_path: Path) -> None:
    draw_overlay(ct(), lungs(), tmp_path / "both.png", title="a title")
    assert pixels_of(tmp_path / "both.png", RIGHT_COLOUR) > 50
    assert pixels_of(tmp_path / "both.png", LEFT_COLOUR) > 50
    draw_overlay(ct(), lungs(left=0), tmp_path / "right.png")
    assert pixels_of(tmp_path / "right.png", RIGHT_COLOUR) > 50
    assert pixels_of(tmp_path / "right.png", LEFT_COLOUR) == 0


@pytest.mark.parametrize("label", [0, 1])
def test_a_mask_of_nothing_or_of_everything_has_no_contour(tmp_path: Path, label: int) -> None:
    draw_overlay(ct(), Mask(np.full(SHAPE, label, np.uint8), GEOMETRY), tmp_path / "a.png")
    assert pixels_of(tmp_path / "a.png", RIGHT_COLOUR) == 0


def test_a_ct_of_one_slice_can_be_drawn(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((1, 20, 30), (5, 2, 1))
    volume = Volume(ct().array[:1], geometry)
    draw_overlay(volume, Mask(lungs().array[5:6], geometry), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_seven_axial_slices_are_spread_over_the_lungs(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    draw_overlay(ct(), lungs(), tmp_path / "a.png")
    assert [picture["caption"] for picture in drawn[:-1]] == [f"axial slice {z} (0-11)" for z in range(3, 10)]
    assert [int(picture["hu"][0, 0]) for picture in drawn[:-1]] == [-1350 + 100 * z for z in range(3, 10)]
    assert {picture["aspect"] for picture in drawn[:-1]} == {2.0}


def test_without_lungs_the_slices_are_spread_over_the_ct(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    draw_overlay(ct(), lungs(0, 0), tmp_path / "a.png")
    assert [picture["caption"] for picture in drawn[:-1]] == [
        f"axial slice {z} (0-11)" for z in (1, 3, 4, 6, 7, 8, 10)
    ]
    assert drawn[-1]["caption"] == "coronal, row 10"


def test_the_coronal_picture_has_the_head_on_top(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    mask = lungs()
    mask.array[:, 9, :] = 1  # the fullest row
    draw_overlay(ct(), mask, tmp_path / "a.png")
    assert drawn[-1]["caption"] == "coronal, row 9"
    assert drawn[-1]["hu"][0, 0] > drawn[-1]["hu"][-1, 0]
    assert drawn[-1]["aspect"] == 5.0


def test_a_ct_stored_in_another_order_is_drawn_the_same(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    draw_overlay(ct(), lungs(), tmp_path / "a.png")
    straight = list(drawn)
    drawn.clear()
    geometry = GEOMETRY.reordered(STORED)
    draw_overlay(
        Volume(STORED.apply(ct().array), geometry),
        Mask(STORED.apply(lungs().array), geometry),
        tmp_path / "b.png",
    )
    for left, right in zip(straight, drawn, strict=True):
        assert left["caption"] == right["caption"]
        np.testing.assert_array_equal(left["hu"], right["hu"])
        np.testing.assert_array_equal(left["labels"], right["labels"])


@pytest.mark.parametrize("count", [1, 4])
def test_the_curve_of_a_training_shows_loss_and_dice(tmp_path: Path, count: int) -> None:
    columns = {
        "step": list(range(count)),
        "loss": [1 / (i + 1) for i in range(count)],
        "dice": [i / 4 for i in range(count)],
    }
    draw_curve(columns, tmp_path / "curve.png")
    assert pixels_of(tmp_path / "curve.png", "tab:blue") > 20
    assert pixels_of(tmp_path / "curve.png", "tab:orange") > 20
