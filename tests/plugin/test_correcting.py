from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_resunet.inference.predict import Batch
from napari_resunet.plugin.correcting import ADDED, REMOVED
from napari_resunet.plugin.session import Session
from napari_resunet.plugin.tools import TOOLS
from napari_resunet.settings import ToolSettings
from napari_resunet.volume import Run

IN_VOLUME, IN_SLICE = ToolSettings(), ToolSettings(in_slice=True)


@pytest.fixture
def session(qtbot, chest):
    """The small chest, its true lungs as what the network found, clean-up off."""
    session = Session(ViewerModel())
    session.show_ct(chest.volume)
    session.show_layers()
    run = Run("truth", "", 128, "cpu", "float32", (0, 96, 0, 96))
    case = session.case
    case.change_settings(clean=False)
    case.begin(run)
    case.accept(run, Batch(0, 28, (chest.mask.axial > 0).astype(np.uint8) * 255))
    session.viewer.dims.set_current_step(0, 14)
    yield session
    session.close()
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)


@pytest.fixture
def errors(session) -> list[Exception]:
    heard: list[Exception] = []
    session.events.failed.connect(heard.append)
    return heard


def use(
    session, qtbot, name: str, settings: ToolSettings = IN_VOLUME, at: tuple[int, int, int] | None = None
) -> None:
    session.correcting.use(name, settings)
    if at is not None:
        layer = session.mask_layer
        for callback in list(layer.mouse_drag_callbacks):
            callback(layer, SimpleNamespace(position=layer.data_to_world(at)))
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)


def speck(session) -> tuple[int, int, int]:
    """Paint a piece of 8 voxels that touches nothing."""
    session.mask_layer.data_setitem(tuple(np.mgrid[13:15, 2:4, 2:4].reshape(3, -1)), 1)
    return 14, 3, 3


def test_a_tool_shows_what_it_would_change_and_changes_nothing(session, qtbot) -> None:
    before = session.mask_layer.data.copy()
    use(session, qtbot, "Clear this slice")
    preview = session.correcting.preview_layer
    assert np.array_equal(preview.data == REMOVED, (before > 0) & (np.arange(28) == 14)[:, None, None])
    assert not (preview.data == ADDED).any()
    assert np.array_equal(session.mask_layer.data, before)
    assert session.case.voxels_edited == 0


def test_a_preview_can_be_discarded_and_leaves_nothing_behind(session, qtbot) -> None:
    use(session, qtbot, "Clear this slice")
    session.correcting.discard()
    assert [layer.name for layer in session.viewer.layers] == ["phantom", "lung probability", "lung mask"]
    session.correcting.apply()
    assert session.case.voxels_edited == 0


def test_an_applied_step_counts_as_set_by_hand_and_is_one_undo(session, qtbot) -> None:
    before = session.mask_layer.data.copy()
    use(session, qtbot, "Clear this slice")
    session.correcting.apply()
    assert session.correcting.preview_layer is None
    assert not session.mask_layer.data[14].any()
    assert session.case.voxels_edited == np.count_nonzero(before[14])
    session.masking.set_threshold(0.2)
    assert not session.mask_layer.data[14].any()
    session.mask_layer.undo()
    assert np.array_equal(session.mask_layer.data, before)
    assert session.case.voxels_edited == 0


def test_accepting_the_model_takes_back_the_edits_of_that_slice_alone(session, qtbot) -> None:
    speck(session)
    use(session, qtbot, "Accept the model here")
    session.correcting.apply()
    assert not session.mask_layer.data[14, 2:4, 2:4].any()
    assert session.mask_layer.data[13, 2:4, 2:4].all()
    assert session.case.voxels_edited == 4


