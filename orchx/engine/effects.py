"""Runs the effects of durable turns: batches for pools, news for the Dispatcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from orchx.domain import messages as m
from orchx.domain.events import ChildDetails, ParentRef
from orchx.domain.keys import cancel_child_command_id, child_finished_command_id
from orchx.engine.outbox import Outbox
from orchx.ports.clock import Clock
from orchx.ports.supervision import Ending
from orchx.ports.task_pool import TaskPoolLink

# What a StartWorkflow carries until the Dispatcher has looked the definition up.
UNRESOLVED = ""


class EffectRunner:
    """Sends what turns cause; calls of one loop turn go to a pool as one batch."""

    def __init__(self, pools: Mapping[str, TaskPoolLink], outbox: Outbox, clock: Clock) -> None:
        self._pools = pools
        self._outbox = outbox
        self._clock = clock
        self._calls: dict[str, list[m.TaskRequest]] = {}
        self._abandoned: dict[str, list[str]] = {}
        self._planned = False

    def run(self, effects: Sequence[m.Effect], ending: Callable[[], Ending]) -> None:
        """Run effects; those for pools leave at the end of this loop turn.

        `ending` makes the news of the workflow's end, if it has come to that.
        """
        for effect in effects:
            if isinstance(effect, m.Execute):
                self._calls.setdefault(effect.request.call.pool, []).append(effect.request)
                self._plan()
            elif isinstance(effect, m.Abandon):
                self._abandoned.setdefault(effect.pool, []).append(effect.execution)
                self._plan()
            elif isinstance(effect, m.StartChild):
                self._outbox.command(start_command(effect, self._clock.now_ms()))
            elif isinstance(effect, m.CancelChild):
                self._outbox.command(cancel_command(effect, self._clock.now_ms()))
            elif isinstance(effect, m.Publish):
                self._outbox.published(effect.event)
            else:
                self._outbox.ended(ending())
                if effect.request.parent is not None:
                    now_ms = self._clock.now_ms()
                    self._outbox.command(finish_command(effect, effect.request.parent, now_ms))

    def _plan(self) -> None:
        if not self._planned:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._planned = False
        calls, self._calls = self._calls, {}
        abandoned, self._abandoned = self._abandoned, {}
        for pool, requests in calls.items():
            self._pools[pool].submit(requests)
        for pool, executions in abandoned.items():
            self._pools[pool].abandon(executions)


def start_command(effect: m.StartChild, now_ms: int) -> m.StartWorkflow:
    """Return the command that starts a child; the Dispatcher fills in the digest."""
    child: ChildDetails = effect.child
    return m.StartWorkflow(
        id=child.workflow_id,
        workflow_id=child.workflow_id,
        created_at_ms=now_ms,
        traceparent=effect.traceparent,
        namespace=child.namespace,
        name=child.name,
        version=child.version,
        digest=UNRESOLVED,
        input=child.input,
        request=effect.request,
    )


def cancel_command(effect: m.CancelChild, now_ms: int) -> m.CancelWorkflow:
    """Return the command that ends a child which nobody awaits any more."""
    return m.CancelWorkflow(
        id=cancel_child_command_id(effect.workflow_id),
        workflow_id=effect.workflow_id,
        created_at_ms=now_ms,
        traceparent=effect.traceparent,
        reason=m.CHILD_ABANDONED,
        by=effect.parent_id,
    )


def finish_command(effect: m.Finish, parent: ParentRef, now_ms: int) -> m.FinishChild:
    """Return the command that tells a parent how its child ended."""
    error = effect.error
    if effect.status == "cancelled" and error is None:
        error = m.CHILD_CANCELLED
    return m.FinishChild(
        id=child_finished_command_id(effect.workflow_id),
        workflow_id=parent.workflow_id,
        created_at_ms=now_ms,
        frame=parent.frame,
        output=effect.output,
        error=error,
    )
