"""Which adapter stands behind which store, by the profile in the settings.

Nothing else chooses a store. One `Stores` serves one process and event loop, and opens
nothing before it is used.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pydantic import SecretStr

from orchx.adapters.disk_probe import DiskProbe
from orchx.adapters.file_key_store import FileKeyStore
from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.kafka_command_queue import KafkaCommandQueue
from orchx.adapters.kafka_connection import partition_of
from orchx.adapters.kafka_dead_letters import KafkaDeadLetters
from orchx.adapters.kafka_event_log import KafkaEventLog
from orchx.adapters.kafka_inspection import inspect_kafka
from orchx.adapters.kafka_membership import KafkaMembership
from orchx.adapters.kafka_probe import KafkaProbe
from orchx.adapters.kafka_recent_commands import RecentCommands
from orchx.adapters.kafka_topics import ensure_topics
from orchx.adapters.mongo_archive import MongoArchive
from orchx.adapters.mongo_catalog import MongoCatalog
from orchx.adapters.mongo_connection import DATABASE, MongoConnection
from orchx.adapters.mongo_deliveries import MongoDeliveries
from orchx.adapters.mongo_fence import MongoFence
from orchx.adapters.mongo_inspection import inspect_mongodb
from orchx.adapters.mongo_installation import MongoInstallation, check_reach
from orchx.adapters.mongo_key_store import MongoKeyStore
from orchx.adapters.mongo_presence import STARTING_S, MongoPresence
from orchx.adapters.mongo_probe import MongoProbe
from orchx.adapters.mongo_state_store import MongoStateStore
from orchx.adapters.redis_connection import RedisConnection
from orchx.adapters.redis_inspection import check_redis_version, inspect_redis
from orchx.adapters.redis_probe import RedisProbe
from orchx.adapters.redis_state_cache import RedisStateCache
from orchx.adapters.sqlite_catalog import SqliteCatalog
from orchx.adapters.sqlite_command_queue import SqliteCommandQueue
from orchx.adapters.sqlite_deliveries import SqliteDeliveries
from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.adapters.system_clock import SystemClock
from orchx.adapters.webhook_secret import find_webhook_secret, new_webhook_secret
from orchx.engine.cached_state_store import CachedStateStore
from orchx.engine.sole_membership import SoleMembership
from orchx.errors import Bug, OrchxError, Unavailable
from orchx.ports.archive import Archive
from orchx.ports.catalog import Catalog
from orchx.ports.command_queue import CommandQueue
from orchx.ports.dead_letters import DeadLetters
from orchx.ports.deliveries import Deliveries
from orchx.ports.event_log import EventLog
from orchx.ports.inspection import Finding
from orchx.ports.key_store import KeyStore
from orchx.ports.membership import Membership
from orchx.ports.probe import Probe
from orchx.ports.state_store import StateStore
from orchx.settings import Settings

_UNNAMEABLE: Final = re.compile(r"[^a-zA-Z0-9._-]")
API_KEYS_FILE: Final = "api-keys.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """By name: what must work for requests to be taken, and what is good to know about."""

    needed: Mapping[str, Probe]
    advisory: Mapping[str, Probe]


class Stores(Protocol):
    """Opens the stores of one profile."""

    def event_log(self) -> EventLog:
        """Open the event log."""
        ...

    def partition_of(self, workflow_id: str) -> int:
        """Return in which partition of the event log a workflow is."""
        ...

    def command_queue(self, *, consumes: bool = False) -> CommandQueue:
        """Open the command queue; `consumes`: for whoever takes commands off it."""
        ...

    @property
    def alone(self) -> bool:
        """Whether one engine has these stores to itself."""
        ...

    def membership(self) -> Membership:
        """Join the engines that share these stores, where there may be several."""
        ...

    def state_store(self) -> StateStore:
        """Open the current states, for whoever writes them or goes through all of them."""
        ...

    def cached_states(self) -> StateStore:
        """Open the current states, for whoever looks single ones up, often."""
        ...

    def catalog(self) -> Catalog:
        """Open the catalog."""
        ...

    def deliveries(self) -> Deliveries:
        """Open the webhook outbox."""
        ...

    def dead_letters(self) -> DeadLetters | None:
        """Open what is kept of records that cannot be read, where others may write."""
        ...

    def key_store(self) -> KeyStore:
        """Open the API keys."""
        ...

    def archive(self) -> Archive | None:
        """Open the log's past, where it is kept apart from the log."""
        ...

    def command_indexer(self) -> CommandIndexer | None:
        """Open what finds commands by id, where the queue itself cannot."""
        ...

    def probes(self) -> Probes:
        """Open what tells whether requests can be taken now."""
        ...

    def presence(self) -> MongoPresence | None:
        """Open where engines say that they are there, if others could not tell."""
        ...


def open_stores(settings: Settings) -> Stores:
    """Return the stores of the settings' profile, for whoever serves.

    They cannot be used any more when an operator's command has changed what they are made from.
    """
    if settings.profile == "embedded":
        return EmbeddedStores(settings)
    return KafkaStores(settings, fenced=True)


