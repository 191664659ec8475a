"""Which adapters stand behind each port in the contract tests.

To add one, write a maker and name it in the port's table below; a maker gets an empty
folder and returns the adapter and a way to open the same store once more, as another
process or a later start would. An adapter that needs a server skips, with its reason,
where there is none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import pytest

from orchx.adapters.file_key_store import FileKeyStore
from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.kafka_command_queue import KafkaCommandQueue
from orchx.adapters.kafka_dead_letters import KafkaDeadLetters
from orchx.adapters.kafka_event_log import KafkaEventLog
from orchx.adapters.kafka_topics import ensure_topics
from orchx.adapters.mongo_archive import MongoArchive
from orchx.adapters.mongo_catalog import MongoCatalog
from orchx.adapters.mongo_connection import MongoConnection
from orchx.adapters.mongo_deliveries import MongoDeliveries
from orchx.adapters.mongo_key_store import MongoKeyStore
from orchx.adapters.mongo_state_store import MongoStateStore
from orchx.adapters.redis_state_cache import RedisStateCache
from orchx.adapters.sqlite_catalog import SqliteCatalog
from orchx.adapters.sqlite_command_queue import SqliteCommandQueue
from orchx.adapters.sqlite_deliveries import SqliteDeliveries
from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.adapters.system_clock import SystemClock
from orchx.domain.events import Record
from orchx.domain.messages import AnyCommand
from orchx.engine.cached_state_store import CachedStateStore
from orchx.ports.archive import Archive
from orchx.ports.catalog import Catalog
from orchx.ports.command_queue import Accepted, Backlog, CommandQueue
from orchx.ports.dead_letters import DeadLetters
from orchx.ports.deliveries import Deliveries
from orchx.ports.event_log import Claim, Claimed, EventLog
from orchx.ports.key_store import KeyStore
from orchx.ports.state_cache import StateCache
from orchx.ports.state_store import StateStore
from orchx.settings import KafkaSettings, MongoSettings
from orchx.testing.memory_archive import MemoryArchive
from orchx.testing.memory_catalog import MemoryCatalog
from orchx.testing.memory_command_queue import MemoryCommandQueue
from orchx.testing.memory_dead_letters import MemoryDeadLetters
from orchx.testing.memory_deliveries import MemoryDeliveries
from orchx.testing.memory_event_log import MemoryEventLog
from orchx.testing.memory_key_store import MemoryKeyStore
from orchx.testing.memory_state_cache import MemoryStateCache
from orchx.testing.memory_state_store import MemoryStateStore
from tests import servers


class Closable(Protocol):
    async def close(self) -> None: ...


P = TypeVar("P", bound=Closable)
Open: TypeAlias = Callable[[], P]
Maker: TypeAlias = Callable[[Path], Open[Any]]


def in_memory(make: Callable[[], P]) -> Maker:
    def maker(_: Path) -> Open[P]:
        shared = make()
        return lambda: shared

    return maker


def in_a_file(make: Callable[[Path], P]) -> Maker:
    return lambda folder: lambda: make(folder / "store.db")


class ThrowawayMongo(MongoConnection):
    """Drops its database when the last connection to it is closed."""

    opened: ClassVar[Counter[str]] = Counter()

    def __init__(self, settings: MongoSettings) -> None:
        super().__init__(settings)
        self.opened[settings.database] += 1
        self._counts = True

    async def close(self) -> None:
        if self._counts:
            self._counts = False
            self.opened[self._settings.database] -= 1
            if self._client is not None and not self.opened[self._settings.database]:
                await self._client.drop_database(self._settings.database)
        await super().close()


def in_mongodb(make: Callable[[MongoConnection], P]) -> Maker:
    def maker(_: Path) -> Open[P]:
        settings = servers.mongodb()
        return lambda: make(ThrowawayMongo(settings))

    return maker


EVENT_LOGS = {"memory": in_memory(MemoryEventLog), "sqlite": in_a_file(SqliteEventLog)}


class ArchivedKafkaLog(KafkaEventLog):
    """A log whose window is cut off behind an archive as fast as that is fed."""

    def __init__(self, kafka: KafkaSettings, archive: Archive) -> None:
        super().__init__(kafka, archive)
        self._archive = archive
        self._archiving: asyncio.Task[None] | None = None

    async def append(self, records: Sequence[Record]) -> None:
        self._start()
        await super().append(records)

    async def claim(self, claim: Claim) -> Claimed:
        self._start()
        return await super().claim(claim)

    async def close(self) -> None:
        if self._archiving is not None:
            self._archiving.cancel()
            await asyncio.wait([self._archiving])
        await super().close()

    def _start(self) -> None:
        if self._archiving is None:
            self._archiving = asyncio.create_task(self._feed_archive())

    async def _feed_archive(self) -> None:
        fed = 0
        while True:
            last = await self.last_offset()
            if page := await self._tail.page(fed, limit=100, partition=0):
                fed = page[-1].offset
                await self._archive.add(page, offset=fed, partition=0)
            elif last > fed:  # the whole page was poison, or `last` is behind the last record
                fed = last
                await self._archive.add([], offset=fed, partition=0)
            await self._follower.trim()
            await asyncio.sleep(0.005)


def kafka_event_logs(_: Path) -> Open[KafkaEventLog]:
    kafka = servers.kafka()
    ensure_topics(kafka)
    return lambda: KafkaEventLog(kafka)


def archived_kafka_event_logs(_: Path) -> Open[KafkaEventLog]:
    kafka, archive = servers.kafka(), MemoryArchive()
    ensure_topics(kafka)
    return lambda: ArchivedKafkaLog(kafka, archive)


EVENT_LOGS["kafka"] = kafka_event_logs
EVENT_LOGS["kafka-archived"] = archived_kafka_event_logs

COMMAND_QUEUES = {"memory": in_memory(MemoryCommandQueue), "sqlite": in_a_file(SqliteCommandQueue)}


class IndexedKafkaQueue(KafkaCommandQueue):
    """A queue that takes commands, with the state service's part of it beside it."""

    def __init__(self, kafka: KafkaSettings, mongo: MongoConnection) -> None:
        super().__init__(kafka, mongo, consumes=True)
        self._partitions_held = range(kafka.partitions)
        self._indexer = CommandIndexer(kafka, mongo)
        self._indexing: asyncio.Task[None] | None = None

    async def put(self, commands: Sequence[AnyCommand]) -> Sequence[Accepted]:
        if self._indexing is None:
            self._indexing = asyncio.create_task(self._indexer.run())
        return await super().put(commands)

    async def pending(self, *, after_position: int, limit: int) -> Sequence[tuple[int, AnyCommand]]:
        await self.hold(self._partitions_held)
        return await super().pending(after_position=after_position, limit=limit)

    async def acknowledge(self, command_ids: Sequence[str]) -> None:
        await self.hold(self._partitions_held)
        await super().acknowledge(command_ids)

    async def backlog(self) -> Backlog:
        await self.hold(self._partitions_held)
        return await super().backlog()

    async def close(self) -> None:
        await self._indexer.close()
        if self._indexing is not None:
            await self._indexing
        await super().close()


