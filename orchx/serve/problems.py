"""Errors as RFC 9457 problem details: the one shape of everything that goes wrong.

Beyond orchx's own tree (`orchx.errors`), HTTP has errors of its own: `HttpError`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from orchx.errors import (
    CallerError,
    OrchxError,
    TryLater,
    Unauthenticated,
    Violation,
)

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "/problems/"
MAX_VIOLATIONS: Final = 50
MAX_DETAIL_CHARS: Final = 1000
MAX_INSTANCE_CHARS: Final = 500
RETRY_AFTER_S: Final = 1  # for a storage or transport failure that does not say when

_TITLES: Final[Mapping[int, str]] = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    413: "Too large",
    414: "URI too long",
    415: "Unsupported media type",
    431: "Headers too large",
    500: "Internal error",
    503: "Unavailable",
}


class HttpError(CallerError):
    """An error that only HTTP has: a wrong method, media type, size of headers, ...

    Args:
        status: the HTTP status, 400 to 499.
        detail: what is wrong with this request.
        violations: what and where, if it is in the body.
        headers: what the status demands (405: `Allow`).
    """

    def __init__(
        self,
        status: int,
        detail: str,
        violations: tuple[Violation, ...] = (),
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, violations)
        self.status = status
        self.title = _TITLES[status]
        self.headers = dict(headers or {})


def invalid_json(detail: str, violation: Violation | None = None) -> HttpError:
    """Return the 400 for a body that is no acceptable JSON."""
    return HttpError(400, detail, () if violation is None else (violation,))


def problem_response(error: BaseException, *, instance: str, trace_id: str) -> Response:
    """Return the answer for an error; what is not one of ours becomes an opaque 500.

    Args:
        error: what was raised.
        instance: path of the request.
        trace_id: names the request in the logs.
    """
    status = error.status if isinstance(error, OrchxError) else 500
    title = error.title if isinstance(error, OrchxError) else _TITLES[500]
    violations: tuple[Violation, ...] = ()
    detail = "Something went wrong inside orchx; its log has the cause under this trace id."
    headers: dict[str, str] = {}
    if isinstance(error, CallerError):
        detail, violations = error.detail, error.violations
    elif isinstance(error, TryLater):
        detail = error.detail
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    elif status == 507:
        detail = "The disk took no more; nothing of this request was stored."
    elif status == 503:
        detail = "A store or a transport failed; nothing is known to have been stored."
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if isinstance(error, HttpError):
        headers.update(error.headers)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="orchx"'
    document = {
        "type": TYPE_PREFIX + _kebab_case(title),
        "title": title,
        "status": status,
        "detail": printable(detail, MAX_DETAIL_CHARS),
        "instance": printable(instance, MAX_INSTANCE_CHARS),
        "traceId": trace_id,
        "errors": [_as_json(violation) for violation in violations[:MAX_VIOLATIONS]],
    }
    parts = getattr(error, "parts", None)
    if parts is not None:
        document["parts"] = dict(parts)
    return Response(
        msgspec.json.encode(document), status_code=status, headers=headers, media_type=CONTENT_TYPE
    )


def printable(text: str, limit: int) -> str:
    """Return text that any encoder takes, cut to `limit` characters."""
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text.encode("utf-8", "replace").decode()


def _as_json(violation: Violation) -> dict[str, Any]:
    def cut(text: str | None) -> str | None:
        return None if text is None else printable(text, MAX_DETAIL_CHARS)

    return {
        "pointer": cut(violation.pointer),
        "detail": cut(violation.message),
        "found": cut(violation.found),
        "expected": cut(violation.expected),
        "line": violation.line,
    }


def _kebab_case(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
