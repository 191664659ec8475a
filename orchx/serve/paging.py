"""Listings page by page: the `Link` to the next page, and where a page begins."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request

from orchx.errors import InvalidRequest
from orchx.ports.deliveries import Place

_Stored = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_place: Final = msgspec.json.Decoder(tuple[_Stored, str, _Stored, str])


def next_link(request: Request, changes: dict[str, str]) -> str:
    """Return the value of a `Link` header: the same request with other query parameters."""
    kept = [(name, value) for name, value in request.query_params.multi_items()]
    kept = [(name, value) for name, value in kept if name not in changes]
    return f'<{request.url.path}?{urlencode([*kept, *changes.items()])}>; rel="next"'


def cursor_behind(place: Place) -> str:
    """Return the cursor of a page that begins behind this delivery."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(cursor: str | None) -> Place | None:
    """Return the delivery behind which a page begins; None: it is the first.

    Raises:
        InvalidRequest: it is no cursor of ours.
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return _place.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise InvalidRequest(f"not a cursor of this listing: {cursor[:100]!r}") from error
