"""The file names that the window proposes."""

from __future__ import annotations

_ENDINGS = (
    ".nii.gz",
    ".nii",
    ".tif",
    ".tiff",
    ".mha",
    ".mhd",
    ".nrrd",
    ".nhdr",
    ".dcm",
    ".hdr",
    ".img",
    ".png",
    ".jpg",
)


def stem_of(name: str) -> str:
    """Return the name of a CT without the ending of its file, as the beginning of other names.

    >>> stem_of("chest_ct.nii.gz"), stem_of("1.2.840.113"), stem_of("patient 7")
    ('chest', '1.2.840.113', 'patient_7')
    """
    ending = next((ending for ending in _ENDINGS if name.lower().endswith(ending)), "")
    return name.removesuffix(name[len(name) - len(ending) :]).removesuffix("_ct").replace(" ", "_") or "ct"
