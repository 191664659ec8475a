"""What can happen to a workflow: the events, past tense, and the record that carries one.

A `Record` is one line of the log. Its stored form is JSON, so that anyone can read the
log with no more than a SQLite shell; `cloud_events` shows it as a CloudEvent 1.0. Every
computed value (an expression's result, a branch, a due time, a chosen service) is in an
event, so that folding the log evaluates nothing. Fields are only ever added: readers
ignore what they do not know, and stored bytes are never rewritten.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from orchx.domain.faults import Fault
from orchx.domain.json_values import JSON

SCHEMA_VERSION = 1


class DefinitionRef(msgspec.Struct, frozen=True, kw_only=True):
    """Which definition a workflow runs; `digest` names the exact plan pinned in the log."""

    namespace: str
    name: str
    version: str
    digest: str


class Callback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where progress and the outcome are reported; `events`: all, or only the outcome."""

    url: str
    events: Literal["outcome", "all"] = "outcome"


class ParentRef(msgspec.Struct, frozen=True, kw_only=True):
    """The `run: workflow` task that started this workflow and waits for it."""

    workflow_id: str
    frame: int


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a system asked for, beyond the input. `priority` 0 is the most urgent, 9 the least.

    `generation` counts the workflows above this one, each started by the one above it.
    """

    tenant: str = "default"
    type: str | None = None
    priority: int = 5
    deadline_ms: int | None = None  # epoch milliseconds
    isolation: Literal["auto", "shared", "dedicated"] = "auto"
    callback: Callback | None = None
    parent: ParentRef | None = None
    correlation_id: str | None = None
    labels: dict[str, str] = {}
    generation: int = 0


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """The root of all events. The tag is the stored type name."""


class WorkflowActivated(Event, frozen=True, tag="workflow.activated"):
    """An owner claims the workflow. The first record with a given epoch wins."""


class WorkflowStarted(Event, frozen=True, tag="workflow.started"):
    """The first thing after the first activation. `data` is the input after `input.from`.

    `error` is what was wrong with the input: the workflow ends with it at once.
    `created_at_ms` is when the request was accepted.
    """

    definition: DefinitionRef
    request: Request
    input: JSON
    data: JSON = msgspec.UNSET
    timeout_at_ms: int | None = None
    error: Fault | None = None
    created_at_ms: int = 0


class TaskStarted(Event, frozen=True, tag="task.started"):
    """A task began and is not over within the same turn.

    `frame` numbers this execution within the workflow; `input` is absent when it equals
    the raw input, which the fold knows.
    """

    frame: int
    parent: int
    reference: str
    kind: str
    iteration: str = ""
    input: JSON = msgspec.UNSET
    timeout_at_ms: int | None = None
    due_at_ms: int | None = None  # wait: when it ends; try: when this run is too long
    items: list[JSON] | None = None  # for: what it iterates over
    variables: dict[str, str] | None = None  # for: the names given to item and index
    call: CallDetails | None = None
    child: ChildDetails | None = None


class CallDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call with everything evaluated: what a pool needs in order to make it."""

    function: str
    target: Literal["http", "openapi", "function", "service"]
    arguments: JSON = None
    pool: str = "io"
    service: str | None = None  # the chosen service, for a capability
    decision: int | None = None  # frame-local number of the decision that chose it
    timeout_ms: int | None = None


