from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchx.adapters.listing_cursor import cursor_behind, place_of
from orchx.errors import InvalidRequest
from tests.summaries import summary

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(created_at_ms=st.integers(0, 2**62), workflow_id=TEXT)
def test_a_cursor_holds_the_place(created_at_ms: int, workflow_id: str) -> None:
    cursor = cursor_behind(summary(workflow_id, created_at_ms))
    assert place_of(cursor) == (created_at_ms, workflow_id)
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(cursor=TEXT)
def test_anything_else_is_the_callers_fault(cursor: str) -> None:
    try:
        created_at_ms, workflow_id = place_of(cursor)
    except InvalidRequest:
        return
    assert 0 <= created_at_ms <= 2**62
    assert isinstance(workflow_id, str)


@pytest.mark.parametrize("cursor", ["", "WzE4NDQ2NzQ0MDczNzA5NTUxNjE2LCJhIl0", "é", "W10", "==="])
def test_near_misses(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="not a cursor"):
        place_of(cursor)
