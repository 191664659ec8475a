"""The fold of a workflow's accepted records into its summary: pure, and quick.

The projector folds every record of the system, so a live summary is changed in place
and frozen once per batch, instead of copied for each record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from orchx.domain import events as e
from orchx.domain.json_values import JSON
from orchx.domain.lineage import AcceptedRecords
from orchx.ports.state_store import TERMINAL, WorkflowStatus, WorkflowSummary

ANY_TYPE = "*"
"""What a listener without types listens for."""

_NO_LABELS: Mapping[str, str] = {}


class LiveSummary:
    """One workflow's summary while records are folded into it.

    `lineage` judges the records; only those that it accepts may be given to `apply`.
    """

    __slots__ = (
        "correlation_id",
        "created_at_ms",
        "deadline_ms",
        "due_at_ms",
        "ended_at_ms",
        "error",
        "isolation",
        "labels",
        "lineage",
        "listeners",
        "name",
        "namespace",
        "output",
        "parent_id",
        "passivated",
        "priority",
        "retries",
        "status",
        "task",
        "tasks_completed",
        "tasks_faulted",
        "tenant",
        "traceparent",
        "type",
        "updated_at_ms",
        "version",
        "workflow_id",
    )

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        self.lineage = AcceptedRecords()
        self.status: WorkflowStatus = "pending"
        self.namespace = ""
        self.name = ""
        self.version = ""
        self.tenant = "default"
        self.type: str | None = None
        self.priority = 5
        self.isolation: Literal["auto", "shared", "dedicated"] = "auto"
        self.deadline_ms: int | None = None
        self.created_at_ms = 0
        self.updated_at_ms = 0
        self.ended_at_ms: int | None = None
        self.passivated = False
        self.due_at_ms: int | None = None
        self.listeners: dict[int, tuple[str, ...]] = {}
        self.task: str | None = None
        self.output: JSON = None
        self.error: Mapping[str, JSON] | None = None
        self.parent_id: str | None = None
        self.correlation_id: str | None = None
        self.labels = _NO_LABELS
        self.traceparent: str | None = None
        self.tasks_completed = 0
        self.tasks_faulted = 0
        self.retries = 0

    @classmethod
    def thaw(cls, summary: WorkflowSummary) -> LiveSummary:
        """Return what `freeze` was called on, to fold on from there."""
        live = cls(summary.workflow_id)
        live.lineage = AcceptedRecords.resume(summary.epoch, summary.owner, summary.seq)
        for field in _COPIED:
            setattr(live, field, getattr(summary, field))
        for frame, type_ in zip(summary.listening, summary.listens, strict=True):
            live.listeners[frame] = (*live.listeners.get(frame, ()), type_)
        return live

    def freeze(self) -> WorkflowSummary:
        """Return the summary as it is now."""
        lineage = self.lineage
        listening: tuple[int, ...] = ()
        listens: tuple[str, ...] = ()
        if self.listeners:
            pairs = [(frame, name) for frame, names in self.listeners.items() for name in names]
            listening, listens = zip(*pairs, strict=True)
        return WorkflowSummary(
            workflow_id=self.workflow_id,
            status=self.status,
            namespace=self.namespace,
            name=self.name,
            version=self.version,
            tenant=self.tenant,
            type=self.type,
            priority=self.priority,
            isolation=self.isolation,
            deadline_ms=self.deadline_ms,
            created_at_ms=self.created_at_ms,
            updated_at_ms=self.updated_at_ms,
            ended_at_ms=self.ended_at_ms,
            epoch=lineage.epoch,
            owner=lineage.owner,
            seq=lineage.seq,
            passivated=self.passivated,
            due_at_ms=self.due_at_ms,
            listens=listens,
            listening=listening,
            task=self.task,
            output=self.output,
            error=self.error,
            parent_id=self.parent_id,
            correlation_id=self.correlation_id,
            labels=self.labels,
            traceparent=self.traceparent,
            tasks_completed=self.tasks_completed,
            tasks_faulted=self.tasks_faulted,
            retries=self.retries,
        )

    @property
    def is_terminal(self) -> bool:
        """Whether the workflow is over; what is accepted after that changes nothing here."""
        return self.status in TERMINAL

    def apply(self, record: e.Record) -> None:
        """Fold one accepted record in."""
        if self.ended_at_ms is not None:
            return
        if self.passivated:  # an owner is at work again
            self.passivated = False
            self.due_at_ms = None
            self.status = "running"
        if record.at_ms > self.updated_at_ms:
            self.updated_at_ms = record.at_ms
        change = _CHANGES.get(type(record.event))
        if change is not None:
            change(self, record.event, record)


_COPIED = tuple(
    field for field in LiveSummary.__slots__ if field not in {"workflow_id", "lineage", "listeners"}
)


def _activated(live: LiveSummary, event: e.WorkflowActivated, record: e.Record) -> None:
    if not live.created_at_ms:
        live.created_at_ms = record.at_ms


def _started(live: LiveSummary, event: e.WorkflowStarted, record: e.Record) -> None:
    definition, request = event.definition, event.request
    live.status = "running"
    live.created_at_ms = event.created_at_ms or live.created_at_ms
    live.namespace = definition.namespace
    live.name = definition.name
    live.version = definition.version
    live.tenant = request.tenant
    live.type = request.type
    live.priority = request.priority
    live.isolation = request.isolation
    live.deadline_ms = request.deadline_ms
    live.parent_id = request.parent.workflow_id if request.parent is not None else None
    live.correlation_id = request.correlation_id
    live.labels = request.labels or _NO_LABELS
    live.traceparent = record.traceparent


def _task_started(live: LiveSummary, event: e.TaskStarted, record: e.Record) -> None:
    live.task = event.reference


def _task_completed(live: LiveSummary, event: e.TaskCompleted, record: e.Record) -> None:
    live.tasks_completed += 1
    if event.frame:
        live.listeners.pop(event.frame, None)
    else:  # an instantaneous task: begun and over at once
        live.task = event.reference


def _task_faulted(live: LiveSummary, event: e.TaskFaulted, record: e.Record) -> None:
    live.tasks_faulted += 1
    if event.frame:
        live.listeners.pop(event.frame, None)
    else:
        live.task = event.reference


def _task_cancelled(live: LiveSummary, event: e.TaskCancelled, record: e.Record) -> None:
    live.listeners.pop(event.frame, None)


def _task_retried(live: LiveSummary, event: e.TaskRetried, record: e.Record) -> None:
    live.retries += 1


def _correlation_started(live: LiveSummary, event: e.CorrelationStarted, record: e.Record) -> None:
    live.listeners[event.frame] = tuple(dict.fromkeys(event.types)) or (ANY_TYPE,)


def _passivated(live: LiveSummary, event: e.WorkflowPassivated, record: e.Record) -> None:
    live.status = "waiting"
    live.passivated = True
    live.due_at_ms = event.due_at_ms


def _completed(live: LiveSummary, event: e.WorkflowCompleted, record: e.Record) -> None:
    live.output = event.output
    _end(live, "completed", record)


def _faulted(live: LiveSummary, event: e.WorkflowFaulted, record: e.Record) -> None:
    live.error = event.error.as_json()
    _end(live, "faulted", record)


def _cancelled(live: LiveSummary, event: e.WorkflowCancelled, record: e.Record) -> None:
    _end(live, "cancelled", record)


def _end(live: LiveSummary, status: WorkflowStatus, record: e.Record) -> None:
    live.status = status
    live.ended_at_ms = record.at_ms
    live.listeners = {}


_CHANGES: dict[type[e.Event], Callable[[LiveSummary, Any, e.Record], None]] = {
    e.WorkflowActivated: _activated,
    e.WorkflowStarted: _started,
    e.TaskStarted: _task_started,
    e.TaskCompleted: _task_completed,
    e.TaskFaulted: _task_faulted,
    e.TaskCancelled: _task_cancelled,
    e.TaskRetried: _task_retried,
    e.CorrelationStarted: _correlation_started,
    e.WorkflowPassivated: _passivated,
    e.WorkflowCompleted: _completed,
    e.WorkflowFaulted: _faulted,
    e.WorkflowCancelled: _cancelled,
}
