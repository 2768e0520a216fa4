from __future__ import annotations

import numpy as np
import pytest
from classical import classical_lungs

from napari_resunet.phantom import Phantom, make_phantom


@pytest.fixture(scope="module")
def chest() -> Phantom:
    return make_phantom(shape=(48, 160, 160), spacing_mm=(6.4, 2.3, 2.3), seed=5)


def dice(found: np.ndarray, lungs: np.ndarray) -> float:
    return float(2 * np.count_nonzero(found & lungs) / (found.sum() + lungs.sum()))


def test_the_lungs_of_a_made_up_chest_are_found(chest: Phantom) -> None:
    found = classical_lungs(chest.volume.axial, chest.volume.axial_geometry.spacing_mm)
    assert dice(found, chest.mask.axial > 0) > 0.98


def test_the_windpipe_is_not_lung(chest: Phantom) -> None:
    hu, lungs = chest.volume.axial, chest.mask.axial > 0
    found = classical_lungs(hu, chest.volume.axial_geometry.spacing_mm)
    top = np.flatnonzero(lungs.any(axis=(1, 2)))[-1]
    middle = slice(hu.shape[2] // 2 - 5, hu.shape[2] // 2 + 5)
    airways = (hu < -900) & ~lungs
    assert np.count_nonzero(airways[top - 6 : top, 40:110, middle]) > 20  # it is there
    assert not (found & airways)[top - 6 : top, 40:110, middle].any()


def test_air_around_the_patient_is_not_lung(chest: Phantom) -> None:
    found = classical_lungs(chest.volume.axial, chest.volume.axial_geometry.spacing_mm)
    assert not found[:, [0, -1], :].any()
    assert not found[:, :, [0, -1]].any()


def test_a_picture_of_one_value_holds_no_lung() -> None:
    assert not classical_lungs(np.full((3, 40, 40), -1000), (5.0, 2.0, 2.0)).any()


def test_a_slice_alone_is_enough(chest: Phantom) -> None:
    lungs = chest.mask.axial > 0
    z = int(lungs.sum(axis=(1, 2)).argmax())
    found = classical_lungs(chest.volume.axial[z : z + 1], chest.volume.axial_geometry.spacing_mm)
    assert dice(found, lungs[z : z + 1]) > 0.97
