from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io import tiff_pages
from napari_resunet.io.orientation import is_assumed
from napari_resunet.io.tiff import read_tiff, read_tiff_mask, write_tiff
from napari_resunet.io.tiff_pages import count_pages
from napari_resunet.io.tiff_spacing import (
    imagej_spacing,
    mm_per_unit,
    ome_pages,
    ome_spacing,
    place_from_text,
)
from napari_resunet.volume import Volume

HU = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
SPACING = (2.5, 0.8, 0.7)


def test_a_written_mask_comes_back_to_the_bit(tmp_path: Path) -> None:
    matrix = np.eye(4)
    matrix[:3] = [[0.02, 0.1, 0.7, 1 / 3], [0.1, -0.8, 0.1, -20.25], [-2.5, 0, 0.3, 30]]
    geometry = Geometry((5, 6, 7), matrix)
    mask = (HU > 0).astype(np.uint8)
    write_tiff(mask, geometry, tmp_path / "mask.tif")
    read = read_tiff_mask(tmp_path / "mask.tif")
    np.testing.assert_array_equal(read.array, mask)
    np.testing.assert_array_equal(read.geometry.index_to_lps, matrix)


def test_fiji_finds_slices_and_spacing_in_mm(volume: Volume, tmp_path: Path) -> None:
    write_tiff(np.ones((5, 6, 7), np.uint8), volume.geometry, tmp_path / "mask.tif")
    with tifffile.TiffFile(tmp_path / "mask.tif") as tif:
        description = tif.pages[0].description
        x, y = (tif.pages[0].tags[name].value for name in ("XResolution", "YResolution"))
    assert {"slices=5", "spacing=2.5", "unit=mm"} <= set(description.splitlines())
    assert x[1] / x[0] == pytest.approx(0.7, rel=1e-6)
    assert y[1] / y[0] == pytest.approx(0.8, rel=1e-6)


def test_a_single_slice_is_written_and_read(tmp_path: Path) -> None:
    geometry = Geometry.from_spacing((1, 6, 7), SPACING)
    write_tiff(np.ones((1, 6, 7), np.uint8), geometry, tmp_path / "mask.tif")
    read = read_tiff_mask(tmp_path / "mask.tif")
    assert read.array.shape == (1, 6, 7)
    np.testing.assert_array_equal(read.geometry.index_to_lps, geometry.index_to_lps)


@pytest.mark.parametrize(("shape", "spacing"), [((4, 6, 7), SPACING), ((5, 6, 7), (2.5, 1.6, 1.4))])
def test_a_file_cropped_or_rescaled_elsewhere_loses_its_place_aloud(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], tmp_path: Path
) -> None:
    write_tiff(np.ones((5, 6, 7), np.uint8), Geometry.from_spacing((5, 6, 7), SPACING), tmp_path / "mask.tif")
    with tifffile.TiffFile(tmp_path / "mask.tif") as tif:
        info = tif.imagej_metadata["Info"]
    z, y, x = spacing
    tifffile.imwrite(
        tmp_path / "changed.tif",
        np.ones(shape, np.uint8),
        imagej=True,
        resolution=(1 / x, 1 / y),
        metadata={"axes": "ZYX", "spacing": z, "unit": "mm", "Info": info},
    )
    read = read_tiff(tmp_path / "changed.tif")
    assert "cropped or rescaled" in read.notes[-2]
    assert read.geometry.spacing_mm == pytest.approx(spacing)


@pytest.mark.parametrize(
    ("unit", "mm"), [("mm", 1), ("\\u00B5m", 1e-3), ("micron", 1e-3), ("cm", 10), ("inch", 25.4)]
)
def test_imagej_units_become_mm(unit: str, mm: float, tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "ct.tif",
        HU.astype(np.float32),
        imagej=True,
        resolution=(mm / 0.7, mm / 0.8),
        metadata={"axes": "ZYX", "spacing": 2.5 / mm, "unit": unit},
    )
    read = read_tiff(tmp_path / "ct.tif")
    assert read.geometry.spacing_mm == pytest.approx(SPACING, rel=1e-5)
    np.testing.assert_array_equal(read.array, HU)
    assert read.array.dtype == np.int16
    assert is_assumed(read.notes)


