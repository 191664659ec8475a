"""Every error that orchx raises on purpose: one tree, read from the top.

OrchxError
├── CallerError              the caller must change something (HTTP 4xx)
│   ├── InvalidDocument      a definition is not a valid workflow document
│   ├── InvalidRequest       a request body, query or argument is wrong
│   ├── UnsupportedFeature   valid DSL that this release does not run
│   ├── NotFound             no such workflow, definition, delivery
│   ├── Conflict             the same key was used for something else
│   ├── Unauthenticated      no credential, or a wrong one
│   ├── Forbidden            the credential lacks the scope
│   └── TooLarge             a body or document is over its limit
├── TryLater                 nothing is wrong with the request; retry after a while
│   ├── Overloaded           a tenant's share, or the number of open streams, is full
│   └── Unavailable          a part of orchx is starting, failing over or out of reach
│       └── NoAnswer         it was asked and said nothing within the time limit
├── Final                    nobody can act: it is over
│   ├── Fenced               another owner has taken this workflow
│   └── StorageFull          the disk took no more; nothing was acknowledged
├── DriverError              a driver failed (SQLite, Ray, HTTP, ...); raised `from` its error
└── Bug                      orchx broke one of its own rules

Whose fault an error is, is in its type: that is what a caller decides on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing wrong in a document or body.

    `pointer` is an RFC 6901 JSON pointer to the fault, `line` the 1-based line in the
    YAML source where there is one, `found` and `expected` say what stood there and
    what may stand there.
    """

    pointer: str
    message: str
    found: str | None = None
    expected: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        where = self.pointer or "/"
        if self.line is not None:
            where += f" (line {self.line})"
        text = f"{where}: {self.message}"
        if self.expected is not None:
            text += f"; expected {self.expected}"
        if self.found is not None:
            text += f", found {self.found}"
        return text


class OrchxError(Exception):
    """The root of the tree above.

    `idempotency_key` is there when a client's submission failed: the same request sent again
    with it never starts a second workflow.
    """

    status = 500
    title = "Internal error"
    idempotency_key: str | None = None


class CallerError(OrchxError):
    """The caller must change something; `violations` say what and where."""

    status = 400
    title = "Bad request"

    def __init__(self, detail: str, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.violations = violations

    def __reduce__(self) -> tuple[type[CallerError], tuple[str, tuple[Violation, ...]]]:
        return type(self), (self.detail, self.violations)

    def __str__(self) -> str:
        return "\n".join([self.detail, *(f"  {violation}" for violation in self.violations)])


class InvalidDocument(CallerError):
    """A definition is not a valid Serverless Workflow document."""

    status = 422
    title = "Invalid workflow document"


class InvalidRequest(CallerError):
    """A request body, query or argument is wrong."""

    status = 422
    title = "Invalid request"


class UnsupportedFeature(CallerError):
    """A valid document uses a part of the DSL that this release does not run."""

    status = 422
    title = "Unsupported workflow feature"


class NotFound(CallerError):
    """There is no such workflow, definition or delivery."""

    status = 404
    title = "Not found"


class Conflict(CallerError):
    """The same key was used before for something else."""

    status = 409
    title = "Conflict"


class Unauthenticated(CallerError):
    """No credential was given, or a wrong one."""

    status = 401
    title = "Unauthenticated"


class Forbidden(CallerError):
    """The credential lacks the scope that this needs."""

    status = 403
    title = "Forbidden"


class TooLarge(CallerError):
    """A body or document is over its limit."""

    status = 413
    title = "Too large"


class TryLater(OrchxError):
    """The same request may succeed after `retry_after_s` seconds."""

    status = 503
    title = "Try later"

    def __init__(self, detail: str, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[type[TryLater], tuple[str, float]]:
        return type(self), (self.detail, self.retry_after_s)


class Overloaded(TryLater):
    """A tenant's share of the backlog is full, or as many streams are open as may."""

    status = 429
    title = "Too many requests"


class Unavailable(TryLater):
    """A part of orchx is starting, failing over or out of reach; or the backlog is full."""

    title = "Unavailable"


class NoAnswer(Unavailable):
    """A part of orchx was asked and said nothing within the time limit."""


class Final(OrchxError):
    """Nobody can act on this; it is over."""


class Fenced(Final):
    """Another owner has taken this workflow; what this one does counts no more."""

    title = "Fenced"


class StorageFull(Final):
    """The disk took no more. What was not acknowledged was not stored."""

    status = 507
    title = "Storage full"


class DriverError(OrchxError):
    """A driver failed; the cause is chained."""

    status = 503
    title = "Storage or transport failure"


class Bug(OrchxError):
    """orchx broke one of its own rules: please report it."""
