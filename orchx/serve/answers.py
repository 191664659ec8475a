"""What the API answers with: functions that build the JSON, models that document it.

The models are never instantiated on a request's way; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from orchx.domain.cloud_events import rfc3339
from orchx.domain.json_values import JSON
from orchx.ports.catalog import StoredDefinition
from orchx.ports.deliveries import Delivery
from orchx.ports.state_store import WorkflowSummary
from orchx.serve.fields import Timestamp
from orchx.serve.models import Status


class Answer(BaseModel):
    """What is answered, in camel case."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, validate_by_name=True)


class WorkflowLinks(Answer):
    """Where to go from a workflow."""

    self: str
    history: str
    events: str
    cancel: str


class Accepted(Answer):
    """A request that was taken and is not over."""

    id: str
    status: Status
    links: WorkflowLinks


class BatchResult(Answer):
    """What became of one item of a batch."""

    status: Literal[202]
    replayed: bool
    workflow: Accepted


class Batch(Answer):
    """What became of a batch, in the order of its items."""

    results: list[BatchResult]


class Waiting(Answer):
    """What a workflow waits for."""

    until: Timestamp | None
    event_types: list[str]


class TaskCounts(Answer):
    """How many tasks ended how."""

    completed: int
    faulted: int
    retries: int


class WorkflowListed(Answer):
    """A workflow without its output."""

    id: str
    status: Status
    namespace: str
    name: str
    version: str
    tenant: str
    type: str | None
    priority: int
    deadline: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp
    ended_at: Timestamp | None
    task: str | None
    waiting: Waiting | None
    passivated: bool
    epoch: int
    parent_id: str | None
    correlation_id: str | None
    labels: dict[str, str]
    tasks: TaskCounts
    traceparent: str | None
    error: dict[str, Any] | None
    links: WorkflowLinks


class Workflow(WorkflowListed):
    """A workflow."""

    output: Any = Field(description="any JSON; null until it has completed")
    age_ms: int | None = Field(
        ge=0,
        description="how long ago this was certainly the latest; 0: it is; null: not known",
    )


class Workflows(Answer):
    """One page of workflows."""

    workflows: list[WorkflowListed]
    cursor: str | None


class CommandAccepted(Answer):
    """A command that was taken; it is applied in order with everything else."""

    command_id: str
    replayed: bool


class SelfLink(Answer):
    """Where to find this again."""

    self: str


class PublishedDefinition(Answer):
    """A definition as published."""

    namespace: str
    name: str
    version: str
    digest: str
    request_type: str | None
    retired: bool
    created_at: Timestamp | None
    links: SelfLink


class PublishResult(PublishedDefinition):
    """What publishing brought."""

    dry_run: bool


class DefinitionDocument(PublishedDefinition):
    """A definition with its document."""

    document: dict[str, Any]


class Definitions(Answer):
    """Definitions."""

    definitions: list[PublishedDefinition]


class DeliveryListed(Answer):
    """One webhook; the URL is without query and user."""

    id: str
    workflow_id: str
    position: int
    url: str
    event_type: str
    status: Literal["pending", "delivered", "undelivered"]
    attempts: int
    created_at: Timestamp
    next_attempt_at: Timestamp | None
    ended_at: Timestamp | None
    last_error: str | None


class DeliveryList(Answer):
    """One page of webhooks, oldest first."""

    deliveries: list[DeliveryListed]
    cursor: str | None


class Replayed(Answer):
    """How many deliveries are due again."""

    replayed: int


class Health(Answer):
    """This process answers."""

    status: Literal["ok"]


class Ready(Answer):
    """Requests can be taken."""

    ready: Literal[True]
    parts: dict[str, str]


class Index(Answer):
    """What is here."""

    name: Literal["orchx"]
    version: str
    links: dict[str, str]


class ProblemError(Answer):
    """One thing that is wrong in a request."""

    pointer: str
    detail: str
    found: str | None
    expected: str | None
    line: int | None


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    type: str = Field(json_schema_extra={"format": "uri-reference"})
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str
    trace_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    errors: list[ProblemError]


