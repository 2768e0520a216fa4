from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image, Labels

from napari_resunet.case import Case
from napari_resunet.errors import InputError
from napari_resunet.io.files import read_mask
from napari_resunet.plugin.layers import ct_layer_data, mask_layer
from napari_resunet.plugin.writer import write_labels


def mask_of(case: Case) -> Labels:
    data, look, _ = ct_layer_data(case.volume)
    return mask_layer(case, Image(data, **look))


@pytest.mark.parametrize("ending", [".nii.gz", ".tif", ".nrrd", ".mha"])
def test_a_painted_mask_is_saved_on_the_grid_of_its_ct(chest, tmp_path: Path, ending: str) -> None:
    case = Case(chest.volume)
    layer = mask_of(case)
    layer.data[5, 10:20, 30:40] = 1
    data, meta, _ = layer.as_layer_data_tuple()
    (written,) = write_labels(str(tmp_path / f"mask{ending}"), data, meta)
    mask = read_mask(written)
    assert mask.geometry.matches(chest.volume.geometry)
    assert np.array_equal(mask.axial, case.mask)
    assert mask.array.sum() == 100


def test_a_layer_of_unknown_origin_is_refused_not_given_a_place(tmp_path: Path) -> None:
    data, meta, _ = Labels(np.ones((2, 3, 4), dtype=np.uint8), name="other").as_layer_data_tuple()
    with pytest.raises(InputError, match="place in the patient is unknown"):
        write_labels(str(tmp_path / "mask.nii.gz"), data, meta)
    assert not list(tmp_path.iterdir())


def test_a_mask_of_another_size_is_refused(chest, tmp_path: Path) -> None:
    _, meta, _ = mask_of(Case(chest.volume)).as_layer_data_tuple()
    with pytest.raises(InputError, match="undo the change of size"):
        write_labels(str(tmp_path / "mask.nii.gz"), np.zeros((2, 3, 4), dtype=np.uint8), meta)
