from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from napari_resunet.errors import InputError
from napari_resunet.training.corrections import correct, not_there, read_corrections

SPACING = (1.0, 1.0)


def listed(folder: Path, *lines: str) -> Path:
    path = folder / "list.csv"
    path.write_text("case,slices,action,where,why\n" + "\n".join(lines) + "\n")
    return path


def two_lungs() -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Three slices; the first lung has a cut 4 pixels wide, and the second lies 4 pixels beside it."""
    lungs = np.zeros((3, 40, 60), np.uint8)
    lungs[:, 5:35, 5:25] = lungs[:, 5:35, 29:50] = 1
    lungs[:, 18:22, 10:25] = 0
    return np.where(lungs, -850, 40).astype(np.int16), lungs


def mended(folder: Path, *lines: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    hu, lungs = two_lungs()
    hu[:, 18:22, 10:14] = -300
    return correct("anna", hu, lungs, SPACING, read_corrections(listed(folder, *lines)))


def test_closing_fills_a_cut_in_a_lung_and_never_joins_two_lungs(tmp_path: Path) -> None:
    lungs, used = mended(tmp_path, "anna,1,close,4,vessel")
    assert lungs[1, 18:22, 10:20].all()
    assert not lungs[1, :, 25:29].any()
    np.testing.assert_array_equal(lungs[[0, 2]], two_lungs()[1][[0, 2]])
    assert used.all()


def test_a_closing_stays_in_its_box_and_its_limits(tmp_path: Path) -> None:
    boxed, _ = mended(tmp_path, 'anna,0,close,"4; 0:40,0:16",vessel')
    np.testing.assert_array_equal(
        boxed[0] != two_lungs()[1][0], np.pad(np.ones((4, 6)), ((18, 18), (10, 44))) > 0
    )
    limited, _ = mended(tmp_path, "anna,0,close,4; hu<-200,vessel")
    assert limited[0, 18:22, 10:14].all()
    assert not limited[0, 18:22, 14:20].any()


def test_a_closing_does_not_shrink_a_lung_at_the_rim_of_the_picture(tmp_path: Path) -> None:
    lungs = np.zeros((1, 20, 20), np.uint8)
    lungs[0, :12, :12] = 1
    after, _ = correct(
        "anna", lungs * 0, lungs, SPACING, read_corrections(listed(tmp_path, "anna,0,close,5,rim"))
    )
    np.testing.assert_array_equal(after, lungs)


def test_the_radius_is_in_mm(tmp_path: Path) -> None:
    hu, lungs = two_lungs()
    lines = read_corrections(listed(tmp_path, "anna,0,close,4,vessel"))
    assert not correct("anna", hu, lungs, (3.0, 3.0), lines)[0][0, 18:22, 12:20].any()


def test_a_polygon_adds_and_removes_the_pixels_within_it(tmp_path: Path) -> None:
    square = "5.5 49.5; 5.5 55.5; 8.5 55.5; 8.5 49.5"
    lungs, _ = mended(
        tmp_path, f"anna,0:2,add,{square},mass", "anna,1,remove,0 40; 0 60; 40 60; 40 40,effusion"
    )
    assert lungs[0].sum() == two_lungs()[1][0].sum() + 3 * 6
    assert lungs[0, 6:9, 50:56].all()
    assert not lungs[1, :, 41:].any()
    assert not lungs[2, :, 50:].any()


def test_a_slice_left_out_is_named_and_its_mask_is_kept(tmp_path: Path) -> None:
    lungs, used = mended(tmp_path, "anna,0:2,leave out,,cannot tell", "ben,2,leave out,,another case")
    assert used.tolist() == [False, False, True]
    np.testing.assert_array_equal(lungs, two_lungs()[1])


def test_the_array_given_is_not_changed(tmp_path: Path) -> None:
    hu, lungs = two_lungs()
    correct("anna", hu, lungs, SPACING, read_corrections(listed(tmp_path, "anna,0,close,4,vessel")))
    np.testing.assert_array_equal(lungs, two_lungs()[1])


def test_cases_that_are_not_there_are_named(tmp_path: Path) -> None:
    lines = read_corrections(
        listed(tmp_path, "carl,0,leave out,,x", "anna,0,leave out,,x", "ben,0,leave out,,x")
    )
    assert not_there(lines, ["anna"]) == ["ben", "carl"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("anna,0,paint,1 2,x", r"list.csv line 2: there is no action 'paint'; choose one of close, add"),
        ("anna,3:3,close,4,x", r"line 2: slices are one number or a:b with a below b, not '3:3'"),
        ("anna,low,close,4,x", r"not 'low'"),
        ("anna,0,add,1 2; 3 4,x", r"line 2: add cannot be done at '1 2; 3 4'; close needs a radius"),
        ("anna,0,close,,x", r"close cannot be done at ''"),
        ("anna,0,leave out,4,x", r"leave out cannot be done at '4'"),
        ("anna,0,add,1 2; 3 4; here,x", r"line 2: 'here' is no corner, box, limit or radius"),
        ('anna,0,close,"4; 40:40,0:16",x', r"line 2: a box is y0:y1,x0:x1 .*, not '40:40,0:16'"),
        ('anna,0,close,"4; 0:40,16:0",x', r"line 2: a box is y0:y1,x0:x1 .*, not '0:40,16:0'"),
    ],
)
def test_a_line_that_cannot_be_done_is_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_corrections(listed(tmp_path, line))


def test_a_slice_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"list.csv line 2: anna has the slices 0:3; correct the number"):
        mended(tmp_path, "anna,2:4,leave out,,x")


def test_a_table_of_other_columns_or_none_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("file,patient\n")
    with pytest.raises(InputError, match=r"other.csv must have the columns case, slices, action, where, why"):
        read_corrections(other)
    with pytest.raises(InputError, match=r"none.csv cannot be read as a list of corrections"):
        read_corrections(tmp_path / "none.csv")
