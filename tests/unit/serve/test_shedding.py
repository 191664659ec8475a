"""What a process refuses when it has its hands full, and what does not count as work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from orchx.serve.limits import LimitsMiddleware, RequestLimits, only_waits

LIMIT = 2


class Handler:
    """Reads the body, works until it is let, and waits on where the path says so."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.at_work = 0
        self.waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()
        if scope["path"] == "/wait":
            self.waiting += 1
            only_waits(scope)
        self.at_work += 1
        await self.let.wait()
        await PlainTextResponse("done")(scope, receive, send)


class Server:
    def __init__(self) -> None:
        self.handler = Handler()
        app = LimitsMiddleware(self.handler, RequestLimits(max_body_bytes=100, max_writes=LIMIT))
        transport = httpx.ASGITransport(app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://orchx")

    async def begin(self, method: str, path: str, count: int) -> list[asyncio.Task[httpx.Response]]:
        calls = [
            asyncio.create_task(self.client.request(method, path, content=b"x"))
            for _ in range(count)
        ]
        for _ in range(50):
            await asyncio.sleep(0)
        return calls

    async def ends(self, calls: list[asyncio.Task[httpx.Response]]) -> list[int]:
        self.handler.let.set()
        return [response.status_code for response in await asyncio.gather(*calls)]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving = Server()
    async with serving.client:
        yield serving


async def test_more_than_it_can_do_is_told_to_try_later(server: Server) -> None:
    calls = await server.begin("POST", "/x", LIMIT)
    refused = await server.client.post("/x", content=b"x")
    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "1"
    assert "connection" not in refused.headers  # it can be tried again on the same one
    assert refused.json()["title"] == "Unavailable"
    assert await server.ends(calls) == [200] * LIMIT
    assert (await server.client.post("/x", content=b"x")).status_code == 200


async def test_reading_is_never_refused(server: Server) -> None:
    calls = await server.begin("POST", "/x", LIMIT)
    calls += await server.begin("GET", "/x", LIMIT)
    assert server.handler.at_work == 2 * LIMIT
    assert await server.ends(calls) == [200] * 2 * LIMIT


async def test_who_only_waits_does_not_count(server: Server) -> None:
    calls = await server.begin("POST", "/wait", 3 * LIMIT)
    assert server.handler.waiting == 3 * LIMIT
    calls += await server.begin("POST", "/x", LIMIT)
    assert (await server.client.post("/x", content=b"x")).status_code == 503
    assert await server.ends(calls) == [200] * 4 * LIMIT


async def test_a_slow_body_does_not_count(server: Server) -> None:
    more = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"x"
        await more.wait()
        yield b"y"

    async def upload() -> httpx.Response:
        return await server.client.post("/x", content=slowly())

    slow = [asyncio.create_task(upload()) for _ in range(3 * LIMIT)]
    calls = await server.begin("POST", "/x", LIMIT)
    assert server.handler.at_work == LIMIT
    more.set()
    assert await server.ends([*slow, *calls]) == [200] * 4 * LIMIT
    assert (await server.client.post("/x", content=b"x")).status_code == 200
