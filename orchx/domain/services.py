"""Services and the capabilities they provide: whom a capability call may go to."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from orchx.errors import InvalidRequest, Violation


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
    `bearer_env` names an environment variable of the pool that holds a bearer token; which
    ones may be named, the settings say.
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


def may_be_sent(variable: str, allowed: Sequence[str]) -> bool:
    """Return whether a service may be sent this environment variable.

    `allowed` are shell patterns of names. Whoever adds a service chooses where the value goes:
    without them, it could be any secret of the machine.
    """
    return any(fnmatchcase(variable, pattern) for pattern in allowed)


def check_secrets(services: Sequence[Service], allowed: Sequence[str]) -> None:
    """Check which environment variables services ask for.

    Raises:
        InvalidRequest: one asks for a variable that none of the patterns `allowed` fits.
    """
    expected = f"a name like {' or '.join(allowed)}" if allowed else "none: no name is allowed"
    violations = tuple(
        Violation(
            pointer=f"/services/{number}/bearerEnv",
            message="is no variable that services may be sent; the setting pools.secret_env says",
            found=service.bearer_env,
            expected=expected,
        )
        for number, service in enumerate(services)
        if service.bearer_env is not None and not may_be_sent(service.bearer_env, allowed)
    )
    if violations:
        raise InvalidRequest("a service asks for a variable that it may not have", violations)
