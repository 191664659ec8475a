"""What one call is answered with, before it is put on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

JSON_CONTENT_TYPE: Final = b"application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A complete HTTP answer.

    Args:
        status: HTTP status.
        body: content, sent as it is.
        content_type: media type of `body`.
        headers: further headers, names in lower case.
        flood_bytes: when above 0, this much filler follows `body`, without a length.
    """

    status: int
    body: bytes
    content_type: bytes = JSON_CONTENT_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()
    flood_bytes: int = 0
