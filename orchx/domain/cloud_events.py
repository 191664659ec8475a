"""Records of the log as CloudEvents 1.0: what history, SSE and webhooks show.

The DSL's lifecycle event types are used where they exist, with the data that the DSL
reference defines (and, beside it, what orchx knows more); everything else is
`io.orchx.<stored type>.v1` with the stored fields as its data. Source: Serverless Workflow
DSL 1.0.3, "Lifecycle Events"; CloudEvents 1.0.2, "JSON Event Format".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from orchx.domain import events
from orchx.domain.events import AnyEvent, Record

SPEC_VERSION: Final = "1.0"
STANDARD_PREFIX: Final = "io.serverlessworkflow."
OWN_PREFIX: Final = "io.orchx."
SEQUENCE_DIGITS: Final = 10  # CloudEvents' `sequence` is a string that sorts as text
# From 1970 to the end of 9998: a time that is shown stays one in whichever time zone it is read.
MIN_TIME_MS: Final = 0
MAX_TIME_MS: Final = 253_370_764_799_999
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Which events the DSL knows, and how it calls the time in their data.
_STANDARD: Final[Mapping[type[events.Event], tuple[str, str]]] = {
    events.WorkflowStarted: ("workflow.started", "startedAt"),
    events.WorkflowCompleted: ("workflow.completed", "completedAt"),
    events.WorkflowFaulted: ("workflow.faulted", "faultedAt"),
    events.WorkflowCancelled: ("workflow.cancelled", "cancelledAt"),
    events.CorrelationStarted: ("workflow.correlation-started", "startedAt"),
    events.TaskStarted: ("task.started", "startedAt"),
    events.TaskCompleted: ("task.completed", "completedAt"),
    events.TaskFaulted: ("task.faulted", "faultedAt"),
    events.TaskRetried: ("task.retried", "retriedAt"),
    events.TaskCancelled: ("task.cancelled", "cancelledAt"),
}


def rfc3339(at_ms: int) -> str:
    """Return epoch milliseconds as RFC 3339 in UTC with milliseconds.

    A time outside of `MIN_TIME_MS` to `MAX_TIME_MS` is shown as the nearest one inside: what is
    stored must never keep a list from being shown.
    """
    at = _EPOCH + timedelta(milliseconds=min(max(at_ms, MIN_TIME_MS), MAX_TIME_MS))
    return at.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def cloud_event_type(event: AnyEvent) -> str:
    """Return the CloudEvents type under which an event is shown."""
    standard = _STANDARD.get(type(event))
    if standard is not None:
        return f"{STANDARD_PREFIX}{standard[0]}.v1"
    return f"{OWN_PREFIX}{events.type_of(event)}.v1"


class CloudEvents:
    """Turns the records of one workflow, fed in log order, into CloudEvents.

    Some events name their task by frame only. The frames seen so far are remembered, so
    feed the records from the first on (`learn` is for those that need not be shown).

    Args:
        workflow_id: whose records these are.
        namespace, name: of its definition, for the DSL's qualified name; without them it
            is known once the workflow's start has been seen.
        correlation_id: the caller's own id of the matter; known from the start as well.
    """

    def __init__(
        self,
        workflow_id: str,
        *,
        namespace: str | None = None,
        name: str | None = None,
        correlation_id: str | None = None,
    ) -> None:
        self._workflow_id = workflow_id
        self._source = f"/v1/workflows/{workflow_id}"
        self._qualified_name = workflow_id
        if namespace is not None and name is not None:
            self._name(namespace, name)
        self._correlation_id = correlation_id
        self._references: dict[int, str] = {}

    def _name(self, namespace: str, name: str) -> None:
        self._qualified_name = f"{name}-{self._workflow_id}.{namespace}"

    def learn(self, records: Iterable[Record]) -> None:
        """Remember which frame is which task, without showing anything."""
        for record in records:
            if isinstance(record.event, events.TaskStarted):
                self._references[record.event.frame] = record.event.reference
            elif isinstance(record.event, events.WorkflowStarted):
                self._name(record.event.definition.namespace, record.event.definition.name)
                self._correlation_id = record.event.request.correlation_id

    def render(self, record: Record) -> dict[str, Any]:
        """Return the record as the JSON object of a structured-mode CloudEvent."""
        self.learn((record,))
        event = record.event
        reference = self._reference_of(event)
        rendered: dict[str, Any] = {
            "specversion": SPEC_VERSION,
            "id": f"{record.workflow_id}/{record.epoch}/{record.seq}",
            "source": self._source,
            "subject": record.workflow_id,
            "type": cloud_event_type(event),
            "time": rfc3339(record.at_ms),
            "datacontenttype": "application/json",
            "workflowid": record.workflow_id,
            "epoch": record.epoch,
            "sequence": str(record.seq).zfill(SEQUENCE_DIGITS),
            "logoffset": str(record.offset),
        }
        if self._correlation_id is not None:
            rendered["correlationid"] = self._correlation_id
        if reference is not None:
            rendered["taskreference"] = reference
        if record.traceparent is not None:
            rendered["traceparent"] = record.traceparent
        rendered["data"] = self._data_of(event, reference, rendered["time"])
        return rendered

    def _reference_of(self, event: AnyEvent) -> str | None:
        reference = getattr(event, "reference", None)
        if reference is not None:
            return str(reference)
        return self._references.get(getattr(event, "frame", 0))

    def _data_of(self, event: AnyEvent, reference: str | None, time: str) -> dict[str, Any]:
        fields: dict[str, Any] = {
            _camel_case(field): msgspec.to_builtins(value)
            for field in event.__struct_fields__
            if (value := getattr(event, field)) is not msgspec.UNSET and value is not None
        }
        # A completed workflow has an output, be it null: the DSL requires the member.
        if isinstance(event, events.WorkflowCompleted):
            fields["output"] = event.output
        standard = _STANDARD.get(type(event))
        if standard is None:
            return fields
        fields.pop("reference", None)
        kind, time_name = standard
        if kind.startswith("workflow."):
            return {"name": self._qualified_name, time_name: time, **fields}
        task = {} if reference is None else {"task": reference}
        return {"workflow": self._qualified_name, **task, time_name: time, **fields}


class LogCloudEvents:
    """Turns records of many workflows, in log order, into CloudEvents: call it with each.

    Remembers at most `limit` unfinished workflows; one that is forgotten, or whose start
    was not seen, is named by its id, and its tasks only where an event names them itself.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self._limit = limit
        self._workflows: OrderedDict[str, CloudEvents] = OrderedDict()

    def __call__(self, record: Record) -> dict[str, Any]:
        """Return the record as the JSON object of a structured-mode CloudEvent."""
        workflow_id = record.workflow_id
        known = self._workflows.get(workflow_id)
        if known is None:
            known = self._workflows[workflow_id] = CloudEvents(workflow_id)
            if len(self._workflows) > self._limit:
                self._workflows.popitem(last=False)
        else:
            self._workflows.move_to_end(workflow_id)
        if isinstance(record.event, events.TERMINAL_EVENTS):
            del self._workflows[workflow_id]
        return known.render(record)


def _camel_case(field: str) -> str:
    first, *rest = field.split("_")
    return first + "".join(part.capitalize() for part in rest)
