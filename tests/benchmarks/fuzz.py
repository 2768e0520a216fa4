"""Damaged files by the thousand: each is read whole and right, or refused in words; nothing crashes or hangs.

    python tests/benchmarks/fuzz.py [--files N] [--formats NAME ...] [--seed S] [--keep FOLDER]

Small files of each format are damaged (bytes flipped, zeroed or doubled; cut; two files spliced; numbers in headers
set to extremes) and read in child processes with limited memory and time. Counted are

* crashes: the child died;
* hangs: it took longer than a limit;
* foreign: another exception than one of this package, which would show a user a traceback;
* wrong: accepted, although the reference library of the format reads other values or another place out of the very
  same bytes. Where that library refuses the bytes, nothing is held against what was read.

It prints a table in Markdown; the exit code is 1 if one of these is not 0.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing as mp
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

import numpy as np

MEMORY_BYTES = 6 << 30  # of address space: torch and ITK map a good deal
SECONDS = 20.0
SPACING = (3.0, 2.0, 1.0)
OUTCOMES = ("refused", "read", "crash", "hang", "foreign", "wrong")
BAD = ("crash", "hang", "foreign", "wrong")
# The values as (z, y, x) and the corners in LPS mm, if they are known; None where there is nothing to compare with.
Reading = tuple[np.ndarray, np.ndarray | None] | None


def hu() -> np.ndarray:
    """A small CT as (z, y, x): smooth, so that compression has something to do."""
    z, y, x = np.mgrid[:6, :20, :24]
    return (40 - 900 * (((y - 10) ** 2 + (x - 12) ** 2) < 40) + 3 * z + x).astype(np.int16)


# ---------------------------------------------------------------- seeds


def seeds(folder: Path) -> dict[str, list[Path]]:
    """Write whole files of every format, and return them by the name of the format."""
    import nibabel as nib
    import SimpleITK as sitk  # noqa: N813
    import tifffile
    from PIL import Image

    folder.mkdir(parents=True)
    array, affine = hu(), np.diag([1.0, 2.0, 3.0, 1.0])
    made: dict[str, list[Path]] = {}

    def put(kind: str, name: str, write: Callable[[Path], object]) -> None:
        path = folder / name
        write(path)
        made.setdefault(kind, []).append(path)

    put("NIfTI", "a.nii", lambda p: nib.Nifti1Image(array.T, affine).to_filename(p))
    put("NIfTI", "b.nii", lambda p: nib.Nifti2Image(array.T.astype(np.float32), affine).to_filename(p))
    put("NIfTI gz", "a.nii.gz", lambda p: nib.Nifti1Image(array.T, affine).to_filename(p))
    four = np.stack([array.T, array.T + 1], -1)
    put("NIfTI gz", "b.nii.gz", lambda p: nib.Nifti1Image(four, affine).to_filename(p))
    sizes = {"axes": "ZYX", "spacing": 3.0, "unit": "mm"}
    put("TIFF", "a.tif", lambda p: tifffile.imwrite(p, array))
    put("TIFF", "b.tif", lambda p: tifffile.imwrite(p, array, compression="zlib", bigtiff=True))
    put(
        "TIFF",
        "c.tif",
        lambda p: tifffile.imwrite(
            p, array.astype(np.float32), imagej=True, resolution=(1, 0.5), metadata=sizes
        ),
    )
    put("TIFF", "d.ome.tif", lambda p: tifffile.imwrite(p, array, ome=True, metadata={"axes": "ZYX"}))
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    for packed, letter in ((False, "a"), (True, "b")):
        for kind, ending in (("MetaImage", "mha"), ("NRRD", "nrrd")):
            put(kind, f"{letter}.{ending}", lambda p, packed=packed: sitk.WriteImage(image, str(p), packed))
    _dicom_seeds(folder, array, made)
    grey = np.abs(array[0]).astype(np.uint8)
    put("PNG", "a.png", lambda p: Image.fromarray(grey).save(p))
    put("PNG", "b.png", lambda p: Image.fromarray(np.abs(array[0]).astype(np.uint16)).save(p))
    put("JPEG", "a.jpg", lambda p: Image.fromarray(grey).save(p))
    _own_seeds(folder, array, made)
    return made


def _dicom_seeds(folder: Path, array: np.ndarray, made: dict[str, list[Path]]) -> None:
    from napari_resunet.geometry import Geometry
    from napari_resunet.io.dicom import write_ct_series
    from napari_resunet.volume import Volume

    volume = Volume(array, Geometry.from_spacing(array.shape, SPACING))
    made["DICOM"] = [Path(path) for path in write_ct_series(volume, folder / "series")][:2]


def _own_seeds(folder: Path, array: np.ndarray, made: dict[str, list[Path]]) -> None:
    """Write a case file, a sidecar and weights."""
    import torch

    from napari_resunet.geometry import Geometry
    from napari_resunet.io.case_file import write_case
    from napari_resunet.io.files import write_mask
    from napari_resunet.model.card import ModelCard
    from napari_resunet.model.checkpoint import save_model
    from napari_resunet.model.presets import NetworkSettings
    from napari_resunet.model.resunet import ResUNet
    from napari_resunet.volume import Mask

    geometry = Geometry.from_spacing(array.shape, SPACING)
    write_mask(Mask((array < -500).astype(np.uint8), geometry), folder / "mask.nii")
    made["sidecar"] = [folder / "mask.json"]
    record = _record(array, geometry)
    write_case(record, folder / "a.nru")
    made["case file"] = [folder / "a.nru"]
    torch.manual_seed(0)
    settings = NetworkSettings(units=(1, 1, 1, 1), width=4)
    card = ModelCard("tiny", "1", "custom", settings, 32, (-1000.0, 400.0))
    save_model(ResUNet(settings), card, folder / "a.safetensors")
    made["weights"] = [folder / "a.safetensors"]


def _record(array: np.ndarray, geometry: Any) -> Any:
    from napari_resunet.record import CaseRecord, CtReference, SliceEdits
    from napari_resunet.settings import MaskSettings

    count = len(array)
    edit = np.zeros(array.shape, np.int8)
    edit[2, 3:6, 4:9] = 1
    return CaseRecord(
        ct=CtReference("ct.nii", "NIfTI", "0" * 64, geometry),
        settings=MaskSettings(),
        edits=SliceEdits.of(edit, edit.any(axis=(1, 2))),
        banked=(),
        marks=np.zeros(count, np.uint8),
        seen=np.zeros(count, np.uint32),
        run=None,
        done=np.zeros(count, dtype=bool),
        probability=None,
        adopted=array < -500,
        adopted_name="mask.nii",
    )


# ---------------------------------------------------------------- damage


def damage(kind: str, content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Return a file with some damage; where a checksum guards the content, half of the time below the checksum."""
    if kind == "NIfTI gz" and chance.random() < 0.7:
        import gzip

        inner = [gzip.decompress(each) for each in (content, other)]
        return gzip.compress(_damaged(inner[0], inner[1], chance), mtime=0)
    damaged = _damaged(content, other, chance)
    return _with_right_checks(damaged) if kind == "PNG" and chance.random() < 0.7 else damaged


