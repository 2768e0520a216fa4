"""One kind of value given where another is needed: above all a probability map, which is no mask."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_resunet as nru
from napari_resunet import Mask, ProbabilityMap, Volume
from napari_resunet.geometry import Geometry
from napari_resunet.phantom import Phantom
from napari_resunet.volume import Source

SHAPE = (2, 3, 4)
GEOMETRY = Geometry.from_spacing(SHAPE, (5, 2, 1))
CT = Volume(np.zeros(SHAPE, np.int16), GEOMETRY)
PROBABILITY = ProbabilityMap(np.full(SHAPE, 3, np.uint8), GEOMETRY, np.ones(2, bool))
MASK = Mask(np.ones(SHAPE, np.uint8), GEOMETRY)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            lambda: nru.predict(CT.array),
            r"predict needs a Volume, such as read_volume\(path\) gives; got ndarray",
        ),
        (
            lambda: nru.to_mask(CT),
            r"to_mask needs a ProbabilityMap, such as predict\(volume\) gives; got Volume",
        ),
        (
            lambda: nru.evaluate(PROBABILITY, MASK),
            r"evaluate needs a Mask, such as to_mask\(prob\) gives; got Prob",
        ),
        (lambda: nru.evaluate(MASK, MASK.array), "evaluate needs a Mask, .* got ndarray"),
        (lambda: nru.lung_figures(CT, PROBABILITY), "lung_figures needs a Mask, .* got ProbabilityMap"),
        (lambda: nru.lung_figures(MASK, MASK), "lung_figures needs a Volume, .* got Mask"),
        (
            lambda: nru.write_mask(PROBABILITY, Path("m.nii")),
            "write_mask needs a Mask, .* got ProbabilityMap",
        ),
        (
            lambda: nru.write_probability(MASK, Path("p.nii")),
            "write_probability needs a ProbabilityMap, .* got Mask",
        ),
    ],
)
def test_it_is_refused_with_what_gives_the_right_one(wrong: Callable[[], object], told: str) -> None:
    with pytest.raises(TypeError, match=told):
        wrong()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda _: nru.to_mask(PROBABILITY, threshold="0.5"), "threshold must be a number; got '0.5'"),  # type: ignore[arg-type]
        (lambda ct: nru.predict(ct, slices=5), r"slices are two whole numbers \(start, stop\) .*; got 5"),
        (lambda ct: nru.predict(ct, slices=0), "; got 0"),
        (lambda ct: nru.predict(ct, slices=(1.0, 2.0)), r"; got \(1.0, 2.0\)"),
        (
            lambda _: Geometry.from_spacing(SHAPE, 4),  # type: ignore[arg-type]
            r"spacing is three lengths in mm such as \(2.5, 0.7, 0.7\); got 4",
        ),
    ],
)
def test_what_is_no_number_or_too_few_is_named_with_what_it_has_to_be(
    chest: Phantom, wrong: Callable[[Any], object], told: str
) -> None:
    with pytest.raises(TypeError, match=told):
        wrong(chest.volume)


def test_a_file_that_states_its_spacing_is_not_read_with_a_word_that_is_none(
    chest: Phantom, tmp_path: Path
) -> None:
    nru.write_mask(chest.mask, tmp_path / "m.nii.gz")
    for read in (nru.read_mask, nru.read_volume):
        with pytest.raises(TypeError, match="spacing is three lengths in mm"):
            read(tmp_path / "m.nii.gz", spacing_mm=4)  # type: ignore[operator]


def test_each_says_in_one_line_what_it_is() -> None:
    where = "2 x 3 x 4 voxels of 5 x 2 x 1 mm (SPL)"
    assert repr(CT) == f"<Volume of {where}, int16>"
    assert repr(PROBABILITY) == f"<ProbabilityMap of {where}, 2 of 2 slices run>"
    assert repr(MASK) == f"<Mask of {where}, 0.2 ml>"
    assert CT.shape == PROBABILITY.shape == MASK.shape == SHAPE


def test_a_model_says_in_one_line_what_it_finds() -> None:
    assert re.fullmatch(r"<Model lung-ct [\d.]+: lung; paper, grid 128>", repr(nru.load_model("lung-ct")))


def test_a_volume_from_a_file_says_which() -> None:
    source = Source(Path("somewhere") / "ct.nii.gz", "NIfTI", "0" * 64)
    assert repr(replace(CT, source=source)).endswith(", int16, ct.nii.gz>")
