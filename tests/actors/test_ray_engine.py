"""The actors on real Ray: starting, running, stopping, and two engines side by side."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from orchx.actors import cluster, names
from orchx.actors.gateway import open_gateway
from orchx.actors.handles import Handles
from orchx.actors.links import RayOwnerLink
from orchx.actors.ray_session import logs_folder
from orchx.adapters.definition_source import read_definition
from orchx.domain.document_parser import canonical_json
from orchx.domain.events import Request
from orchx.domain.keys import workflow_id_for
from orchx.domain.messages import DeliverEvent, StartWorkflow
from orchx.engine.gateway import EngineGateway
from orchx.errors import Unavailable
from orchx.ports.catalog import StoredDefinition
from orchx.ports.state_store import Filter, WorkflowSummary
from orchx.settings import OwnerSettings, Settings, SweepSettings

pytestmark = pytest.mark.slow

DOCUMENT = """\
document: {dsl: '1.0.3', namespace: ray, name: listener, version: '1.0.0'}
do:
  - ask: {listen: {to: {one: {with: {type: com.ray.answer}}}}}
  - tell: {set: {answer: '${ .[0] }'}}
"""
END_TIMEOUT_S = 60.0


def _settings(folder: Path, namespace: str) -> Settings:
    return Settings(
        data_dir=folder, namespace=namespace, owners=OwnerSettings(dedicated=1), log_level="warning"
    )


@pytest.fixture
def settings(tmp_path: Path, ray_namespace: str) -> Iterator[Settings]:
    settings = _settings(tmp_path / "data", ray_namespace)
    yield settings
    cluster.stop_engine(settings)


def start_engine(settings: Settings) -> Mapping[str, str]:
    pids = cluster.await_engine(cluster.create_engine(settings))
    return {**pids, **cluster.await_engine(cluster.create_rest(settings))}


@asynccontextmanager
async def _gateway(settings: Settings) -> AsyncIterator[EngineGateway]:
    handles = Handles(settings)
    gateway, mail = open_gateway(settings, handles)
    yield gateway
    mail.close()
    await _close(handles)


async def _close(handles: Handles) -> None:
    handles.close()
    for _ in range(3):  # the transports close their sockets in a later turn of the loop
        await asyncio.sleep(0)


async def _submit(
    gateway: EngineGateway, key: str, isolation: Literal["auto", "dedicated"] = "auto"
) -> str:
    """Publish the definition and start a workflow that waits for an event."""
    definition = read_definition(DOCUMENT)
    await gateway.catalog.publish(
        StoredDefinition(
            namespace=definition.namespace,
            name=definition.name,
            version=definition.version,
            digest=definition.digest,
            source=canonical_json(definition.source),
            text=DOCUMENT,
            created_at_ms=1,
        )
    )
    workflow_id = workflow_id_for("default", key)
    start = StartWorkflow(
        id=workflow_id,
        workflow_id=workflow_id,
        created_at_ms=time.time_ns() // 1_000_000,
        namespace=definition.namespace,
        name=definition.name,
        version=definition.version,
        digest=definition.digest,
        input={},
        request=Request(isolation=isolation),
    )
    await gateway.submit([start])
    return workflow_id


async def _answer(gateway: EngineGateway, workflow_id: str, answer: str) -> WorkflowSummary:
    event = {
        "specversion": "1.0",
        "id": answer,
        "source": "test",
        "type": "com.ray.answer",
        "data": answer,
    }
    command = DeliverEvent(
        id=f"ev-{workflow_id}-{answer}",
        workflow_id=workflow_id,
        created_at_ms=time.time_ns() // 1_000_000,
        event=event,
    )
    await gateway.submit([command])
    ended = await gateway.wait(workflow_id, END_TIMEOUT_S)
    assert ended is not None
    return ended


async def _waits(gateway: EngineGateway, workflow_id: str) -> None:
    """Return once a workflow waits without an owner."""
    async with asyncio.timeout(END_TIMEOUT_S):
        async for record in gateway.follow(workflow_id):
            if record is not None and type(record.event).__name__ == "WorkflowPassivated":
                return


async def test_an_engine_starts_once_runs_a_workflow_and_stops(settings: Settings) -> None:
    pids = await asyncio.to_thread(start_engine, settings)
    assert {names.DISPATCHER, names.PROJECTOR, names.REPORTER} < pids.keys()
    assert await asyncio.to_thread(start_engine, settings) == pids
    for pid in pids.values():  # where docs/runbook.md sends whoever looks for an actor's log lines
        assert len(list(logs_folder().glob(f"worker-*-{pid}.err"))) == 1
    async with _gateway(settings) as gateway:
        assert (await gateway.ready()).ready
        workflow_id = await _submit(gateway, "one")
        ended = await _answer(gateway, workflow_id, "yes")
        assert (ended.status, ended.output) == ("completed", {"answer": "yes"})
        assert b"orchx" in await gateway.metrics()
    cluster.stop_engine(settings)
    handles = Handles(settings)
    link = RayOwnerLink(handles, names.shared_owners(settings)[0], 5)
    with pytest.raises(Unavailable):
        await link.reconcile([])
    await _close(handles)


async def test_requests_are_taken_before_everything_has_started(settings: Settings) -> None:
    # Nothing may be given to an owner that is not there yet: it would lie there for a lease.
    owners = settings.owners.model_copy(update={"lease_ms": 10 * int(END_TIMEOUT_S * 1000)})
    settings = settings.model_copy(update={"owners": owners})
    await asyncio.to_thread(lambda: cluster.await_engine(cluster.create_engine(settings)))
    async with _gateway(settings) as gateway:
        shared = await _submit(gateway, "shared")
        alone = await _submit(gateway, "alone", "dedicated")
        assert (await _answer(gateway, shared, "soon")).status == "completed"
        assert (await gateway.show(alone)).status == "pending"
        await asyncio.to_thread(lambda: cluster.await_engine(cluster.create_rest(settings)))
        assert (await _answer(gateway, alone, "later")).status == "completed"


async def test_what_waits_outlives_the_engine(settings: Settings) -> None:
    await asyncio.to_thread(start_engine, settings)
    async with _gateway(settings) as gateway:
        workflow_id = await _submit(gateway, "outlives")
        await _waits(gateway, workflow_id)
    cluster.stop_engine(settings)
    await asyncio.to_thread(start_engine, settings)
    async with _gateway(settings) as gateway:
        ended = await _answer(gateway, workflow_id, "later")
        assert (ended.status, ended.output) == ("completed", {"answer": "later"})


@pytest.mark.parametrize("name", ["owner-shared-0", names.DISPATCHER])
async def test_a_frozen_process_is_replaced(settings: Settings, name: str) -> None:
    """The owner is watched by the Dispatcher, and the Dispatcher by the projector."""
    sweep = SweepSettings(interval_ms=200, health_timeout_ms=500, patience_ms=1_500)
    settings = settings.model_copy(update={"sweep": sweep})
    pids = await asyncio.to_thread(start_engine, settings)
    async with _gateway(settings) as gateway:
        workflow_id = await _submit(gateway, "frozen")
        await _waits(gateway, workflow_id)
        handles = Handles(settings)
        os.kill(int(pids[name]), signal.SIGSTOP)
        assert await _replaced(handles, name, pids[name])
        await _close(handles)
        ended = await _answer(gateway, workflow_id, "thawed")
        assert (ended.status, ended.output) == ("completed", {"answer": "thawed"})


async def _replaced(handles: Handles, name: str, pid: str) -> bool:
    """Wait until another process answers to the name."""
    async with asyncio.timeout(END_TIMEOUT_S):
        while True:
            try:
                if await handles.ask(name, "ping", timeout_s=1.0) != pid:
                    return True
            except Unavailable:
                continue


async def test_two_engines_side_by_side_do_not_see_each_other(
    settings: Settings, tmp_path: Path
) -> None:
    other = _settings(tmp_path / "other", f"{settings.namespace}-other")
    try:
        pids = await asyncio.to_thread(start_engine, settings)
        other_pids = await asyncio.to_thread(start_engine, other)
        assert not set(pids.values()) & set(other_pids.values())
        async with _gateway(settings) as here, _gateway(other) as there:
            ids = [await _submit(here, "here"), await _submit(there, "there")]
            ends = [await _answer(here, ids[0], "here"), await _answer(there, ids[1], "there")]
            assert [end.output for end in ends] == [{"answer": "here"}, {"answer": "there"}]
            for gateway, workflow_id in ((here, ids[0]), (there, ids[1])):
                await gateway.show_aged(workflow_id, strong=True)  # waits for the projection
                page = await gateway.list(Filter())
                assert [workflow.workflow_id for workflow in page.workflows] == [workflow_id]
    finally:
        cluster.stop_engine(other)
