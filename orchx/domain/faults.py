"""Workflow errors as the DSL describes them: RFC 9457 problem details, as data.

These are values that flow through a workflow (raised, caught, retried, recorded), not
Python exceptions; `WorkflowFault` carries one to the place where it becomes an event.
Source: Serverless Workflow DSL 1.0.3, "Error" and "Standard Error Types".
"""

from __future__ import annotations

from typing import Final

import msgspec

STANDARD_PREFIX: Final = "https://serverlessworkflow.io/spec/1.0.0/errors/"
CONFIGURATION: Final = STANDARD_PREFIX + "configuration"
VALIDATION: Final = STANDARD_PREFIX + "validation"
EXPRESSION: Final = STANDARD_PREFIX + "expression"
AUTHENTICATION: Final = STANDARD_PREFIX + "authentication"
AUTHORIZATION: Final = STANDARD_PREFIX + "authorization"
TIMEOUT: Final = STANDARD_PREFIX + "timeout"
COMMUNICATION: Final = STANDARD_PREFIX + "communication"
RUNTIME: Final = STANDARD_PREFIX + "runtime"

DEFAULT_STATUS: Final = {
    CONFIGURATION: 400,
    VALIDATION: 400,
    EXPRESSION: 400,
    AUTHENTICATION: 401,
    AUTHORIZATION: 403,
    TIMEOUT: 408,
    COMMUNICATION: 500,
    RUNTIME: 500,
}


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One workflow error.

    `instance` is the reference of the task that raised it; `retry_after_ms` is what the
    service asked for, if it did.
    """

    type: str
    status: int
    title: str = ""
    detail: str | None = None
    instance: str | None = None
    retry_after_ms: int | None = None

    def as_json(self) -> dict[str, object]:
        """Return what `$error` holds inside a catch: every member that is set."""
        built: dict[str, object] = {"type": self.type, "status": self.status, "title": self.title}
        if self.detail is not None:
            built["detail"] = self.detail
        if self.instance is not None:
            built["instance"] = self.instance
        return built


def did_not_act(fault: Fault) -> bool:
    """Return whether a fault says for sure that the service did nothing.

    It was not reached (503), turned the call away (429), or refused it (any other 4xx but
    408). After a timeout, a lost connection or a 5xx of its own nobody knows.
    """
    return fault.status == 503 or (400 <= fault.status < 500 and fault.status != 408)


class WorkflowFault(Exception):
    """Carries a `Fault` up to the interpreter, which records it as an event."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.type} ({fault.status}): {fault.detail or fault.title}")
        self.fault = fault


def standard(
    kind: str, title: str, *, detail: str | None = None, status: int | None = None
) -> Fault:
    """Return a fault of one of the standard types above, with its default status."""
    return Fault(type=kind, status=status or DEFAULT_STATUS[kind], title=title, detail=detail)