class ChildDetails(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A child workflow; its id is derived, so that starting it twice starts it once."""

    workflow_id: str
    namespace: str
    name: str
    version: str
    input: JSON = None
    awaited: bool = True


class DecisionMade(Event, frozen=True, tag="decision.made"):
    """The agent chose: the features it saw, what else it could have chosen, and how likely."""

    frame: int
    question: str
    chosen: str
    alternatives: list[str]
    propensities: list[float]
    policy: str
    features: dict[str, JSON] = {}


class TaskCompleted(Event, frozen=True, tag="task.completed"):
    """A task is over. An instantaneous task has this event alone, with frame 0.

    `output` is after `output.as`; `context` is given when `export.as` changed it;
    `then` is the directive to follow, resolved.
    """

    parent: int
    reference: str
    frame: int = 0
    kind: str = ""
    output: JSON = msgspec.UNSET  # absent: the raw input passes through
    context: JSON = msgspec.UNSET
    then: str = "continue"
    duration_ms: int | None = None
    service: str | None = None


class TaskSkipped(Event, frozen=True, tag="task.skipped"):
    """The task's `if` did not hold; its raw input passes through."""

    parent: int
    reference: str


class TaskFaulted(Event, frozen=True, tag="task.faulted"):
    """A task ended with an error, which its parent now has to handle.

    `abandoned_child` is the child workflow that it awaited until its time was up.
    """

    parent: int
    reference: str
    error: Fault
    frame: int = 0
    duration_ms: int | None = None
    service: str | None = None
    abandoned_child: str | None = None


class TaskCancelled(Event, frozen=True, tag="task.cancelled"):
    """A running task was given up: it lost a race, or what it is part of ended.

    `service` is the one that was called, if the time for what the call is part of ran out;
    `abandoned_child` is the child workflow that nobody awaits any more.
    """

    frame: int
    reason: str = ""
    service: str | None = None
    abandoned_child: str | None = None


class TaskRetried(Event, frozen=True, tag="task.retried"):
    """A `try` block will run again at `due_at_ms`; `attempt` counts runs, from 2 on."""

    frame: int
    attempt: int
    due_at_ms: int
    error: Fault


class ErrorCaught(Event, frozen=True, tag="task.caught"):
    """A `try` task handles an error: its catch block, if any, runs next."""

    frame: int
    error: Fault
    variable: str


class TaskResumed(Event, frozen=True, tag="task.resumed"):
    """The pause before a retry is over: the `try` block runs again, as run `attempt`.

    A run that is limited in time has until `due_at_ms`.
    """

    frame: int
    attempt: int
    due_at_ms: int | None = None


class IterationStarted(Event, frozen=True, tag="task.iterated"):
    """A `for` task goes on to the item at `index`."""

    frame: int
    index: int


class CorrelationStarted(Event, frozen=True, tag="workflow.correlation-started"):
    """The workflow listens. `types` are the event types it can match; empty: any."""

    frame: int
    types: list[str]


class EventConsumed(Event, frozen=True, tag="event.consumed"):
    """A listening task took an event for its filter number `filter`."""

    frame: int
    filter: int
    event_id: str
    value: JSON
    correlations: dict[str, JSON] = {}


class EventReceived(Event, frozen=True, tag="event.received"):
    """An event reached the workflow by command `command_id` and is kept until consumed.

    `broadcast`: it was sent to all that listen for its type.
    """

    command_id: str
    event: dict[str, Any]
    broadcast: bool = False


class EventsDropped(Event, frozen=True, tag="event.dropped"):
    """Events that were kept are wanted by nobody who listens for their type."""

    command_ids: list[str]


class EventEmitted(Event, frozen=True, tag="event.emitted"):
    """An `emit` task published a CloudEvent."""

    event: dict[str, Any]


class CommandRefused(Event, frozen=True, tag="command.refused"):
    """A command reached the workflow too late or out of place; kept so that it is answered."""

    command_id: str
    reason: str


class CancelRequested(Event, frozen=True, tag="workflow.cancel-requested"):
    """Someone asked for the workflow to end."""

    command_id: str
    reason: str = ""
    by: str = ""


class ChildFinished(Event, frozen=True, tag="child.finished"):
    """A child's outcome reached its parent."""

    command_id: str
    frame: int
    output: JSON = None
    error: Fault | None = None


class WorkflowPassivated(Event, frozen=True, tag="workflow.passivated"):
    """The owner lets go: nothing runs, and nothing will before `due_at_ms` or an event."""

    due_at_ms: int | None = None


class WorkflowCompleted(Event, frozen=True, tag="workflow.completed"):
    """The workflow ran to its end."""

    output: JSON = None


class WorkflowFaulted(Event, frozen=True, tag="workflow.faulted"):
    """An error that nothing caught ended the workflow."""

    error: Fault


class WorkflowCancelled(Event, frozen=True, tag="workflow.cancelled"):
    """The workflow ended because someone asked for it."""

    reason: str = ""


AnyEvent: TypeAlias = (
    WorkflowActivated
    | WorkflowStarted
    | TaskStarted
    | DecisionMade
    | TaskCompleted
    | TaskSkipped
    | TaskFaulted
    | TaskCancelled
    | TaskRetried
    | TaskResumed
    | ErrorCaught
    | IterationStarted
    | CorrelationStarted
    | EventConsumed
    | EventReceived
    | EventsDropped
    | EventEmitted
    | CommandRefused
    | CancelRequested
    | ChildFinished
    | WorkflowPassivated
    | WorkflowCompleted
    | WorkflowFaulted
    | WorkflowCancelled
)

TERMINAL_EVENTS = (WorkflowCompleted, WorkflowFaulted, WorkflowCancelled)


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log: an event and where it stands.

    `seq` counts the records of one owner in one epoch from 1 (the activation itself is
    0); `offset` is the position in the log, given by the log (0: not appended yet);
    `traceparent` is the W3C trace context of whatever caused the event.
    """

    workflow_id: str
    epoch: int
    owner: str
    seq: int
    at_ms: int
    event: AnyEvent
    traceparent: str | None = None
    version: int = SCHEMA_VERSION
    offset: int = 0


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)


def encode_event(event: AnyEvent) -> bytes:
    """Return the stored form: a JSON object whose `type` names the event."""
    return _encoder.encode(event)


def decode_event(stored: bytes | str) -> AnyEvent:
    """Return the event; raises `msgspec.ValidationError` for what no release ever wrote."""
    return _decoder.decode(stored)


def type_of(event: AnyEvent) -> str:
    """Return the stored type name, such as `task.started`."""
    return str(type(event).__struct_config__.tag)