def test_ome_units_become_mm(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeZ": 0.25, "PhysicalSizeZUnit": "cm", "PhysicalSizeY": 800, "PhysicalSizeX": 700}
    tifffile.imwrite(tmp_path / "ct.ome.tif", HU, metadata={"axes": "ZYX", **sizes})
    assert read_tiff(tmp_path / "ct.ome.tif").geometry.spacing_mm == pytest.approx(SPACING)


def test_imagejs_calibration_of_signed_numbers_is_applied(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "ct.tif",
        (HU.astype(int) + 32768).astype(np.uint16),
        imagej=True,
        resolution=(1 / 0.7, 1 / 0.8),
        metadata={"axes": "ZYX", "spacing": 2.5, "unit": "mm", "cf": 0, "c0": -32768.0, "c1": 1.0},
    )
    read = read_tiff(tmp_path / "ct.tif")
    np.testing.assert_array_equal(read.array, HU)
    assert "calibration" in read.notes[0]


def test_a_calibration_that_is_not_a_line_is_not_applied(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "spacing": 2.5, "unit": "mm", "cf": 0, "c0": "?"}
    tifffile.imwrite(
        tmp_path / "ct.tif", HU.astype(np.float32), imagej=True, resolution=(1, 1), metadata=metadata
    )
    np.testing.assert_array_equal(read_tiff(tmp_path / "ct.tif").array, HU)


@pytest.mark.parametrize("metadata", [{}, {"spacing": 2.5}, {"unit": "mm"}, {"spacing": 0, "unit": "mm"}])
def test_b52_without_a_spacing_it_is_asked_for(
    metadata: dict[str, Any], tmp_path: Path, outcome: Outcome
) -> None:
    tifffile.imwrite(
        tmp_path / "ct.tif", HU.astype(np.float32), imagej=True, metadata={"axes": "ZYX", **metadata}
    )
    with pytest.raises(
        SpacingUnknownError, match=r"ct\.tif does not say .*--spacing Z,Y,X or spacing_mm="
    ) as refused:
        read_tiff(tmp_path / "ct.tif")
    outcome("ASK", told(refused))
    assert read_tiff(tmp_path / "ct.tif", spacing_mm=(3, 2, 1)).geometry.spacing_mm == (3, 2, 1)


@pytest.mark.parametrize(("axes", "called"), [("ZYX", None), ("TYX", "time points"), ("CYX", "channels")])
def test_b52_pages_that_are_not_called_slices_are_noted(
    axes: str, called: str | None, tmp_path: Path, outcome: Outcome
) -> None:
    tifffile.imwrite(tmp_path / "ct.tif", HU.astype(np.float32), imagej=True, metadata={"axes": axes})
    notes = " ".join(read_tiff(tmp_path / "ct.tif", spacing_mm=SPACING).notes)
    assert f"5 {called} of the file are taken as slices" in notes if called else "pages" not in notes
    outcome("NOTE", notes)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float16"])
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"byteorder": ">"}, {"metadata": None}]
)
def test_b23_b54_every_kind_of_stack_is_read(
    dtype: str, options: dict[str, Any], tmp_path: Path, outcome: Outcome
) -> None:
    values = np.arange(210).reshape(5, 6, 7).astype(dtype)
    tifffile.imwrite(tmp_path / "ct.tif", values, photometric="minisblack", **options)
    read = read_tiff(tmp_path / "ct.tif", spacing_mm=SPACING)
    np.testing.assert_array_equal(read.array, values)
    assert any(f"stored as {dtype}" in note for note in read.notes) == (dtype != "int16")
    outcome("OK", dtype)


