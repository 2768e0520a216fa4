from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from napari_resunet.errors import InputError
from napari_resunet.phantom import make_phantom
from napari_resunet.plugin.layers import KEY
from napari_resunet.plugin.reader import get_reader
from napari_resunet.plugin.sample import chest
from napari_resunet.volume import Volume

SAMPLES = Path(__file__).parents[2] / "sample_data"


@pytest.mark.parametrize("name", ["phantom_dicom", "phantom_ct.nii.gz", "phantom_ct.tif"])
def test_every_sample_opens_as_the_same_ct_layer(name: str) -> None:
    (layer,) = get_reader(str(SAMPLES / name))(str(SAMPLES / name))
    data, look, kind = layer
    phantom = make_phantom().volume
    assert kind == "image"
    assert np.array_equal(data, phantom.axial)
    assert np.allclose(look["scale"], phantom.geometry.spacing_mm)
    assert isinstance(look["metadata"][KEY], Volume)


@pytest.mark.parametrize("name", ["README.md", "."])
def test_what_is_no_ct_is_left_to_others(name: str) -> None:
    assert get_reader(str(SAMPLES / name)) is None


def test_a_list_of_files_and_a_missing_file_are_left_to_others(tmp_path: Path) -> None:
    assert get_reader([str(SAMPLES / "phantom_ct.nii.gz")]) is None
    assert get_reader(str(tmp_path / "nothing.nii.gz")) is None


def test_answering_no_imports_no_heavy_library() -> None:
    import subprocess

    code = (
        "import sys; from napari_resunet.plugin.reader import get_reader; "
        f"assert get_reader({str(SAMPLES / 'README.md')!r}) is None; "
        "print([m for m in ('torch', 'nibabel', 'pydicom', 'SimpleITK', 'tifffile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_sample_under_file_open_sample_is_the_made_up_chest() -> None:
    ((data, look, kind),) = chest()
    assert (kind, look["name"]) == ("image", "made-up chest CT")
    assert np.array_equal(data, make_phantom().volume.axial)


def test_a_dropped_file_without_voxel_size_points_to_where_it_is_asked_for(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "ct.tif"
    tifffile.imwrite(path, np.full((6, 40, 50), -1000, dtype=np.int16))
    with pytest.raises(InputError, match=r"^ct.tif leaves a question: open it with “Open file…” of the lung"):
        get_reader(str(path))(str(path))
