from __future__ import annotations

import itertools

import pytest

from napari_resunet.io.orientation import is_assumed, orientation_note


def test_an_assumed_orientation_is_told_in_words_and_with_its_remedy() -> None:
    note = orientation_note("SAR", None)
    assert "slices run to the patient's head, rows to the front, columns to the right (SAR)" in note
    assert note.endswith("say how they lie (--orientation or orientation=)")
    assert is_assumed(["other", note])


def test_an_orientation_by_the_users_word_is_not_assumed() -> None:
    note = orientation_note("SAR", "SAR")
    assert note.endswith("(SAR), by the user's word")
    assert not is_assumed([note])
    assert not is_assumed([])


@pytest.mark.parametrize("codes", ["".join(c) for c in itertools.product("SI", "AP", "LR")])
def test_every_direction_has_a_word(codes: str) -> None:
    words = dict(zip("SIAPLR", ("head", "feet", "front", "back", "left", "right"), strict=True))
    assert all(words[letter] in orientation_note(codes, None) for letter in codes)
