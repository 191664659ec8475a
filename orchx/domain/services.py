"""Services and the capabilities they provide: whom a capability call may go to."""

from __future__ import annotations

from typing import Literal

import msgspec


class Operation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """How a service does one capability: an HTTP method and a path template (`/x/{id}`)."""

    capability: str
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: str = "/"
    operation_id: str | None = None
    idempotent: bool = True
    priority: int = 10  # lower is preferred
    timeout_ms: int | None = None


class Service(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """An API that can do things, and the limits to keep with it.

    `concurrency` is how many calls may be open at once, `rate_per_s` how many may begin
    per second (None: no limit); the breaker opens after `breaker_failures` failures in a
    row and tries again after `breaker_open_ms`. `queue_limit` bounds what waits for it.
    `bearer_env` names an environment variable of the pool that holds a bearer token.
    """

    name: str
    base_url: str
    operations: list[Operation] = []
    document: str | None = None
    timeout_ms: int = 10_000
    concurrency: int = 64
    rate_per_s: float | None = None
    breaker_failures: int = 10
    breaker_open_ms: int = 5_000
    queue_limit: int = 10_000
    bearer_env: str | None = None