def _damaged(content: bytes, other: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        chance.choice((_flip, _flip, _extreme, _extreme, _cut, _repeat, _number, _splice))(
            data, other, chance
        )
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    """Return an index, more often than not in a header."""
    return chance.randrange(min(len(data), chance.choice((64, 400, 2000, len(data)))))


def _flip(data: bytearray, _: bytes, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 8))):
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _extreme(data: bytearray, _: bytes, chance: random.Random) -> None:
    fill = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\x01"))
    at, count = _place(data, chance), chance.choice((1, 2, 4, 8))
    data[at : at + count] = fill * len(data[at : at + count])


def _cut(data: bytearray, _: bytes, chance: random.Random) -> None:
    if chance.random() < 0.5:
        del data[chance.randrange(len(data)) :]
    else:
        at = _place(data, chance)
        del data[at : at + chance.choice((1, 2, 8, 100))]


def _repeat(data: bytearray, _: bytes, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at:at] = data[at : at + chance.choice((1, 2, 8, 100))]


def _number(data: bytearray, _: bytes, chance: random.Random) -> None:
    """Change a number that is written as text, as in NRRD, MetaImage, JSON and XML."""
    digits = [i for i, byte in enumerate(data[:3000]) if byte in b"0123456789"]
    if digits:
        at = chance.choice(digits)
        data[at : at + 1] = chance.choice(
            (b"0", b"-1", b"99999", b"4294967296", b"1e300", b"nan", b"", b"0.5")
        )


def _splice(data: bytearray, other: bytes, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at:] = other[chance.choice((at, chance.randrange(len(other)))) :]


