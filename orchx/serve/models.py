"""Bodies and query parameters, as callers send them.

Strict: a number is no string, and an unknown member is an error, not a typo that is
silently ignored. Payloads (`input`, an event's `data`) are any JSON and are not copied.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from orchx.domain.json_values import JSON
from orchx.serve.fields import (
    DnsName,
    EventTime,
    HttpUrl,
    IdempotencyKey,
    Int,
    LabelKey,
    LabelPair,
    Milliseconds,
    QueryBool,
    QueryInt,
    QueryNumber,
    RequestType,
    ShortText,
    Tenant,
    Timestamp,
    Version,
    whole,
)

MAX_LABELS: Final = 32
MAX_SERVICES: Final = 1000
MAX_OPERATIONS: Final = 1000
MAX_REPLAYED: Final = 1000
MAX_PAGE: Final = 500
MAX_HISTORY_PAGE: Final = 1000
MAX_WAIT_S: Final = 60  # documented; http.max_wait_s may be lower
INT64_MAX: Final = 2**63 - 1

Status = Literal["pending", "running", "waiting", "suspended", "cancelled", "faulted", "completed"]


class Body(BaseModel):
    """What a caller sends: nothing is converted, and nothing unknown is let pass."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class _Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DefinitionChoice(Body):
    """A published definition; `version` defaults to the latest."""

    namespace: DnsName
    name: DnsName
    version: Version = "latest"


class CallbackBody(Body):
    """Where progress and the outcome are reported."""

    url: HttpUrl
    events: Literal["outcome", "all"] = "outcome"


class SubmitItem(Body):
    """One request: its type or its definition, the input, and how it is to be run."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {
                    "required": ["type"],
                    "properties": {"type": {"type": "string"}, "definition": {"type": "null"}},
                },
                {
                    "required": ["definition"],
                    "properties": {"definition": {"type": "object"}, "type": {"type": "null"}},
                },
            ]
        }
    )

    type: RequestType | None = None
    definition: DefinitionChoice | None = None
    input: Any = Field(default_factory=dict, description="any JSON; {} by default")
    tenant: Tenant | None = None
    priority: Int = Field(5, ge=0, le=9, description="0 is the most urgent")
    deadline: Timestamp | None = Field(None, description="must lie ahead")
    isolation: Literal["auto", "shared", "dedicated"] = "auto"
    callback: CallbackBody | None = None
    correlation_id: ShortText | None = Field(None, alias="correlationId")
    labels: dict[LabelKey, ShortText] = Field(
        default_factory=dict,
        max_length=MAX_LABELS,
        json_schema_extra={"additionalProperties": False},
    )
    idempotency_key: IdempotencyKey | None = Field(None, alias="idempotencyKey")

    @model_validator(mode="after")
    def _names_one_workflow(self) -> SubmitItem:
        if (self.type is None) == (self.definition is None):
            raise ValueError("Input should have exactly one of type and definition")
        return self


class CancelBody(Body):
    """Why a workflow is cancelled."""

    reason: str = Field("", max_length=1000)


class OperationBody(Body):
    """How a service does one capability."""

    capability: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: str = Field("/", min_length=1, max_length=1024, pattern=r"^/[!-~]*$")
    operation_id: ShortText | None = Field(None, alias="operationId")
    idempotent: bool = True
    priority: Int = Field(10, ge=0, le=1000, description="lower is preferred")
    timeout_ms: Milliseconds | None = Field(None, alias="timeoutMs")


class ServiceBody(Body):
    """An API that can do things, and the limits to keep with it."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    base_url: HttpUrl = Field(alias="baseUrl")
    operations: list[OperationBody] = Field(default_factory=list, max_length=MAX_OPERATIONS)
    document: str | None = Field(None, min_length=1, max_length=2048)
    timeout_ms: Milliseconds = Field(10_000, alias="timeoutMs")
    concurrency: Int = Field(64, ge=1, le=100_000)
    rate_per_s: float | None = Field(None, gt=0, le=1_000_000, alias="ratePerS")
    breaker_failures: Int = Field(10, ge=1, le=1_000_000, alias="breakerFailures")
    breaker_open_ms: Milliseconds = Field(5_000, alias="breakerOpenMs")
    queue_limit: Int = Field(10_000, ge=0, le=1_000_000, alias="queueLimit")
    bearer_env: str | None = Field(
        None,
        max_length=128,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        alias="bearerEnv",
        description="of the server; its name must fit the setting pools.secret_env",
    )


