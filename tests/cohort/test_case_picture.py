"""The picture of a case, by which a person sees at a glance whether it has to be looked at."""

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
from napari_resunet.pictures import LEFT_COLOUR, RIGHT_COLOUR, draw_case, most_doubtful_slice
from napari_resunet.volume import Mask, Volume

SHAPE = (12, 20, 30)
GEOMETRY = Geometry.from_spacing(SHAPE, (5, 2, 1))
STORED = AxisOrder((0, 1, 2), (True, True, False))
DOUBT = np.array([np.nan, np.nan, 0.1, 0.0, 0.4, 0.1, 0.1, 0.1, 0.2, 0.1, 0.0, np.nan])


def ct() -> Volume:
    array = np.full(SHAPE, -1350, np.int16)
    array += (100 * np.arange(12, dtype=np.int16))[:, None, None]  # each slice is brighter than the one below
    return Volume(array, GEOMETRY)


def lungs() -> Mask:
    array = np.zeros(SHAPE, np.uint8)
    array[3:11, 5:15, 4:12] = 1
    array[3:11, 6:15, 18:27] = 2
    array[3:11, 9, :] = 1  # the fullest row
    array[3:11, :, 7] = 1  # and column
    return Mask(array, GEOMETRY)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each view is made of."""
    seen: list[dict[str, Any]] = []
    draw_slice = pictures._draw_slice

    def note(axis: Any, hu: npt.NDArray[Any], labels: npt.NDArray[Any], **options: Any) -> None:
        seen.append({"hu": hu, "labels": labels, **options})
        draw_slice(axis, hu, labels, **options)

    monkeypatch.setattr(pictures, "_draw_slice", note)
    return seen


def test_a_picture_is_1200_pixels_wide_and_shows_both_lungs(tmp_path: Path) -> None:
    draw_case(ct(), lungs(), DOUBT, tmp_path / "a.png", title="case-1")
    picture = imread(tmp_path / "a.png")[..., :3]
    assert picture.shape == (520, 1200, 3)
    for colour in (RIGHT_COLOUR, LEFT_COLOUR):
        near = np.abs(picture[:350] - to_rgb(colour)).max(axis=-1) < 0.02  # above the curve of doubt
        assert np.count_nonzero(near) > 50


def test_the_views_are_the_middle_the_most_doubtful_and_the_fullest(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    draw_case(ct(), lungs(), DOUBT, tmp_path / "a.png")
    assert [view["caption"] for view in drawn] == [
        "axial slice 6, middle",
        "axial slice 4, most doubtful",
        "coronal, row 9",
        "sagittal, column 7",
    ]
    assert [int(view["hu"][0, 0]) for view in drawn[:2]] == [-750, -950]


def test_every_view_has_the_proportions_of_the_body(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    draw_case(ct(), lungs(), DOUBT, tmp_path / "a.png")
    # mm along the rows over mm along the columns
    assert [view["aspect"] for view in drawn] == [2.0, 2.0, 5.0, 2.5]


def test_the_head_is_on_top_in_the_upright_views(tmp_path: Path, drawn: list[dict[str, Any]]) -> None:
    draw_case(ct(), lungs(), DOUBT, tmp_path / "a.png")
    for view in drawn[2:]:
        assert view["hu"][0, 0] > view["hu"][-1, 0]


@pytest.mark.parametrize("doubt", [np.full(12, np.nan), np.zeros(12)])
def test_a_case_without_any_doubt_shows_no_doubtful_slice(
    tmp_path: Path, drawn: list[dict[str, Any]], doubt: npt.NDArray[np.float64]
) -> None:
    draw_case(ct(), lungs(), doubt, tmp_path / "a.png")
    assert [view["caption"].split(",")[0] for view in drawn] == ["axial slice 6", "coronal", "sagittal"]


def test_a_case_without_lungs_is_drawn_through_its_middle(
    tmp_path: Path, drawn: list[dict[str, Any]]
) -> None:
    draw_case(ct(), Mask(np.zeros(SHAPE, np.uint8), GEOMETRY), np.zeros(12), tmp_path / "a.png")
    assert [view["caption"] for view in drawn] == [
        "axial slice 5, middle",
        "coronal, row 10",
        "sagittal, column 15",
    ]


def test_a_ct_of_one_slice_can_be_drawn(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((1, 20, 30), (5, 2, 1))
    mask = Mask(lungs().array[5:6], geometry)
    draw_case(Volume(ct().array[:1], geometry), mask, np.array([0.3]), tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[:2] == (520, 1200)


def test_a_ct_stored_in_another_order_gives_the_same_picture(tmp_path: Path) -> None:
    draw_case(ct(), lungs(), DOUBT, tmp_path / "a.png")
    geometry = GEOMETRY.reordered(STORED)
    volume, mask = Volume(STORED.apply(ct().array), geometry), Mask(STORED.apply(lungs().array), geometry)
    draw_case(volume, mask, DOUBT, tmp_path / "b.png")
    assert np.array_equal(imread(tmp_path / "a.png"), imread(tmp_path / "b.png"))


def test_the_most_doubtful_slice_is_at_the_lungs_if_there_is_any_doubt() -> None:
    labels, doubt = lungs().array, np.full(12, 0.1)
    doubt[[0, 2, 6]] = 0.9, 0.5, 0.3  # the lungs begin at slice 3
    assert most_doubtful_slice(doubt, labels) == 2  # where their end may have been lost
    doubt[2] = np.nan
    assert most_doubtful_slice(doubt, labels) == 6
    assert (
        most_doubtful_slice(doubt, np.zeros(SHAPE, np.uint8)) == 0
    )  # no lung was found: look where there may be
    assert most_doubtful_slice(np.full(12, np.nan), labels) is None


def test_a_doubt_of_another_ct_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="each of the 12 axial slices is needed; got \\(11,\\)"):
        draw_case(ct(), lungs(), DOUBT[:11], tmp_path / "a.png")
