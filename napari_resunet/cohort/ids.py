"""A name for each case, made from where its CT lies: short, the same every time, and safe as a folder's name."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from pathlib import PurePath

_LONGEST_WORDS, _DIGITS = 24, 10
_ENDINGS = re.compile(r"(\.(nii|hdr|img|tiff?|mha|mhd|nrrd|nhdr|dcm|ima|gz))+$", re.IGNORECASE)
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def case_id(relative: PurePath, series: str = "") -> str:
    """Return a name made from a path relative to the folder that was given, and the series if there are several.

    The end of the path makes it readable. 50 bits of a hash make it unique: among 100,000 CTs of the same name two
    get the same one with a chance of 1 in 200,000, which is noticed and refused.

    >>> case_id(PurePath("site 2/Patient 7/ct.nii.gz"))
    'patient-7-ct-anzgs5nubd'
    """
    words = "-".join([*relative.parts[-2:-1], _ENDINGS.sub("", relative.name)])
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode().lower()
    plain = _end_of(re.sub(r"[^a-z0-9]+", "-", plain).strip("-")) or "ct"
    digest = hashlib.sha256(f"{relative.as_posix()}\0{series}".encode(errors="surrogateescape")).digest()
    return f"{plain}-{base64.b32encode(digest).decode().lower()[:_DIGITS]}"


def _end_of(words: str) -> str:
    """Return as many whole words of the end as there is room for, or the end of the last one."""
    short = words[-_LONGEST_WORDS:]
    is_cut = len(words) > len(short) and words[-len(short) - 1] != "-"
    return (short.partition("-")[2] or short) if is_cut else short.strip("-")


def is_safe(name: str) -> bool:
    """Whether a name that a user gave can be a folder's on any system."""
    return bool(_SAFE.fullmatch(name)) and not name.endswith(".") and not _OF_WINDOWS.fullmatch(name)
