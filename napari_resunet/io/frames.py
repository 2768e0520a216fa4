"""Which volume of a file that holds several."""

from __future__ import annotations

from pathlib import Path

from napari_resunet.errors import FrameChoiceError, InputError


def choose_frame(frames: int, frame: int | None, path: Path) -> tuple[int, list[str]]:
    """Return which volume to read, counted from 0, and a note if there was a choice.

    Raises
    ------
    FrameChoiceError
        If there are several, and `frame` is None.
    InputError
        If there is no such volume, or one was chosen of a file that has only one.
    """
    if frames == 1:
        if frame is not None:
            raise InputError(
                f"{path} holds one volume, number {frame} was asked for; leave that out (--frame, frame=)"
            )
        return 0, []
    if frame is None:
        raise FrameChoiceError(
            f"{path} holds {frames} volumes, such as time points; say which one, the first is 0 (--frame or frame=)",
            frames=frames,
        )
    if not 0 <= frame < frames:
        raise InputError(
            f"{path} has no volume {frame}: its {frames} volumes are 0 to {frames - 1} (--frame)"
        )
    return frame, [f"volume {frame} was read, by the user's word (0 to {frames - 1} are there)"]
