"""What reaches a workflow's mailbox, and what a workflow sends out.

Commands come through the durable queue and carry an id, by which the fold recognises
one that it has seen. Outcomes and timers may be lost or doubled: they are asked for again.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import msgspec

from orchx.domain.events import Callback, CallDetails, ChildDetails, Request
from orchx.domain.faults import RUNTIME, Fault
from orchx.domain.json_values import JSON
from orchx.domain.keys import execution_name


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """The root of all commands. `id` is unique for ever; `workflow_id` says whose it is.

    `created_at_ms` is when it was accepted, `traceparent` the trace that it belongs to.
    """

    id: str
    workflow_id: str
    created_at_ms: int
    traceparent: str | None = None


class StartWorkflow(Command, frozen=True, tag="start"):
    """Start a workflow of the definition with this digest. `id` equals `workflow_id`."""

    namespace: str
    name: str
    version: str
    digest: str
    input: JSON
    request: Request


class DeliverEvent(Command, frozen=True, tag="event"):
    """Hand a CloudEvent to one workflow; with `workflow_id` empty, to all that listen for it.

    `broadcast`: it was sent to all, of whom this workflow is one. `partition`: it was sent to
    all, and is handed on to those whose commands are in this partition of the queue.
    """

    event: dict[str, Any]
    broadcast: bool = False
    partition: int | None = None


class CancelWorkflow(Command, frozen=True, tag="cancel"):
    """End a workflow."""

    reason: str = ""
    by: str = ""


class FinishChild(Command, frozen=True, tag="child-finished"):
    """Tell a parent how its child ended."""

    frame: int
    output: JSON = None
    error: Fault | None = None


AnyCommand: TypeAlias = StartWorkflow | DeliverEvent | CancelWorkflow | FinishChild


def content_of(command: AnyCommand) -> AnyCommand:
    """Return what tells a repetition of a command from another use of its id.

    When it came does not, nor by which way an event came to this workflow.
    """
    content = msgspec.structs.replace(command, created_at_ms=0, traceparent=None)
    if isinstance(content, DeliverEvent) and content.broadcast:
        return msgspec.structs.replace(content, broadcast=False)
    return content


# What a child is told when the task that awaited it is over.
CHILD_ABANDONED: Final = "nobody awaits this child workflow any more"
# What a parent sees of a child that somebody cancelled.
CHILD_CANCELLED: Final = Fault(type=RUNTIME, status=500, title="Child workflow was cancelled")


class TaskOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a pool reports of one execution: an output, or an error.

    The error's `retry_after_ms` says when to come back, where the service asked for it.
    """

    workflow_id: str
    frame: int
    key: str = ""  # the idempotency key of the call; the pool fills it in
    output: JSON = None
    error: Fault | None = None
    duration_ms: int = 0
    service: str | None = None


class TimerFired(msgspec.Struct, frozen=True, kw_only=True):
    """Time has passed: whatever is due is decided."""


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """Look at everything: a new owner has taken the workflow up, or a turn was cut short.

    `again`: calls and children that were under way are started again (they know repeats).
    """

    again: bool = True


# What brings something new; `Resume` only has what is there looked at again.
News: TypeAlias = DeliverEvent | CancelWorkflow | FinishChild | TaskOutcome | TimerFired
Message: TypeAlias = News | Resume


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One execution, as a pool gets it.

    `key` is the idempotency key: the same for every retry and every owner. `frame` is
    new for each retry, so that a pool may join a repeated dispatch of (`key`, `frame`).
    `owner` is the name to which the outcome is pushed; `deadline_at_ms` is when the
    engine stops waiting.
    """

    workflow_id: str
    frame: int
    key: str
    owner: str
    reference: str
    call: CallDetails
    attempt: int = 1
    priority: int = 5
    deadline_at_ms: int | None = None
    traceparent: str | None = None

    @property
    def execution(self) -> str:
        """Name this execution: unique for ever."""
        return execution_name(self.workflow_id, self.frame, self.key)


class Execute(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: have a pool run this."""

    request: TaskRequest

    @property
    def frame(self) -> int:
        """The frame of the call."""
        return self.request.frame


class Abandon(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: nobody waits for this execution any more; a pool may stop it."""

    execution: str
    pool: str


class StartChild(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: start a child workflow (idempotent: its id is derived)."""

    frame: int
    child: ChildDetails
    request: Request
    traceparent: str | None = None


class CancelChild(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: end a child workflow that nobody awaits any more (idempotent: its id is derived)."""

    workflow_id: str
    parent_id: str
    traceparent: str | None = None


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: an event was emitted; whoever listens gets it."""

    event: dict[str, Any]


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """Effect: the workflow is over; supervisors and a waiting parent are told."""

    workflow_id: str
    status: Literal["completed", "faulted", "cancelled"]
    output: JSON = None
    error: Fault | None = None
    request: Request


Effect: TypeAlias = Execute | Abandon | StartChild | CancelChild | Publish | Finish

__all__ = [
    "Abandon",
    "AnyCommand",
    "Callback",
    "CancelChild",
    "CancelWorkflow",
    "Command",
    "DeliverEvent",
    "Effect",
    "Execute",
    "Finish",
    "FinishChild",
    "Message",
    "News",
    "Publish",
    "Resume",
    "StartChild",
    "StartWorkflow",
    "TaskOutcome",
    "TaskRequest",
    "TimerFired",
    "content_of",
]
