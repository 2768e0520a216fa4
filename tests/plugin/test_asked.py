from __future__ import annotations

import pytest

from napari_resunet.errors import without_options
from napari_resunet.plugin.asked import for_a_notification


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/data/anna/ct.nii.gz is truncated; export it again", "ct.nii.gz is truncated; export it again"),
        ("C:\\data\\anna\\ct.nii is empty", "ct.nii is empty"),
        ("\\\\server\\share\\ct.mha is empty", "ct.mha is empty"),
        ("no space left on /mnt/disk/x", "no space left on /mnt/disk/x"),
        ("ct.nii holds 2 volumes; choose one (--frame)", "ct.nii holds 2 volumes; choose one"),
    ],
)
def test_a_notification_begins_with_the_name_of_the_file(said: str, shown: str) -> None:
    assert for_a_notification(said) == shown


def test_what_only_the_command_line_knows_is_left_out_of_the_window() -> None:
    assert without_options("say the voxel size (--spacing, or spacing_mm=)") == "say the voxel size"
    assert without_options("a lung (or both)") == "a lung (or both)"
