"""Waiting for a condition, instead of for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.02


def eventually(
    look: Callable[[], T], what: str, *, timeout_s: float = 30.0, poll_s: float = POLL_S
) -> T:
    """Look until what is seen is true, and return it.

    Raises:
        AssertionError: it was not within `timeout_s`; says what was seen last.
    """
    until_s = time.monotonic() + timeout_s
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= until_s:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}; last seen: {seen!r}")
        time.sleep(poll_s)
