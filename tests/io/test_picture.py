from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
from outcomes import Outcome
from PIL import Image
from refusals import told

from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.hu import refuse_implausible_hu
from napari_resunet.io.files import can_read, read_mask, read_volume
from napari_resunet.io.orientation import is_assumed

GREY = np.arange(48 * 60, dtype=np.uint16).reshape(48, 60)
SPACING = (5.0, 0.8, 0.7)


def save(path: Path, pixels: Any, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(("dtype", "name"), [("uint8", "a.png"), ("uint16", "a.png"), ("uint8", "a.jpg")])
def test_b26_a_grey_picture_is_one_slice_whatever_its_name(
    dtype: str, name: str, tmp_path: Path, outcome: Outcome
) -> None:
    pixels = (GREY // (1 if dtype == "uint16" else 16)).astype(dtype)
    path = save(tmp_path / name, pixels, **({"quality": 100} if name == "a.jpg" else {}))
    path = path.rename(tmp_path / "slice.bin")
    with pytest.raises(
        SpacingUnknownError, match=r"is a picture, .*\(--spacing Z,Y,X or spacing_mm=\)"
    ) as refused:
        read_volume(path)
    outcome("ASK", told(refused))
    volume = read_volume(path, spacing_mm=SPACING)
    assert volume.array.shape == (1, 48, 60)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.array[0], pixels, atol=3 if name == "a.jpg" else 0)
    assert volume.geometry.spacing_mm == SPACING
    assert volume.source is not None
    assert volume.source.format == ("JPEG" if name == "a.jpg" else "PNG")
    assert "knows no Hounsfield units" in volume.notes[0]
    assert is_assumed(volume.notes)
    outcome("NOTE", volume.notes[0])


def test_a_picture_lies_as_the_user_says(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", GREY)
    volume = read_volume(path, spacing_mm=SPACING, orientation="AIL")
    assert volume.geometry.axis_codes == "AIL"
    assert not is_assumed(volume.notes)


def test_b21_the_grey_values_of_a_picture_are_not_taken_for_hu(tmp_path: Path, outcome: Outcome) -> None:
    volume = read_volume(save(tmp_path / "a.png", (GREY // 12).astype(np.uint8)), spacing_mm=SPACING)
    with pytest.raises(
        InputError, match=r"not HU but grey values of a picture; .*\(--hu-offset or hu_offset=\)"
    ) as refused:
        refuse_implausible_hu(volume.array)
    outcome("ASK", told(refused))


def test_b17_a_picture_of_hu_plus_1024_is_asked_about(tmp_path: Path, outcome: Outcome) -> None:
    volume = read_volume(save(tmp_path / "a.png", GREY), spacing_mm=SPACING)
    with pytest.raises(InputError, match=r"look like HU \+ 1024; give a HU offset of -1024") as refused:
        refuse_implausible_hu(volume.array)
    outcome("ASK", told(refused))
    refuse_implausible_hu(volume.with_hu_offset(-1024).array)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA"])
def test_b53_grey_kept_as_colour_is_read_and_noted(mode: str, tmp_path: Path, outcome: Outcome) -> None:
    grey = Image.fromarray((GREY // 12).astype(np.uint8))
    grey.convert(mode).save(tmp_path / "a.png")
    volume = read_volume(tmp_path / "a.png", spacing_mm=SPACING)
    np.testing.assert_array_equal(volume.array[0], GREY // 12)
    assert volume.notes[0] == "a picture in colour whose three channels are the same: read as grey"
    outcome("NOTE", volume.notes[0])


def test_b53_colour_is_refused(tmp_path: Path, outcome: Outcome) -> None:
    pixels = np.zeros((48, 60, 3), np.uint8)
    pixels[3, 4, 1] = 1
    with pytest.raises(InputError, match="is in colour; export the CT slice in grey values") as refused:
        read_volume(save(tmp_path / "a.png", pixels), spacing_mm=SPACING)
    outcome("REFUSE", told(refused))
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="is in colour"):
        read_volume(tmp_path / "a.jpg", spacing_mm=SPACING)


def test_a_picture_that_is_transparent_in_places_is_refused(tmp_path: Path) -> None:
    pixels = np.full((48, 60, 4), 255, np.uint8)
    pixels[3, 4, 3] = 254
    with pytest.raises(InputError, match="is transparent in places"):
        read_volume(save(tmp_path / "a.png", pixels), spacing_mm=SPACING)


def test_a_picture_that_moves_is_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((48, 60), grey, np.uint8)) for grey in (1, 2))
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    with pytest.raises(InputError, match="is animated"):
        read_volume(tmp_path / "a.png", spacing_mm=SPACING)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
@pytest.mark.parametrize("keep", [12, 60, 0.5, 0.95])
def test_b02_a_truncated_picture_is_refused(name: str, keep: float, tmp_path: Path, outcome: Outcome) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 60)).astype(np.uint8)
    content = save(tmp_path / name, noise).read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(InputError, match=rf"{name} is damaged .*copy or export it again") as refused:
        read_volume(tmp_path / name, spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def declares(width: int, height: int) -> bytes:
    """Return a PNG of one byte of pixels that declares more."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("size", "message"),
    [((70_000, 1000), "70000 x 1000 pixels"), ((60_000, 60_000), "damaged"), ((9000, 9000), "")],
)
def test_b51_a_picture_that_declares_too_much_is_refused(
    size: tuple[int, int],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=1 << 26))
    (tmp_path / "a.png").write_bytes(declares(*size))
    with pytest.raises(InputError, match=message or "of memory") as refused:
        read_volume(tmp_path / "a.png", spacing_mm=SPACING)
    outcome("REFUSE", told(refused))


def test_a_mask_of_one_slice_is_read(tmp_path: Path) -> None:
    mask = read_mask(save(tmp_path / "m.png", ((GREY > 50) * 255).astype(np.uint8)), spacing_mm=SPACING)
    np.testing.assert_array_equal(mask.array[0], GREY > 50)


def test_napari_is_left_to_open_pictures_itself(tmp_path: Path) -> None:
    assert not can_read(save(tmp_path / "a.png", GREY))


def test_bits_are_read_as_0_and_255(tmp_path: Path) -> None:
    Image.fromarray(GREY > 50).save(tmp_path / "a.png")
    np.testing.assert_array_equal(
        read_volume(tmp_path / "a.png", spacing_mm=SPACING).array[0], (GREY > 50) * 255
    )


def test_another_format_of_picture_is_of_an_unknown_kind(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.fromarray(GREY.astype(np.uint8)).save(content, "GIF")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    with pytest.raises(InputError, match="is of an unknown kind"):
        read_volume(tmp_path / "a.png", spacing_mm=SPACING)
