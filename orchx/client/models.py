"""What a client sends and what it gets back: the HTTP API's documents as frozen values.

The attribute names are Python's (`created_at`), those on the wire camelCase (`createdAt`).
Members that a newer server adds are ignored; those that an older one lacks have defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

Isolation: TypeAlias = Literal["auto", "shared", "dedicated"]
Consistency: TypeAlias = Literal["eventual", "strong"]
Status: TypeAlias = str  # an open set: a newer server may know more

ENDED: Final = frozenset(("completed", "faulted", "cancelled"))
STATUSES: Final = (
    "pending",
    "running",
    "waiting",
    "suspended",
    "completed",
    "faulted",
    "cancelled",
)


class _Document(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The root of what is received."""


class _Sent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """The root of what is sent: what is not given stays out, and the server decides."""


class DefinitionRef(_Sent, frozen=True):
    """A definition by name; `version` may be `latest`."""

    namespace: str
    name: str
    version: str = "latest"


class Callback(_Sent, frozen=True):
    """Where to report; `events`: the outcome alone, or all progress too."""

    url: str
    events: Literal["outcome", "all"] = "outcome"


class WorkflowRequest(_Sent, frozen=True):
    """What a system asks for. Exactly one of `type` and `definition` is given.

    `priority` runs from 0 (most urgent) to 9; without one, the server takes 5. `deadline`
    must know its time zone.
    """

    type: str | None = None
    definition: DefinitionRef | None = None
    input: Any = msgspec.UNSET
    tenant: str | None = None
    priority: int | None = None
    deadline: datetime | None = None
    isolation: Isolation | None = None
    callback: Callback | None = None
    correlation_id: str | None = None
    labels: dict[str, str] = {}
    idempotency_key: str | None = None


class Fault(_Document, frozen=True):
    """The error that ended a workflow, in the DSL's terms (RFC 9457)."""

    type: str
    status: int = 500
    title: str | None = None
    detail: str | None = None
    instance: str | None = None


class Waiting(_Document, frozen=True):
    """What a waiting workflow waits for: a time, events of some types, or both."""

    until: datetime | None = None
    event_types: tuple[str, ...] = ()


class TaskCounts(_Document, frozen=True):
    """How a workflow's tasks have fared so far."""

    completed: int = 0
    faulted: int = 0
    retries: int = 0


class Workflow(_Document, frozen=True):
    """One workflow as the server's projection has it; lists leave `output` and `age_ms` out.

    `age_ms`: how long ago this was certainly the latest; 0: it is, or it is over. None: the server
    does not know, or does not say.
    """

    id: str
    status: Status
    namespace: str = ""
    name: str = ""
    version: str = ""
    tenant: str = "default"
    type: str | None = None
    priority: int = 5
    deadline: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    ended_at: datetime | None = None
    task: str | None = None
    waiting: Waiting | None = None
    passivated: bool = False
    epoch: int = 0
    parent_id: str | None = None
    correlation_id: str | None = None
    labels: dict[str, str] = {}
    tasks: TaskCounts = TaskCounts()
    traceparent: str | None = None
    output: Any = None
    error: Fault | None = None
    age_ms: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the workflow is over, well or not."""
        return self.status in ENDED


class Submission(_Document, frozen=True):
    """The answer to one request.

    `replayed` tells that the key was known and no new workflow was started; `workflow` is
    there if it was waited for.
    """

    id: str
    status: Status
    idempotency_key: str | None = None
    replayed: bool = False
    workflow: Workflow | None = None


class CommandReceipt(_Document, frozen=True):
    """A signal or a cancellation is stored; `replayed`: it had been before."""

    command_id: str
    replayed: bool = False


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One CloudEvent of a workflow's history; `raw` is all of it, extensions included."""

    id: str
    type: str
    time: datetime | None = None
    workflowid: str = ""
    epoch: int = 0
    sequence: str = ""
    logoffset: str = ""
    taskreference: str | None = None
    data: Any = None
    raw: Mapping[str, Any] = {}


class Definition(_Document, frozen=True):
    """One published version; `document` is there when it was asked for by version."""

    namespace: str
    name: str
    version: str
    digest: str = ""
    request_type: str | None = None
    retired: bool = False
    created_at: datetime | None = None
    dry_run: bool = False
    document: dict[str, Any] | None = None


class Operation(_Document, frozen=True):
    """How one service provides one capability."""

    capability: str
    method: str = "POST"
    path: str = ""
    operation_id: str | None = None
    idempotent: bool = True
    priority: int = 10
    timeout_ms: int | None = None


class Service(_Document, frozen=True):
    """An API that provides capabilities, and the limits under which it is called."""

    name: str
    base_url: str
    operations: tuple[Operation, ...] = ()
    document: str | None = None
    timeout_ms: int = 10_000
    concurrency: int = 64
    rate_per_s: float | None = None
    breaker_failures: int = 10
    breaker_open_ms: int = 5_000
    queue_limit: int = 10_000
    bearer_env: str | None = None


class Delivery(_Document, frozen=True):
    """One webhook message and how far it got."""

    id: str
    workflow_id: str
    status: str
    url: str = ""
    event_type: str = ""
    position: int = 0
    attempts: int = 0
    created_at: datetime | None = None
    next_attempt_at: datetime | None = None
    ended_at: datetime | None = None
    last_error: str | None = None


class Octets(_Document, frozen=True):
    """Bytes: as `text` if they are UTF-8, else in `base64`."""

    text: str | None = None
    base64: str | None = None


class LetterHeader(_Document, frozen=True):
    """A header of a record."""

    name: str
    value: Octets


class LetterHandled(_Document, frozen=True):
    """How a dead letter was dealt with (`replayed`, `dropped`), by whom, when, why."""

    how: str
    by: str = ""
    at: datetime | None = None
    note: str = ""


class DeadLetter(_Document, frozen=True):
    """A record that could not be read. What was kept of it is there if it was asked for alone."""

    number: int
    kind: str
    topic: str
    partition: int
    offset: int
    error: str
    at: datetime | None = None
    kept_at: datetime | None = None
    size_bytes: int = 0
    preview: str = ""
    copies: int = 1
    handled: LetterHandled | None = None
    value: Octets | None = None
    key: Octets | None = None
    headers: tuple[LetterHeader, ...] = ()
    cut: tuple[str, ...] = ()


class DeadLetterList(_Document, frozen=True):
    """One page. `kept`: whether the server has dead letters at all; `after`: asks for the next."""

    dead_letters: tuple[DeadLetter, ...]
    kept: bool = True
    after: int | None = None
    unread: int = 0


class ReplayedLetter(_Document, frozen=True):
    """What became of one: `replayed`: its command had been accepted before; or why not."""

    number: int
    command_id: str | None = None
    replayed: bool = False
    error: str | None = None


class Readiness(_Document, frozen=True):
    """Whether the server takes work, part by part; `server_time` is its clock."""

    ready: bool
    parts: dict[str, str] = {}
    server_time: datetime | None = None
