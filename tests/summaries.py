"""Rows of the projection, made for tests."""

from __future__ import annotations

from dataclasses import replace

from orchx.ports.state_store import WorkflowSummary


def summary(workflow_id: str, created_at_ms: int = 100, **changes: object) -> WorkflowSummary:
    """Return a running workflow with these changes."""
    made = WorkflowSummary(
        workflow_id=workflow_id,
        status="running",
        namespace="n",
        name="d",
        version="1.0.0",
        tenant="acme",
        type=None,
        priority=5,
        deadline_ms=None,
        created_at_ms=created_at_ms,
        updated_at_ms=created_at_ms,
    )
    return replace(made, **changes)  # type: ignore[arg-type]
