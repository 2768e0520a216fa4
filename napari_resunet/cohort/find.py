"""Where the CTs of a cohort are: in a folder tree, behind a pattern, or in a table."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from napari_resunet.cohort.answers import Said, read_rows, said_in
from napari_resunet.cohort.ids import is_safe
from napari_resunet.cohort.manifest import is_cohort
from napari_resunet.errors import InputError
from napari_resunet.io.kind import kind_of
from napari_resunet.io.sidecar import read_sidecar

_VOLUMES = (".nii", ".nii.gz", ".tif", ".tiff", ".mha", ".mhd", ".nrrd", ".nhdr")
_PAIRS = {".hdr": ".img", ".mhd": ".raw", ".nhdr": ".raw"}  # of which the second is no CT by itself
_NO_CT = (
    *(
        ".img",
        ".raw",
        ".zraw",
        ".gz",
        ".nru",
        ".json",
        ".csv",
        ".txt",
        ".md",
        ".pdf",
        ".xml",
        ".html",
        ".log",
    ),
    *(".png", ".jpg", ".jpeg", ".gif", ".zip", ".tar", ".safetensors", ".pt", ".py", ".npy", ".npz", ".part"),
)
_MASK_NAMES = ("_lungs", "_mask", "_seg", ".seg", "_probability")  # "_lung" may be the kernel of a CT
_LOOKED_AT = 32  # files of a folder, to see whether there is DICOM in it


@dataclass(frozen=True)
class Found:
    """A file or folder that may hold a CT, or several DICOM series.

    Parameters
    ----------
    path : Path
        Absolute.
    relative : PurePath
        To what was given, for the name of the case.
    case_id : str
        The name that the user gave it; "" for one made from the path.
    said : mapping
        What the user said of it.
    is_one : bool
        Whether it is meant as one CT, and not as all those that are in it.
    """

    path: Path
    relative: PurePath
    case_id: str = ""
    said: Said = field(default_factory=dict)
    is_one: bool = False


def find_cts(source: str, out: Path, pass_over: Callable[[Path], object] = lambda _path: None) -> list[Found]:
    """Return what may be a CT, in the order of the paths; of a table in its own order.

    Parameters
    ----------
    source : str
        A folder, which is searched with all below; a file; a pattern such as ``data/*/ct.nii.gz``; or a table (.csv)
        with the column ``ct``, whose paths are relative to it.
    out : Path
        The folder of the results, where no CT is looked for.
    pass_over : callable
        Told of each file that is no CT by its name or its sidecar, but a mask or a probability map.

    Raises
    ------
    InputError
        If there is none, or the table cannot be used.
    """
    path = Path(source)
    if path.is_dir():
        found = list(_in_tree(path.absolute(), out.absolute(), pass_over))
    elif path.suffix.lower() == ".csv":
        found = _in_table(path.absolute())
    elif path.is_file():
        found = [Found(path.absolute(), PurePath(path.name), is_one=True)]
    else:
        if not any(sign in source for sign in "*?["):
            raise InputError(f"{source} does not exist; check the path, or put a pattern in quotes")
        found = _behind_pattern(source, out, pass_over)
    if not found:
        raise InputError(
            f"{source} holds no CT; give a folder, a pattern in quotes or a CSV with the column ct (files that are "
            f"named like masks, {', '.join(_MASK_NAMES)}, are passed over unless a CSV names them)"
        )
    return found


def _in_tree(root: Path, out: Path, pass_over: Callable[[Path], object]) -> Iterator[Found]:
    for folder, below, names in os.walk(root):  # follows no links to folders: no going round in circles
        here = Path(folder)
        below[:] = sorted(name for name in below if _may_hold_cts(here / name, out))
        files = [here / name for name in sorted(names) if not name.startswith(".")]
        if _has_dicom(files):
            yield Found(here, here.relative_to(root))
        for file in filter(_is_volume, files):
            if _is_result(file):
                pass_over(file)
            else:
                yield Found(file, file.relative_to(root))


def _may_hold_cts(folder: Path, out: Path) -> bool:
    return not folder.name.startswith(".") and folder != out and not is_cohort(folder)


def _has_dicom(files: Sequence[Path]) -> bool:
    others = [file for file in files if not file.name.lower().endswith((*_VOLUMES, *_PAIRS, *_NO_CT))]
    return any(_kind(file) == "DICOM" for file in others[:_LOOKED_AT])


def _kind(file: Path) -> str | None:
    try:
        return kind_of(file)
    except InputError:  # empty, or no permission
        return None


def _is_volume(file: Path) -> bool:
    name = file.name.lower()
    if name.endswith(".hdr"):
        return file.with_suffix(".img").exists()
    return name.endswith(_VOLUMES)


def _is_result(file: Path) -> bool:
    """Whether a file is a mask or a probability map: by its name, or by what the sidecar beside it says."""
    stem = file.name.lower()
    for ending in (".gz", *_VOLUMES, ".hdr"):
        stem = stem.removesuffix(ending)
    if stem.endswith(_MASK_NAMES) or stem in ("lungs", "probability"):
        return True
    sidecar = file.with_name(file.name[: len(stem)] + ".json")
    if not sidecar.is_file():
        return False
    try:
        return read_sidecar(sidecar).get("kind") in ("mask", "probability")
    except InputError:
        return False


def _behind_pattern(pattern: str, out: Path, pass_over: Callable[[Path], object]) -> list[Found]:
    fixed = pattern[: min((pattern.find(c) for c in "*?[" if c in pattern), default=len(pattern))]
    root = Path(fixed if fixed.endswith(("/", os.sep)) else os.path.dirname(fixed)).absolute()  # noqa: PTH120
    paths = (Path(name).absolute() for name in sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207
    inside = [path for path in paths if not path.is_relative_to(out.absolute())]
    results = {path for path in inside if not path.is_dir() and _is_result(path)}
    for path in sorted(results):
        pass_over(path)
    return [Found(path, path.relative_to(root)) for path in inside if path not in results]


def _in_table(table: Path) -> list[Found]:
    found: list[Found] = []
    taken: dict[str, int] = {}
    for line, row in read_rows(table):
        where = f"{table}, line {line}"
        if not row.get("ct"):
            raise InputError(f"{where}: there is no path in the column ct; give one, relative to the table")
        name = row.get("case", "")
        if name and not is_safe(name):
            raise InputError(f"{where}: {name!r} cannot be a folder's name; use letters, digits, _ and -")
        if name and name.lower() in taken:
            raise InputError(f"{where}: case {name!r} is in line {taken[name.lower()]} already; rename one")
        taken[name.lower()] = line
        path = Path(os.path.normpath(table.parent / row["ct"]))
        found.append(Found(path, _relative(path, table.parent), name, said_in(row, where), is_one=True))
    return found


def _relative(path: Path, root: Path) -> PurePath:
    return PurePath(os.path.relpath(path, root)) if path.anchor == root.anchor else path


def stamp_of(path: Path) -> str:
    """Return a hash of names, sizes and dates of the files of a CT: while it stays the same, so do their bytes.

    Of a folder all its files count, and those below; of a file with a header apart, both do.
    """
    digest = hashlib.sha256()
    for name, status in sorted(_files_of(path), key=lambda pair: pair[0]):
        line = f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _files_of(path: Path) -> Iterable[tuple[str, os.stat_result]]:
    if not path.is_dir():
        beside = [
            path.with_suffix(ending) for pair in _PAIRS.items() for ending in pair if path.suffix in pair
        ]
        return [(file.name, file.stat()) for file in {path, *beside} if file.exists()]
    below = (Path(at, name) for at, _, names in os.walk(path) for name in names)
    return [(str(file.relative_to(path)), file.stat()) for file in below if file.exists()]
