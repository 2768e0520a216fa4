"""A cohort that the tests of the review go through: made-up chests, found by nobody's network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_resunet.cohort.manifest import CaseEntry, Status, write_entry
from napari_resunet.cohort.recipe import Recipe, write_recipe
from napari_resunet.cohort.summary import write_summary
from napari_resunet.inference.postprocess import to_mask
from napari_resunet.io.files import write_mask, write_probability
from napari_resunet.io.nifti import write_nifti
from napari_resunet.io.open_ct import open_ct
from napari_resunet.phantom import Phantom
from napari_resunet.volume import ProbabilityMap, Run

RUN = Run("truth", "0" * 64, 128, "cpu", "float32", (0, 96, 0, 96))


def make_cohort(out: Path, chest: Phantom, doubts: dict[str, float], *, probability: bool = False) -> Path:
    """Write a cohort whose cases are done, each with its doubt; the CTs are in the folder beside it."""
    cts = out.with_name("cts")
    cts.mkdir(parents=True)
    for at, (case_id, doubt) in enumerate(doubts.items()):
        path = cts / f"{case_id}.nii.gz"
        write_nifti(chest.volume.array + np.int16(at), chest.volume.geometry, None, path)
        _write_case(out, case_id, path, chest, doubt, probability=probability)
    write_recipe(out, Recipe())
    write_summary(out)
    return out


def _write_case(
    out: Path, case_id: str, ct: Path, chest: Phantom, doubt: float, *, probability: bool
) -> None:
    volume = open_ct(ct)
    slices = volume.axial.shape[0]
    likely = np.where(chest.mask.array > 0, np.uint8(200), np.uint8(20))
    prob = ProbabilityMap(likely, volume.geometry, np.ones(slices, dtype=bool), RUN, volume.source)
    folder = out / "cases" / case_id
    folder.mkdir(parents=True)
    receipt = write_mask(to_mask(prob), folder / "lungs.nii.gz")
    if probability:
        write_probability(prob, folder / "probability.nii.gz")
    entry = CaseEntry(
        case_id,
        str(ct),
        status=Status.DONE,
        input_sha256=volume.source.sha256,
        settings={"split": False, "swap_sides": False},
        mask=f"cases/{case_id}/lungs.nii.gz",
        mask_sha256=receipt.sha256,
        probability=f"cases/{case_id}/probability.nii.gz" if probability else "",
        picture=f"cases/{case_id}/case.png",
        ml_total=receipt.volume_ml,
        doubt_mean=doubt,
        doubt_worst=2 * doubt,
        doubt_worst_slice=9,
        doubt_slices=tuple(2 * doubt if z == 9 else doubt for z in range(slices)),
        version=1,
    )
    write_entry(out, entry)
