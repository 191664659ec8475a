"""Reads the bodies of requests that have been authorised, within limits.

Each is bounded in size and time, and all that a process holds are bounded together: who may
send much at once makes others wait, but cannot use up the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from starlette.types import Message, Receive

from orchx.errors import TooLarge, Unavailable
from orchx.serve.limits import RequestLimits
from orchx.serve.problems import HttpError

Release: TypeAlias = Callable[[], None]


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


class RequestBodies:
    """All bodies that this process holds; one for all connections, on one event loop."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        # A body that may be sent must fit, if nothing else is there.
        self._room_bytes = max(limits.max_buffered_bytes, limits.max_body_bytes)

    @asynccontextmanager
    async def receive(self, receive: Receive) -> AsyncIterator[tuple[Receive, Release]]:
        """Read a whole body; while it is held, what is given says it again, as one message.

        The second thing given lets go of it before the request is over, for whoever has stored
        what was in it and only waits.

        Raises:
            TooLarge: it is over the limit for one.
            HttpError: 408, it did not arrive in time.
            Unavailable: there is no room for it beside the others.
            ClientGone: it will never be complete.
        """
        held = _Held()

        def release() -> None:
            self._room_bytes += held.size_bytes
            held.size_bytes = 0

        try:
            yield _replay(await self._read(receive, held), receive), release
        finally:
            release()

    async def _read(self, receive: Receive, held: _Held) -> bytes:
        timeout_s = self._limits.body_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._collect(receive, held)
        except TimeoutError:
            raise HttpError(408, f"the body did not arrive within {timeout_s:g} s") from None

    async def _collect(self, receive: Receive, held: _Held) -> bytes:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part: bytes = message.get("body", b"")
            self._hold(len(part), held)
            is_last = not message.get("more_body", False)
            if is_last and not body:
                return part
            body += part
            if is_last:
                return bytes(body)

    def _hold(self, part_bytes: int, held: _Held) -> None:
        if held.size_bytes + part_bytes > self._limits.max_body_bytes:
            raise TooLarge(f"a body of over {self._limits.max_body_bytes} bytes")
        if part_bytes > self._room_bytes:
            raise Unavailable("too many large requests are being handled")
        self._room_bytes -= part_bytes
        held.size_bytes += part_bytes


class _Held:
    """How much of the room one body takes."""

    __slots__ = ("size_bytes",)

    def __init__(self) -> None:
        self.size_bytes = 0


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once, then what the server has to say."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay
