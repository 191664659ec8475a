"""How long a call may take, and what is said when it took longer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from orchx.domain.faults import COMMUNICATION, RUNTIME, TIMEOUT, Fault, standard
from orchx.domain.messages import TaskRequest
from orchx.domain.services import Service

LEASE_GRACE_MS: Final = 2_000
"""How long a cut call may take to clean up before its slot is given to another."""

REFUSED_RETRY_MS: Final = 1_000
"""When a call that found no room may come back."""

TimeoutOf: TypeAlias = Callable[[TaskRequest], int | None]


def no_timeout(request: TaskRequest) -> int | None:
    """Say that functions have no timeouts of their own."""
    return None


def service_timeout_ms(service: Service, capability: str) -> int:
    """Return what a service allows for a capability: the operation's timeout, or its own."""
    for operation in service.operations:
        if operation.capability == capability and operation.timeout_ms is not None:
            return operation.timeout_ms
    return service.timeout_ms


def call_timeout_ms(
    request: TaskRequest,
    services: Mapping[str, Service],
    default_ms: int,
    timeout_of: TimeoutOf = no_timeout,
) -> int:
    """Return how many milliseconds a call may run: the least of what names a timeout.

    The call, its service (the operation before the service) and its function may name
    one; `default_ms` is for calls where none does. `deadline_at_ms` is the caller's to apply.
    """
    least = request.call.timeout_ms
    name = request.call.service
    if name is not None and name in services:
        allowed = service_timeout_ms(services[name], request.call.function)
        least = allowed if least is None or allowed < least else least
    own = timeout_of(request)
    if own is not None and (least is None or own < least):
        least = own
    return default_ms if least is None else least


def timed_out(request: TaskRequest, after_ms: int) -> Fault:
    """Return the fault of a call that was cut."""
    detail = f"{request.call.function} did not end within {after_ms} ms"
    return standard(TIMEOUT, "call timed out", detail=detail)


def waited_too_long(request: TaskRequest, after_ms: int) -> Fault:
    """Return the fault of a call whose deadline came before its turn."""
    detail = f"{request.call.function} waited {after_ms} ms for its turn and was not begun"
    return standard(TIMEOUT, "deadline passed in the queue", detail=detail)


def circuit_open(service: str, open_ms: int) -> Fault:
    """Return the fault of a call that a breaker, open for `open_ms`, keeps from its service."""
    detail = f"service {service} has failed too often in a row and is left alone for a while"
    return _try_later("circuit open", detail, open_ms)


def no_room(what: str, limit: int) -> Fault:
    """Return the fault of a call that found a full queue."""
    return _try_later("task queue full", f"{what} holds {limit} calls already", REFUSED_RETRY_MS)


def draining() -> Fault:
    """Return the fault of a call that came to a pool on its way out."""
    return _try_later("task pool draining", "this task pool is shutting down", REFUSED_RETRY_MS)


def _try_later(title: str, detail: str, retry_after_ms: int) -> Fault:
    return Fault(
        type=COMMUNICATION, status=503, title=title, detail=detail, retry_after_ms=retry_after_ms
    )


def broken_runner(error: BaseException) -> Fault:
    """Return the fault of a call whose runner broke its promise never to raise."""
    return standard(
        RUNTIME, "task runner failed", detail=f"{type(error).__name__}: {error}"[:1_024]
    )
