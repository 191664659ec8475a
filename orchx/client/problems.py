"""From an answer that is an error (RFC 9457) to the exception of `orchx.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from orchx.client.steps import Reply
from orchx.errors import (
    Bug,
    CallerError,
    Conflict,
    DriverError,
    Forbidden,
    InvalidDocument,
    InvalidRequest,
    NotFound,
    OrchxError,
    Overloaded,
    StorageFull,
    TooLarge,
    TryLater,
    Unauthenticated,
    Unavailable,
    UnsupportedFeature,
    Violation,
)

TYPE_PREFIX: Final = "/problems/"
MAX_EXCERPT_CHARS: Final = 200
DEFAULT_RETRY_AFTER_S: Final = 1.0

_CALLER_ERRORS: Final[Mapping[str, type[CallerError]]] = {
    "invalid-request": InvalidRequest,
    "invalid-workflow-document": InvalidDocument,
    "unsupported-workflow-feature": UnsupportedFeature,
    "not-found": NotFound,
    "conflict": Conflict,
    "unauthenticated": Unauthenticated,
    "forbidden": Forbidden,
    "too-large": TooLarge,
}
# For answers without a problem document: a proxy's, or another server's.
_BY_STATUS: Final[Mapping[int, type[CallerError]]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: InvalidRequest,
}


class _Fault(msgspec.Struct, frozen=True):
    pointer: str = ""
    detail: str = ""
    found: str | None = None
    expected: str | None = None
    line: int | None = None


class _Problem(msgspec.Struct, frozen=True, rename="camel"):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    trace_id: str = ""
    errors: tuple[_Fault, ...] = ()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return what `Retry-After` says in seconds; None without one (or with a date)."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def error_of(reply: Reply) -> OrchxError:
    """Return the exception for an answer whose status is not 2xx."""
    problem = _problem_of(reply)
    kind = problem.type.removeprefix(TYPE_PREFIX) if problem is not None else ""
    detail = _detail(reply, problem)
    if kind == "storage-full" or reply.status == 507:
        return StorageFull(detail)
    if reply.status in (429, 502, 503, 504):
        later: type[TryLater] = Unavailable
        if kind == "too-many-requests" or reply.status == 429:
            later = Overloaded
        asked = retry_after_s(reply.headers)
        return later(detail, DEFAULT_RETRY_AFTER_S if asked is None else asked)
    if 400 <= reply.status < 500:
        violations = tuple(map(_violation, problem.errors)) if problem is not None else ()
        error = _CALLER_ERRORS.get(kind) or _BY_STATUS.get(reply.status, CallerError)
        return error(detail, violations)
    if kind == "internal-error" and problem is not None:
        return Bug(f"{detail} (trace {problem.trace_id})" if problem.trace_id else detail)
    return DriverError(detail)


def unreadable(reply: Reply, error: Exception) -> DriverError:
    """Return the exception for a 2xx whose body is not what orchx answers."""
    return DriverError(f"not an answer of orchx ({error}): {_excerpt(reply)}; is the URL right?")


def _problem_of(reply: Reply) -> _Problem | None:
    if not reply.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        return msgspec.json.decode(reply.body, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _detail(reply: Reply, problem: _Problem | None) -> str:
    if problem is None:
        return f"the server answered {reply.status}: {_excerpt(reply)}"
    return problem.detail or problem.title or f"the server answered {reply.status}"


def _violation(fault: _Fault) -> Violation:
    return Violation(
        pointer=fault.pointer,
        message=fault.detail,
        found=fault.found,
        expected=fault.expected,
        line=fault.line,
    )


def _excerpt(reply: Reply) -> str:
    text = " ".join(reply.body[: 4 * MAX_EXCERPT_CHARS].decode("utf-8", "replace").split())
    return (text[:MAX_EXCERPT_CHARS] or "nothing") if text.isprintable() else "binary data"


def parts_of(reply: Reply) -> dict[str, str]:
    """Return the `parts` of a readiness answer, ready or not; empty if it has none."""
    try:
        document: Any = msgspec.json.decode(reply.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    parts = document.get("parts") if isinstance(document, dict) else None
    return {str(key): str(value) for key, value in parts.items()} if isinstance(parts, dict) else {}
