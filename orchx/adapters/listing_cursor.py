"""Where a listing of workflows, newest first, goes on: a place that callers hand back."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final, TypeAlias

import msgspec

from orchx.errors import InvalidRequest
from orchx.ports.state_store import WorkflowSummary

_Moment: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**62)]  # what the stores can hold
_decoder: Final = msgspec.json.Decoder(tuple[_Moment, str])


def cursor_behind(summary: WorkflowSummary) -> str:
    """Return the cursor of the page that begins behind this workflow."""
    place = msgspec.json.encode((summary.created_at_ms, summary.workflow_id))
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def place_of(cursor: str) -> tuple[int, str]:
    """Return when the workflow was created that a page begins behind, and its id.

    Raises:
        InvalidRequest: no listing gave this cursor.
    """
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        return _decoder.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise InvalidRequest(f"not a cursor of this listing: {cursor[:100]!r}") from error
