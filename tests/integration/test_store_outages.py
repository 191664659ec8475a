"""What callers see when MongoDB or Redis fails, on servers that the test breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pymongo
import pytest
import redis
from pydantic import SecretStr

from orchx.errors import StorageFull
from orchx.settings import MongoSettings, RedisSettings
from tests import servers
from tests.integration.fault_rig import PATIENCE_S, Rig, fault_rig
from tests.own_servers import OwnServer, own_mongodb, own_redis
from tests.unit.engine.histories import simple_run

NO_ROOM = 14031
NO_PRIMARY = 10107
WRITES = ["insert", "update", "delete", "findAndModify"]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    # Its own way of failing on purpose: `configureFailPoint`.
    folder = tmp_path_factory.mktemp("mongod")
    with own_mongodb(folder, "--setParameter", "enableTestCommands=1") as server:
        yield server


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_redis(tmp_path_factory.mktemp("cache")) as server:
        yield server


@pytest.fixture
async def rig(mongod: OwnServer, cache: OwnServer, tmp_path: Path) -> AsyncIterator[Rig]:
    mongodb = MongoSettings(uri=SecretStr(mongod.address), database=servers.own_name())
    states = RedisSettings(url=SecretStr(cache.address))
    async with fault_rig(tmp_path, servers.apache_kafka(), mongodb, states) as rig:
        yield rig


@contextmanager
def operator(mongod: OwnServer) -> Iterator[pymongo.MongoClient[dict[str, Any]]]:
    with pymongo.MongoClient[dict[str, Any]]("127.0.0.1", mongod.port, directConnection=True) as c:
        yield c


@contextmanager
def failing(mongod: OwnServer, code: int) -> Iterator[None]:
    """Have all writes of orchx fail with this code meanwhile."""
    fault = {"configureFailPoint": "failCommand"}
    data = {"failCommands": WRITES, "errorCode": code, "appName": "orchx"}
    with operator(mongod) as client:
        client.admin.command({**fault, "mode": "alwaysOn", "data": data})
        try:
            yield
        finally:
            client.admin.command({**fault, "mode": "off"})


@contextmanager
def crowded(cache: OwnServer) -> Iterator[redis.Redis]:
    """Leave Redis little room beyond what it holds, meanwhile."""
    with redis.Redis(port=cache.port) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 200_000)
        try:
            yield client
        finally:
            client.config_set("maxmemory", 0)


async def completed(rig: Rig, workflow_id: str) -> None:
    """Write a workflow into the log, and see it completed by a read."""
    await rig.log.append(simple_run(workflow_id))
    async with asyncio.timeout(PATIENCE_S):
        await rig.all_projected()
    assert (await rig.gateway.show(workflow_id)).status == "completed"


def _redis(said: httpx.Response) -> str:
    return str(said.json()["parts"]["redis"])


class TestMongodb:
    async def test_that_goes_and_comes_back(self, rig: Rig, mongod: OwnServer) -> None:
        mongod.kill()
        await rig.not_ready("mongodb", "ORCHX_MONGODB__URI")
        await rig.is_refused()
        await mongod.restart()
        await rig.recovers()
        await completed(rig, "wf_after")

    async def test_whose_primary_steps_down(self, rig: Rig, mongod: OwnServer) -> None:
        with operator(mongod) as client:
            client.admin.command({"replSetStepDown": 6, "force": True})
        await rig.not_ready("mongodb", "failing over", "ORCHX_MONGODB__URI")
        await rig.recovers()
        await completed(rig, "wf_after")

    async def test_that_takes_no_writes(self, rig: Rig, mongod: OwnServer) -> None:
        with failing(mongod, NO_PRIMARY):
            await rig.log.append(simple_run("wf_meanwhile"))
            await rig.not_ready("projection")
        await rig.recovers()
        assert (await rig.gateway.show("wf_meanwhile")).status == "completed"

    async def test_whose_disk_is_full(self, rig: Rig, mongod: OwnServer) -> None:
        with failing(mongod, NO_ROOM):
            await rig.log.append(simple_run("wf_meanwhile"))
            with pytest.raises(StorageFull, match="MongoDB has no room"):
                await rig.states.save([], offset=1, partition=0)
            await rig.not_ready("projection", "MongoDB has no room")
            # The request is in Kafka before it counts: it is taken, and none is lost.
            assert (await rig.submit()).status_code == 202
        await rig.recovers()
        assert (await rig.gateway.show("wf_meanwhile")).status == "completed"


class TestRedis:
    async def test_that_goes_and_comes_back_is_not_missed(self, rig: Rig, cache: OwnServer) -> None:
        await completed(rig, "wf_before")
        cache.kill()
        response = await rig.http.get("/v1/workflows/wf_before")
        assert response.json()["status"] == "completed"
        await completed(rig, "wf_during")
        await rig.until_ready_says(
            lambda said: said.status_code == 200 and "ORCHX_REDIS__URL" in _redis(said)
        )
        await cache.restart()
        await completed(rig, "wf_after")
        await rig.until_ready_says(lambda said: _redis(said) == "ok")

    async def test_that_evicts_is_right_all_the_same(self, rig: Rig, cache: OwnServer) -> None:
        with crowded(cache) as client:
            before = client.info("stats")["evicted_keys"]
            names = [f"wf_{number:03}" for number in range(400)]
            for start in range(0, len(names), 50):
                batch = names[start : start + 50]
                await rig.log.append([r for name in batch for r in simple_run(name)])
            await rig.all_projected()
            stored = await rig.states.load(names)
            assert {stored[name].status for name in names} == {"completed"}
            assert await rig.cached.load(names) == stored
            assert await rig.cached.load(names) == stored
            assert client.info("stats")["evicted_keys"] > before
