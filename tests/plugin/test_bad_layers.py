"""Layers of other plugins, and what they do to ours, taken as a CT or a mask."""

from __future__ import annotations

import dask.array as da
import nibabel as nib
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

import napari_resunet as nru
from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.plugin.layers import can_be_ct, volume_of
from napari_resunet.plugin.session import Session
from napari_resunet.settings import InputAnswers, PredictSettings
from napari_resunet.volume import Volume

CPU = PredictSettings(device="cpu")
SCALE = (11.0, 3.8, 3.8)


@pytest.fixture
def session(qtbot):
    session = Session(ViewerModel())
    session.heard = []
    session.said = []
    session.events.failed.connect(session.heard.append)
    session.events.ran.connect(session.said.append)
    session.events.asks.connect(lambda asked: session.heard.append(asked.error))
    yield session
    session.close()
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)


def idle(qtbot, session) -> None:
    qtbot.waitUntil(lambda: session.is_idle, timeout=60_000)


def run(qtbot, session) -> None:
    session.run(CPU)
    idle(qtbot, session)


@pytest.mark.parametrize("kind", ["labels", "RGB", "multiscale", "points", "4-D"])
def test_b57_what_is_no_grey_volume_is_not_offered_as_a_ct(session, outcome, kind: str) -> None:
    viewer, flat = session.viewer, np.zeros((4, 40, 40), dtype=np.uint8)
    layer = {
        "labels": lambda: viewer.add_labels(flat),
        "RGB": lambda: viewer.add_image(np.zeros((4, 40, 40, 3), dtype=np.uint8), rgb=True),
        "multiscale": lambda: viewer.add_image([flat, flat[:, ::2, ::2]], multiscale=True),
        "points": lambda: viewer.add_points([[0, 0, 0]]),
        "4-D": lambda: viewer.add_image(np.zeros((2, 4, 40, 40), dtype=np.uint8)),
    }[kind]()
    assert not can_be_ct(layer)
    session.choose(layer)
    assert session.case is None
    (error,) = session.heard
    assert isinstance(error, InputError)
    assert str(error).endswith("is not a grey-scale image of slices; choose the layer of the CT")
    outcome("REFUSE", error)


def breaking_at(array: np.ndarray, *slices: int):
    """Return an array whose chunks are computed when they are looked at, and of which some cannot be."""

    def block(part: np.ndarray, block_info) -> np.ndarray:
        if block_info[0]["chunk-location"][0] in slices:
            raise OSError("the disk is gone")
        return part

    whole = da.from_array(array, chunks=(1, *array.shape[1:]))
    return da.map_blocks(block, whole, dtype=array.dtype, meta=np.empty((0, 0, 0), array.dtype))


def add_lazy(session, data) -> Image:
    return session.viewer.add_image(data, scale=SCALE, name="lazy", contrast_limits=(-1000, 400))


def test_b58_a_lazy_layer_is_read_slice_by_slice_and_gives_what_its_array_gives(
    session, qtbot, chest, outcome
) -> None:
    told = []
    session.events.reading.connect(lambda words, *_: told.append(words))
    layer = add_lazy(session, da.from_array(chest.volume.axial, chunks=(5, 96, 96)))
    session.choose(layer)
    assert session.opening.is_reading  # beside the window
    idle(qtbot, session)
    assert session.ct_layer is layer
    assert np.array_equal(session.case.volume.array, chest.volume.axial)
    assert "lazy: 0 of 28 slices read" in told
    run(qtbot, session)
    assert np.array_equal(session.case.probability_map().array, nru.predict(chest.volume, device="cpu").array)
    outcome("OK", session.said[-1])


def test_b58_a_chunk_that_cannot_be_computed_fails_its_slice_and_the_run_goes_on(
    session, qtbot, chest, tmp_path, outcome
) -> None:
    session.choose(add_lazy(session, breaking_at(chest.volume.axial, 14)))
    idle(qtbot, session)
    run(qtbot, session)
    assert not session.heard
    said = session.said[-1]
    assert "28 of 28 slices segmented on cpu" in said
    assert "slice 14 of the layer could not be read (the disk is gone), and no lung is found there" in said
    assert not session.case.mask[14].any()
    assert session.case.mask[13].any()
    assert session.case.mask[15].any()
    receipt = session.saving.export(tmp_path / "lungs.nii.gz")
    assert "SLICES FAILED: slice 14 of the layer" in receipt.sidecar.read_text()
    outcome("NOTE", said)


def test_b58_a_layer_of_which_no_chunk_can_be_computed_is_refused(session, qtbot, chest, outcome) -> None:
    layer = add_lazy(session, da.from_array(chest.volume.axial))
    layer._data = breaking_at(chest.volume.axial, *range(28))  # napari would look at a slice of it
    session.choose(layer)
    idle(qtbot, session)
    assert session.case is None
    (error,) = session.heard
    assert "no slice of the layer lazy can be read (the disk is gone)" in str(error)
    outcome("REFUSE", error)


def test_b58_a_layer_larger_than_the_memory_is_refused_before_anything_is_computed(
    session, qtbot, outcome
) -> None:
    huge = da.zeros((100_000, 20_000, 20_000), dtype=np.int16, chunks=(1, 20_000, 20_000))
    layer = session.viewer.add_image(huge[:4, :40, :40], scale=SCALE, name="huge")
    layer._data = huge  # napari would look at a slice of it
    session.choose(layer)
    idle(qtbot, session)
    assert session.case is None
    (error,) = session.heard
    assert "huge declares 74505.8 GiB of image data" in str(error)
    layer._data = huge[:4, :40, :40]
    outcome("REFUSE", error)


