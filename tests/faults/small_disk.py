"""Exports over an old file on a disk that is too small, in a process of its own; `test_exports` starts it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from napari_resunet.errors import OutputError
from napari_resunet.geometry import Geometry
from napari_resunet.io.case_file import write_case
from napari_resunet.io.export import write_mask
from napari_resunet.record import CaseRecord, CtReference, SliceEdits
from napari_resunet.settings import MaskSettings
from napari_resunet.volume import Mask

SMALL, LARGE = (2, 32, 32), (64, 96, 96)


def noise(shape: tuple[int, int, int]) -> np.ndarray:
    """A mask that does not pack well."""
    return np.random.default_rng(0).integers(0, 3, shape).astype(np.uint8)


def write(path: Path, shape: tuple[int, int, int]) -> None:
    geometry = Geometry.from_spacing(shape, (2.5, 0.7, 0.7))
    if path.suffix != ".nru":
        write_mask(Mask(noise(shape), geometry), path)
        return
    nothing = np.zeros(shape[0])
    edits = SliceEdits(np.arange(shape[0]), noise(shape).astype(np.int8) - 1)
    ct = CtReference("ct.nii.gz", "NIfTI", "a" * 64, geometry)
    marks, seen, done = (nothing.astype(kind) for kind in (np.uint8, np.uint32, bool))
    write_case(CaseRecord(ct, MaskSettings(), edits, (), marks, seen, None, done, None), path)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().hex() for path in folder.iterdir()}


def main(folder: Path, ending: str) -> None:
    path = folder / f"lungs{ending}"
    write(path, SMALL)
    before = contents(folder)
    try:
        write(path, LARGE)
    except OutputError as error:
        said = str(error)
    else:
        said = "nothing"
    sys.stdout.write(json.dumps({"said": said, "untouched": contents(folder) == before}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
