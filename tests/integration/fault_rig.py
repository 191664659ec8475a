"""The API over the stores of the profile `kafka`, with the state service, in one process.

There is no Ray and no owner: what is accepted stays in the queue, and a test writes into the
log as an owner would.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx

from orchx.adapters.file_key_store import FileKeyStore
from orchx.adapters.system_clock import SystemClock
from orchx.domain import messages as m
from orchx.engine.admission import Admission
from orchx.engine.cached_state_store import CachedStateStore
from orchx.engine.endings import DispatcherMail
from orchx.engine.gateway import EngineGateway
from orchx.engine.projection import Projection
from orchx.engine.projector import Projector
from orchx.ports.catalog import StoredDefinition
from orchx.ports.key_store import KeyStore
from orchx.serve.api_keys import ApiKeys, create_api_key
from orchx.serve.application import build_application
from orchx.settings import HttpSettings, KafkaSettings, MongoSettings, RedisSettings, Settings
from orchx.stores import API_KEYS_FILE, KafkaStores, prepare_stores
from tests.unit.engine.gateway_rig import Link

PATIENCE_S: Final = 120.0
REQUEST: Final = {"type": "hr.leave", "input": {"days": 3}}
DEFINITION: Final = b'{"document":{"dsl":"1.0.3"},"do":[]}'
PARTITIONS: Final = 2
KAFKA_TIMEOUT_MS: Final = 5_000


class Rig:
    """What a test holds: the API as a caller sees it, and the stores behind it."""

    def __init__(self, settings: Settings, keys: KeyStore, token: str) -> None:
        clock = SystemClock()
        self.settings = settings
        self.stores = KafkaStores(settings)
        self.log = self.stores.event_log()
        self.queue = self.stores.command_queue()
        self.states = self.stores.state_store()
        self.cached = self.stores.cached_states()
        self.catalog = self.stores.catalog()
        self.indexer = self.stores.command_indexer()
        self._probes = self.stores.probes()
        self.mail = DispatcherMail(Link(), "w", clock)
        archive = self.stores.archive()
        self.projection = Projection(
            self.log,
            self.states,
            clock,
            lambda partition: Projector(
                self.log, self.states, clock, settings, partition=partition, archive=archive
            ),
        )
        self.gateway = EngineGateway(
            queue=self.queue,
            log=self.log,
            store=self.cached,
            catalog=self.catalog,
            deliveries=self.stores.deliveries(),
            mail=self.mail,
            admission=Admission(settings.admission),
            clock=clock,
            barrier=self._barrier,
            projecting=self._projecting,
            exposition=_nothing,
            partition_of=self.stores.partition_of,
            probes=self._probes.needed,
            advisory=self._probes.advisory,
        )
        app = build_application(self.gateway, HttpSettings(), ApiKeys(keys))
        transport = httpx.ASGITransport(app)
        self.http = httpx.AsyncClient(
            transport=transport,
            base_url="http://orchx",
            timeout=PATIENCE_S,
            headers={"Authorization": f"Bearer {token}"},
        )
        self.accepted: list[str] = []

    async def all_projected(self) -> None:
        """Wait until the states hold all that is in the log now."""
        for partition in range(PARTITIONS):
            await self._barrier(partition)

    async def _barrier(self, partition: int) -> None:
        offsets = await self.projection.barrier([partition])
        assert isinstance(self.cached, CachedStateStore)
        self.cached.require(offsets)

    async def _projecting(self) -> None:
        self.projection.check()

    async def submit(self) -> httpx.Response:
        """Send a request, and remember it if it was accepted."""
        response = await self.http.post("/v1/requests", json=REQUEST)
        if response.status_code == 202:
            self.accepted.append(response.json()["id"])
        return response

    async def is_refused(self) -> httpx.Response:
        """Send a request that must be refused in such a way that it is sent again."""
        response = await self.submit()
        assert response.status_code == 503, response.text
        assert int(response.headers["Retry-After"]) >= 1
        return response

    async def not_ready(self, part: str, *named: str) -> dict[str, str]:
        """Wait until `/readyz` says that a part does not work, and why; return all parts."""
        parts: dict[str, str] = {}

        def shows(response: httpx.Response) -> bool:
            parts.update(response.json()["parts"])
            return response.status_code == 503 and all(name in parts[part] for name in named)

        await self.until_ready_says(shows)
        return parts

    async def recovers(self) -> None:
        """Wait until requests are taken again; nothing that was accepted is lost."""
        await self.until_ready_says(lambda response: response.status_code == 200)
        assert (await self.submit()).status_code == 202
        for workflow_id in self.accepted:
            found = await self.queue.find(workflow_id)
            assert isinstance(found, m.StartWorkflow), workflow_id

    async def until_ready_says(self, wanted: Callable[[httpx.Response], bool]) -> None:
        """Ask `/readyz` again and again."""
        said = ""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not wanted(response := await self.http.get("/readyz")):
                    said = response.text
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"/readyz says: {said}") from None

    async def publish(self) -> None:
        await self.catalog.publish(
            StoredDefinition(
                namespace="hr",
                name="leave",
                version="1.0.0",
                digest="d",
                source=DEFINITION,
                text="",
                created_at_ms=1,
                request_type="hr.leave",
            )
        )

    async def close(self) -> None:
        await self.http.aclose()
        self.mail.close()
        for probe in (*self._probes.needed.values(), *self._probes.advisory.values()):
            await probe.close()
        closing: Sequence[Any] = (self.indexer, self.queue, self.log, self.states, self.cached)
        for each in closing:
            await each.close()
        await self.stores.close()


@asynccontextmanager
async def fault_rig(
    folder: Path, kafka: KafkaSettings, mongodb: MongoSettings, redis: RedisSettings
) -> AsyncIterator[Rig]:
    """Prepare the stores, run the state service, and take all down in the end."""
    settings = Settings(
        profile="kafka",
        kafka=kafka.model_copy(update={"partitions": PARTITIONS}),
        mongodb=mongodb,
        redis=redis,
        data_dir=folder,
    )
    settings = await prepare_stores(settings)  # not so short: a busy machine makes topics slowly
    short = settings.kafka.model_copy(update={"request_timeout_ms": KAFKA_TIMEOUT_MS})
    keys = FileKeyStore(folder / API_KEYS_FILE)
    _, token = await create_api_key(keys, name="test", scopes=["admin"], now_ms=1)
    rig = Rig(settings.model_copy(update={"kafka": short}), keys, token)
    assert rig.indexer is not None
    indexing = asyncio.create_task(rig.indexer.run())
    projecting = asyncio.create_task(rig.projection.run())
    try:
        await rig.publish()
        assert (await rig.submit()).status_code == 202
        await rig.until_ready_says(lambda response: response.status_code == 200)
        yield rig
    finally:
        projecting.cancel()
        with suppress(asyncio.CancelledError):
            await projecting
        await rig.close()
        await indexing


async def _nothing() -> bytes:
    return b""
