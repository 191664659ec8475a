"""A live workflow, as its owner holds it in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from orchx.domain.events import AnyEvent, Record
from orchx.domain.messages import Message
from orchx.domain.state import WorkflowState
from orchx.engine.plans import Plan


class Live:
    """One workflow in an owner's memory.

    `state` is what the durable records say; `seq` numbers the last record made in this
    epoch; `busy` while it waits for its turn or its events for the disk; `taken` are the
    messages of the turns under way; `away` if its turns are made in a thread.
    """

    __slots__ = (
        "away",
        "busy",
        "epoch",
        "mailbox",
        "plan",
        "seq",
        "state",
        "taken",
        "timer",
        "timer_due_ms",
        "touched_ms",
        "traceparent",
        "watched",
        "workflow_id",
    )

    def __init__(
        self,
        state: WorkflowState,
        plan: Plan,
        *,
        epoch: int,
        seq: int,
        traceparent: str | None,
    ) -> None:
        self.workflow_id = state.workflow_id
        self.state = state
        self.plan = plan
        self.epoch = epoch
        self.seq = seq
        self.traceparent = traceparent
        self.mailbox: deque[Message] = deque()
        self.taken: list[Message] = []
        self.away = plan.definition.needs_sandbox
        self.busy = False
        self.watched = False
        self.touched_ms = 0
        self.timer: asyncio.TimerHandle | None = None
        self.timer_due_ms: int | None = None

    def records(self, events: Iterable[AnyEvent], at_ms: int, owner: str) -> Sequence[Record]:
        """Return the next records of this epoch for `events`."""
        made = []
        for event in events:
            self.seq += 1
            made.append(
                Record(
                    workflow_id=self.workflow_id,
                    epoch=self.epoch,
                    owner=owner,
                    seq=self.seq,
                    at_ms=at_ms,
                    event=event,
                    traceparent=self.traceparent,
                )
            )
        return made
