"""The actors whose stores would grow for ever have what is over forgotten: here without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from orchx import bootstrap
from orchx.actors.dispatcher_actor import DispatcherActor
from orchx.actors.handles import Handles
from orchx.actors.links import RayStateServiceLink
from orchx.actors.projector_actor import ReporterActor
from orchx.actors.shell import Shell
from orchx.domain.messages import CancelWorkflow
from orchx.engine import retention
from orchx.engine.metrics import ProcessMetrics
from orchx.ports.deliveries import Delivery
from orchx.settings import Settings
from orchx.stores import open_stores
from tests.unit.engine.fakes import FakeClock, FakeSender

LONG_AGO_MS = 1


@pytest.fixture
async def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Settings]:
    """Give actors no process and no socket, and what they keep up only this test's time."""
    kept: list[asyncio.Task[None]] = []

    def init(self: Shell, name: str, settings: Settings, *, niceness: int = 0) -> None:
        self.name, self.settings = name, settings
        self.handles, self.metrics = Handles(settings), ProcessMetrics(name)
        self._ready = asyncio.Event()

    def keep(self: Shell, work: Coroutine[Any, Any, None]) -> None:
        kept.append(asyncio.get_running_loop().create_task(work))

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(Shell, "__init__", init)
    monkeypatch.setattr(Shell, "keep", keep)
    monkeypatch.setattr(Shell, "push_metrics", lambda self: None)
    monkeypatch.setattr(DispatcherActor, "_run", nothing)
    monkeypatch.setattr(RayStateServiceLink, "barrier", nothing)
    monkeypatch.setattr(bootstrap, "HttpWebhookSender", lambda *_: FakeSender(FakeClock()))
    monkeypatch.setattr(retention, "INTERVAL_S", 0.0)
    yield Settings(data_dir=tmp_path)
    for task in kept:
        task.cancel()
    await asyncio.gather(*kept, return_exceptions=True)


async def test_the_dispatcher_forgets_commands_that_were_applied(settings: Settings) -> None:
    queue = open_stores(settings).command_queue()
    await queue.put([CancelWorkflow(id="c", workflow_id="w", created_at_ms=LONG_AGO_MS)])
    await queue.acknowledge(["c"])
    DispatcherActor(settings)
    async with asyncio.timeout(30):
        while await queue.find("c") is not None:
            pass
    await queue.close()


async def test_the_reporter_forgets_webhooks_that_were_delivered(settings: Settings) -> None:
    outbox = open_stores(settings).deliveries()
    delivered = Delivery(
        id="msg_1",
        workflow_id="w",
        tenant="acme",
        position=1,
        url="https://hr/h",
        event_type="t",
        body=b"{}",
        created_at_ms=LONG_AGO_MS,
        status="delivered",
        ended_at_ms=LONG_AGO_MS,
    )
    await outbox.add([delivered], offset=1)
    ReporterActor(settings)
    async with asyncio.timeout(30):
        while await outbox.list():
            pass
    await outbox.close()
