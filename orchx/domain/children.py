"""What a child workflow inherits from the one that starts it."""

from __future__ import annotations

from orchx.domain.events import ParentRef, Request


def request_of_child(parent: Request, parent_id: str, frame: int, *, awaited: bool) -> Request:
    """Return the request of a child: its parent's tenant, urgency and correlation."""
    return Request(
        tenant=parent.tenant,
        priority=parent.priority,
        deadline_ms=parent.deadline_ms,
        parent=ParentRef(workflow_id=parent_id, frame=frame) if awaited else None,
        correlation_id=parent.correlation_id or parent_id,
    )
