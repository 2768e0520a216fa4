"""A process of its own that decodes compressed pixels, since damage in them can end it; see `dicom_decode`.

It takes a list of ``[path, [frame, ...]]`` as JSON on its standard input. For each frame it gives a line of JSON on its
standard output, ``{"dtype": ..., "shape": ...}`` with the bytes after it, or ``{"error": ...}`` and nothing more.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import BinaryIO

import numpy as np

from napari_resunet.io.dicom_frames import stored_frames


def main() -> None:
    """Decode what is asked for."""
    jobs = json.load(sys.stdin)
    with os.fdopen(os.dup(1), "wb") as answers, open(os.devnull, "wb") as nowhere:  # noqa: PTH123 no file
        os.dup2(nowhere.fileno(), 1)  # some decoders print
        try:
            for path, frames in jobs:
                for stored in stored_frames(Path(path), frames):
                    _send(answers, np.ascontiguousarray(stored))
        except Exception as error:  # whatever the damage leads to
            lines = (str(error).strip() or type(error).__name__).splitlines()
            reason = lines[-1].strip()  # the first line is of no decoder
            answers.write(json.dumps({"error": reason}).encode() + b"\n")


def _send(answers: BinaryIO, stored: np.typing.NDArray[np.generic]) -> None:
    said = {"dtype": stored.dtype.str, "shape": stored.shape}
    answers.write(json.dumps(said).encode() + b"\n" + stored.tobytes())
    answers.flush()


if __name__ == "__main__":
    main()
