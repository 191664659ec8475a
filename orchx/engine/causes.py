"""What workflows cause in others, read off the log: the net behind an owner's own effects.

An owner that dies between an append and its effect leaves a child unstarted, a parent
untold, an event unpublished. The projector sees every record, and hands what follows
from it to the command queue, whose ids make a second time harmless.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from orchx.domain import messages as m
from orchx.domain.children import request_of_child
from orchx.domain.events import (
    EventEmitted,
    ParentRef,
    Record,
    Request,
    TaskStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFaulted,
    WorkflowStarted,
)
from orchx.domain.keys import child_finished_command_id
from orchx.domain.lineage import AcceptedRecords
from orchx.engine.effects import start_command
from orchx.engine.routing import Resolver, broadcast_command, put_known
from orchx.ports.clock import Clock
from orchx.ports.command_queue import CommandQueue
from orchx.ports.event_log import EventLog

MAX_REQUESTS = 20_000


class CommandSink(Protocol):
    """Told of commands that are durable: the Dispatcher, which may be away."""

    def offer(self, commands: Sequence[m.AnyCommand]) -> None:
        """Hand commands over; may be lost, the queue has them."""
        ...


class Causes:
    """A `LogObserver` that queues what records cause."""

    def __init__(
        self,
        *,
        log: EventLog,
        queue: CommandQueue,
        resolver: Resolver,
        sink: CommandSink,
        clock: Clock,
    ) -> None:
        self._log = log
        self._queue = queue
        self._resolver = resolver
        self._sink = sink
        self._clock = clock
        self._requests: OrderedDict[str, Request] = OrderedDict()

    async def observe(self, records: Sequence[Record]) -> None:
        """Queue what these records cause; raises what the queue raises."""
        commands: list[m.AnyCommand] = []
        for record in records:
            event = record.event
            if isinstance(event, WorkflowStarted):
                self._remember(record.workflow_id, event.request)
            elif isinstance(event, EventEmitted):
                commands.append(broadcast_command(event.event, record.at_ms))
            elif isinstance(event, TaskStarted) and event.child is not None:
                request = request_of_child(
                    await self._request_of(record.workflow_id),
                    record.workflow_id,
                    event.frame,
                    awaited=event.child.awaited,
                )
                effect = m.StartChild(
                    frame=event.frame,
                    child=event.child,
                    request=request,
                    traceparent=record.traceparent,
                )
                resolved = await self._resolver.resolve(start_command(effect, record.at_ms))
                if resolved is not None:
                    commands.append(resolved)
            elif isinstance(event, WorkflowCompleted | WorkflowFaulted | WorkflowCancelled):
                request = await self._request_of(record.workflow_id)
                self._requests.pop(record.workflow_id, None)
                if request.parent is not None:
                    commands.append(_news(record, event, request.parent))
        if commands:
            self._sink.offer(await put_known(self._queue, commands))

    def _remember(self, workflow_id: str, request: Request) -> None:
        self._requests[workflow_id] = request
        if len(self._requests) > MAX_REQUESTS:
            self._requests.popitem(last=False)

    async def _request_of(self, workflow_id: str) -> Request:
        """Return what was asked for: from memory, or from the beginning of the log."""
        known = self._requests.get(workflow_id)
        if known is not None:
            return known
        history = await self._log.read(workflow_id)
        for record in AcceptedRecords().of(history):
            if isinstance(record.event, WorkflowStarted):
                self._remember(workflow_id, record.event.request)
                return record.event.request
        return Request()


def _news(
    record: Record,
    event: WorkflowCompleted | WorkflowFaulted | WorkflowCancelled,
    parent: ParentRef,
) -> m.FinishChild:
    error = m.CHILD_CANCELLED if isinstance(event, WorkflowCancelled) else None
    return m.FinishChild(
        id=child_finished_command_id(record.workflow_id),
        workflow_id=parent.workflow_id,
        created_at_ms=record.at_ms,
        frame=parent.frame,
        output=event.output if isinstance(event, WorkflowCompleted) else None,
        error=event.error if isinstance(event, WorkflowFaulted) else error,
    )
