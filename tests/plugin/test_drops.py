"""What is dropped on the window or opened from its menus, in every format."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from napari.components import ViewerModel
from napari.settings import get_settings
from npe2 import PluginManager
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication
from qtpy.QtWidgets import QApplication, QWidget

from napari_resunet.case import Case
from napari_resunet.errors import InputError
from napari_resunet.io.case_file import write_case
from napari_resunet.io.dicom_series import write_ct_series
from napari_resunet.io.tiff import write_tiff
from napari_resunet.plugin import launch
from napari_resunet.plugin.layers import KEY, RECORD
from napari_resunet.plugin.questions import SeriesQuestion
from napari_resunet.volume import Volume

pytestmark = pytest.mark.usefixtures("unstyled")

COPY = Qt.DropAction.CopyAction


def write(volume: Volume, folder: Path, name: str) -> Path:
    """Write a CT in the format of a name, and return what is dropped."""
    path, geometry = folder / name, volume.geometry
    if name in ("dicom", "slice.dcm", "case.nru"):
        files = write_ct_series(volume, folder / "dicom")
        if name == "case.nru":
            write_case(Case(launch.open_ct(folder / "dicom")).record(), path)
        return {"dicom": folder / "dicom", "slice.dcm": files[14]}.get(name, path)
    if name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(volume.array.T, geometry.ras_affine, dtype=np.int16), path)
    elif name.endswith(".hdr"):
        nib.save(nib.Nifti1Pair(volume.array.T, geometry.ras_affine, dtype=np.int16), path)
    elif name.endswith(".tif"):
        write_tiff(volume.array, geometry, path)
    else:
        image = sitk.GetImageFromArray(volume.array)
        image.SetSpacing(geometry.spacing_mm[::-1])
        image.SetOrigin(geometry.index_to_lps[:3, 3].tolist())
        sitk.WriteImage(image, path)
    return path


ALL = [
    "dicom",
    "ct.nii",
    "ct.nii.gz",
    "ct.hdr",
    "ct.tif",
    "ct.mha",
    "ct.mhd",
    "ct.nrrd",
    "ct.nhdr",
    "case.nru",
]


@pytest.mark.parametrize("name", ALL)
def test_every_format_opens_as_the_same_layer_at_the_same_place(name: str, chest, tmp_path: Path) -> None:
    PluginManager.instance().discover()  # which a window does, and a viewer without one does not
    viewer = ViewerModel()
    (layer,) = viewer.open(write(chest.volume, tmp_path, name), plugin="napari-resunet")
    assert np.array_equal(layer.data, chest.volume.axial)
    assert layer.scale == pytest.approx(chest.volume.geometry.spacing_mm)
    assert layer.translate == pytest.approx(chest.volume.geometry.index_to_lps[2::-1, 3])
    assert isinstance(layer.metadata[KEY], Volume)
    assert (RECORD in layer.metadata) == (name == "case.nru")


def test_a_single_dicom_file_opens_as_its_slice_and_says_that_there_are_more(chest, tmp_path: Path) -> None:
    PluginManager.instance().discover()  # which a window does, and a viewer without one does not
    viewer = ViewerModel()
    (layer,) = viewer.open(write(chest.volume, tmp_path, "slice.dcm"), plugin="napari-resunet")
    assert np.array_equal(layer.data, chest.volume.axial[14:15])
    assert any("open the folder for all" in note for note in layer.metadata[KEY].notes)


def urls(*paths: Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


def drop(place: QWidget, *paths: Path) -> QDropEvent:
    """Drag files over a widget and let them go, as Qt tells of it."""
    data, how = urls(*paths), (Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(QPoint(50, 50), COPY, data, *how)
    QApplication.sendEvent(place, enter)
    assert enter.isAccepted()
    event = QDropEvent(QPointF(50, 50), COPY, data, *how)
    event.ignore()
    QApplication.sendEvent(place, event)
    return event


def opened(qtbot, dock) -> None:
    qtbot.waitUntil(lambda: dock.session.is_idle, timeout=30_000)


@pytest.mark.parametrize("name", ["dicom", "ct.nii.gz", "ct.nrrd", "case.nru"])
def test_a_ct_that_is_dropped_on_the_window_is_read_beside_it_without_choosing_a_reader(
    dock, viewer, qtbot, chest, tmp_path: Path, name: str
) -> None:
    path = write(chest.volume, tmp_path, name)
    assert drop(viewer.window._qt_viewer, path).isAccepted()
    assert dock.session.opening.is_reading
    opened(qtbot, dock)
    assert np.array_equal(dock.session.case.volume.axial, chest.volume.axial)
    assert not dock.errors


def test_a_tiff_that_is_dropped_is_left_to_the_reader_that_the_user_has_chosen(
    dock, viewer, qtbot, chest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(chest.volume, tmp_path, "ct.tif")
    monkeypatch.setattr(get_settings().plugins, "extension2reader", {"*.tif": "napari-resunet"})
    drop(viewer.window._qt_viewer, path)
    assert not dock.session.opening.is_reading
    assert np.array_equal(dock.session.case.volume.array, chest.volume.array)


def test_with_alt_held_napari_asks_which_reader(
    dock, viewer, chest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    napari_opens = type(viewer.window._qt_viewer)
    monkeypatch.setattr(napari_opens, "_qt_open", lambda _, paths, **__: asked.append(paths))
    held = Qt.KeyboardModifier.AltModifier
    monkeypatch.setattr(QGuiApplication, "keyboardModifiers", staticmethod(lambda: held))
    path = write(chest.volume, tmp_path, "ct.nii")
    drop(viewer.window._qt_viewer, path)
    assert asked == [[str(path)]]
    assert not dock.session.opening.is_reading


def test_anything_can_be_dropped_on_the_widget_and_a_tiff_too(dock, qtbot, chest, tmp_path: Path) -> None:
    path = write(chest.volume, tmp_path, "ct.tif")
    drop(dock, path)
    opened(qtbot, dock)
    assert np.array_equal(dock.session.case.volume.array, chest.volume.array)
    (tmp_path / "notes.txt").write_text("no CT")
    drop(dock, tmp_path / "notes.txt")
    opened(qtbot, dock)
    assert "notes.txt is of an unknown kind" in str(dock.errors[0])


def test_all_slices_of_a_folder_dropped_together_are_the_folder(dock, viewer, qtbot, chest, tmp_path) -> None:
    files = write_ct_series(chest.volume, tmp_path / "dicom")
    drop(viewer.window._qt_viewer, *files)
    opened(qtbot, dock)
    assert np.array_equal(dock.session.case.volume.array, chest.volume.array)
    assert len(viewer.layers) == 1


@pytest.fixture
def two_series(chest, tmp_path: Path) -> Path:
    for number in (1, 2):
        for path in write_ct_series(
            Volume(chest.volume.array - number, chest.volume.geometry), tmp_path / "two"
        ):
            path.rename(path.with_name(f"{number}_{path.name}"))
    return tmp_path / "two"


def choose_second(question: SeriesQuestion) -> bool:
    question.table.native.selectRow(1)
    return True


@pytest.mark.parametrize("way", ["drop", "menu", "button"])
def test_a_folder_with_two_series_is_asked_about_whichever_way_it_comes(
    dock, viewer, qtbot, two_series: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeriesQuestion, "exec", choose_second)
    if way == "drop":
        drop(viewer.window._qt_viewer, two_series)
    elif way == "menu":
        assert viewer.open(two_series, plugin="napari-resunet") == []
    else:
        monkeypatch.setattr(dock._dialogs, "ct_folder", lambda: two_series)
        dock.ct.open_folder.native.click()
    opened(qtbot, dock)
    assert dock.session.case.volume.answers.series
    assert len(viewer.layers) == 1
    assert not dock.errors


def test_without_the_widget_a_reader_says_which_button_asks(viewer, two_series: Path) -> None:
    with pytest.raises(InputError, match=r"^two leaves a question: open it with “Open folder…” of the lung"):
        viewer.open(two_series, plugin="napari-resunet")
    assert not viewer.layers


def test_a_widget_that_is_closed_takes_no_drops_and_is_not_asked_in(
    dock, viewer, chest, two_series: Path
) -> None:
    viewer.window.remove_dock_widget(dock)
    with pytest.raises(InputError, match="leaves a question"):
        viewer.open(two_series, plugin="napari-resunet")


def test_a_tiff_without_voxel_size_is_asked_for_it_when_it_is_opened_from_the_menu(
    dock, viewer, qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_resunet.plugin.questions import VoxelQuestion

    tifffile.imwrite(tmp_path / "ct.tif", np.full((6, 40, 50), -1000, dtype=np.int16))

    def answer(question: VoxelQuestion) -> bool:
        for length, mm in zip(question.lengths, (5, 0.8, 0.7), strict=True):
            length.value = mm
        return True

    monkeypatch.setattr(VoxelQuestion, "exec", answer)
    viewer.open(tmp_path / "ct.tif", plugin="napari-resunet")
    opened(qtbot, dock)
    assert dock.session.case.volume.geometry.spacing_mm == (5, 0.8, 0.7)
