"""What workflows cause in others, read off the log: the net behind an owner's own effects.

An owner that dies between an append and its effect leaves a child unstarted or not
cancelled, a parent untold, an event unpublished. The projector sees every record, and hands
what follows from it to the command queue, whose ids make a second time harmless.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from orchx.domain import messages as m
from orchx.domain.children import request_of_child
from orchx.domain.events import (
    ChildDetails,
    EventEmitted,
    ParentRef,
    Record,
    Request,
    TaskCancelled,
    TaskFaulted,
    TaskStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFaulted,
    WorkflowStarted,
)
from orchx.domain.keys import child_finished_command_id
from orchx.domain.lineage import AcceptedRecords
from orchx.engine.effects import cancel_command, start_command
from orchx.engine.routing import Resolver, broadcast_command, put_known
from orchx.ports.clock import Clock
from orchx.ports.command_queue import CommandQueue
from orchx.ports.event_log import EventLog

MAX_REQUESTS = 20_000
CLOCKS_APART_MS = 60_000
"""How far the clocks of an owner and of who queues its commands may be from each other."""


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
        self._heard_before_ms: int | None = None

    async def observe(self, records: Sequence[Record]) -> None:
        """Queue what these records cause; raises what the queue raises.

        A projection that is made anew has old records observed again. What they caused was
        done and may be forgotten: queued again, it would be done again.
        """
        if self._heard_before_ms is None:
            pruned_ms = await self._queue.pruned_before_ms()
            self._heard_before_ms = pruned_ms and pruned_ms + CLOCKS_APART_MS
        commands: list[m.AnyCommand] = []
        for record in records:
            if record.at_ms < self._heard_before_ms:
                continue
            command = await self._caused_by(record, commands)
            if command is not None:
                commands.append(command)
        if commands:
            self._sink.offer(await put_known(self._queue, commands))

    async def _caused_by(
        self, record: Record, before: Sequence[m.AnyCommand]
    ) -> m.AnyCommand | None:
        """Return what a record causes; `before` is what will be queued with it."""
        event = record.event
        if isinstance(event, WorkflowStarted):
            self._remember(record.workflow_id, event.request)
        elif isinstance(event, EventEmitted):
            return broadcast_command(event.event, record.at_ms)
        elif isinstance(event, TaskStarted) and event.child is not None:
            return await self._start_of(record, event.frame, event.child)
        elif isinstance(event, TaskCancelled | TaskFaulted) and event.abandoned_child is not None:
            return await self._end_of(record, event.abandoned_child, before)
        elif isinstance(event, WorkflowCompleted | WorkflowFaulted | WorkflowCancelled):
            request = await self._request_of(record.workflow_id)
            self._requests.pop(record.workflow_id, None)
            if request.parent is not None:
                return _news(record, event, request.parent)
        return None

    async def _start_of(
        self, record: Record, frame: int, child: ChildDetails
    ) -> m.AnyCommand | None:
        """Return the command that starts a child, or the news that it cannot be started."""
        request = request_of_child(
            await self._request_of(record.workflow_id),
            record.workflow_id,
            frame,
            awaited=child.awaited,
        )
        effect = m.StartChild(
            frame=frame, child=child, request=request, traceparent=record.traceparent
        )
        return await self._resolver.resolve(start_command(effect, record.at_ms))

    async def _end_of(
        self, record: Record, child_id: str, before: Sequence[m.AnyCommand]
    ) -> m.AnyCommand | None:
        """Return the command that cancels a child; None for one that was never started."""
        effect = m.CancelChild(
            workflow_id=child_id, parent_id=record.workflow_id, traceparent=record.traceparent
        )
        command = cancel_command(effect, record.at_ms)
        if any(started.id == child_id for started in before):
            return command
        return await self._resolver.resolve(command)

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
