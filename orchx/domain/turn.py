"""One turn in the making: a private draft of the state, the events so far, the effects.

Nothing here is visible to anyone before the events are durable; a turn that could not be
appended is dropped, and with it the draft.
"""

from __future__ import annotations

from collections import deque

import msgspec

from orchx.domain import events as e
from orchx.domain import messages as m
from orchx.domain.children import request_of_child
from orchx.domain.document import Definition
from orchx.domain.environment import Environment
from orchx.domain.evolve import apply
from orchx.domain.faults import Fault
from orchx.domain.keys import execution_name, idempotency_key
from orchx.domain.state import ROOT, Frame, WorkflowState
from orchx.errors import Bug

# A turn that has made so much, or is out of time, ends; the owner goes on in another, so that an
# endless loop of instantaneous tasks can neither keep others waiting nor fill the memory.
MAX_EVENTS_PER_TURN = 2_000
MAX_BYTES_PER_TURN = 4 * 1_048_576


class Turn:
    """Collects what one decision changes.

    Attributes:
        state: the draft, equal to folding `events` onto the state given.
        events: what to append, in order.
        effects: what to do once the events are durable.
        unsettled: more can be decided at once, in another turn.
    """

    __slots__ = ("dirty", "effects", "env", "events", "known_bytes", "plan", "state", "unsettled")

    def __init__(self, state: WorkflowState, plan: Definition, env: Environment) -> None:
        self.state = state.copy()
        self.plan = plan
        self.env = env
        self.events: list[e.AnyEvent] = []
        self.known_bytes = state.bytes
        self.effects: list[m.Effect] = []
        self.dirty: deque[int] = deque()
        self.unsettled = False

    def record(self, event: e.AnyEvent) -> None:
        """Add an event and apply it to the draft."""
        apply(self.state, event, self.env.now_ms)
        self.events.append(event)

    @property
    def bytes(self) -> int:
        """How long the events of this turn are in their stored form."""
        return self.state.bytes - self.known_bytes

    @property
    def full(self) -> bool:
        """Whether this turn has to end here, and another to go on.

        However little time there is, a turn makes an event: else the next would stand where
        this one stood.
        """
        return (
            len(self.events) >= MAX_EVENTS_PER_TURN
            or self.bytes >= MAX_BYTES_PER_TURN
            or (bool(self.events) and self.env.out_of_time())
        )

    def look_at(self, frame_id: int) -> None:
        """Have a frame looked at before the turn ends."""
        self.dirty.append(frame_id)

    def execute(self, frame: Frame) -> None:
        """Have a pool run the call of this frame, now or again."""
        if frame.call is None:
            raise Bug(f"{frame.reference} is not a call")
        request = m.TaskRequest(
            workflow_id=self.state.workflow_id,
            frame=frame.id,
            key=self.key_of(frame),
            owner=self.env.owner,
            reference=frame.reference,
            call=frame.call,
            attempt=self.attempt_of(frame),
            priority=self.state.request.priority,
            deadline_at_ms=frame.timeout_at_ms,
            traceparent=self.env.traceparent,
        )
        self.effects.append(m.Execute(request=request))

    def attempt_of(self, frame: Frame) -> int:
        """Return which run of the innermost enclosing `try` this is, from 1."""
        while frame.id != ROOT:
            frame = self.state.frames[frame.parent]
            if frame.kind == "try" and frame.phase == "run":
                return frame.attempt
        return 1

    def start_child(self, frame: Frame) -> None:
        """Have the child workflow of this frame started, now or again."""
        if frame.child is None:
            raise Bug(f"{frame.reference} has no child workflow")
        child_request = request_of_child(
            self.state.request,
            self.state.workflow_id,
            frame.id,
            awaited=frame.child.awaited,
        )
        self.effects.append(
            m.StartChild(
                frame=frame.id,
                child=frame.child,
                request=child_request,
                traceparent=self.env.traceparent,
            )
        )

    def cancel_below(self, frame_id: int, reason: str, *, overdue: bool = False) -> None:
        """Cancel every running descendant of a frame, the innermost first.

        `overdue`: their time is up, which counts against the services that they call.
        """
        children = [f for f in self.state.frames.values() if f.parent == frame_id and f.id != ROOT]
        for child in children:
            self._cancel(child, reason, overdue=overdue)

    def _cancel(self, frame: Frame, reason: str, *, overdue: bool) -> None:
        if frame.kind != "call":
            self.cancel_below(frame.id, reason, overdue=overdue)
        self.record(
            e.TaskCancelled(
                frame=frame.id,
                reason=reason,
                service=frame.call.service if overdue and frame.call is not None else None,
                abandoned_child=self._abandon_child(frame),
            )
        )
        self._abandon(frame)

    def _abandon_child(self, frame: Frame) -> str | None:
        """Have the child cancelled that this frame awaits; returns its id, if there is one."""
        child = frame.child
        if child is None or not child.awaited or frame.outcome is not None:
            return None
        self.effects.append(
            m.CancelChild(
                workflow_id=child.workflow_id,
                parent_id=self.state.workflow_id,
                traceparent=self.env.traceparent,
            )
        )
        return child.workflow_id

    def _abandon(self, frame: Frame) -> None:
        """Tell the pool that nobody waits for this frame's call any more."""
        if frame.call is not None:
            execution = execution_name(self.state.workflow_id, frame.id, self.key_of(frame))
            self.effects.append(m.Abandon(execution=execution, pool=frame.call.pool))

    def key_of(self, frame: Frame) -> str:
        """Return the idempotency key of a frame's call."""
        return idempotency_key(self.state.workflow_id, frame.reference, frame.iteration)

    def fault(self, frame: Frame, fault: Fault, *, service: str | None = None) -> None:
        """End a frame with an error, which its parent then handles."""
        if fault.instance is None:
            fault = msgspec.structs.replace(fault, instance=frame.reference)
        if frame.kind != "call":
            self.cancel_below(frame.id, "the task it belongs to faulted")
        self.record(
            e.TaskFaulted(
                parent=frame.parent,
                reference=frame.reference,
                frame=frame.id,
                error=fault,
                duration_ms=self.env.now_ms - frame.started_at_ms,
                service=service,
                abandoned_child=self._abandon_child(frame),
            )
        )
        self.look_at(frame.parent)

    def time_out(self, frame: Frame, fault: Fault) -> None:
        """End a frame whose time is up, and whatever is under way in it."""
        self.cancel_below(frame.id, "the task it belongs to took too long", overdue=True)
        self._abandon(frame)
        self.fault(frame, fault, service=frame.call.service if frame.call is not None else None)

    def finish(self) -> None:
        """Announce that the workflow is over (its terminal event is recorded)."""
        state = self.state
        if state.status == "new" or state.status == "running":
            raise Bug(f"{state.workflow_id} is not over but {state.status}")
        self.dirty.clear()
        self.effects.append(
            m.Finish(
                workflow_id=state.workflow_id,
                status=state.status,
                output=state.output,
                error=state.error,
                request=state.request,
            )
        )