@pytest.mark.parametrize(
    "options", [{"photometric": "rgb"}, {"photometric": "minisblack", "planarconfig": "contig"}]
)
def test_b53_colour_is_refused(options: dict[str, Any], tmp_path: Path, outcome: Outcome) -> None:
    tifffile.imwrite(tmp_path / "ct.tif", np.zeros((6, 7, 3), np.uint8), **options)
    with pytest.raises(InputError, match="is in colour") as refused:
        read_tiff(tmp_path / "ct.tif", spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def test_b53_several_images_are_refused(tmp_path: Path, outcome: Outcome) -> None:
    with tifffile.TiffWriter(tmp_path / "ct.tif") as writer:
        writer.write(HU)
        writer.write(HU[:, :3])
    with pytest.raises(InputError, match="holds 2 separate images") as refused:
        read_tiff(tmp_path / "ct.tif", spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def test_a_stack_of_stacks_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "ct.tif", np.zeros((2, 3, 6, 7), np.float32), imagej=True, metadata={"axes": "TZYX"}
    )
    with pytest.raises(InputError, match="has axes TZYX"):
        read_tiff(tmp_path / "ct.tif", spacing_mm=SPACING)


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"metadata": None}, {"ome": True}]
)
@pytest.mark.parametrize("keep", [0.5, 0.85])
def test_b49_a_truncated_stack_is_refused(
    options: dict[str, Any], keep: float, tmp_path: Path, outcome: Outcome
) -> None:
    path = tmp_path / "ct.tif"
    stack = np.random.default_rng(0).integers(-1000, 1000, (9, 40, 40)).astype(np.int16)
    tifffile.imwrite(path, stack, **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(InputError, match=r"truncated|damaged") as refused:
        read_tiff(path, spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def test_b49_fewer_pages_than_imagej_declares_are_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, HU.astype(np.float32), imagej=True, metadata={"axes": "ZYX"})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"images=5\nslices=5", b"images=9\nslices=9"))
    with pytest.raises(InputError, match="5 of the 9 pages it declares are there") as refused:
        read_tiff(path, spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def test_b49_fewer_pages_than_the_shape_declares_are_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, HU)
    path.write_bytes(path.read_bytes().replace(b'"shape": [5,', b'"shape": [9,'))
    with pytest.raises(InputError, match="5 of the 9 pages it declares are there") as refused:
        read_tiff(path, spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def test_b49_fewer_pages_than_ome_declares_are_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "ct.ome.tif"
    tifffile.imwrite(path, HU, metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes().replace(b'SizeZ="5"', b'SizeZ="9"'))
    with pytest.raises(InputError, match=r"of the 9 pages it declares are there|holds 0 separate") as refused:
        read_tiff(path, spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize("keep", [1.0, 0.7])
def test_a_large_imagej_stack_hangs_on_one_page_and_must_be_whole(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "ct.tif"
    text = b"ImageJ=1.11a\nimages=5\nslices=5\n\0"
    first = 8 + 2 + 11 * 12 + 4 + len(text)
    tags = [
        (256, 7),
        (257, 6),
        (258, 32),
        (259, 1),
        (262, 1),
        (273, first),
        (277, 1),
        (278, 6),
        (279, 168),
        (339, 3),
    ]
    entries = [(tag, struct.pack(">HHII", tag, 4, 1, value)) for tag, value in tags]
    entries.append((270, struct.pack(">HHII", 270, 2, len(text), first - len(text))))
    head = (
        struct.pack(">2sHIH", b"MM", 42, 8, 11) + b"".join(entry for _, entry in sorted(entries)) + bytes(4)
    )
    stack = HU.astype(">f4").tobytes()
    path.write_bytes(head + text + stack[: int(keep * len(stack))])
    if keep == 1:
        np.testing.assert_array_equal(read_tiff(path, spacing_mm=SPACING).array, HU)
        return
    with pytest.raises(InputError, match=r"truncated|damaged"):
        read_tiff(path, spacing_mm=SPACING)


def test_b50_pages_in_a_circle_are_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "ct.tif"
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HI", 0, 8))
    with pytest.raises(InputError, match="does not end") as refused:
        read_tiff(path)
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<2sHI", b"II", 42, 0), "holds no image"),
        (struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HI", 0, 999), "ends after page 1"),
        (struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HI", 9999, 0), "damaged"),
        (b"MM\0*", "damaged"),
    ],
)
def test_a_broken_chain_of_pages_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "ct.tif").write_bytes(content)
    with pytest.raises(InputError, match=message):
        count_pages(tmp_path / "ct.tif")


def test_b51_a_stack_that_declares_too_much_is_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, np.zeros((6, 7), np.int16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for name in ("ImageLength", "ImageWidth", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(60000)
    with pytest.raises(InputError, match="declares 7,200,000,000 bytes") as refused:
        read_tiff(path, spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def test_units_that_are_none_are_none() -> None:
    assert mm_per_unit("pixel") is None
    assert imagej_spacing({"unit": "mm", "spacing": 1}, (0, 1)) is None


@pytest.mark.parametrize("xml", ["<", "<OME/>", '<O xmlns="x"><Pixels PhysicalSizeX="1"/></O>'])
def test_ome_without_sizes_has_none(xml: str) -> None:
    assert ome_spacing(xml) is None
    assert ome_pages(xml) is None


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"napari_resunet": {"shape_zyx": [1, 1, 1], "index_to_lps": [[0]]}}']
)
def test_another_info_text_is_no_place(text: str) -> None:
    assert place_from_text(text) is None


@pytest.mark.parametrize("orientation", [None, "IPL", "AIL", "ras"])
def test_b31_a_bare_stack_lies_as_the_user_says(
    orientation: str | None, tmp_path: Path, outcome: Outcome
) -> None:
    tifffile.imwrite(tmp_path / "ct.tif", HU)
    read = read_tiff(tmp_path / "ct.tif", spacing_mm=SPACING, orientation=orientation)
    assert read.geometry.axis_codes == (orientation or "SPL").upper()
    assert read.geometry.spacing_mm == SPACING
    assert is_assumed(read.notes) == (orientation is None)
    outcome("NOTE" if orientation else "ASK", read.notes[-1])


def test_b31_a_stack_that_was_cropped_elsewhere_lies_as_the_user_says(tmp_path: Path) -> None:
    write_tiff(
        np.ones((5, 6, 7), np.uint8), Geometry.from_spacing((5, 6, 7), SPACING, "IPL"), tmp_path / "m.tif"
    )
    with tifffile.TiffFile(tmp_path / "m.tif") as tif:
        info = tif.imagej_metadata["Info"]
    metadata = {"axes": "ZYX", "spacing": 2.5, "unit": "mm", "Info": info}
    resolution = (1 / 0.7, 1 / 0.8)
    tifffile.imwrite(
        tmp_path / "cut.tif",
        np.ones((4, 6, 7), np.uint8),
        imagej=True,
        resolution=resolution,
        metadata=metadata,
    )
    assert (
        read_tiff(tmp_path / "m.tif", orientation="SPL").geometry.axis_codes == "IPL"
    )  # refused by `read_volume`
    assert read_tiff(tmp_path / "cut.tif", orientation="IPL").geometry.axis_codes == "IPL"


@pytest.mark.parametrize(
    "tag", ["BitsPerSample", "RowsPerStrip", "ImageWidth", "StripByteCounts", "Compression"]
)
@pytest.mark.parametrize("value", [0, 7, 65535])
def test_b49_a_tag_that_makes_no_sense_is_refused_or_changes_nothing(
    tag: str, value: int, tmp_path: Path, outcome: Outcome
) -> None:
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, HU, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for page in tif.pages:
            page.tags[tag].overwrite(value)
    try:
        np.testing.assert_array_equal(read_tiff(path, spacing_mm=SPACING).array, HU)
    except InputError as error:
        outcome("REFUSE", str(error).replace(str(path), path.name))


def test_b49_packed_pixels_that_are_damaged_are_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, HU, compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[2].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 2] = b"??"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is damaged or not readable as TIFF") as refused:
        read_tiff(path, spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def test_b50_a_page_beyond_what_a_file_can_hold_is_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "ct.tif"
    path.write_bytes(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 2**64 - 1))
    with pytest.raises(InputError, match="truncated or damaged") as refused:
        count_pages(path)
    outcome("REFUSE", told(refused))


def test_b50_more_pages_than_can_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    monkeypatch.setattr(tiff_pages, "_MOST_PAGES", 100)
    path = tmp_path / "ct.tif"
    chain = b"".join(struct.pack("<HI", 0, 8 + 6 * (i + 1)) for i in range(200))
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + chain)
    with pytest.raises(InputError, match="does not end") as refused:
        count_pages(path)
    outcome("REFUSE", told(refused))


def test_b54_a_bigtiff_that_declares_more_than_it_holds_is_refused(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, HU[:1], bigtiff=True, metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for name in ("ImageLength", "ImageWidth", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(50_000)
    with pytest.raises(InputError, match="declares 5,000,000,000 bytes") as refused:
        read_tiff(path, spacing_mm=SPACING)
    outcome("REFUSE", told(refused))
