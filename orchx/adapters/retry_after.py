"""The `Retry-After` header of whoever answers: it may hold anything at all."""

from __future__ import annotations

import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER_MS: Final = 86_400_000
MAX_VALUE_CHARS: Final = 64


def retry_after_ms(value: str | None, now_ms: int | None = None) -> int | None:
    """Return the wait that a `Retry-After` header asks for (RFC 9110, 10.2.3), at most a day.

    None for no header and for one that is neither seconds nor an HTTP date. `now_ms` is the
    time to count from, by default the machine's.
    """
    if value is None:
        return None
    value = value.strip()[:MAX_VALUE_CHARS]
    if value.isascii() and value.isdigit():
        return min(int(value) * 1_000, MAX_RETRY_AFTER_MS)
    try:
        at = parsedate_to_datetime(value)
        if at.tzinfo is None:  # "-0000": UTC, from a place unknown
            at = at.replace(tzinfo=UTC)
        at_s = at.timestamp()
    except (ValueError, OverflowError):  # a year of twenty digits is the latter
        return None
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return min(max(int(at_s * 1_000) - now_ms, 0), MAX_RETRY_AFTER_MS)
