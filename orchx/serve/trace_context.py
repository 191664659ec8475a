"""W3C Trace Context: the `traceparent` of a request, taken over or made."""

from __future__ import annotations

import re
import secrets
from typing import Final

# Version 00 has exactly these fields; a later version may append more after a dash.
_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?"
)
_UNSAMPLED: Final = "00"


def traceparent_from(given: str | None) -> str:
    """Return the given `traceparent` if it is valid, else a new one (not sampled).

    One of a later version is taken over as version 00, as the standard asks.
    """
    match = _TRACEPARENT.fullmatch((given or "").strip())
    if match is None or match["version"] == "ff" or (match["version"] == "00" and match["more"]):
        return _make()
    if not match["trace"].strip("0") or not match["span"].strip("0"):
        return _make()
    return f"00-{match['trace']}-{match['span']}-{match['flags']}"


def trace_id_of(traceparent: str) -> str:
    """Return the 32 hex digits by which logs are searched."""
    return traceparent.split("-")[1]


def _make() -> str:
    # Drawing all zeros, which the standard forbids, has a chance of 2**-64.
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{_UNSAMPLED}"