def _with_right_checks(content: bytes) -> bytes:
    """Return a PNG with the checksums that its chunks should have."""
    import zlib

    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(bytes(data[at + 4 : end])))
        at = end + 4
    return bytes(data)


# ---------------------------------------------------------------- reading, ours and theirs


def ours(kind: str, path: Path, seed: Path) -> str:
    """Read a damaged file and compare; return an outcome, and raise what the reader raises."""
    if kind == "case file":
        return _compare_case(path, seed)
    if kind == "sidecar":
        return _compare_sidecar(path)
    if kind == "weights":
        return _compare_weights(path, seed)
    from napari_resunet.errors import FrameChoiceError, SpacingUnknownError
    from napari_resunet.io.files import read_volume
    from napari_resunet.preflight import preflight

    answers: dict[str, Any] = {}
    while True:
        try:
            volume = read_volume(path, **answers)
            break
        except SpacingUnknownError:
            if "spacing_mm" in answers:
                raise
            answers["spacing_mm"] = SPACING
        except FrameChoiceError:
            answers["frame"] = 0
    preflight(volume)
    reference = _theirs(kind, path)
    return _compare(volume, reference, is_placed="spacing_mm" not in answers)


def _compare(volume: Any, reference: Reading, *, is_placed: bool) -> str:
    if reference is None:
        return "read"
    array, corners = reference
    if array.shape != volume.array.shape:
        return f"wrong: shape {volume.array.shape}, reference {array.shape}"
    with np.errstate(all="ignore"):
        expected = array.astype(np.float32)
    if not np.allclose(volume.array.astype(np.float32), expected, rtol=1e-5, atol=1e-3, equal_nan=True):
        return "wrong: other values"
    if is_placed and corners is not None:
        apart = np.abs(volume.geometry.corners_lps() - corners).max()
        if not apart <= 1e-3 * max(1.0, float(np.abs(corners).max())):
            return f"wrong: corners {apart:g} mm apart"
    return "read"


def _theirs(kind: str, path: Path) -> Reading:
    """Return what the reference library of a format reads, None if it refuses."""
    if kind == "JPEG":  # it has no checksum, and each decoder mends damage in its own way
        return None
    readers = {"NIfTI": _by_nibabel, "NIfTI gz": _by_nibabel, "TIFF": _by_tifffile, "DICOM": _by_pydicom}
    try:
        return readers.get(kind, _by_itk)(path)
    except Exception:  # whatever it says of a damaged file
        return None


def _by_nibabel(path: Path) -> Reading:
    import gzip

    import nibabel as nib

    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    kind = nib.Nifti2Image if content[4:7] == b"n+2" else nib.Nifti1Image
    image = kind.from_bytes(content)
    array = np.asanyarray(image.dataobj)
    array = array.reshape((*array.shape, 1, 1, 1)[: max(3, array.ndim)])
    while array.ndim > 3:
        array = array[..., 0]
    unit = {1: 1000.0, 3: 0.001}.get(int(image.header["xyzt_units"]) & 7, 1.0)
    x, y, z = (n - 1 for n in array.shape)
    corners = [(i, j, k, 1) for k in (0, z) for j in (0, y) for i in (0, x)]
    lps = np.diag([-unit, -unit, unit]) @ (image.affine @ np.array(corners, float).T)[:3]
    return array.T, lps.T if np.isfinite(lps).all() else None


def _by_tifffile(path: Path) -> Reading:
    import tifffile

    array = tifffile.imread(path)
    return array.reshape(-1, *array.shape[-2:]), None


def _by_pydicom(path: Path) -> Reading:
    import pydicom

    data = pydicom.dcmread(path)
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    return data.pixel_array[np.newaxis] * slope + intercept, None


def _by_itk(path: Path) -> Reading:
    import SimpleITK as sitk  # noqa: N813

    image = sitk.ReadImage(str(path))
    if image.GetNumberOfComponentsPerPixel() > 1:
        return None
    array = sitk.GetArrayFromImage(image)
    if image.GetDimension() != 3:
        return (array[np.newaxis], None) if array.ndim == 2 else None
    x, y, z = (n - 1 for n in image.GetSize())
    corners = [image.TransformIndexToPhysicalPoint((i, j, k)) for k in (0, z) for j in (0, y) for i in (0, x)]
    return array, np.array(corners)


