"""Limits on every request, kept before anything parses it: pure ASGI, no framework.

The whole body is read here, bounded in size and time, and handed on as one message; what
the application then sees is a small, complete request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchx.errors import CallerError, TooLarge
from orchx.serve.problems import HttpError, problem_response
from orchx.serve.trace_context import trace_id_of, traceparent_from

MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32_768
MAX_TARGET_BYTES: Final = 8_192  # path and query
MAX_LENGTH_DIGITS: Final = 18
BODY_TIMEOUT_S: Final = 30.0

_log = structlog.get_logger("orchx.serve")


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a request may bring along; sizes in bytes, times in seconds."""

    max_body_bytes: int
    max_headers: int = MAX_HEADERS
    max_header_bytes: int = MAX_HEADER_BYTES
    max_target_bytes: int = MAX_TARGET_BYTES
    body_timeout_s: float = BODY_TIMEOUT_S


class LimitsMiddleware:
    """Refuses what is over a limit with a problem document; everything else goes on."""

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the ASGI server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            length = self._check_head(scope)
            body = await self._read_body(receive, length)
        except ClientGone:
            return
        except CallerError as error:
            await _refuse(error, scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    def _check_head(self, scope: Scope) -> int | None:
        limits = self._limits
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(headers) > limits.max_headers:
            raise HttpError(431, f"{len(headers)} headers; at most {limits.max_headers} are taken")
        if sum(len(name) + len(value) for name, value in headers) > limits.max_header_bytes:
            raise HttpError(431, f"headers of over {limits.max_header_bytes} bytes")
        target_bytes = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if target_bytes > limits.max_target_bytes:
            raise HttpError(414, f"path and query of over {limits.max_target_bytes} bytes")
        encodings = list(_values(headers, b"content-encoding"))
        if any(encoding.strip().lower() not in (b"", b"identity") for encoding in encodings):
            raise HttpError(
                415, "compressed bodies are not taken", headers={"Accept-Encoding": "identity"}
            )
        lengths = set(_values(headers, b"content-length"))
        if not lengths:
            return None
        literal = lengths.pop()
        if lengths or not literal.isdigit() or len(literal) > MAX_LENGTH_DIGITS:
            raise HttpError(400, "Content-Length is not a number of bytes")
        if int(literal) > limits.max_body_bytes:
            raise TooLarge(f"a body of over {limits.max_body_bytes} bytes")
        return int(literal)

    async def _read_body(self, receive: Receive, length: int | None) -> bytes:
        if length == 0:
            return b""
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                return await self._collect(receive)
        except TimeoutError:
            timeout_s = self._limits.body_timeout_s
            raise HttpError(408, f"the body did not arrive within {timeout_s:g} s") from None

    async def _collect(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self._limits.max_body_bytes:
                raise TooLarge(f"a body of over {self._limits.max_body_bytes} bytes")
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> Iterable[bytes]:
    return (value for name, value in headers if name == wanted)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, then what the server has to say."""
    pending = True

    async def replay() -> Message:
        nonlocal pending
        if pending:
            pending = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


async def _refuse(error: CallerError, scope: Scope, receive: Receive, send: Send) -> None:
    given = next(iter(_values(scope["headers"], b"traceparent")), b"")
    trace_id = trace_id_of(traceparent_from(given.decode("latin-1")))
    response = problem_response(error, instance=scope["path"], trace_id=trace_id)
    # What is left of the body is not read: the connection cannot be used again.
    response.headers["Connection"] = "close"
    _log.info("request refused", status=response.status_code, trace_id=trace_id)
    await response(scope, receive, send)
