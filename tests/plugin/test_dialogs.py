"""The files that a dialog gives, of what is chosen in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtWidgets import QFileDialog

from napari_resunet.plugin.dialogs import Dialogs
from napari_resunet.plugin.proposed import stem_of


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("chest_ct.nii.gz", "chest"),
        ("1.2.840.113", "1.2.840.113"),
        ("LIDC 0001.TIF", "LIDC_0001"),
        ("scan", "scan"),
        ("_ct.nii", "ct"),
    ],
)
def test_names_are_proposed_after_the_ct_and_cut_at_its_ending_only(name: str, stem: str) -> None:
    assert stem_of(name) == stem


@pytest.mark.parametrize(
    ("typed", "kind", "written"),
    [
        ("ct_mask.nii.gz", "NIfTI (*.nii.gz *.nii)", "ct_mask.nii.gz"),
        ("ct_mask.nii.gz", "DICOM SEG, of a DICOM CT (*.dcm)", "ct_mask.dcm"),
        ("ct_mask.nii.gz", "", "ct_mask.nii.gz"),
        ("mine.tif", "NIfTI (*.nii.gz *.nii)", "mine.tif"),
    ],
)
def test_the_kind_that_was_chosen_is_written_where_the_name_was_left_alone(
    typed: str, kind: str, written: str, qapp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / typed), kind))
    assert Dialogs(None).mask_to_write("ct_mask.nii.gz") == tmp_path / written


def test_a_case_file_ends_in_nru_whatever_dots_are_in_its_name(
    qapp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "patient.1"), ""))
    assert Dialogs(None).case_to_write("a.nru") == tmp_path / "patient.1.nru"
