"""Limits on the head of every request, kept before anything else sees it: pure ASGI.

The body is read later (`request_bodies`), once it is known that the caller may send it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchx.errors import CallerError, OrchxError, TooLarge, Unavailable
from orchx.serve.problems import HttpError, problem_response
from orchx.serve.trace_context import trace_id_of, traceparent_from

MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32_768
MAX_TARGET_BYTES: Final = 8_192  # path and query
MAX_LENGTH_DIGITS: Final = 18
BODY_TIMEOUT_S: Final = 30.0
MAX_BUFFERED_BYTES: Final = 64 * 1024 * 1024  # of all bodies that a process holds
MAX_WRITES: Final = 500
_READING: Final = ("GET", "HEAD", "OPTIONS")
_PLACE: Final = "orchx.place"

_log = structlog.get_logger("orchx.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLimits:
    """What a request may bring along; sizes in bytes, times in seconds."""

    max_body_bytes: int
    max_headers: int = MAX_HEADERS
    max_header_bytes: int = MAX_HEADER_BYTES
    max_target_bytes: int = MAX_TARGET_BYTES
    body_timeout_s: float = BODY_TIMEOUT_S
    max_buffered_bytes: int = MAX_BUFFERED_BYTES
    max_writes: int = MAX_WRITES  # requests that change something, at work in one process


class LimitsMiddleware:
    """Refuses what is over a limit with a problem document; everything else goes on.

    A crowd that comes back after an outage is more than a process can do while its clients, and
    those who ask whether it lives, still wait: beyond `max_writes` it is told to try later, which
    costs little. Who sends a body slowly, or only waits for the end of a workflow, does not count.
    """

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self._app = app
        self._limits = limits
        self._writes = _Count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the ASGI server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_open_ended = any(True for _ in _values(scope["headers"], b"transfer-encoding"))
        try:
            length = self._check_head(scope)
        except CallerError as error:
            await _refuse(error, scope, receive, send)
            return
        if scope["method"] in _READING:
            await self._serve(scope, receive, send, length, is_open_ended=is_open_ended)
            return
        if self._writes.value >= self._limits.max_writes:
            busy = Unavailable(f"{self._writes.value} requests are being worked on here already")
            await _refuse(busy, scope, receive, send, closes=is_open_ended)
            return
        scope[_PLACE] = place = _Place(self._writes)
        try:
            await self._serve(
                scope, place.around(receive), send, length, is_open_ended=is_open_ended
            )
        finally:
            place.end()

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, length: int | None, *, is_open_ended: bool
    ) -> None:
        if length or is_open_ended:
            rest = _Rest(receive, send, is_open_ended=is_open_ended)
            await self._app(scope, rest.receive, rest.send)
        else:
            await self._app(scope, receive, send)

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


def only_waits(scope: Scope) -> None:
    """Note that all work of a request is done, and that it only waits for something now."""
    if (place := scope.get(_PLACE)) is not None:
        place.end()


@dataclass(slots=True)
class _Count:
    value: int = 0


class _Place:
    """One request among those that a process works on, until it ends."""

    def __init__(self, count: _Count) -> None:
        self._count = count
        self._counts = False
        self._ended = False
        self._set(True)

    def end(self) -> None:
        """Count no more."""
        self._set(False)
        self._ended = True

    def around(self, receive: Receive) -> Receive:
        """Return a `receive` that does not count while it waits."""

        async def receiving() -> Message:
            self._set(False)
            try:
                return await receive()
            finally:
                self._set(True)

        return receiving

    def _set(self, counts: bool) -> None:
        if self._counts != counts and not self._ended:
            self._counts = counts
            self._count.value += 1 if counts else -1


class _Rest:
    """What is left of one body when the answer begins: its connection may have to be closed.

    A body of known length that nobody asked for is passed over by the server. One without a
    known end, and one that was given up half-way, may go on for ever.
    """

    def __init__(self, receive: Receive, send: Send, *, is_open_ended: bool) -> None:
        self._receive = receive
        self._send = send
        self._is_endless = is_open_ended

    async def receive(self) -> Message:
        """Pass on a part of the body."""
        self._is_endless = True
        message = await self._receive()
        self._is_endless = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a part of the answer."""
        if message["type"] == "http.response.start" and self._is_endless:
            message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
        await self._send(message)


def _values(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> Iterable[bytes]:
    return (value for name, value in headers if name == wanted)


async def _refuse(
    error: OrchxError, scope: Scope, receive: Receive, send: Send, *, closes: bool = True
) -> None:
    given = next(iter(_values(scope["headers"], b"traceparent")), b"")
    trace_id = trace_id_of(traceparent_from(given.decode("latin-1")))
    response = problem_response(error, instance=scope["path"], trace_id=trace_id)
    if closes:  # what is left of the body is not read: the connection cannot be used again
        response.headers["Connection"] = "close"
    _log.info("request refused", status=response.status_code, trace_id=trace_id)
    await response(scope, receive, send)
