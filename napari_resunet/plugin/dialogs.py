"""What the window asks in a dialog of the system: files, folders, yes or no."""

from __future__ import annotations

import re
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget

from napari_resunet.plugin.proposed import stem_of

_CT_FILES = (
    "CT or case (*.nii *.nii.gz *.tif *.tiff *.mha *.mhd *.nrrd *.nhdr *.dcm *.hdr *.nru);;"
    "Picture of one slice (*.png *.jpg *.jpeg);;All files (*)"
)
_MASK_FILES = "NIfTI (*.nii.gz *.nii);;TIFF (*.tif *.tiff);;NRRD (*.nrrd);;MetaImage (*.mha)"
_MASKS_TO_WRITE = f"{_MASK_FILES};;3D Slicer segmentation (*.seg.nrrd);;DICOM SEG, of a DICOM CT (*.dcm)"
_CASE_FILES, _WEIGHTS_FILES, _TABLES = "Case (*.nru)", "Weights (*.safetensors)", "CSV (*.csv);;JSON (*.json)"


class Dialogs:
    """Asks; each method returns what was chosen, or None.

    Parameters
    ----------
    parent : QWidget
        Over which the dialogs open.
    """

    def __init__(self, parent: QWidget) -> None:
        self._parent = parent
        self._folder = Path.home()

    def begin_in(self, folder: Path) -> None:
        """Let the next dialog begin in a folder."""
        self._folder = folder

    def ct_folder(self) -> Path | None:
        """Ask for the folder of a DICOM series."""
        title = "Open a folder with a DICOM series"
        return self._path(QFileDialog.getExistingDirectory(self._parent, title, str(self._folder)))

    def ct_file(self) -> Path | None:
        """Ask for a CT or a case file."""
        return self._file_to_open("Open a CT", _CT_FILES)

    def weights(self) -> Path | None:
        """Ask for weights."""
        return self._file_to_open("Weights", _WEIGHTS_FILES)

    def reference(self) -> Path | None:
        """Ask for a mask to compare with."""
        return self._file_to_open("Compare with a mask", _MASK_FILES)

    def mask_to_write(self, name: str) -> Path | None:
        """Ask where a mask goes."""
        return self._file_to_write("Export the mask", name, _MASKS_TO_WRITE)

    def case_to_write(self, name: str) -> Path | None:
        """Ask where a case goes."""
        return _ending(self._file_to_write("Save the case", name, _CASE_FILES), ".nru")

    def model_to_write(self, name: str) -> Path | None:
        """Ask where a new model goes."""
        return _ending(self._file_to_write("Save the new model", name, _WEIGHTS_FILES), ".safetensors")

    def cases(self) -> list[Path]:
        """Ask for corrected cases; return those that were chosen."""
        chosen, _ = QFileDialog.getOpenFileNames(
            self._parent, "Corrected cases", str(self._folder), _CASE_FILES
        )
        return [path for path in map(self._path, chosen) if path is not None]

    def table_to_write(self, name: str) -> Path | None:
        """Ask where figures go."""
        return self._file_to_write("Save the figures", name, _TABLES)

    def _file_to_open(self, title: str, kinds: str) -> Path | None:
        return self._path(QFileDialog.getOpenFileName(self._parent, title, str(self._folder), kinds)[0])

    def _file_to_write(self, title: str, name: str, kinds: str) -> Path | None:
        chosen, kind = QFileDialog.getSaveFileName(self._parent, title, str(self._folder / name), kinds)
        path, endings = self._path(chosen), re.findall(r"\*(\.[\w.]+)", kind)
        if path is None or path.name != name or not endings or name.lower().endswith(tuple(endings)):
            return path
        # the kind was chosen, the name left as it was proposed
        return path.with_name(f"{stem_of(name)}{endings[0]}")

    def _path(self, chosen: str) -> Path | None:
        """Return what was chosen, and begin there the next time."""
        if not chosen:
            return None
        self._folder = Path(chosen).parent
        return Path(chosen)

    def confirm(self, question: str) -> bool:
        """Ask a question and return whether the user said yes."""
        answer = QMessageBox.question(self._parent, "napari-resunet", question)
        return bool(answer == QMessageBox.StandardButton.Yes)


def _ending(path: Path | None, suffix: str) -> Path | None:
    """Return a path whose name ends so."""
    return path if path is None or path.suffix == suffix else path.with_name(f"{path.name}{suffix}")