def kafka_command_queues(_: Path) -> Open[KafkaCommandQueue]:
    kafka, mongodb = servers.kafka(), servers.mongodb()
    ensure_topics(kafka)
    return lambda: IndexedKafkaQueue(kafka, ThrowawayMongo(mongodb))


COMMAND_QUEUES["kafka"] = kafka_command_queues
STATE_STORES = {"memory": in_memory(MemoryStateStore), "sqlite": in_a_file(SqliteStateStore)}
STATE_STORES["mongodb"] = in_mongodb(MongoStateStore)
CATALOGS = {"memory": in_memory(MemoryCatalog), "sqlite": in_a_file(SqliteCatalog)}
CATALOGS["mongodb"] = in_mongodb(MongoCatalog)
DELIVERIES = {"memory": in_memory(MemoryDeliveries), "sqlite": in_a_file(SqliteDeliveries)}
DELIVERIES["mongodb"] = in_mongodb(MongoDeliveries)
KEY_STORES = {"memory": in_memory(MemoryKeyStore), "file": in_a_file(FileKeyStore)}
KEY_STORES["mongodb"] = in_mongodb(MongoKeyStore)


def kafka_dead_letters(_: Path) -> Open[DeadLetters]:
    kafka = servers.kafka()
    ensure_topics(kafka)
    return lambda: KafkaDeadLetters(kafka)