def workflow_links(workflow_id: str) -> dict[str, str]:
    """Return the links of a workflow."""
    here = f"/v1/workflows/{workflow_id}"
    return {
        "self": here,
        "history": f"{here}/history",
        "events": f"{here}/events",
        "cancel": f"{here}/cancel",
    }


def accepted_json(workflow_id: str, status: str) -> dict[str, JSON]:
    """Return an `Accepted`."""
    return {"id": workflow_id, "status": status, "links": workflow_links(workflow_id)}


def listed_json(summary: WorkflowSummary) -> dict[str, JSON]:
    """Return a `WorkflowListed`."""
    waiting = None
    if summary.due_at_ms is not None or summary.listens:
        waiting = {"until": _time(summary.due_at_ms), "eventTypes": list(summary.listens)}
    return {
        "id": summary.workflow_id,
        "status": summary.status,
        "namespace": summary.namespace,
        "name": summary.name,
        "version": summary.version,
        "tenant": summary.tenant,
        "type": summary.type,
        "priority": summary.priority,
        "deadline": _time(summary.deadline_ms),
        "createdAt": _time(summary.created_at_ms),
        "updatedAt": _time(summary.updated_at_ms),
        "endedAt": _time(summary.ended_at_ms),
        "task": summary.task,
        "waiting": waiting,
        "passivated": summary.passivated,
        "epoch": summary.epoch,
        "parentId": summary.parent_id,
        "correlationId": summary.correlation_id,
        "labels": dict(summary.labels),
        "tasks": {
            "completed": summary.tasks_completed,
            "faulted": summary.tasks_faulted,
            "retries": summary.retries,
        },
        "traceparent": summary.traceparent,
        "error": None if summary.error is None else dict(summary.error),
        "links": workflow_links(summary.workflow_id),
    }


def workflow_json(summary: WorkflowSummary, age_ms: int | None = 0) -> dict[str, JSON]:
    """Return a `Workflow`."""
    return {**listed_json(summary), "output": summary.output, "ageMs": age_ms}


def definition_path(stored: StoredDefinition) -> str:
    """Return the path of a definition."""
    return f"/v1/definitions/{stored.namespace}/{stored.name}/{stored.version}"


def definition_json(stored: StoredDefinition) -> dict[str, JSON]:
    """Return a `PublishedDefinition`."""
    return {
        "namespace": stored.namespace,
        "name": stored.name,
        "version": stored.version,
        "digest": stored.digest,
        "requestType": stored.request_type,
        "retired": stored.retired,
        "createdAt": _time(stored.created_at_ms or None),
        "links": {"self": definition_path(stored)},
    }


def delivery_json(delivery: Delivery) -> dict[str, JSON]:
    """Return a `DeliveryListed`."""
    pending = delivery.status == "pending"
    return {
        "id": delivery.id,
        "workflowId": delivery.workflow_id,
        "position": delivery.position,
        "url": without_secrets(delivery.url),
        "eventType": delivery.event_type,
        "status": delivery.status,
        "attempts": delivery.attempts,
        "createdAt": _time(delivery.created_at_ms),
        "nextAttemptAt": _time(delivery.next_attempt_at_ms) if pending else None,
        "endedAt": _time(delivery.ended_at_ms),
        "lastError": delivery.last_error,
    }


def without_secrets(url: str) -> str:
    """Return a URL without user, password, query and fragment, which often hold a secret."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def problem_examples() -> Mapping[str, JSON]:
    """Return a problem as it may be answered."""
    return {
        "type": "/problems/invalid-request",
        "title": "Invalid request",
        "status": 422,
        "detail": "the request has 1 error",
        "instance": "/v1/requests",
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "errors": [
            {
                "pointer": "/priority",
                "detail": "Input should be less than or equal to 9",
                "found": "12",
                "expected": "less than or equal to 9",
                "line": None,
            }
        ],
    }


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