def data_file(settings: Settings, name: str) -> Path:
    """Return where an embedded store keeps its file; makes the folder."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    return settings.data_dir / name


def engine_name(settings: Settings, *, host: str | None = None) -> str:
    """Return this engine's name among those that share the stores.

    It comes of the namespace, the data folder, and a host: this one, unless one is named.
    """
    if settings.engine:
        return settings.engine
    place = f"{settings.namespace} {settings.data_dir.absolute()}"
    digest = hashlib.sha256(place.encode()).hexdigest()[:8]
    return f"{_UNNAMEABLE.sub('-', host or socket.gethostname())[:100]}-{digest}"


async def prepare_stores(settings: Settings) -> Settings:
    """Make what the stores need before their first use, and see that they can be used.

    Returns:
        the settings with the number of partitions that the log has, and with the webhooks'
        master secret where engines share one.

    Raises:
        DriverError, StorageFull, TryLater: a store cannot be used; which setting to look at is
            in the message.
    """
    if settings.profile == "embedded":
        return settings
    await asyncio.to_thread(ensure_topics, settings.kafka)
    stores = KafkaStores(settings)
    log, cache = stores.event_log(), stores.cache()
    redis = RedisConnection(settings.redis)
    try:
        count = await log.partitions()
        await stores.bind(count)
        ends = {partition: await log.last_offset(partition) for partition in range(count)}
        check_reach(await stores.archive().offsets(), ends)
        await check_redis_version(redis)
        await cache.get(["any"], partition=0)
        webhooks = settings.webhooks
        if webhooks.secret is None:
            secret = await stores.agree_on_webhook_secret()
            webhooks = webhooks.model_copy(update={"secret": secret})
        await _enter(stores)
    finally:
        await redis.close()
        await log.close()
        await cache.close()
        await stores.close()
    kafka = settings.kafka.model_copy(update={"partitions": count})
    return settings.model_copy(update={"kafka": kafka, "webhooks": webhooks})


async def stored_webhook_secret(settings: Settings) -> SecretStr | None:
    """Return the webhooks' master secret that is in the stores; None if there is none yet.

    Raises:
        InvalidRequest, DriverError, Unavailable: it is none, or cannot be read.
    """
    if settings.profile == "embedded":
        return find_webhook_secret(settings)
    stores = KafkaStores(settings)
    try:
        return await stores.webhook_secret()
    finally:
        await stores.close()


async def inspect_servers(settings: Settings) -> Sequence[Finding]:
    """Return what is to be said of the servers of the settings' profile; changes nothing."""
    if settings.profile == "embedded":
        return ()
    mongodb, redis = MongoConnection(settings.mongodb), RedisConnection(settings.redis)
    try:
        kafka, *others = await asyncio.gather(
            asyncio.to_thread(lambda: list(inspect_kafka(settings.kafka))),
            inspect_mongodb(mongodb, settings.mongodb.database),
            inspect_redis(redis),
        )
    finally:
        await mongodb.close()
        await redis.close()
    return [*kafka, *others]


async def _enter(stores: KafkaStores) -> None:
    """Note an engine that starts, where no command is at work that must be alone.

    Raises:
        DriverError: the projections are half made.
        Unavailable: a command is at work.
    """
    presence = stores.presence()
    await presence.note("engine", for_s=STARTING_S)
    try:
        await stores.installation().check_whole()
        if await presence.is_here("maintenance"):
            raise Unavailable(
                "`orchx rebuild --replace` or `orchx repartition` is at work on the database that "
                f"{DATABASE} names: start when it is done"
            )
    except OrchxError:
        await presence.leave("engine")
        raise


class EmbeddedStores:
    """Files on one machine: a `Stores`."""

    alone = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def event_log(self) -> EventLog:
        """Open the event log."""
        return SqliteEventLog(self._file("events.db"))

    def partition_of(self, workflow_id: str) -> int:
        """Return 0: a file is a log of one partition."""
        return 0

    def command_queue(self, *, consumes: bool = False) -> CommandQueue:
        """Open the command queue."""
        return SqliteCommandQueue(self._file("commands.db"))

    def membership(self) -> Membership:
        """Return that of an engine that serves everything."""
        return SoleMembership()

    def state_store(self) -> StateStore:
        """Open the current states."""
        return SqliteStateStore(self._file("state.db"))

    def cached_states(self) -> StateStore:
        """Open the current states; the file is as quick as any cache."""
        return self.state_store()

    def catalog(self) -> Catalog:
        """Open the catalog."""
        return SqliteCatalog(self._file("catalog.db"))

    def deliveries(self) -> Deliveries:
        """Open the webhook outbox."""
        return SqliteDeliveries(self._file("deliveries.db"))

    def dead_letters(self) -> None:
        """Return None: nobody but orchx writes to its files."""

    def key_store(self) -> KeyStore:
        """Open the API keys."""
        return FileKeyStore(self._settings.data_dir / API_KEYS_FILE)

    def archive(self) -> None:
        """Return None: the file is the log's past too."""

    def command_indexer(self) -> None:
        """Return None: the file has an index."""

    def probes(self) -> Probes:
        """Open what looks at the disk."""
        return Probes(needed={"disk": DiskProbe(self._settings.data_dir)}, advisory={})

    def presence(self) -> None:
        """Return None: whoever has a file open is there."""

    def _file(self, name: str) -> Path:
        return data_file(self._settings, name)


