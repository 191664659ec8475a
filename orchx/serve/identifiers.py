"""Ids that only ingestion makes; those that others must find again are in `domain.keys`."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Final

_TIME_BYTES: Final = 6
_RANDOM_BYTES: Final = 10  # with the time 128 bits: 26 characters
_CANCEL_CHARS: Final = 26


def fresh_workflow_id(now_ms: int) -> str:
    """Return a new id; ids made later sort after, down to the millisecond."""
    raw = now_ms.to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
    # The "extended hex" alphabet of RFC 4648 keeps the order of the bytes; base32's does not.
    return "wf_" + base64.b32hexencode(raw).decode("ascii").rstrip("=").lower()


def cancel_command_id(workflow_id: str, reason: str, by: str) -> str:
    """Return the command id of a cancellation: repeating it is the same command."""
    digest = hashlib.sha256("\x00".join((workflow_id, by, reason)).encode()).digest()
    return "ca_" + base64.b32encode(digest).decode("ascii").lower()[:_CANCEL_CHARS]
