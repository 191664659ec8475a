"""Names that must come out the same whoever computes them, and however often."""

from __future__ import annotations

import base64
import hashlib


def _digest(*parts: str, length: int = 26) -> str:
    hasher = hashlib.sha256()
    for part in parts:
        raw = part.encode()
        hasher.update(len(raw).to_bytes(4, "big"))
        hasher.update(raw)
    return base64.b32encode(hasher.digest()).decode().lower()[:length]


def idempotency_key(workflow_id: str, reference: str, iteration: str) -> str:
    """Return the key of one task in one iteration: the same for all retries and owners."""
    return _digest("task", workflow_id, reference, iteration, length=32)


def execution_name(workflow_id: str, frame: int, key: str) -> str:
    """Return the name of one execution of a call, as pools know it.

    The idempotency key is part of it: an owner that was superseded and the one after it may
    give the same frame number to different calls.
    """
    return f"{workflow_id}/{frame}/{key}"


def workflow_id_for(tenant: str, idempotency_key_: str) -> str:
    """Return the id of the one workflow that a tenant's idempotency key stands for."""
    return "wf_" + _digest("request", tenant, idempotency_key_)


def child_workflow_id(parent_id: str, frame: int) -> str:
    """Return the id of the child workflow that a `run` task's frame starts, once."""
    return "wf_" + _digest("child", parent_id, str(frame))


def event_command_id(workflow_id: str, source: str, event_id: str) -> str:
    """Return the command id of one CloudEvent for one workflow (empty: for all)."""
    return "ev_" + _digest("event", workflow_id, source, event_id)


def relayed_event_command_id(source: str, event_id: str, partition: int) -> str:
    """Return the command id of an event for all who listen in one partition of the queue."""
    return "er_" + _digest("relayed-event", source, event_id, str(partition))


def cancel_child_command_id(child_id: str) -> str:
    """Return the id of the command that ends a child which nobody awaits any more."""
    return "cc_" + _digest("cancel-child", child_id)


def child_finished_command_id(child_id: str) -> str:
    """Return the id of the command that tells a parent of its child's end."""
    return "cf_" + _digest("child-finished", child_id)
