from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings
from outcomes import outcome, pytest_terminal_summary

from napari_resunet.phantom import Phantom, make_phantom

if "PYTEST_XDIST_WORKER" in os.environ:  # one core each: threads that wait for each other would slow all down
    os.environ |= {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}

os.environ["NAPARI_CONFIG"] = ""  # what the user of this machine prefers proves nothing

__all__ = ["outcome", "pytest_terminal_summary"]  # found by pytest


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    """Put what is there before a window opens out of reach of the garbage collector.

    napari calls it whenever a layer goes; and each viewer of a test leaves thousands of menu entries behind.
    """
    if fixturedef.argname == "make_napari_viewer":
        gc.collect()
        gc.freeze()


settings.register_profile("any machine", deadline=None)  # a slow machine proves nothing
settings.load_profile("any machine")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def chest() -> Phantom:
    """A small made-up chest: fast, and with lungs the shipped weights find."""
    return make_phantom(shape=(28, 96, 96), spacing_mm=(11.0, 3.8, 3.8))


@pytest.fixture(scope="session")
def real_ct() -> Path:
    """The folder of real CT, where there is one."""
    folder = os.environ.get("NAPARI_RESUNET_DATA")
    if not folder:
        pytest.skip("NAPARI_RESUNET_DATA does not name a folder of real CT")
    return Path(folder)


@pytest.fixture
def quick_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices that the network has seen before cost nothing, but in a test that is marked to have them computed."""
    if request.node.get_closest_marker("computed") is None:
        import remembering  # torch with it, which not every test needs

        found = remembering.slice_probabilities
        monkeypatch.setattr("napari_resunet.inference.predict.slice_probabilities", found)


@pytest.fixture(autouse=True)
def own_journal(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the journal of the tests away from the user's."""
    monkeypatch.setenv("NAPARI_RESUNET_STATE", str(tmp_path_factory.mktemp("state")))
