from __future__ import annotations

import importlib

import pytest
from npe2 import PluginManifest

MANIFEST = PluginManifest.from_distribution("napari-resunet")
COMMANDS = MANIFEST.contributions.commands


def test_the_manifest_is_valid_and_found_under_the_entry_point() -> None:
    assert MANIFEST.name == "napari-resunet"
    assert MANIFEST.display_name == "Residual U-Net lung segmentation"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.id)
def test_every_command_names_a_function_that_is_there(command) -> None:
    module, name = command.python_name.split(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_every_command_is_reachable_from_some_menu_drop_or_dialog() -> None:
    contributions = MANIFEST.contributions
    used = {
        c.command
        for part in ("widgets", "readers", "writers", "sample_data")
        for c in getattr(contributions, part)
    }
    used |= {item.command for items in contributions.menus.values() for item in items}
    assert used == {command.id for command in COMMANDS}


def test_the_menus_asked_for_are_served() -> None:
    assert set(MANIFEST.contributions.menus) == {
        "napari/layers/segment",
        "napari/layers/annotate",
        "napari/layers/measure",
        "napari/file/io_utilities",
    }


def test_the_reader_takes_folders_and_ct_files_and_no_pictures() -> None:
    (reader,) = MANIFEST.contributions.readers
    assert reader.accepts_directories
    patterns = set(reader.filename_patterns)
    assert {"*.dcm", "*.nii.gz", "*.tif", "*.mha", "*.nrrd", "*.nru"} <= patterns
    assert not patterns & {"*", "*.png", "*.jpg"}  # napari would ask for a reader at each picture
