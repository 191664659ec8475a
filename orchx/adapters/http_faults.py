"""Everything that can go wrong with an HTTP call, as the DSL's errors."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import aiohttp
import msgspec

from orchx.adapters.address_guard import AddressRefused
from orchx.adapters.retry_after import retry_after_ms
from orchx.domain import faults
from orchx.domain.faults import Fault

MAX_DETAIL_CHARS: Final = 1_024


def transport_fault(error: Exception, where: str) -> Fault:
    """Return the fault for what the client raised; `where` names the URL without its query."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _communication("connection timed out", where, 504)
    if isinstance(error, TimeoutError):
        return faults.standard(faults.TIMEOUT, "service did not answer in time", detail=where)
    refusal = _refusal(error)
    if refusal is not None:
        return faults.standard(faults.AUTHORIZATION, "address refused", detail=str(refusal))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _communication("host name does not resolve", where, 503)
    if isinstance(error, aiohttp.ClientSSLError | aiohttp.ServerFingerprintMismatch):
        return _communication("TLS handshake failed", where, 502)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _communication("cannot connect", f"{where}: {error.os_error.strerror}", 503)
    if isinstance(error, aiohttp.InvalidURL):
        return faults.standard(faults.CONFIGURATION, "not a URL", detail=where)
    if isinstance(error, aiohttp.ClientResponseError):
        return _communication("not a valid HTTP response", where, 502)
    if isinstance(error, aiohttp.ClientPayloadError):
        return _communication("response ended early or is garbled", where, 502)
    return _communication("connection lost", f"{where}: {type(error).__name__}", 502)


def status_fault(
    status: int, headers: Mapping[str, str], content_type: str, body: bytes, now_ms: int
) -> Fault:
    """Return the fault for a response that is an error; problem details are passed on."""
    title = f"HTTP {status}"
    with contextlib.suppress(ValueError):  # a status that nobody has registered
        title += f" {HTTPStatus(status).phrase}"
    detail: str | None = None
    if content_type.endswith("json"):
        try:
            problem = msgspec.json.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            problem = None
        if isinstance(problem, dict):
            if isinstance(problem.get("title"), str) and problem["title"]:
                title = problem["title"]
            if isinstance(problem.get("detail"), str):
                detail = problem["detail"]
    elif content_type == "text/plain":
        detail = body[: 4 * MAX_DETAIL_CHARS].decode("utf-8", "replace")
    return Fault(
        type=faults.COMMUNICATION,
        status=status,
        title=title[:MAX_DETAIL_CHARS],
        detail=detail[:MAX_DETAIL_CHARS] if detail else None,
        retry_after_ms=retry_after_ms(headers.get("Retry-After"), now_ms),
    )


def bad_answer(title: str, detail: str) -> Fault:
    """Return the fault for an answer that breaks its own format or our limits."""
    return _communication(title, detail, 502)


def _refusal(error: BaseException) -> AddressRefused | None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AddressRefused):
            return cause
        cause = cause.__cause__
    return None


def _communication(title: str, detail: str, status: int) -> Fault:
    detail = detail[:MAX_DETAIL_CHARS]
    return faults.standard(faults.COMMUNICATION, title, detail=detail, status=status)
