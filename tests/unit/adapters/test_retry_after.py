"""`Retry-After`, as receivers and services send it, which is anyhow."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchx.adapters.retry_after import MAX_RETRY_AFTER_MS, retry_after_ms

NOW_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
PARTS = ("Mon,", "01", "Jan", "9" * 20, "00:00:00", "GMT", "-0000", "+9999", "-", ",")


@pytest.mark.parametrize(
    ("value", "expected_ms"),
    [
        (None, None),
        (" 7 ", 7_000),
        ("9" * 40, MAX_RETRY_AFTER_MS),
        ("Thu, 01 Jan 2026 00:00:30 GMT", 30_000),
        ("Thu, 01 Jan 2026 00:00:30 -0000", 30_000),
        ("Thu, 01 Jan 2025 00:00:00 GMT", 0),
        ("Fri, 01 Jan 9999 00:00:00 GMT", MAX_RETRY_AFTER_MS),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after(value: str | None, expected_ms: int | None) -> None:
    assert retry_after_ms(value, NOW_MS) == expected_ms


@given(st.text() | st.lists(st.sampled_from(PARTS), max_size=7).map(" ".join))
@example("Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
def test_no_header_raises(value: str) -> None:
    found = retry_after_ms(value, NOW_MS)
    assert found is None or 0 <= found <= MAX_RETRY_AFTER_MS
