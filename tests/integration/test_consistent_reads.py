"""Strong and eventual reads through a gateway on the stores of either profile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from orchx import bootstrap
from orchx.adapters.system_clock import SystemClock
from orchx.domain.events import AnyEvent, Record, TaskStarted, WorkflowActivated
from orchx.engine import gateway as gateway_module
from orchx.engine.gateway import EngineGateway
from orchx.engine.projection import Projection
from orchx.engine.projector import Projector
from orchx.errors import Unavailable
from orchx.ports.event_log import EventLog
from orchx.settings import Settings
from orchx.stores import open_stores, prepare_stores
from tests import servers
from tests.unit.engine.gateway_rig import Link
from tests.unit.engine.histories import started

TIMEOUT_S = 20.0


@dataclass
class Installation:
    """A log to write to, a projection that a test starts, a gateway as ingestion has it."""

    settings: Settings
    log: EventLog
    projection: Projection
    gateway: EngineGateway
    running: asyncio.Task[None] | None = None
    sequence: dict[str, int] = field(default_factory=dict)

    async def append(self, workflow_id: str, *events: AnyEvent) -> None:
        first = self.sequence.get(workflow_id, 0)
        self.sequence[workflow_id] = first + len(events)
        await self.log.append(
            [
                Record(
                    workflow_id=workflow_id,
                    epoch=1,
                    owner="o",
                    seq=first + place,
                    at_ms=1_000 + first + place,
                    event=event,
                )
                for place, event in enumerate(events)
            ]
        )

    def project(self) -> None:
        self.running = asyncio.create_task(self.projection.run())

    async def stop_projecting(self) -> None:
        if self.running is not None:
            self.running.cancel()
            await asyncio.gather(self.running, return_exceptions=True)


def _settings(profile: str, folder: Path) -> Settings:
    if profile == "embedded":
        return Settings(data_dir=folder)
    stores = servers.stores(servers.kafka(partitions=2))
    return stores.model_copy(update={"data_dir": folder})


@pytest.fixture(params=["embedded", "kafka"])
async def here(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Installation]:
    settings = await prepare_stores(_settings(request.param, tmp_path))
    stores, clock = open_stores(settings), SystemClock()
    log, store, archive = stores.event_log(), stores.state_store(), stores.archive()

    def projector(partition: int) -> Projector:
        return Projector(log, store, clock, settings, partition=partition, archive=archive)

    projection = Projection(log, store, clock, projector)

    async def barrier(partition: int) -> Mapping[int, int]:
        return await projection.barrier([partition])

    async def projecting() -> None:
        projection.check()

    async def no_metrics() -> bytes:
        return b""

    gateway, _ = bootstrap.build_gateway(
        settings, Link(), barrier=barrier, projecting=projecting, exposition=no_metrics
    )
    made = Installation(settings, log, projection, gateway)
    yield made
    await made.stop_projecting()
    for part in (log, store, gateway._store, gateway._log, gateway._queue):
        await part.close()
    for other in (gateway.catalog, gateway.deliveries, archive):
        if other is not None:
            await other.close()


async def test_a_strong_read_sees_what_was_durable_and_waits_for_it(here: Installation) -> None:
    here.project()
    for number in range(20):
        reference = f"/do/{number}/task"
        begun = TaskStarted(frame=2 + number, parent=1, reference=reference, kind="call")
        for workflow_id in ("a", "b", "c"):  # in more partitions than one
            opening: list[AnyEvent] = [] if number else [WorkflowActivated(), started()]
            await here.append(workflow_id, *opening, begun)
        for workflow_id in ("a", "b", "c"):
            async with asyncio.timeout(TIMEOUT_S):
                found = await here.gateway.show_aged(workflow_id, strong=True)
            assert (found.summary.task, found.age_ms) == (reference, 0)


async def test_without_a_projection_a_strong_read_is_refused_and_an_eventual_one_old(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.project()
    await here.append("a", WorkflowActivated(), started())
    async with asyncio.timeout(TIMEOUT_S):
        await here.gateway.show_aged("a", strong=True)
        assert (await here.gateway.show_aged("a")).age_ms is not None

    async def hang(partitions: Iterable[int]) -> Mapping[int, int]:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(here.projection, "barrier", hang)
    monkeypatch.setattr(gateway_module, "STRONG_READ_S", 0.05)
    await here.stop_projecting()
    await here.append("a", TaskStarted(frame=2, parent=1, reference="/do/0/task", kind="call"))
    with pytest.raises(Unavailable, match="no strongly consistent read"):
        await here.gateway.show_aged("a", strong=True)
    old = await here.gateway.show_aged("a")
    assert old.summary.task is None
    await asyncio.sleep(0.002)  # time passes, and nobody says that this is still the latest
    older = await here.gateway.show_aged("a")
    assert older.age_ms is not None
    assert old.age_ms is not None
    assert older.age_ms > old.age_ms
