"""Bodies made to cost more than they weigh."""

from __future__ import annotations

import tracemalloc

import pytest

from orchx.serve.json_body import is_too_deep, read_json
from orchx.serve.problems import HttpError

LONG_KEY = b"k" * 20_000
MANY = 5_000
MIB = 1024 * 1024


def test_checking_strings_costs_no_pointer_per_value() -> None:
    body = b'{"%s": ["\\u0041"%s]}' % (LONG_KEY, b",1" * MANY)
    tracemalloc.start()
    try:
        read_json(body, max_depth=10)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 10 * MIB  # a pointer for each would be 100 MB


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'"\\u0000"', ""),
        (b'{"a/b": ["x", {"~": ["\\ud800", "\\u0000"]}, "\\u0000"]}', "/a~1b/1/~0/0"),
        (b'[[], {}, [[1]], {"a": {}, "\\u0000": "\\ud800"}]', "/3/\x00"),
    ],
)
def test_the_first_bad_string_is_pointed_at(body: bytes, pointer: str) -> None:
    with pytest.raises(HttpError) as caught:
        read_json(body, max_depth=10)
    assert caught.value.violations[0].pointer == pointer


@pytest.mark.parametrize("rest", [b'\\"' * 1_000_000, b"\\" * 1_000_001, b'\\"[' * 500_000])
def test_a_string_without_end_is_read_once(rest: bytes) -> None:
    # Looking for its end again from every quote would take minutes.
    assert is_too_deep(b"[" * 65 + b'"' + rest, 64)
    assert not is_too_deep(b"[" * 3 + b"]" * 62 + b'"' + rest, 64)
