"""What a refusal says, as it can be compared."""

from __future__ import annotations

import re

import pytest


def told(raised: pytest.ExceptionInfo[BaseException]) -> str:
    """Return what an error says, without the folders of the test."""
    return re.sub(r"(?<!\S)(/[^/\s]+)+/(?=\S)", "", str(raised.value))
