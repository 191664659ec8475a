"""What a child workflow inherits from the one that starts it, and how many there may be."""

from __future__ import annotations

from typing import Final

from orchx.domain.events import ParentRef, Request

MAX_GENERATIONS: Final = 16
"""How deep children of children go. A workflow that runs itself twice thus ends after 2**16."""

MAX_CHILDREN: Final = 10_000
"""How many children one workflow starts in its life, those of retries included."""


def request_of_child(parent: Request, parent_id: str, frame: int, *, awaited: bool) -> Request:
    """Return the request of a child: its parent's tenant, urgency and correlation."""
    return Request(
        tenant=parent.tenant,
        priority=parent.priority,
        deadline_ms=parent.deadline_ms,
        parent=ParentRef(workflow_id=parent_id, frame=frame) if awaited else None,
        correlation_id=parent.correlation_id or parent_id,
        generation=parent.generation + 1,
    )
