from __future__ import annotations

import numpy as np
import pytest

from napari_resunet.editing.adding_up import put_adopted, refuse_no_mask
from napari_resunet.errors import InputError

NONE, ALL = np.zeros((2, 1, 2), bool), np.ones((2, 1, 2), bool)


def test_only_slices_that_the_network_has_not_seen_keep_a_mask_made_elsewhere() -> None:
    automatic = np.array([[[True, False]], [[True, False]]])
    put_adopted(np.array([[[False, True]], [[False, True]]]), automatic, done=np.array([False, True]))
    assert automatic.tolist() == [[[False, True]], [[True, False]]]
    put_adopted(None, automatic, done=np.array([False, False]))
    assert automatic.tolist() == [[[False, True]], [[True, False]]]


@pytest.mark.parametrize(
    ("lung", "done", "edited"), [(True, False, False), (False, True, False), (False, False, True)]
)
def test_there_is_a_mask_once_anything_has_happened(lung: bool, done: bool, edited: bool) -> None:
    mask = (ALL if lung else NONE).view(np.uint8)
    refuse_no_mask(mask, done=np.array([False, done]), edited=edited)


def test_where_nothing_has_happened_there_is_none() -> None:
    with pytest.raises(InputError, match="there is no mask yet: run the network, or paint one"):
        refuse_no_mask(NONE.view(np.uint8), done=np.array([False, False]), edited=False)
