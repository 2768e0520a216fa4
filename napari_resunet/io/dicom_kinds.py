"""Which DICOM files are CT slices, and what the others are."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from napari_resunet.errors import InputError, NoCtSlicesError
from napari_resunet.io.dicom_files import counted
from napari_resunet.io.dicom_headers import SliceHeader

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_DOSE_REPORT = "1.2.840.10008.5.1.4.1.1.88.67"
# Words that scanners put into the image type of what is no slice.
_LOCALIZER_WORDS = ("LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW")
_PROJECTION_WORDS = ("PROJECTION", "MIP", "MINIP")
UNDESCRIBED = "multi-frame file without positions"
_PAGE_WORDS = ("SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "DOSE_INFO", "DOSE REPORT", " PROT")


def ct_slices(headers: Sequence[SliceHeader], where: Path) -> tuple[list[SliceHeader], list[str]]:
    """Return the CT slices among files, those of multi-frame files one by one, and notes on what was left out.

    Raises
    ------
    NoCtSlicesError
        If there is none.
    """
    sorted_out = [sort_out(header) for header in headers]
    slices = [frame for frames, _ in sorted_out for frame in frames]
    others = Counter(reason for _, reasons in sorted_out for reason in reasons)
    left_out = ", ".join(counted(n, reason) for reason, n in sorted(others.items()))
    if not slices and UNDESCRIBED in others:
        frames_of(next(header for header in headers if why_no_slice(header) is None))  # says more
    if not slices:
        raise NoCtSlicesError(
            f"{where} holds no CT slices (found: {left_out}); give the folder of a CT series"
        )
    return slices, [f"left out: {left_out}"] if left_out else []


def sort_out(header: SliceHeader) -> tuple[list[SliceHeader], list[str]]:
    """Return the CT slices in a file, and as nouns what else is in it."""
    reason = why_no_slice(header)
    if reason is not None:
        return [], [reason]
    try:
        frames = frames_of(header)
    except InputError:
        return [], [UNDESCRIBED]
    slices = [frame for frame in frames if not _is_localizer(frame.text("FrameType"))]
    return slices, ["localizer"] * (len(frames) - len(slices))


def why_no_slice(header: SliceHeader) -> str | None:
    """Return what a file is if it is not a CT slice, as a noun; None if it is one."""
    modality, image_type = header.text("Modality"), header.text("ImageType").upper()
    if not header.is_image:
        is_dose = header.text("SOPClassUID") == _DOSE_REPORT
        return "dose report" if is_dose else f"imageless {modality} file".replace("  ", " ")
    if modality and modality != "CT":
        return f"{modality} image"
    if header.text("SOPClassUID").startswith(_SECONDARY_CAPTURE):
        return "secondary capture"
    if _is_localizer(image_type):
        return "localizer"
    if int(header.number("SamplesPerPixel") or 1) != 1:
        return "colour (RGB) image"
    return "screenshot" if _is_page(header, image_type) else None


def _is_page(header: SliceHeader, image_type: str) -> bool:
    """Whether a CT image is a picture of a screen, or a page of text such as the protocol or the dose."""
    has_text = header.text("BurnedInAnnotation").upper() == "YES" and "SECONDARY" in image_type
    is_grey = header.number("BitsAllocated") == 8 and header.number("RescaleIntercept") is None
    return has_text or is_grey or any(word in image_type for word in _PAGE_WORDS)


def _is_localizer(image_type: str) -> bool:
    return any(word in image_type.upper() for word in _LOCALIZER_WORDS)


def oddities(slices: Sequence[SliceHeader]) -> list[str]:
    """Return what is odd about CT slices other than their place, in words."""
    types = {header.text("ImageType").upper() for header in slices}
    units = {header.text("RescaleType").upper() for header in slices} - {"", "HU", "US"}
    nameless = sum(not header.text("Modality") for header in slices)
    odd = [f"{counted(nameless, 'file')} without a modality: taken as CT"] if nameless else []
    if any(word in image_type for image_type in types for word in _PROJECTION_WORDS):
        odd.append("projections through several slices (MIP or the like), not slices")
    if units:
        odd.append(f"values in {', '.join(sorted(units))} by their header, not in HU")
    return odd


def frames_of(header: SliceHeader) -> list[SliceHeader]:
    """Return one header a frame of an enhanced (multi-frame) image; the header itself if it has one frame.

    Raises
    ------
    InputError
        If a multi-frame file lacks the groups that say where each of its frames lies.
    """
    frames = max(1, int(header.number("NumberOfFrames") or 1))
    shared = header.tags.get("SharedFunctionalGroupsSequence") or []
    each = header.tags.get("PerFrameFunctionalGroupsSequence") or []
    if frames == 1 and not each:
        return [header]
    if len(each) != frames or len(shared) > 1:
        raise InputError(
            f"{header.path} is a multi-frame CT that describes {len(each)} of its {counted(frames, 'frame')}: "
            "where they lie is unknown; convert it to single slices or to NIfTI"
        )
    return [
        dataclasses.replace(header, frame=index, groups=(group, *shared)) for index, group in enumerate(each)
    ]
