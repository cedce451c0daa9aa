"""How many strings one text may hold to lift."""

from __future__ import annotations

import pytest

from app.media.lifting import Lifter, TooManyStrings


def test_no_more_strings_are_lifted_than_allowed() -> None:
    allowed = Lifter(strings_max=2)
    allowed.feed(b'[{"data": "QQ=="}, {"data": "QQ=="}]')
    assert len(allowed.close().cargo) == 2
    with pytest.raises(TooManyStrings):
        allowed.feed(b' {"data": "')
