"""What every kind of task shares: how its beginning and its end are recorded."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from orchx.domain import document as d
from orchx.domain import events as e
from orchx.domain import messages as m
from orchx.domain.data_flow import Scope, task_output
from orchx.domain.evolve import iteration_of_child
from orchx.domain.faults import WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.state import Frame
from orchx.domain.turn import Turn
from orchx.domain.value_limits import checked

UNSET: Final = msgspec.UNSET
_GIVEN: Final = ("call", "fork", "listen", "run")  # tasks whose raw output has not been checked


def started(scope: Scope, task: d.Task, data: JSON, kind: str, **details: Any) -> Frame:
    """Record that a task began and is under way; returns its frame."""
    turn = scope.turn
    timeout_at_ms = None
    if task.timeout is not None:
        timeout_at_ms = turn.env.now_ms + scope.duration_ms(task.timeout, data)
    frame_id = turn.state.next_frame
    turn.record(
        e.TaskStarted(
            frame=frame_id,
            parent=scope.parent.id,
            reference=task.reference,
            kind=kind,
            iteration=iteration_of_child(scope.parent, task.reference),
            input=UNSET if data is scope.raw else data,
            timeout_at_ms=timeout_at_ms,
            **details,
        )
    )
    turn.look_at(frame_id)
    return turn.state.frames[frame_id]


def done_at_once(
    scope: Scope,
    task: d.Task,
    raw_output: JSON,
    kind: str,
    *,
    then: str | None = None,
    emitted: dict[str, Any] | None = None,
) -> None:
    """Record that a task was over as soon as it began, and the event that it emitted."""
    output, context = task_output(scope, task, raw_output)
    if emitted is not None:
        scope.turn.record(e.EventEmitted(event=emitted))
        scope.turn.effects.append(m.Publish(event=emitted))
    scope.turn.record(
        e.TaskCompleted(
            parent=scope.parent.id,
            reference=task.reference,
            kind=kind,
            output=UNSET if output is scope.raw else output,
            context=context,
            then=then or task.then,
        )
    )


def scope_of(turn: Turn, frame: Frame) -> Scope:
    """Return the scope of a task that is under way."""
    task = turn.plan.tasks[frame.reference]
    scope = Scope(turn, turn.state.frames[frame.parent], task, frame.raw)
    scope.input = frame.input
    scope.started_at_ms = frame.started_at_ms
    return scope


def complete(
    turn: Turn,
    frame: Frame,
    raw_output: JSON,
    *,
    duration_ms: int | None = None,
    service: str | None = None,
) -> None:
    """End a task that was under way with its raw output."""
    task = turn.plan.tasks[frame.reference]
    try:
        if frame.kind in _GIVEN:
            checked(raw_output)
        output, context = task_output(scope_of(turn, frame), task, raw_output)
    except WorkflowFault as fault:
        turn.fault(frame, fault.fault)
        return
    turn.record(
        e.TaskCompleted(
            parent=frame.parent,
            reference=frame.reference,
            frame=frame.id,
            kind=frame.kind,
            output=UNSET if output is frame.raw else output,
            context=context,
            then=task.then,
            duration_ms=duration_ms,
            service=service,
        )
    )
    turn.look_at(frame.parent)


def end_from(turn: Turn, frame: Frame, data: JSON) -> None:
    """End a block by the `end` of a task in it: `data` goes up to the workflow as it is."""
    turn.cancel_below(frame.id, "the workflow is ending")
    turn.record(
        e.TaskCompleted(
            parent=frame.parent,
            reference=frame.reference,
            frame=frame.id,
            kind=frame.kind,
            output=UNSET if data is frame.raw else data,
            then="end",
        )
    )
    turn.look_at(frame.parent)