def test_what_was_painted_on_a_lazy_layer_is_there_again_when_it_is_chosen_again(
    session, qtbot, chest
) -> None:
    layer = add_lazy(session, da.from_array(chest.volume.axial, chunks=(5, 96, 96)))
    session.choose(layer)
    idle(qtbot, session)
    case = session.case
    session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    session.choose(layer)
    assert session.case is case


def test_a_lazy_layer_that_goes_while_it_is_read_is_not_opened(session, qtbot, chest) -> None:
    layer = add_lazy(session, da.from_array(chest.volume.axial, chunks=(5, 96, 96)))
    session.choose(layer)
    session.viewer.layers.remove(layer)
    idle(qtbot, session)
    assert session.case is None


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")  # napari's, on layers that are turned
def test_b59_a_ct_whose_layer_was_moved_scaled_or_turned_is_exported_on_the_grid_of_its_file(
    session, qtbot, chest, tmp_path, outcome
) -> None:
    nib.save(
        nib.Nifti1Image(chest.volume.array.T, chest.volume.geometry.ras_affine, dtype=np.int16),
        tmp_path / "ct.nii",
    )
    session.opening.open(tmp_path / "ct.nii")
    idle(qtbot, session)
    layer = session.ct_layer
    layer.scale, layer.translate = (1, 2, 3), (7, 8, 9)
    layer.affine = np.diag([2.0, 1, 1, 1])
    layer.rotate = (10, 0, 0)
    run(qtbot, session)
    receipt = session.saving.export(tmp_path / "lungs.nii")
    assert np.array_equal(nib.load(receipt.path).affine, nib.load(tmp_path / "ct.nii").affine)
    assert np.array_equal(
        nru.read_mask(receipt.path).array, nru.to_mask(nru.predict(chest.volume, device="cpu")).array
    )
    assert np.array_equal(session.mask_layer.affine.affine_matrix, layer.affine.affine_matrix)
    outcome("OK", receipt)


@pytest.mark.parametrize(
    "place",
    [{"affine": np.diag([2.0, 1, 1, 1])}, {"rotate": (10, 0, 0)}, {"shear": (0.1, 0, 0)}],
    ids=lambda place: next(iter(place)),
)
@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_b59_a_foreign_layer_that_is_turned_is_refused(session, place, outcome) -> None:
    layer = session.viewer.add_image(np.zeros((3, 40, 40), np.int16), scale=SCALE, **place)
    session.choose(layer)
    assert session.case is None
    (error,) = session.heard
    assert "is turned or mirrored by its own transform" in str(error)
    outcome("REFUSE", error)


@pytest.mark.parametrize("scale", [(-5, 1, 1), (np.nan, 1, 1)])
@pytest.mark.filterwarnings("ignore")  # napari's own, on what it cannot draw
def test_b59_a_foreign_layer_with_a_scale_that_is_no_length_is_refused(scale, outcome) -> None:
    with pytest.raises(InputError, match="by its own transform") as error:
        volume_of(Image(np.zeros((3, 40, 40), np.int16), scale=scale))
    outcome("REFUSE", error.value)


def test_b59_a_foreign_layer_without_a_voxel_size_is_asked_for_it(session, outcome) -> None:
    layer = session.viewer.add_image(np.zeros((3, 40, 40), np.int16), name="bare")
    session.choose(layer)
    (error,) = session.heard
    assert isinstance(error, SpacingUnknownError)
    session.choose(layer, InputAnswers(spacing_mm=(5, 1, 1)))
    assert session.case.volume.geometry.spacing_mm == (5, 1, 1)
    outcome("ASK", error)


def test_b60_a_mask_that_another_plugin_retyped_and_relabelled_is_lung_wherever_it_is_above_0(
    session, qtbot, chest, outcome
) -> None:
    session.show_ct(chest.volume)
    run(qtbot, session)
    other = session.case.mask.astype(np.int64) * 7
    other[5, 2:8, 2:8] = 300
    other[6, 2:8, 2:8] = -3
    session.mask_layer.data = other
    session.sync()
    assert session.case.mask.dtype == np.uint8
    assert session.case.mask[5, 2:8, 2:8].all()
    assert not session.case.mask[6, 2:8, 2:8].any()
    assert session.case.voxels_edited == 36
    assert session.mask_layer.data is session.case.mask
    assert not session.heard
    outcome("OK", "any label above 0 is lung")


def test_b60_a_mask_of_another_size_is_put_back_and_what_it_held_is_a_layer_of_its_own(
    session, qtbot, chest, outcome
) -> None:
    session.show_ct(chest.volume)
    run(qtbot, session)
    before = session.case.mask.copy()
    session.mask_layer.data = np.full((3, 4, 5), 7, dtype=np.uint8)
    session.sync()
    (error,) = session.heard
    assert np.array_equal(session.mask_layer.data, before)
    assert (session.viewer.layers["lung mask of another size"].data == 7).all()
    assert session.case.voxels_edited == 0
    outcome("REFUSE", error)


def test_b61_two_cts_of_one_name_and_a_renamed_one_keep_their_own_masks(
    session, qtbot, chest, outcome
) -> None:
    session.show_ct(chest.volume, name="ct")
    first = session.ct_layer
    run(qtbot, session)
    mask = session.mask_layer
    session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry), name="ct")
    second = session.ct_layer
    second.name, first.name, mask.name = "was second", "ct [1]", "mine"
    second.name = "ct"  # each is called now what the other was
    run(qtbot, session)
    assert np.array_equal(session.case.mask, mask.data[::-1])
    session.choose(first)
    assert session.mask_layer is mask
    assert session.case.volume is chest.volume
    outcome("OK", "bound by identity")
