"""Carries out plans on the calling thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from orchx.client.connection import Connection, reply_of
from orchx.client.method import as_method
from orchx.client.retries import with_retries
from orchx.client.steps import Emit, Now, Pause, Plan, Read, Send, Step

P = ParamSpec("P")
T = TypeVar("T")


class BlockingDriver:
    """Runs plans over one pool of connections; threads may share it."""

    def __init__(self, connection: Connection, transport: httpx.BaseTransport | None) -> None:
        self._connection = connection
        self._http = httpx.Client(transport=transport, **connection.http_options())

    def run(self, plan: Plan[T]) -> T:
        """Carry out a plan and return its result."""
        with _Performance(self._http, self._connection, plan) as performance:
            for _ in performance.emitted():
                pass
            result: T = performance.result
            return result

    def iterate(self, plan: Plan[None]) -> Iterator[Any]:
        """Carry out a plan as far as the caller takes what it emits."""
        with _Performance(self._http, self._connection, plan) as performance:
            yield from performance.emitted()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class _Performance:
    """One plan on its way, with the stream that it may have open."""

    def __init__(self, http: httpx.Client, connection: Connection, plan: Plan[Any]) -> None:
        self._http = http
        self._connection = connection
        self._plan = with_retries(plan, connection.retries)
        self._stream: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())
        self.result: Any = None

    def __enter__(self) -> _Performance:
        return self

    def __exit__(self, *_: object) -> None:
        self._plan.close()
        self._end_stream()

    def emitted(self) -> Iterator[Any]:
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
                reply = self._perform(step)

    def _perform(self, step: Step) -> Any:
        try:
            if isinstance(step, Send):
                return self._send(step)
            if isinstance(step, Read):
                return next(self._pieces, b"")
        except httpx.TransportError as error:
            return self._connection.lost(error)
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        return time.monotonic() if isinstance(step, Now) else None

    def _send(self, step: Send) -> Any:
        self._end_stream()
        request = self._http.build_request(**self._connection.request_options(step))
        response = self._http.send(request, stream=step.stream)
        if step.stream:
            self._stream = response
            if response.status_code == 200:
                self._pieces = response.iter_bytes()
                return reply_of(response, b"")
            response.read()
        return reply_of(response, response.content)

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream, self._pieces = None, iter(())


def blocking(operation: Callable[P, Plan[T]]) -> Callable[Concatenate[Any, P], T]:
    """Return the method that carries out an operation and returns its result."""

    def method(face: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        driver: BlockingDriver = face._driver
        return driver.run(operation(*args, **kwargs))

    return as_method(method, operation)


def blocking_iterator(
    operation: Callable[P, Plan[None]], kind: type[T]
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """Return the method that iterates over what an operation emits, which is of `kind`."""

    def method(face: Any, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        driver: BlockingDriver = face._driver
        return driver.iterate(operation(*args, **kwargs))

    return as_method(method, operation)