class KafkaStores:
    """Kafka, MongoDB and Redis: a `Stores`. All that use MongoDB share one connection."""

    alone = False

    def __init__(self, settings: Settings, *, fenced: bool = False) -> None:
        """Connect nowhere yet; `fenced`: see `MongoFence`."""
        self._settings = settings
        self._mongodb = MongoConnection(settings.mongodb)
        if fenced:
            self._mongodb.fence = MongoFence(self._mongodb, settings.kafka.topic_prefix).check
        self._recent = RecentCommands()
        self._consuming: KafkaCommandQueue | None = None
        self._dead_letters = KafkaDeadLetters(settings.kafka)

    def event_log(self) -> EventLog:
        """Open the event log, with the archive behind its window."""
        kafka = self._settings.kafka
        return KafkaEventLog(kafka, self.archive(), on_poison=self._dead_letters.keep_soon)

    def partition_of(self, workflow_id: str) -> int:
        """Return in which partition of the event log a workflow is."""
        return partition_of(workflow_id, self._settings.kafka.partitions)

    def command_queue(self, *, consumes: bool = False) -> CommandQueue:
        """Open the command queue; `consumes`: for whoever takes commands off it."""
        queue = KafkaCommandQueue(
            self._settings.kafka, self._mongodb, consumes=consumes, recent=self._recent
        )
        if consumes:
            self._consuming = queue
        return queue

    def membership(self) -> Membership:
        """Join the engines; to be called where commands are taken off the queue."""
        queue = self._consuming
        if queue is None:
            raise Bug("partitions are shared where commands are taken off the queue")
        return KafkaMembership(
            self._settings.kafka, engine_name(self._settings), watermarks=queue.watermarks
        )

    def state_store(self) -> StateStore:
        """Open the current states; what is written goes into the cache too."""
        return self._states(read_cache=False)

    def cached_states(self) -> StateStore:
        """Open the current states with the cache in front."""
        return self._states(read_cache=True)

    def catalog(self) -> Catalog:
        """Open the catalog."""
        return MongoCatalog(self._mongodb)

    def deliveries(self) -> Deliveries:
        """Open the webhook outbox."""
        return MongoDeliveries(self._mongodb)

    def dead_letters(self) -> DeadLetters:
        """Open the dead letters; the event log of this process keeps its own there too."""
        return self._dead_letters

    def key_store(self) -> KeyStore:
        """Open the API keys."""
        return MongoKeyStore(self._mongodb)

    async def webhook_secret(self) -> SecretStr | None:
        """Return the master secret that all engines have agreed upon."""
        return await MongoInstallation(self._mongodb).webhook_secret()

    async def agree_on_webhook_secret(self) -> SecretStr:
        """Return the same; make it if nobody has."""
        return await MongoInstallation(self._mongodb).agree_on_webhook_secret(new_webhook_secret())

    def archive(self) -> Archive:
        """Open the log's past."""
        return MongoArchive(self._mongodb)

    def command_indexer(self) -> CommandIndexer:
        """Open what feeds the index of commands."""
        return CommandIndexer(self._settings.kafka, self._mongodb, recent=self._recent)

    def probes(self) -> Probes:
        """Open what looks at the three servers; Redis only makes reads quick."""
        return Probes(
            needed={
                "kafka": KafkaProbe(self._settings.kafka),
                "mongodb": MongoProbe(self._mongodb),
            },
            advisory={"redis": RedisProbe(RedisConnection(self._settings.redis))},
        )

    @property
    def mongodb(self) -> MongoConnection:
        """The connection that they share."""
        return self._mongodb

    def presence(self) -> MongoPresence:
        """Open where engines say that they are there."""
        return MongoPresence(self._mongodb, engine=engine_name(self._settings))

    def installation(self) -> MongoInstallation:
        """Open what is known of the whole installation."""
        return MongoInstallation(self._mongodb)

    async def bind(self, partitions: int) -> None:
        """Have the database belong to this log; see `MongoInstallation.bind`."""
        prefix = self._settings.kafka.topic_prefix
        await self.installation().bind(topic_prefix=prefix, partitions=partitions)

    def cache(self) -> RedisStateCache:
        """Open the cache of current states."""
        return RedisStateCache(self._settings.redis, self._settings.kafka.topic_prefix)

    async def close(self) -> None:
        """Close the connections that they share."""
        await self._dead_letters.close()
        await self._mongodb.close()

    def _states(self, *, read_cache: bool) -> StateStore:
        return CachedStateStore(
            MongoStateStore(self._mongodb),
            self.cache(),
            SystemClock(),
            partition_of=self.partition_of,
            read_cache=read_cache,
        )
