"""Carries out plans on an asyncio event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from orchx.client.connection import Connection, reply_of
from orchx.client.method import as_method
from orchx.client.retries import with_retries
from orchx.client.steps import Emit, Now, Pause, Plan, Read, Send, Step

P = ParamSpec("P")
T = TypeVar("T")


class AsynchronousDriver:
    """Runs plans over one pool of connections; the tasks of one event loop may share it."""

    def __init__(self, connection: Connection, transport: httpx.AsyncBaseTransport | None) -> None:
        self._connection = connection
        self._http = httpx.AsyncClient(transport=transport, **connection.http_options())

    async def run(self, plan: Plan[T]) -> T:
        """Carry out a plan and return its result."""
        async with _Performance(self._http, self._connection, plan) as performance:
            async with aclosing(performance.emitted()) as emitted:
                async for _ in emitted:
                    pass
            result: T = performance.result
            return result

    async def iterate(self, plan: Plan[None]) -> AsyncGenerator[Any, None]:
        """Carry out a plan as far as the caller takes what it emits."""
        async with (
            _Performance(self._http, self._connection, plan) as performance,
            aclosing(performance.emitted()) as emitted,
        ):
            async for value in emitted:
                yield value

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


class _Performance:
    """One plan on its way, with the stream that it may have open."""

    def __init__(self, http: httpx.AsyncClient, connection: Connection, plan: Plan[Any]) -> None:
        self._http = http
        self._connection = connection
        self._plan = with_retries(plan, connection.retries)
        self._stream: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self.result: Any = None

    async def __aenter__(self) -> _Performance:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._plan.close()
        await self._end_stream()

    async def emitted(self) -> AsyncGenerator[Any, None]:
        reply: Any = None
        while True:
            try:
                step = self._plan.send(reply)
            except StopIteration as stop:
                self.result = stop.value
                return
            reply = None
            if isinstance(step, Emit):
                yield step.value
            else:
                reply = await self._perform(step)

    async def _perform(self, step: Step) -> Any:
        try:
            if isinstance(step, Send):
                return await self._send(step)
            if isinstance(step, Read):
                return b"" if self._pieces is None else await anext(self._pieces, b"")
        except httpx.TransportError as error:
            return self._connection.lost(error)
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        return time.monotonic() if isinstance(step, Now) else None

    async def _send(self, step: Send) -> Any:
        await self._end_stream()
        request = self._http.build_request(**self._connection.request_options(step))
        response = await self._http.send(request, stream=step.stream)
        if step.stream:
            self._stream = response
            if response.status_code == 200:
                self._pieces = response.aiter_bytes()
                return reply_of(response, b"")
            await response.aread()
        return reply_of(response, response.content)

    async def _end_stream(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
        self._stream, self._pieces = None, None


def asynchronous(
    operation: Callable[P, Plan[T]],
) -> Callable[Concatenate[Any, P], Awaitable[T]]:
    """Return the method that carries out an operation and returns its result when awaited."""

    async def method(face: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        driver: AsynchronousDriver = face._driver
        return await driver.run(operation(*args, **kwargs))

    return as_method(method, operation)


def asynchronous_iterator(
    operation: Callable[P, Plan[None]], kind: type[T]
) -> Callable[Concatenate[Any, P], AsyncGenerator[T, None]]:
    """Return the method that iterates over what an operation emits, which is of `kind`."""

    def method(face: Any, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        driver: AsynchronousDriver = face._driver
        return driver.iterate(operation(*args, **kwargs))

    return as_method(method, operation)
