from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_resunet as nru
from napari_resunet.errors import InputError, SpacingUnknownError
from napari_resunet.geometry import Geometry
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.plugin.layers import ct_layer_data
from napari_resunet.plugin.session import Session
from napari_resunet.settings import InputAnswers, PredictSettings
from napari_resunet.volume import Volume

CPU = PredictSettings(device="cpu")


class Listener:
    """Remembers what a session says."""

    def __init__(self, session: Session) -> None:
        self.errors: list[Exception] = []
        self.seen: list[tuple[int, int]] = []
        session.events.failed.connect(self.errors.append)
        session.events.asks.connect(self._asked)
        session.events.progress.connect(self._progress)

    def _asked(self, asked) -> None:
        self.errors.append(asked.error)

    def _progress(self, seen: int, wanted: int, _left: float) -> None:
        self.seen.append((seen, wanted))


@pytest.fixture
def heard(session) -> Listener:
    return Listener(session)


def run(session, qtbot, settings=CPU, **options) -> None:
    session.run(settings, **options)
    qtbot.waitUntil(lambda: session.is_idle, timeout=60_000)


def test_a_dropped_ct_is_open_at_once(session, chest) -> None:
    data, look, _ = ct_layer_data(chest.volume)
    layer = session.viewer.add_image(data, **look)
    assert session.ct_layer is layer
    assert session.case.volume is chest.volume


def test_a_ct_that_was_there_before_the_widget_is_open(qtbot, chest) -> None:
    viewer = ViewerModel()
    data, look, _ = ct_layer_data(chest.volume)
    layer = viewer.add_image(data, **look)
    session = Session(viewer)
    assert session.ct_layer is layer
    session.close()


def test_a_folder_is_read_beside_the_window(session, qtbot, chest, tmp_path: Path) -> None:
    write_ct_series(chest.volume, tmp_path / "ct")
    session.opening.open(tmp_path / "ct")
    assert session.is_running
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert np.array_equal(session.case.volume.array, chest.volume.array)
    assert session.ct_layer.name == "ct"


def test_a_file_that_cannot_be_read_leaves_everything_as_it_was(
    session, heard, qtbot, chest, tmp_path: Path
) -> None:
    session.show_ct(chest.volume)
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    session.opening.open(tmp_path / "bad.nii.gz")
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert "is empty" in str(heard.errors[0])
    assert session.case.volume is chest.volume
    assert len(session.viewer.layers) == 1


