"""Bodies are read for those who may send them, and all of them together are bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message

from orchx.domain.messages import AnyCommand
from orchx.ports.command_queue import Accepted
from orchx.serve import routing
from orchx.serve.api_keys import ApiKeys
from orchx.serve.application import build_application
from orchx.serve.limits import RequestLimits
from orchx.settings import HttpSettings
from tests.unit.serve.conftest import Rig

PATH = "/v1/requests"
BODY = json.dumps({"type": "hr.leave"}).encode().ljust(3_000)


@dataclass
class Upload:
    """One request of which every part comes when the test says so."""

    app: FastAPI
    token: str | None
    method: str = "POST"
    path: str = PATH
    query: bytes = b""
    length: int | None = len(BODY)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    parts: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    sent: list[Message] = field(default_factory=list)

    async def run(self) -> None:
        framing = (b"transfer-encoding", b"chunked")
        if self.length is not None:
            framing = (b"content-length", str(self.length).encode())
        headers = [framing, (b"content-type", b"application/json")]
        if self.token is not None:
            headers.append((b"authorization", f"Bearer {self.token}".encode()))
        scope = {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": self.query,
            "headers": headers,
        }
        await self.app(scope, self._receive, self._send)

    async def begin(self) -> asyncio.Task[None]:
        """Send the first part; return once it was taken, or refused."""
        self.put(BODY[:-1], more=True)
        task = asyncio.create_task(self.run())
        taken = asyncio.create_task(self._asked_twice())
        await asyncio.wait((task, taken), return_when=asyncio.FIRST_COMPLETED)
        taken.cancel()
        return task

    def put(self, part: bytes, *, more: bool) -> None:
        self.parts.put_nowait({"type": "http.request", "body": part, "more_body": more})

    @property
    def status(self) -> Any:
        return self.sent[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    async def _asked_twice(self) -> None:
        for _ in range(2):
            await self.asked.acquire()

    async def _receive(self) -> Message:
        self.asked.release()
        return await self.parts.get()

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


@pytest.fixture
def app(rig: Rig) -> FastAPI:
    """The API with room for two of the bodies above."""
    limits = RequestLimits(max_body_bytes=4_096, max_buffered_bytes=2 * len(BODY))
    return build_application(
        rig.gateway,
        HttpSettings(max_body_bytes=4_096),
        ApiKeys(rig.key_store),
        limits=limits,
        now_ms=lambda: rig.clock["now_ms"],
    )


@pytest.mark.parametrize("length", [None, len(BODY)])
@pytest.mark.parametrize(
    ("key", "more", "status"),
    [
        (None, {}, 401),
        ("read", {}, 403),
        ("submit", {"query": b"wait=x"}, 422),
        (None, {"path": "/v1/nothing"}, 404),
        (None, {"method": "PATCH"}, 405),
        ("read", {"path": "/v1/workflows", "method": "GET"}, 200),
    ],
)
async def test_a_body_that_nothing_depends_on_is_not_read(
    rig: Rig, app: FastAPI, key: str | None, more: dict[str, Any], status: int, length: int | None
) -> None:
    token = None if key is None else rig.tokens[key]
    upload = Upload(app, token, length=length, **more)
    await upload.run()  # it would wait for ever
    assert upload.status == status
    assert upload.asked.locked()
    # Of what has no known end, the connection cannot be rid otherwise.
    assert (upload.headers.get(b"connection") == b"close") == (length is None)


async def test_all_bodies_together_are_bounded(rig: Rig, app: FastAPI) -> None:
    token = rig.tokens["submit"]
    first, second = Upload(app, token), Upload(app, token, length=None)
    tasks = [await first.begin(), await second.begin()]
    third = Upload(app, token)
    await (await third.begin())
    assert third.status == 503
    assert third.headers[b"retry-after"] == b"1"
    assert third.headers[b"connection"] == b"close"
    assert json.loads(third.sent[1]["body"])["type"] == "/problems/unavailable"
    for upload in (first, second):
        upload.put(BODY[-1:], more=False)
    await asyncio.gather(*tasks)
    assert (first.status, second.status) == (202, 202)
    assert b"connection" not in first.headers
    assert len(rig.gateway.commands) == 2


@pytest.mark.parametrize("ends", [b"", b" " * 2_000, None], ids=["taken", "too large", "gone"])
async def test_room_comes_back_however_it_ends(rig: Rig, app: FastAPI, ends: bytes | None) -> None:
    for _ in range(3):
        upload = Upload(app, rig.tokens["submit"], length=None)
        task = await upload.begin()
        if ends is None:
            upload.parts.put_nowait({"type": "http.disconnect"})
        else:
            upload.put(ends, more=False)
        await task
        if ends is None:
            assert upload.sent == []
        else:
            assert upload.status == (413 if ends else 202)


async def test_one_body_may_be_as_large_as_a_body_may_be(rig: Rig) -> None:
    limits = RequestLimits(max_body_bytes=4_096, max_buffered_bytes=10)
    settings = HttpSettings(max_body_bytes=4_096)
    app = build_application(rig.gateway, settings, ApiKeys(rig.key_store), limits=limits)
    upload = Upload(app, rig.tokens["submit"])
    upload.put(BODY, more=False)
    await upload.run()
    assert upload.status == 202


async def test_what_is_stored_takes_no_room_while_its_end_is_waited_for(
    rig: Rig, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, over = asyncio.Semaphore(0), asyncio.Event()

    async def wait(workflow_id: str, timeout_s: float) -> None:
        waiting.release()
        await over.wait()

    rig.gateway.hold = True
    monkeypatch.setattr(rig.gateway, "wait", wait)
    tasks = []
    for _ in range(5):  # there is room for two
        upload = Upload(app, rig.tokens["submit"], query=b"wait=60")
        upload.put(BODY, more=False)
        tasks.append(asyncio.create_task(upload.run()))
        await asyncio.wait_for(waiting.acquire(), 5)
    assert len(rig.gateway.commands) == 5
    over.set()
    await asyncio.gather(*tasks)


async def test_storing_does_not_cut_the_wait_short(
    rig: Rig, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time limit of the whole request begins anew when only waiting is left."""
    timers: list[asyncio.Timeout] = []
    ends: list[float | None] = []
    limit_s = HttpSettings().max_wait_s + routing.SPARE_TIME_S
    make, submit = asyncio.timeout, rig.gateway.submit

    def timeout(delay_s: float | None) -> asyncio.Timeout:
        timer = make(delay_s)
        if delay_s == limit_s:
            timers.append(timer)
        return timer

    async def storing(commands: Sequence[AnyCommand]) -> Sequence[Accepted]:
        ends.append(timers[0].when())
        return await submit(commands)

    async def wait(workflow_id: str, timeout_s: float) -> None:
        ends.append(timers[0].when())

    rig.gateway.hold = True
    monkeypatch.setattr(asyncio, "timeout", timeout)
    monkeypatch.setattr(rig.gateway, "submit", storing)
    monkeypatch.setattr(rig.gateway, "wait", wait)
    upload = Upload(app, rig.tokens["submit"], query=b"wait=60")
    upload.put(BODY, more=False)
    await upload.run()
    assert upload.status == 202
    stored_by, waited_until = ends
    assert stored_by is not None
    assert waited_until is not None
    assert waited_until > stored_by