DEAD_LETTERS = {"memory": in_memory(MemoryDeadLetters), "kafka": kafka_dead_letters}


class ThrowawayCache(RedisStateCache):
    """Deletes its keys when it is closed."""

    closed = False

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            await self.clear()
        await super().close()


def in_redis(_: Path) -> Open[StateCache]:
    settings, prefix = servers.redis(), servers.own_name()
    return lambda: ThrowawayCache(settings, prefix)


def behind_a_cache(folder: Path) -> Open[StateStore]:
    store, cache, clock = MemoryStateStore(), in_redis(folder), SystemClock()
    return lambda: CachedStateStore(store, cache(), clock)


STATE_CACHES = {"memory": in_memory(lambda: MemoryStateCache(SystemClock())), "redis": in_redis}
STATE_STORES["cached"] = behind_a_cache
ARCHIVES = {"memory": in_memory(MemoryArchive), "mongodb": in_mongodb(MongoArchive)}


class Factory(Generic[P]):
    """Opens one store as often as a test likes, and closes everything in the end."""

    def __init__(self, open_: Open[P]) -> None:
        self._open = open_
        self._opened: list[P] = []

    def __call__(self) -> P:
        self._opened.append(self._open())
        return self._opened[-1]

    async def close(self) -> None:
        for adapter in self._opened:
            await adapter.close()


def fixture_for(makers: dict[str, Maker]) -> Any:
    @pytest.fixture(params=list(makers))
    async def factory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
        made: Factory[Any] = Factory(makers[request.param](tmp_path))
        yield made
        await made.close()

    return factory


event_logs = fixture_for(EVENT_LOGS)
command_queues = fixture_for(COMMAND_QUEUES)
state_stores = fixture_for(STATE_STORES)
catalogs = fixture_for(CATALOGS)
outboxes = fixture_for(DELIVERIES)
archives = fixture_for(ARCHIVES)
key_stores = fixture_for(KEY_STORES)
state_caches = fixture_for(STATE_CACHES)
dead_letters = fixture_for(DEAD_LETTERS)


@pytest.fixture
def log(event_logs: Factory[EventLog]) -> EventLog:
    return event_logs()


@pytest.fixture
def queue(command_queues: Factory[CommandQueue]) -> CommandQueue:
    return command_queues()


@pytest.fixture
def store(state_stores: Factory[StateStore]) -> StateStore:
    return state_stores()


@pytest.fixture
def catalog(catalogs: Factory[Catalog]) -> Catalog:
    return catalogs()


@pytest.fixture
def outbox(outboxes: Factory[Deliveries]) -> Deliveries:
    return outboxes()


@pytest.fixture
def keys(key_stores: Factory[KeyStore]) -> KeyStore:
    return key_stores()


@pytest.fixture
def archive(archives: Factory[Archive]) -> Archive:
    return archives()


@pytest.fixture
def cache(state_caches: Factory[StateCache]) -> StateCache:
    return state_caches()


@pytest.fixture
def letters(dead_letters: Factory[DeadLetters]) -> DeadLetters:
    return dead_letters()