def test_the_clicked_piece_is_removed_or_the_only_one_kept(session, qtbot) -> None:
    before = session.mask_layer.data.copy()
    at = speck(session)
    use(session, qtbot, "Remove the clicked piece", at=at)
    assert np.count_nonzero(session.correcting.preview_layer.data) == 8
    session.correcting.apply()
    assert np.array_equal(session.mask_layer.data, before)
    at = speck(session)
    use(session, qtbot, "Keep the clicked piece", at=at)
    session.correcting.apply()
    assert np.count_nonzero(session.mask_layer.data) == 8


def test_in_one_slice_the_others_stay(session, qtbot) -> None:
    use(session, qtbot, "Remove the clicked piece", IN_SLICE, at=speck(session))
    session.correcting.apply()
    assert not session.mask_layer.data[14, 2:4, 2:4].any()
    assert session.mask_layer.data[13, 2:4, 2:4].all()


def test_who_was_painting_paints_on_after_the_click(session, qtbot) -> None:
    at = speck(session)
    session.mask_layer.mode = "paint"
    session.correcting.use("Remove the clicked piece", IN_VOLUME)
    assert session.mask_layer.mode == "pan_zoom"
    use(session, qtbot, "Remove the clicked piece", at=at)
    assert session.mask_layer.mode == "paint"


def test_growing_adds_what_is_connected_within_the_range(session, qtbot, chest) -> None:
    z, y, x = np.argwhere(chest.mask.axial == 1).mean(axis=0).round().astype(int)
    session.case.mask[...] = 0
    use(session, qtbot, "Grow from here", ToolSettings(within_mm=15), at=(z, y, x))
    added = session.correcting.preview_layer.data == ADDED
    assert added[z, y, x]
    distances = (np.argwhere(added) - (z, y, x)) * chest.volume.geometry.spacing_mm
    assert np.linalg.norm(distances, axis=1).max() <= 15


def test_slices_between_edited_ones_are_filled_and_those_stay(session, qtbot) -> None:
    layer = session.mask_layer
    for z in (2, 6):  # below the lungs
        layer.data_setitem(tuple(np.mgrid[z : z + 1, 40:60, 40:60].reshape(3, -1)), 1)
    use(session, qtbot, "Fill between edited slices")
    session.correcting.apply()
    assert [int(layer.data[z, 40:60, 40:60].sum()) for z in (2, 3, 4, 5, 6)] == [400] * 5


def test_a_step_that_changes_nothing_says_so(session, qtbot, errors) -> None:
    said: list[str] = []
    session.correcting.events.state.connect(said.append)
    session.viewer.dims.set_current_step(0, 0)
    use(session, qtbot, "Clear this slice")
    assert said[-1] == "This changes nothing."
    assert not errors
    assert session.correcting.preview_layer is None


def test_a_click_on_nothing_says_what_to_do(session, qtbot, errors) -> None:
    said: list[str] = []
    session.correcting.events.state.connect(said.append)
    use(session, qtbot, "Remove the clicked piece", at=(0, 0, 0))
    assert "click" in said[-1]
    assert said[-1][0].isupper()
    assert not errors  # advice, which stands in the panel


def test_another_ct_discards_what_was_shown(session, qtbot, chest) -> None:
    from napari_resunet.volume import Volume

    use(session, qtbot, "Clear this slice")
    session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    assert session.correcting.preview_layer is None
    assert "preview" not in session.viewer.layers
    session.correcting.apply()
    assert not session.case.mask.any()


@pytest.mark.parametrize("name", ["Smooth", "Fill holes"])
def test_whole_volume_tools_run_beside_the_window(session, qtbot, errors, name: str) -> None:
    session.mask_layer.data_setitem(tuple(np.mgrid[14:15, 50:51, 30:31].reshape(3, -1)), 0)
    use(session, qtbot, name, ToolSettings(radius_mm=5))
    assert not errors
    session.correcting.apply()
    assert session.mask_layer.data[14, 50, 30] == 1


def test_every_tool_goes_by_settings_that_exist() -> None:
    known = set(ToolSettings.__dataclass_fields__)
    assert all(set(tool.uses) <= known and tool.tip for tool in TOOLS.values())