class ServicesBody(Body):
    """Services to create or replace by name."""

    services: list[ServiceBody] = Field(min_length=1, max_length=MAX_SERVICES)


class ServicesAnswer(Body):
    """All services."""

    services: list[ServiceBody]


class ReplayBody(Body):
    """Deliveries to try again."""

    ids: list[Annotated[str, StringConstraints(min_length=1, max_length=255)]] = Field(
        min_length=1, max_length=MAX_REPLAYED
    )


class SubmitQuery(_Query):
    """`POST /v1/requests`."""

    wait: QueryNumber | None = Field(
        None, ge=0, le=MAX_WAIT_S, description="seconds to wait for the outcome"
    )


class ShowQuery(_Query):
    """`GET /v1/workflows/{id}`."""

    consistency: Literal["eventual", "strong"] = Field(
        "eventual", description="strong: all that was durable when this was asked for is in it"
    )


class ListQuery(_Query):
    """`GET /v1/workflows`."""

    status: tuple[Status, ...] = Field((), description="any of these", max_length=10)
    namespace: ShortText | None = None
    name: ShortText | None = None
    tenant: Tenant | None = None
    type: RequestType | None = None
    label: tuple[LabelPair, ...] = Field(
        (), description="KEY=VALUE; all of these", max_length=MAX_LABELS
    )
    created_after: Timestamp | None = Field(None, alias="createdAfter")
    created_before: Timestamp | None = Field(None, alias="createdBefore")
    limit: QueryInt = Field(50, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(None, max_length=1000, description="from the page before")


class HistoryQuery(_Query):
    """`GET /v1/workflows/{id}/history`."""

    after: QueryInt = Field(0, ge=0, le=INT64_MAX // 10, description="log offset")
    limit: QueryInt = Field(MAX_HISTORY_PAGE, ge=1, le=MAX_HISTORY_PAGE)


class StreamQuery(_Query):
    """`GET /v1/workflows/{id}/events`."""

    after: QueryInt = Field(0, ge=0, le=INT64_MAX // 10, description="log offset")


class PublishQuery(_Query):
    """`POST /v1/definitions`."""

    request_type: RequestType | None = Field(
        None, description="binds requests of this type", alias="requestType"
    )
    dry_run: QueryBool = Field(False, description="check only", alias="dryRun")


class DeliveriesQuery(_Query):
    """`GET /v1/deliveries`."""

    status: Literal["pending", "delivered", "undelivered"] | None = None
    workflow: ShortText | None = None
    limit: QueryInt = Field(100, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(None, max_length=1000, description="from the page before")


_EXTENSION: Final = re.compile(r"[a-z0-9]{1,64}")


class CloudEventBody(BaseModel):
    """A CloudEvent 1.0 in JSON; members not named here are extension attributes."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="allow",
        json_schema_extra={
            "propertyNames": {"pattern": "^([a-z0-9]{1,64}|data_base64)$"},
            "additionalProperties": {
                "type": ["string", "integer", "boolean"],
                "maxLength": 4096,
                "minimum": -(2**31),
                "maximum": 2**31 - 1,
            },
            "not": {"required": ["data", "data_base64"]},
        },
    )

    specversion: Literal["1.0"]
    id: str = Field(min_length=1, max_length=255)
    source: str = Field(min_length=1, max_length=2048, pattern=r"^[!-~]+$")
    type: str = Field(min_length=1, max_length=255, pattern=r"^[!-~]+$")
    time: EventTime | None = None
    subject: str | None = Field(None, min_length=1, max_length=1024)
    datacontenttype: str | None = Field(None, min_length=1, max_length=255)
    dataschema: str | None = Field(None, min_length=1, max_length=2048)
    data: JSON = None
    data_base64: str | None = Field(
        None, pattern=r"^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
    )

    @model_validator(mode="after")
    def _follows_the_standard(self) -> CloudEventBody:
        if {"data", "data_base64"} <= self.model_fields_set:
            raise ValueError("Input should have at most one of data and data_base64")
        for name, given in (self.model_extra or {}).items():
            value = whole(given)
            if not _EXTENSION.fullmatch(name):
                raise ValueError(
                    "Input should name extension attributes in lower-case letters and digits"
                )
            if isinstance(value, str) and len(value) <= 4096:
                continue
            if isinstance(value, int) and -(2**31) <= value < 2**31:  # booleans are ints too
                continue
            raise ValueError(
                f"Input should have a string, boolean or 32-bit integer as attribute {name}"
            )
        return self
