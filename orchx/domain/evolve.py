"""evolve(state, event) -> state: the one transition table of a workflow.

Each handler says what one event changes, from the event alone: no clock, no random, no
expression, no document. `fold` is evolve over a history; an owner, a projection, the
simulator and a replay all use this table and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from orchx.domain import events as e
from orchx.domain.faults import did_not_act
from orchx.domain.json_values import JSON
from orchx.domain.state import (
    CERTAIN_WEIGHT,
    ROOT,
    UNKNOWN_WEIGHT,
    Frame,
    KeptEvent,
    Status,
    WorkflowState,
    call_site,
)

replace = msgspec.structs.replace
UNSET = msgspec.UNSET


def evolve(state: WorkflowState, event: e.AnyEvent, at_ms: int) -> WorkflowState:
    """Return the state after an event; the one given is left as it was.

    Args:
        state: the state before.
        event: an accepted event (see `lineage` for which are).
        at_ms: when it was recorded, in epoch milliseconds.
    """
    after = state.copy()
    apply(after, event, at_ms)
    return after


def fold(workflow_id: str, history: Iterable[tuple[e.AnyEvent, int]]) -> WorkflowState:
    """Return the state after accepted events, given with their times."""
    state = WorkflowState(workflow_id)
    for event, at_ms in history:
        apply(state, event, at_ms)
    return state


def apply(state: WorkflowState, event: e.AnyEvent, at_ms: int) -> None:
    """Change `state` in place: for a fold, or a draft that nobody else sees."""
    state.events += 1
    state.bytes += len(e.encode_event(event))
    state.passivated = False
    _TRANSITIONS[type(event)](state, event, at_ms)


def branch_of(fork_reference: str, reference: str) -> int:
    """Return the index of the branch that `reference` names: `/do/0/f/fork/branches/2/b` -> 2."""
    return int(reference[len(fork_reference) + len("/fork/branches/") :].split("/", 1)[0])


def iteration_of_child(parent: Frame, reference: str) -> str:
    """Return the iteration of a child started now: loop indexes and revisits on the way.

    A revisit carries the level of the task that was visited again: the second visit of an
    outer block and that of an inner one must not look the same.
    """
    iteration = parent.iteration
    if parent.index >= 0:
        iteration += f".{parent.index}"
    visits = parent.visits.get(reference)
    return f"{iteration}~{visits}@{reference.count('/')}" if visits else iteration


def _workflow_activated(state: WorkflowState, event: e.WorkflowActivated, at_ms: int) -> None:
    """Change nothing but what every event does: the workflow is not passive any more."""


def _workflow_started(state: WorkflowState, event: e.WorkflowStarted, at_ms: int) -> None:
    data = event.input if event.data is UNSET else event.data
    state.status = "running"
    state.definition = event.definition
    state.request = event.request
    state.input = event.input
    state.context = data
    state.started_at_ms = at_ms
    state.commands.add(state.workflow_id)
    state.frames[ROOT] = Frame(
        id=ROOT,
        parent=ROOT,
        reference="",
        kind="root",
        raw=data,
        input=data,
        data=data,
        started_at_ms=at_ms,
        timeout_at_ms=event.timeout_at_ms,
        raised=event.error,
    )


def _task_started(state: WorkflowState, event: e.TaskStarted, at_ms: int) -> None:
    parent = state.frames[event.parent]
    fork = parent.kind == "fork"
    state.task = event.reference
    state.children += event.child is not None
    raw = parent.input if fork else parent.data
    task_input = raw if event.input is UNSET else event.input
    state.frames[event.frame] = Frame(
        id=event.frame,
        parent=event.parent,
        reference=event.reference,
        kind=event.kind,
        iteration=event.iteration,
        raw=raw,
        input=task_input,
        data=task_input,
        started_at_ms=at_ms,
        timeout_at_ms=event.timeout_at_ms,
        due_at_ms=event.due_at_ms,
        items=event.items,
        names=event.variables,
        call=event.call,
        child=event.child,
    )
    state.next_frame = max(state.next_frame, event.frame + 1)
    begun = parent.begun
    if fork:
        begun |= {branch_of(parent.reference, event.reference)}
    state.frames[event.parent] = replace(parent, active=parent.active + 1, begun=begun)


def _decision_made(state: WorkflowState, event: e.DecisionMade, at_ms: int) -> None:
    """Change nothing: a decision matters to the learner; the call it led to names the service."""


def _child_ended(
    state: WorkflowState, parent_id: int, reference: str, frame_id: int, output: JSON, then: str
) -> None:
    """Let a parent know that a child is over and what flows on."""
    if frame_id:
        del state.frames[frame_id]
    parent = state.frames[parent_id]
    active = parent.active - 1 if frame_id else parent.active
    if parent.kind == "fork":
        branch = branch_of(parent.reference, reference)
        first_end = then == "end" and parent.then != "end"
        state.frames[parent_id] = replace(
            parent,
            active=active,
            begun=parent.begun | {branch},
            results={**parent.results, branch: output},
            then="end" if first_end else parent.then,
            data=output if first_end else parent.data,
        )
        return
    visits = {**parent.visits, reference: parent.visits.get(reference, 0) + 1}
    state.frames[parent_id] = replace(
        parent, active=active, last=reference, then=then, data=output, visits=visits
    )


def _raw_input_of_child(state: WorkflowState, parent_id: int, frame_id: int) -> JSON:
    if frame_id:
        return state.frames[frame_id].raw
    parent = state.frames[parent_id]
    return parent.input if parent.kind == "fork" else parent.data


def _task_completed(state: WorkflowState, event: e.TaskCompleted, at_ms: int) -> None:
    state.tasks_completed += 1
    if not event.frame:
        state.task = event.reference
    output = event.output
    if output is UNSET:
        output = _raw_input_of_child(state, event.parent, event.frame)
    if event.context is not UNSET:
        state.context = event.context
    if event.frame and state.failures:
        frame = state.frames[event.frame]
        state.failures.pop(call_site(frame.reference, frame.iteration), None)
        _forget_failures_below(state, frame.reference)
    _child_ended(state, event.parent, event.reference, event.frame, output, event.then)


def _task_skipped(state: WorkflowState, event: e.TaskSkipped, at_ms: int) -> None:
    output = _raw_input_of_child(state, event.parent, 0)
    _child_ended(state, event.parent, event.reference, 0, output, "continue")
    parent = state.frames[event.parent]
    if parent.kind == "fork":
        skipped = parent.skipped | {branch_of(parent.reference, event.reference)}
        state.frames[event.parent] = replace(parent, skipped=skipped)


def _task_faulted(state: WorkflowState, event: e.TaskFaulted, at_ms: int) -> None:
    parent = state.frames[event.parent]
    active = parent.active
    state.tasks_faulted += 1
    if not event.frame:
        state.task = event.reference
    if event.frame:
        frame = state.frames.pop(event.frame)
        active -= 1
        weight = CERTAIN_WEIGHT if did_not_act(event.error) else UNKNOWN_WEIGHT
        _count_failure(state, frame, event.service, weight)
    begun, faulted = parent.begun, parent.faulted
    if parent.kind == "fork":
        branch = branch_of(parent.reference, event.reference)
        begun |= {branch}
        faulted |= {branch}
    state.frames[event.parent] = replace(
        parent, active=active, raised=event.error, begun=begun, faulted=faulted
    )


def _count_failure(state: WorkflowState, frame: Frame, service: str | None, weight: int) -> None:
    """Count a failure of a service, one that left its effect unknown for less (ADR 0010).

    Where no `try` may make the calls of the frame again, nothing is counted, nor kept.
    """
    if not _may_run_again(state, frame):
        _forget_failures_below(state, frame.reference)
    elif service is not None:
        site = call_site(frame.reference, frame.iteration)
        counts = state.failures.get(site, {})
        state.failures[site] = {**counts, service: counts.get(service, 0) + weight}


def _may_run_again(state: WorkflowState, frame: Frame) -> bool:
    """Return whether a frame is in the block of a `try`, however deep."""
    while frame.id != ROOT:
        frame = state.frames[frame.parent]
        if frame.kind == "try" and frame.phase == "run":
            return True
    return False


def _forget_failures_below(state: WorkflowState, reference: str) -> None:
    """Drop what was counted for the calls in a task that is over."""
    if state.failures:
        below = f"{reference}/"
        state.failures = {k: v for k, v in state.failures.items() if not k.startswith(below)}


def _task_cancelled(state: WorkflowState, event: e.TaskCancelled, at_ms: int) -> None:
    frame = state.frames.pop(event.frame)
    _count_failure(state, frame, event.service, UNKNOWN_WEIGHT)
    parent = state.frames.get(frame.parent)
    if parent is not None:
        state.frames[frame.parent] = replace(parent, active=parent.active - 1)


def _task_retried(state: WorkflowState, event: e.TaskRetried, at_ms: int) -> None:
    state.retries += 1
    frame = state.frames[event.frame]
    state.frames[event.frame] = replace(
        frame, phase="backoff", attempt=event.attempt, due_at_ms=event.due_at_ms, raised=None
    )


def _task_resumed(state: WorkflowState, event: e.TaskResumed, at_ms: int) -> None:
    frame = state.frames[event.frame]
    state.frames[event.frame] = replace(
        frame,
        phase="run",
        attempt=event.attempt,
        due_at_ms=event.due_at_ms,
        last=None,
        then="continue",
        data=frame.input,
        visits={},
    )


def _error_caught(state: WorkflowState, event: e.ErrorCaught, at_ms: int) -> None:
    frame = state.frames[event.frame]
    state.frames[event.frame] = replace(
        frame,
        phase="catch",
        raised=None,
        due_at_ms=None,
        last=None,
        then="continue",
        data=frame.input,
        visits={},
        variables={**frame.variables, event.variable: event.error.as_json()},
    )


def _iteration_started(state: WorkflowState, event: e.IterationStarted, at_ms: int) -> None:
    frame = state.frames[event.frame]
    names, items = frame.names or {}, frame.items or []
    state.frames[event.frame] = replace(
        frame,
        index=event.index,
        last=None,
        then="continue",
        visits={},
        variables={names["item"]: items[event.index], names["index"]: event.index},
    )


def _correlation_started(state: WorkflowState, event: e.CorrelationStarted, at_ms: int) -> None:
    """Change nothing: the frame is there since its task began; routers read this event."""


def _event_received(state: WorkflowState, event: e.EventReceived, at_ms: int) -> None:
    state.commands.add(event.command_id)
    kept = KeptEvent(command_id=event.command_id, event=event.event, broadcast=event.broadcast)
    state.inbox = (*state.inbox, kept)


def _events_dropped(state: WorkflowState, event: e.EventsDropped, at_ms: int) -> None:
    dropped = set(event.command_ids)
    state.inbox = tuple(kept for kept in state.inbox if kept.command_id not in dropped)


def _event_consumed(state: WorkflowState, event: e.EventConsumed, at_ms: int) -> None:
    frame = state.frames[event.frame]
    state.inbox = tuple(kept for kept in state.inbox if kept.command_id != event.event_id)
    state.frames[event.frame] = replace(
        frame,
        consumed=(*frame.consumed, (event.filter, event.value)),
        correlations={**frame.correlations, **event.correlations},
    )


def _event_emitted(state: WorkflowState, event: e.EventEmitted, at_ms: int) -> None:
    """Change nothing: an emitted event is for others."""


def _command_refused(state: WorkflowState, event: e.CommandRefused, at_ms: int) -> None:
    state.commands.add(event.command_id)


def _cancel_requested(state: WorkflowState, event: e.CancelRequested, at_ms: int) -> None:
    state.commands.add(event.command_id)
    state.cancel_reason = event.reason


def _child_finished(state: WorkflowState, event: e.ChildFinished, at_ms: int) -> None:
    state.commands.add(event.command_id)
    frame = state.frames.get(event.frame)
    if frame is not None:
        state.frames[event.frame] = replace(frame, outcome=(event.output, event.error))


def _workflow_passivated(state: WorkflowState, event: e.WorkflowPassivated, at_ms: int) -> None:
    state.passivated = True


def _workflow_completed(state: WorkflowState, event: e.WorkflowCompleted, at_ms: int) -> None:
    state.output = event.output
    _end(state, "completed", at_ms)


def _workflow_faulted(state: WorkflowState, event: e.WorkflowFaulted, at_ms: int) -> None:
    state.error = event.error
    _end(state, "faulted", at_ms)


def _workflow_cancelled(state: WorkflowState, event: e.WorkflowCancelled, at_ms: int) -> None:
    _end(state, "cancelled", at_ms)


def _end(state: WorkflowState, status: Status, at_ms: int) -> None:
    state.status = status
    state.ended_at_ms = at_ms
    state.frames = {}
    state.inbox = ()
    state.failures = {}


_Transition = Callable[[WorkflowState, Any, int], None]

_TRANSITIONS: dict[type, _Transition] = {
    e.WorkflowActivated: _workflow_activated,
    e.WorkflowStarted: _workflow_started,
    e.TaskStarted: _task_started,
    e.DecisionMade: _decision_made,
    e.TaskCompleted: _task_completed,
    e.TaskSkipped: _task_skipped,
    e.TaskFaulted: _task_faulted,
    e.TaskCancelled: _task_cancelled,
    e.TaskRetried: _task_retried,
    e.TaskResumed: _task_resumed,
    e.ErrorCaught: _error_caught,
    e.IterationStarted: _iteration_started,
    e.CorrelationStarted: _correlation_started,
    e.EventReceived: _event_received,
    e.EventsDropped: _events_dropped,
    e.EventConsumed: _event_consumed,
    e.EventEmitted: _event_emitted,
    e.CommandRefused: _command_refused,
    e.CancelRequested: _cancel_requested,
    e.ChildFinished: _child_finished,
    e.WorkflowPassivated: _workflow_passivated,
    e.WorkflowCompleted: _workflow_completed,
    e.WorkflowFaulted: _workflow_faulted,
    e.WorkflowCancelled: _workflow_cancelled,
}
