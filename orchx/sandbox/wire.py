"""Reads requests and writes replies as ASGI messages, and cuts connections on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from orchx.sandbox.faults import NO_FAULT, Fault
from orchx.sandbox.problems import Problem
from orchx.sandbox.replies import Reply
from orchx.sandbox.wrong_answers import spoiled

BODY_MAX_BYTES: Final = 1 << 20
_FLOOD_CHUNK: Final = b"x" * (1 << 16)
_DROP_EXTENSION: Final = "orchx.sandbox.drop"


class CuttableProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose connection the application can cut: ASGI has no message for it."""

    def on_message_begin(self) -> None:
        """Add the extension that `drop_connection` looks for to the scope."""
        super().on_message_begin()
        self.scope["extensions"] = {_DROP_EXTENSION: {"abort": self.transport.abort}}


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of this lower-case name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


async def read_body(receive: Receive) -> bytes:
    """Read the whole request body.

    Raises:
        Problem: 413 above `BODY_MAX_BYTES`.
    """
    body = b""
    while True:
        message = await receive()
        chunk: bytes = message.get("body", b"")
        body += chunk
        if len(body) > BODY_MAX_BYTES:
            raise Problem(413, "body-too-large", f"At most {BODY_MAX_BYTES} bytes are read.")
        if not message.get("more_body", False):
            return body


async def send_reply(send: Send, reply: Reply) -> None:
    """Write a reply, with its flood when it has one."""
    headers = [(b"content-type", reply.content_type), *reply.headers]
    if not reply.flood_bytes:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    remaining_bytes = reply.flood_bytes
    await send({"type": "http.response.body", "body": reply.body, "more_body": remaining_bytes > 0})
    while remaining_bytes > 0:
        chunk = _FLOOD_CHUNK[:remaining_bytes]
        remaining_bytes -= len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": remaining_bytes > 0})


async def drop_connection(scope: Scope, receive: Receive) -> None:
    """Cut the connection without an answer, and return once the server has noticed."""
    abort: Callable[[], Any] = scope["extensions"][_DROP_EXTENSION]["abort"]
    abort()
    # Returning earlier would make the server report a handler that did not answer.
    while (await receive())["type"] != "http.disconnect":
        pass


async def exchange(
    scope: Scope,
    receive: Receive,
    send: Send,
    fault: Fault,
    answer: Callable[[bytes], Awaitable[Reply]],
) -> None:
    """Answer one call, disturbed by `fault`.

    Args:
        scope: ASGI scope of the call.
        receive: ASGI receive.
        send: ASGI send.
        fault: what goes wrong with this call.
        answer: does the work for a request body; it may raise `Problem`.
    """
    if fault.drop:
        await drop_connection(scope, receive)
        return
    try:
        body = await read_body(receive)
        if fault is NO_FAULT:
            reply = await answer(body)
        else:
            reply = await _disturbed(fault, body, answer)
    except Problem as problem:
        reply = problem.reply()
    if fault.lose_response and reply.status < 300:
        await drop_connection(scope, receive)
        return
    await send_reply(send, reply)


async def _disturbed(
    fault: Fault, body: bytes, answer: Callable[[bytes], Awaitable[Reply]]
) -> Reply:
    if fault.delay_s:
        await asyncio.sleep(fault.delay_s)
    if fault.status is not None:
        headers: tuple[tuple[bytes, bytes], ...] = ()
        if fault.retry_after_s is not None:
            headers = ((b"retry-after", str(fault.retry_after_s).encode()),)
        raise Problem(fault.status, "injected-fault", "Failing on request.", headers=headers)
    reply = await answer(body)
    if fault.wrong_answer is None:
        return reply
    return spoiled(reply, fault.wrong_answer, fault.flood_bytes)