def _compare_case(path: Path, seed: Path) -> str:
    from napari_resunet.io.case_file import read_case

    found, wanted = read_case(path), read_case(seed)
    same = all(
        np.array_equal(getattr(found, name), getattr(wanted, name))
        for name in ("marks", "seen", "done", "adopted")
    )
    same = same and np.array_equal(found.edits.values, wanted.edits.values)
    same = same and found.ct.geometry.distance_mm(wanted.ct.geometry) == 0
    return "read" if same else "wrong: other work than was saved"


def _compare_sidecar(path: Path) -> str:
    from napari_resunet.io.sidecar import read_sidecar

    return "read" if read_sidecar(path) == json.loads(path.read_bytes()) else "wrong: other values"


def _compare_weights(path: Path, seed: Path) -> str:
    from napari_resunet.model.checkpoint import load_model

    found, wanted = (load_model(each).network.state_dict() for each in (path, seed))
    same = found.keys() == wanted.keys() and all((found[name] == wanted[name]).all() for name in wanted)
    return "read" if same else "wrong: other weights"


# ---------------------------------------------------------------- children


def child(line: Connection) -> None:
    """Read one file after the other, as the other end of the line says."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    sys.stderr = io.StringIO()
    warnings.simplefilter("ignore")
    from napari_resunet.errors import ResUNetError

    while True:
        kind, path, seed = line.recv()
        try:
            said = ours(kind, path, seed)
        except ResUNetError as error:
            said = "refused: " + str(error)
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            said = f"foreign: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        line.send(said)


class Reader:
    """A child process, which is started anew when it dies or hangs."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._line, far = mp.get_context("spawn").Pipe()
        self._process = mp.get_context("spawn").Process(target=child, args=(far,), daemon=True)
        self._process.start()
        far.close()
        self._is_fresh = True

    def read(self, kind: str, path: Path, seed: Path) -> str:
        """Return what became of a file: an outcome, and its reason."""
        seconds = SECONDS + (60 if self._is_fresh else 0)  # its imports take a while
        self._is_fresh = False
        self._line.send((kind, path, seed))
        try:
            if self._line.poll(seconds):
                said: str = self._line.recv()
                return said
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode
            self._start()
            return f"crash: exit code {code}"
        self._process.kill()
        self._process.join()
        self._start()
        return f"hang: more than {SECONDS:.0f} s"

    def close(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.join()


def say(text: str, to: TextIO | None = None) -> None:
    """Write a line at once."""
    to = to or sys.stdout
    to.write(text + "\n")
    to.flush()


def fuzz(
    kind: str, files: list[Path], count: int, seed: int, folder: Path, keep: Path | None
) -> Counter[str]:
    """Damage `count` files of one format, read each, and return how often there was which outcome."""
    chance, found, slowest = random.Random(f"{kind} {seed}"), Counter[str](), 0.0
    contents, reader = {path: path.read_bytes() for path in files}, Reader()
    for number in range(count):
        source = chance.choice(files)
        path = folder / f"{number}-{source.name}"
        path.write_bytes(damage(kind, contents[source], contents[chance.choice(files)], chance))
        began = time.perf_counter()
        said = reader.read(kind, path, source)
        slowest = max(slowest, time.perf_counter() - began) if number else 0.0
        outcome = said.partition(":")[0]
        found[outcome] += 1
        if outcome in BAD:
            say(f"{kind} {path.name}: {said}", sys.stderr)
            if keep is not None:
                shutil.copy(path, keep / f"{kind}-{path.name}")
        path.unlink()
    reader.close()
    cells = " | ".join(str(found[outcome]) for outcome in OUTCOMES)
    say(f"| {kind} | {count} | {cells} | {slowest:.2f} |")
    return found


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=200, help="of each format")
    parser.add_argument("--formats", nargs="*", help="only these")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where to keep the files that did harm")
    options = parser.parse_args()
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    say(f"| format | files | {' | '.join(OUTCOMES)} | slowest (s) |")
    say("|---" * (3 + len(OUTCOMES)) + "|")
    harm = 0
    with tempfile.TemporaryDirectory() as name:
        made = seeds(Path(name) / "seeds")
        if unknown := set(options.formats or ()) - made.keys():
            parser.error(f"no such format: {', '.join(sorted(unknown))}; there are {', '.join(made)}")
        for kind, files in made.items():
            if options.formats and kind not in options.formats:
                continue
            found = fuzz(kind, files, options.files, options.seed, Path(name), options.keep)
            harm += sum(found[outcome] for outcome in BAD)
    return 1 if harm else 0


if __name__ == "__main__":
    raise SystemExit(main())