@pytest.mark.computed
def test_a_run_gives_the_bytes_that_the_api_gives(session, heard, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    session.viewer.dims.set_current_step(0, 3)  # a start that the API does not have
    run(session, qtbot)
    prob = nru.predict(chest.volume, device="cpu")
    assert not heard.errors
    assert np.array_equal(session.case.probability_map().array, prob.array)
    assert np.array_equal(session.case.finished_mask().array, nru.to_mask(prob).array)
    assert heard.seen[-1] == (28, 28)
    assert [layer.name for layer in session.viewer.layers] == ["phantom", "lung probability", "lung mask"]


def test_a_run_begins_at_the_slice_in_view(session, qtbot, chest) -> None:
    first = []
    session.show_ct(chest.volume)
    session.viewer.dims.set_current_step(0, 25)
    session.case.events.probability.connect(lambda start, stop: first.append((start, stop)))
    run(session, qtbot)
    assert first[0] == (24, 28)


@pytest.mark.computed
def test_cancelling_keeps_what_is_done_and_the_next_run_goes_on_from_there(
    session, heard, qtbot, chest
) -> None:
    session.show_ct(chest.volume)
    session.events.progress.connect(lambda *_: session.cancel())
    run(session, qtbot)
    done = int(session.case.done.sum())
    assert 0 < done < 28
    kept = session.case.probability.copy()
    session.events.progress.disconnect()
    session.events.progress.connect(heard._progress)
    heard.seen.clear()
    run(session, qtbot)
    assert session.case.done.all()
    assert heard.seen[-1] == (28 - done, 28 - done)  # only what was missing
    assert np.array_equal(session.case.probability[kept > 0], kept[kept > 0])
    assert np.array_equal(session.case.probability_map().array, nru.predict(chest.volume, device="cpu").array)


@pytest.mark.computed
def test_a_second_run_while_one_is_at_work_is_refused(session, heard, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    session.run(CPU)
    session.run(CPU)
    assert "still at work" in str(heard.errors[0])
    qtbot.waitUntil(lambda: session.is_idle, timeout=60_000)
    assert session.case.done.all()


def test_only_the_slices_asked_for_are_run(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot, slices=(10, 13))
    assert np.flatnonzero(session.case.done).tolist() == [10, 11, 12]


def test_what_is_painted_stays_through_threshold_clean_up_and_another_grid(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    layer = session.mask_layer
    layer.data_setitem(tuple(np.mgrid[5:6, 2:8, 2:8].reshape(3, -1)), 1)  # air in a corner
    lung = np.argwhere(session.case.mask[14] > 0)[:20]
    layer.data_setitem((np.full(20, 14), *lung.T), 0)
    for threshold in (0.1, 0.9, 0.4):
        session.masking.set_threshold(threshold)
    session.masking.set_clean(False)
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    run(session, qtbot, PredictSettings(device="cpu", grid=256), slices=(4, 16))
    assert session.mask_layer.data[5, 2:8, 2:8].all()
    assert not session.mask_layer.data[14][tuple(lung.T)].any()
    assert session.case.voxels_edited == 36 + 20


BOX = tuple(np.mgrid[5:6, 2:8, 2:8].reshape(3, -1))  # 36 voxels of air in a corner


def test_an_undo_brings_back_what_the_network_said_and_a_redo_the_stroke(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    before = session.case.mask.copy()
    session.mask_layer.data_setitem(BOX, 1)
    session.mask_layer.undo()
    assert session.case.voxels_edited == 0
    assert np.array_equal(session.case.mask, before)
    session.mask_layer.redo()
    assert session.case.voxels_edited == 36
    assert session.mask_layer.data[BOX].all()


def test_an_undo_after_a_threshold_move_carves_no_hole(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    session.masking.set_threshold(0.99)
    rim = tuple(np.argwhere((session.case.probability > 130) & (session.case.mask == 0))[:30].T)
    session.mask_layer.data_setitem(rim, 1)
    session.masking.set_threshold(0.3)  # now the network says lung there, too
    session.mask_layer.undo()  # napari brings back the 0 of before
    assert session.case.voxels_edited == 0
    assert session.mask_layer.data[rim].all()


def test_saving_a_copy_of_the_mask_does_not_touch_the_mask(session, qtbot, chest, tmp_path: Path) -> None:
    from napari_resunet.plugin.writer import write_labels

    session.show_ct(chest.volume)
    run(session, qtbot)
    copied, meta, _ = session.mask_layer.as_layer_data_tuple()
    copied = copied.copy()
    session.mask_layer.data_setitem(BOX, 1)
    write_labels(str(tmp_path / "backup.nii.gz"), copied, meta)
    assert session.mask_layer.data[BOX].all()
    assert not nru.read_mask(tmp_path / "backup.nii.gz").axial[BOX].any()


def test_a_copy_of_the_mask_layer_is_never_taken_for_the_mask(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    mask, ct = session.mask_layer, session.ct_layer
    session.viewer.add_labels(mask.data.copy(), metadata=mask.metadata, name="lung mask copy")
    session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    session.choose(ct)
    assert session.mask_layer is mask


def test_the_results_of_a_second_ct_say_of_which_they_are(session, chest) -> None:
    for name in ("anna", "ben"):
        session.show_ct(Volume(chest.volume.array.copy(), chest.volume.geometry), name=name)
        session.show_layers()
    assert [layer.name for layer in session.viewer.layers] == [
        *("anna", "lung probability", "lung mask"),
        *("ben", "lung probability of ben", "lung mask of ben"),
    ]


def test_a_copy_of_the_ct_layer_does_not_take_over(session, chest) -> None:
    session.show_ct(chest.volume)
    ct = session.ct_layer
    session.viewer.add_image(ct.data, metadata=ct.metadata, name="copy")
    assert session.ct_layer is ct


def test_a_new_widget_finds_the_painted_mask_of_a_closed_one(qtbot, chest) -> None:
    viewer = ViewerModel()
    first = Session(viewer)
    first.show_ct(chest.volume)
    first.show_layers()
    first.mask_layer.data_setitem(BOX, 1)
    first.close()
    second = Session(viewer)
    assert second.mask_layer is viewer.layers["lung mask"]
    assert second.case.voxels_edited == 36
    second.close()


def test_the_clean_up_of_one_ct_never_lands_on_another(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    other = Volume(chest.volume.array[::-1].copy(), chest.volume.geometry)
    session.masking.settle()
    session.show_ct(other)
    session.case.version = session.cases.of(session.viewer.layers[0]).version  # as if both had come as far
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert not session.case.mask.any()


def test_clean_ups_wait_for_each_other_and_the_last_word_counts(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    for threshold in (0.2, 0.8, 0.6):
        session.masking.set_threshold(threshold)
        session.masking.settle()
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    prob = session.case.probability_map()
    assert np.array_equal(session.case.mask, nru.to_mask(prob, threshold=0.6).axial)


def test_an_export_right_after_a_threshold_move_is_cleaned_up(session, qtbot, chest, tmp_path: Path) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    session.masking.set_threshold(0.05)
    session.saving.export(tmp_path / "lungs.nii.gz")
    expected = nru.to_mask(session.case.probability_map(), threshold=0.05)
    assert np.array_equal(nru.read_mask(tmp_path / "lungs.nii.gz").array, expected.array)


def test_a_cancelled_reading_opens_nothing(session, qtbot, chest, tmp_path: Path) -> None:
    write_ct_series(chest.volume, tmp_path / "ct")
    session.opening.open(tmp_path / "ct")
    session.cancel()
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert not session.viewer.layers


def test_closing_tells_nobody_since_the_widgets_may_be_gone(qtbot, chest) -> None:
    session = Session(ViewerModel())
    session.show_ct(chest.volume)
    heard: list[object] = []
    for signal in (*session.events.signals.values(), *session.correcting.events.signals.values()):
        signal.connect(lambda *_: heard.append(1))
    session.close()
    session.close()
    assert heard == []


def test_nothing_is_heard_of_a_run_after_the_widget_is_closed(qtbot, chest) -> None:
    viewer = ViewerModel()
    session = Session(viewer)
    heard = Listener(session)
    session.show_ct(chest.volume)
    session.run(CPU)
    job = session._job
    session.close()
    qtbot.waitUntil(lambda: not job._worker.is_running, timeout=60_000)
    qtbot.wait(50)
    assert not heard.seen
    assert not heard.errors


def test_the_export_is_what_is_shown_with_the_edits_in_it(
    session, heard, qtbot, chest, tmp_path: Path
) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    session.mask_layer.data_setitem(tuple(np.mgrid[5:6, 2:8, 2:8].reshape(3, -1)), 1)
    receipt = session.saving.export(tmp_path / "lungs.nii.gz", split=True, probability=True)
    assert not heard.errors
    mask = nru.read_mask(receipt.path)
    assert np.array_equal(mask.axial > 0, session.mask_layer.data > 0)
    assert set(np.unique(mask.array)) == {0, 1, 2}
    assert mask.geometry.matches(chest.volume.geometry)
    assert '"voxels_edited_by_hand": 36' in receipt.sidecar.read_text()
    assert (tmp_path / "lungs_probability.nii.gz").exists()


def test_a_format_that_holds_no_probabilities_gets_them_beside_it_as_nifti(
    session, heard, qtbot, chest, tmp_path
) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot, slices=(10, 12))
    assert session.saving.export(tmp_path / "lungs.nrrd", probability=True) is not None
    assert (tmp_path / "lungs_probability.nii.gz").exists()
    assert not heard.errors


def test_an_export_of_nothing_says_so(session, heard, chest, tmp_path: Path) -> None:
    assert session.saving.export(tmp_path / "lungs.nii.gz") is None
    session.show_ct(chest.volume)
    assert session.saving.export(tmp_path / "lungs.nii.gz") is None
    assert [str(e).partition(":")[0] for e in heard.errors] == ["there is no CT yet", "there is no mask yet"]
    assert not list(tmp_path.iterdir())


def test_coming_back_to_a_ct_finds_what_was_painted_on_it(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    first = session.ct_layer
    session.show_layers()
    session.mask_layer.data[5, 2:8, 2:8] = 1
    other = Volume(chest.volume.array[::-1].copy(), chest.volume.geometry)
    session.show_ct(other)
    assert session.case.volume is other
    assert session.mask_layer is None
    session.choose(first)
    assert session.case.voxels_edited == 36
    assert session.mask_layer.data[5, 2:8, 2:8].all()


def test_the_answer_of_a_run_never_reaches_another_ct(session, heard, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    session.run(CPU)
    session.show_ct(Volume(chest.volume.array[::-1].copy(), chest.volume.geometry))
    qtbot.waitUntil(lambda: session.is_idle, timeout=60_000)
    assert not session.case.done.any()
    assert not session.case.mask.any()
    assert not heard.errors


def test_a_run_whose_ct_layer_is_deleted_ends_quietly(session, heard, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    session.run(CPU)
    session.viewer.layers.remove(session.ct_layer)
    qtbot.waitUntil(lambda: session.is_idle, timeout=60_000)
    assert session.case is None
    assert not heard.errors


def test_a_deleted_mask_layer_comes_back_with_its_edits_at_the_next_run(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    session.mask_layer.data_setitem(tuple(np.mgrid[5:6, 2:8, 2:8].reshape(3, -1)), 1)
    session.viewer.layers.remove(session.mask_layer)
    assert session.mask_layer is None
    run(session, qtbot)
    assert session.mask_layer.data[5, 2:8, 2:8].all()


def test_a_mask_layer_given_another_array_is_taken_in(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    changed = session.mask_layer.data.copy()
    changed[5, 2:8, 2:8] = 1
    session.mask_layer.data = changed
    session.masking.set_threshold(0.9)
    assert session.case.mask[5, 2:8, 2:8].all()
    assert session.mask_layer.data is session.case.mask


def test_what_was_given_to_a_mask_layer_just_before_it_was_deleted_is_not_lost(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    changed = session.mask_layer.data.copy()
    changed[5, 2:8, 2:8] = 1
    session.mask_layer.data = changed
    session.viewer.layers.remove(session.mask_layer)
    session.show_layers()
    assert session.mask_layer.data[5, 2:8, 2:8].all()


def test_a_mask_layer_of_another_size_is_put_back_and_what_it_held_is_kept(
    session, heard, qtbot, chest
) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    session.mask_layer.data = np.full((3, 4, 5), 7, dtype=np.uint8)
    session.masking.set_threshold(0.6)
    assert "another size" in str(heard.errors[0])
    assert session.mask_layer.data is session.case.mask
    assert (session.viewer.layers["lung mask of another size"].data == 7).all()


def test_values_that_cannot_be_hu_are_asked_about_and_not_run(session, heard, qtbot, chest) -> None:
    array = (chest.volume.array.astype(np.int32) + 1024).astype(np.int16)
    session.show_ct(Volume(array, chest.volume.geometry))
    assert any(check.level == "ask" and "HU offset of -1024" in check.text for check in session.checks)
    run(session, qtbot)
    assert isinstance(heard.errors[0], InputError)
    assert not session.case.done.any()
    session.show_layers()
    session.mask_layer.data_setitem(BOX, 1)
    session.answer_hu(-1024)
    assert all(check.level != "ask" for check in session.checks)
    assert np.array_equal(session.ct_layer.data, chest.volume.axial)
    assert session.mask_layer.data[BOX].all()  # what was painted meanwhile is still there
    run(session, qtbot)
    assert session.case.done.all()
    assert session.mask_layer.data[BOX].all()


def test_a_foreign_layer_without_voxel_size_is_asked_about(session, heard) -> None:
    layer = session.viewer.add_image(np.zeros((3, 40, 50), dtype=np.int16))
    assert session.case is None  # not taken unasked
    session.choose(layer)
    assert isinstance(heard.errors[0], SpacingUnknownError)
    session.choose(layer, InputAnswers(spacing_mm=(5, 1, 1)))
    assert session.case.volume.geometry.spacing_mm == (5, 1, 1)


def test_a_tiff_without_spacing_opens_with_the_users_answer(session, heard, qtbot, tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "ct.tif", np.full((6, 40, 50), -1000, dtype=np.int16))
    session.opening.open(tmp_path / "ct.tif")
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert isinstance(heard.errors[0], SpacingUnknownError)
    session.opening.open(tmp_path / "ct.tif", InputAnswers(spacing_mm=(5, 1, 1)))
    qtbot.waitUntil(lambda: session.is_idle, timeout=30_000)
    assert session.case.volume.geometry.spacing_mm == (5, 1, 1)


def test_a_model_file_that_is_no_model_is_told_of(session, heard, qtbot, chest, tmp_path: Path) -> None:
    (tmp_path / "page.safetensors").write_text("<html>sign in</html>")
    session.show_ct(chest.volume)
    run(session, qtbot, PredictSettings(model=str(tmp_path / "page.safetensors"), device="cpu"))
    assert "<html>" in str(heard.errors[0])


def test_an_unexpected_runtime_error_reaches_the_user(session, heard, qtbot, chest, monkeypatch) -> None:
    from napari_resunet.inference import predict

    def broken(*_arguments, **_options):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(predict, "slice_probabilities", broken)
    session.show_ct(chest.volume)
    run(session, qtbot)
    assert "out of luck" in str(heard.errors[0])
    assert not session.is_running


def test_a_mask_made_elsewhere_is_shown_and_kept_where_the_network_has_not_been(
    session, qtbot, chest
) -> None:
    session.show_ct(chest.volume)
    session.adopting.adopt_mask(chest.mask, name="truth.nii.gz")
    assert np.array_equal(session.mask_layer.data > 0, chest.mask.axial > 0)
    run(session, qtbot, slices=(0, 4))
    assert np.array_equal(session.mask_layer.data[8:] > 0, chest.mask.axial[8:] > 0)


def test_the_ct_that_is_opened_is_the_one_that_is_seen(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    first, mask = session.ct_layer, session.mask_layer
    matrix = chest.volume.geometry.index_to_lps.copy()
    matrix[2, 3] += 5000
    elsewhere = Volume(chest.volume.array[::-1].copy(), Geometry(chest.volume.array.shape, matrix))
    session.show_ct(elsewhere)
    assert session.ct_layer.visible
    assert not first.visible
    assert not mask.visible
    assert session.slice_in_view == 14
    lowest, highest = session.ct_layer.extent.world[:, 0]
    assert lowest <= session.viewer.dims.point[0] <= highest
    session.choose(first)
    assert first.visible
    assert mask.visible


def test_a_closed_session_lets_go_of_the_mask_layer(session, qtbot, chest) -> None:
    session.show_ct(chest.volume)
    run(session, qtbot)
    layer, case = session.mask_layer, session.case
    session.close()
    version = case.hand_version
    with layer.block_history():
        layer.paint((5, 5, 5), 1)
    assert case.hand_version == version
    layer.undo()
    assert not layer.data[5, 5, 5]
    assert {"undo", "redo"}.isdisjoint(vars(layer))


def test_values_that_are_to_be_asked_about_are_told_of_before_a_layer_is_added(session, heard, chest) -> None:
    session.show_ct(
        dataclasses.replace(chest.volume, array=np.maximum(chest.volume.array, -1024) + np.int16(1024))
    )
    session.run(CPU)
    assert "HU + 1024" in str(heard.errors[0])
    assert len(session.viewer.layers) == 1
    assert not session.is_running


def test_a_new_widget_takes_the_layer_of_a_ct_that_a_closed_one_has_left(qtbot, chest) -> None:
    viewer = ViewerModel()
    first = Session(viewer)
    first.show_ct(chest.volume)
    layer = first.ct_layer
    first.close()
    second = Session(viewer)
    second.show_ct(chest.volume)
    assert second.ct_layer is layer
    assert [one for one in viewer.layers if one.name == layer.name] == [layer]
    second.close()
