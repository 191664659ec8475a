"""Listening: which events are kept, who takes them, and which nobody wants.

An event that was sent to this workflow is kept until a task takes it. One that was sent to
all came because a task listens for its type, or did: if those that listen for it now do not
want it, it is not kept. Otherwise the events of others would crowd out the workflow's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orchx.domain import document as d
from orchx.domain import events as e
from orchx.domain import messages as m
from orchx.domain.data_flow import Scope
from orchx.domain.decide_steps import complete, scope_of, started
from orchx.domain.expressions import Expression
from orchx.domain.faults import Fault, WorkflowFault
from orchx.domain.json_values import JSON
from orchx.domain.state import Frame
from orchx.domain.turn import Turn

MAX_INBOX = 1_000
NOT_WANTED = "no task that listens for its type wants it"
_ANYTHING = d.EventFilter(attributes={})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What the tasks that listen say of an event.

    `frame` takes it, by its filter number `filter`; or that filter failed on it, with `fault`.
    `asked`: at least one open filter is for events of its type.
    """

    asked: bool
    frame: Frame | None = None
    filter: int = 0
    correlations: dict[str, JSON] = field(default_factory=dict)
    fault: Fault | None = None


def begin_listen(scope: Scope, task: d.ListenTask, data: JSON) -> None:
    """Begin to listen: take what has been kept already, then wait for more."""
    frame = started(scope, task, data, "listen")
    scope.turn.record(e.CorrelationStarted(frame=frame.id, types=types_listened_for(task)))
    match_inbox(scope.turn)


def finish_listen(turn: Turn, frame: Frame) -> None:
    """End a `listen` that has consumed what it waited for."""
    task = turn.plan.task(frame.reference, d.ListenTask)
    if len(frame.consumed) >= _wanted(task):
        complete(turn, frame, [value for _, value in frame.consumed])


def types_listened_for(task: d.ListenTask) -> list[str]:
    """Return the event types that a task's filters can match; none: any."""
    types = {wanted.attributes.get("type") for wanted in task.filters}
    known = [kind for kind in types if isinstance(kind, str)]
    return sorted(known) if len(known) == len(types) else []


def receive(turn: Turn, message: m.DeliverEvent) -> None:
    """Keep an event and offer it, or refuse it; either is recorded."""
    answer = _ask(turn, message.event)
    if answer.frame is None:
        reason = None
        if message.broadcast and answer.asked:
            reason = NOT_WANTED
        elif len(turn.state.inbox) >= MAX_INBOX:
            reason = f"{MAX_INBOX} events wait to be consumed already"
        if reason is not None:
            turn.record(e.CommandRefused(command_id=message.id, reason=reason))
            return
    turn.record(
        e.EventReceived(command_id=message.id, event=message.event, broadcast=message.broadcast)
    )
    match_inbox(turn)


def match_inbox(turn: Turn) -> None:
    """Offer every kept event to every listening task, the oldest of each first."""
    for kept in turn.state.inbox:
        answer = _ask(turn, kept.event)
        while answer.frame is not None and answer.fault is not None:
            turn.fault(answer.frame, answer.fault)
            answer = _ask(turn, kept.event)
        if answer.frame is not None:
            _take(turn, answer.frame, answer, kept.command_id, kept.event)


def drop_unwanted(turn: Turn) -> None:
    """Drop kept events for all that those who listen for their type now do not want.

    Not before the turn is settled: of two tasks that begin together, the second may want one.
    """
    unwanted = [
        kept.command_id
        for kept in turn.state.inbox
        if kept.broadcast and (answer := _ask(turn, kept.event)).asked and answer.frame is None
    ]
    if unwanted:
        turn.record(e.EventsDropped(command_ids=unwanted))


def _wanted(task: d.ListenTask) -> int:
    return len(task.filters) if task.mode == "all" else 1


def _open_filters(turn: Turn) -> Iterator[tuple[Frame, int, d.EventFilter]]:
    """Yield the filters that have not taken an event yet, those of the oldest task first."""
    listening = [frame for frame in turn.state.frames.values() if frame.kind == "listen"]
    for frame in sorted(listening, key=lambda f: f.id):
        task = turn.plan.task(frame.reference, d.ListenTask)
        if len(frame.consumed) >= _wanted(task):
            continue
        taken = {index for index, _ in frame.consumed} if task.mode == "all" else ()
        for index, wanted in enumerate(task.filters or (_ANYTHING,)):
            if index not in taken:
                yield frame, index, wanted


def _ask(turn: Turn, event: dict[str, Any]) -> _Answer:
    """Return who takes an event; changes nothing."""
    asked = False
    for frame, index, wanted in _open_filters(turn):
        scope = scope_of(turn, frame)
        try:
            kind = wanted.attributes.get("type")
            if kind is not None and not _holds(scope, kind, event.get("type")):
                continue
            asked = True
            correlations = _match(scope, frame, wanted, event)
        except WorkflowFault as fault:
            return _Answer(asked=True, frame=frame, fault=fault.fault)
        if correlations is not None:
            return _Answer(asked=True, frame=frame, filter=index, correlations=correlations)
    return _Answer(asked=asked)


def _take(
    turn: Turn, frame: Frame, answer: _Answer, command_id: str, event: dict[str, Any]
) -> None:
    task = turn.plan.task(frame.reference, d.ListenTask)
    turn.record(
        e.EventConsumed(
            frame=frame.id,
            filter=answer.filter,
            event_id=command_id,
            value=event.get("data") if task.read == "data" else event,
            correlations=answer.correlations,
        )
    )
    turn.look_at(frame.id)


def _holds(scope: Scope, expected: Any, found: JSON) -> bool:
    """Return whether an attribute is as a filter wants it."""
    if isinstance(expected, Expression):
        return scope.holds(expected, found)
    return bool(expected == found)


def _match(
    scope: Scope, frame: Frame, wanted: d.EventFilter, event: dict[str, Any]
) -> dict[str, JSON] | None:
    """Return the correlation values if an event of the right type matches, else None."""
    for name, expected in wanted.attributes.items():
        if name != "type" and not _holds(scope, expected, event.get(name)):
            return None
    data = event.get("data")
    if isinstance(wanted.data, Expression):
        if not scope.holds(wanted.data, data):
            return None
    elif wanted.data is not None and wanted.data != data:
        return None
    values: dict[str, JSON] = {}
    for correlation in wanted.correlate:
        value = scope.value(correlation.from_, event)
        if correlation.expect is not None:
            expected = scope.fill(correlation.expect, frame.input)
        else:
            expected = frame.correlations.get(correlation.name, value)
        if value != expected:
            return None
        values[correlation.name] = value
    return values
