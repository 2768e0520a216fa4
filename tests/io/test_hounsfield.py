from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from outcomes import Outcome
from refusals import told

from napari_resunet.errors import InputError
from napari_resunet.io.hounsfield import as_hu, as_labels, require_real


@pytest.mark.parametrize("dtype", ["int8", "uint8", ">i2", "uint16", "int32", "uint64", "float32", "float64"])
def test_whole_numbers_of_any_type_become_int16(dtype: str) -> None:
    hu = as_hu(np.array([[0, 1], [100, 127]], dtype))
    assert hu.dtype == np.int16
    assert hu.tolist() == [[0, 1], [100, 127]]


def test_int16_is_not_copied() -> None:
    stored = np.zeros((2, 3), np.int16)
    assert np.shares_memory(as_hu(stored), stored)


def test_the_rescale_is_applied_once_and_exactly() -> None:
    assert as_hu(np.array([[0, 2, 4095]], np.uint16), 1, -1024).tolist() == [[-1024, -1022, 3071]]
    assert as_hu(np.array([[0, 2, 4]], np.int16), 0.5, -1024).tolist() == [[-1024, -1023, -1022]]


@pytest.mark.parametrize(
    ("stored", "slope"),
    [
        (np.array([[1, 3]], np.int16), 0.5),
        (np.array([[0, 40000]], np.uint16), 1),
        (np.array([[0, -40000]], np.int32), 1),
        (np.array([[0.25, np.nan]]), 1),
        (np.array([[1, np.inf]]), 1),
    ],
)
def test_what_int16_cannot_hold_becomes_float32(stored: np.ndarray, slope: float) -> None:
    hu = as_hu(stored, slope)
    assert hu.dtype == np.float32
    np.testing.assert_array_equal(hu, (stored * slope).astype(np.float32))


def test_numbers_too_large_for_float32_become_infinite() -> None:
    assert as_hu(np.array([[1e300, 0.5]])).tolist() == [[np.inf, 0.5]]


@pytest.mark.parametrize("dtype", [">c16", [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_b22_complex_numbers_and_colours_are_refused(dtype: object, outcome: Outcome) -> None:
    with pytest.raises(InputError, match=r"ct\.nii holds .*; export") as refused:
        require_real(np.dtype(dtype), Path("ct.nii"))
    outcome("REFUSE", told(refused))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32", ">i2"])
def test_labels_of_any_type_become_uint8(dtype: str) -> None:
    labels = as_labels(np.array([[0, 1]], dtype), Path("m.nii"))
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 1]]


def test_a_mask_of_0_and_255_is_0_and_1() -> None:
    assert as_labels(np.array([0, 255, 255], np.uint8), Path("m.tif")).tolist() == [0, 1, 1]


def test_right_and_left_lung_are_kept() -> None:
    assert as_labels(np.array([0, 1, 2], np.uint8), Path("m.tif")).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "named"),
    [([0, 1, 3], "3"), ([0, 0.5], "0.5"), ([-1, 0], "-1"), (range(9), "3, 4, 5, 6, 7, ...")],
)
def test_other_labels_are_refused_by_name(values: list[float], named: str) -> None:
    with pytest.raises(InputError, match=f"m.nii is not a lung mask: it holds {named}; "):
        as_labels(np.array(values), Path("m.nii"))
