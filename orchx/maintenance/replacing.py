"""`orchx rebuild --replace`: makes everything that is made from the log anew, in its place.

For when it is lost, or was found to differ. No engine may serve meanwhile. What was cut short is
done again from its beginning; until it is done, no engine starts on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_topic_bounds import bounds_of, check_complete, members_of_group
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.adapters.mongo_installation import check_reach
from orchx.adapters.mongo_presence import COMMAND_S, SERVING_S, MongoPresence
from orchx.adapters.redis_inventory import RedisEntries
from orchx.adapters.sqlite_exclusive import check_unused, only_one, put_in_place, remove
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.adapters.system_clock import SystemClock
from orchx.engine.projector import distance
from orchx.engine.reprojection import Hearing, Progress, Reprojection, Told, nobody
from orchx.errors import Conflict, DriverError, OrchxError
from orchx.maintenance.causing import causes_of
from orchx.maintenance.feeding import feed_index
from orchx.maintenance.verifying import COPY_FILE, LOCK_FILE
from orchx.ports.clock import Clock
from orchx.ports.event_log import EventLog
from orchx.settings import Settings
from orchx.stores import EmbeddedStores, KafkaStores, Stores

Webhooks: TypeAlias = Literal["resend", "skip"]

LEAVING_S: Final = SERVING_S + 5.0
"""So long it is waited for an engine that has just been stopped."""

POLL_S: Final = 0.5
WAITING: Final = "waiting for an engine to be gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """What was made. `cached`: whether Redis has it too; None where there is none.

    `heard` are the offsets behind which records were looked at for what they cause.
    """

    workflows: Mapping[str, int]
    records: int
    gaps: int
    took_s: float
    heard: Mapping[int, int]
    cached: bool | None = None


async def replace(
    settings: Settings, *, webhooks: Webhooks | None = None, told: Told = nobody
) -> Replaced:
    """Make the projections anew.

    Args:
        settings: of the installation.
        webhooks: what becomes of those of a lost outbox: all are sent again, or none.
        told: hears of the progress.

    Raises:
        Conflict: an engine serves, or another command is at work; or the outbox is lost, and
            what to do was not said. Nothing was changed.
        DriverError, TryLater, StorageFull: a store, or the log, cannot be used.
    """
    if settings.profile == "embedded":
        return await _replace_files(settings, told)
    stores = KafkaStores(settings)
    try:
        async with alone(settings, stores.presence(), told):
            return await replace_stores(settings, stores, webhooks, told)
    finally:
        await stores.close()


@asynccontextmanager
async def alone(
    settings: Settings, presence: MongoPresence, told: Told = nobody
) -> AsyncIterator[None]:
    """Work on an installation that no engine serves, and none will.

    Raises:
        Conflict: one does, or another command is at work.
        DriverError: the sign that keeps others away could not be renewed in time.
    """
    async with presence.alone("maintenance"):
        if await presence.is_here("verification"):
            raise Conflict(
                "`orchx rebuild` looks at it just now, or was killed less than "
                f"{COMMAND_S:g} s ago: wait until it is done"
            )
        first = sign = await presence.sign("engine")
        begun_s = time.monotonic()
        while sign is not None:
            waited_s = time.monotonic() - begun_s
            told(Progress(stage=WAITING, done=int(waited_s), total=int(LEAVING_S)))
            if first is not None and sign > first:
                raise Conflict("an engine serves this installation: stop all of them first")
            if waited_s > LEAVING_S:
                raise Conflict(
                    "an engine was started in the last minutes, and may still come: stop it, or "
                    "wait"
                )
            await asyncio.sleep(POLL_S)
            sign = await presence.sign("engine")
        members = await asyncio.to_thread(members_of_group, settings.kafka)
        if members:
            raise Conflict(f"engines take commands: {', '.join(members)}; stop them first")
        yield


async def replace_stores(
    settings: Settings, stores: KafkaStores, webhooks: Webhooks | None, told: Told
) -> Replaced:
    """Do it in MongoDB and Redis; the caller is `alone`."""
    begun_s = time.monotonic()
    await asyncio.to_thread(check_complete, settings.kafka)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        log = stores.event_log()
        stack.push_async_callback(log.close)
        count = await log.partitions()
        settings = with_partitions(settings, count)
        await stores.bind(count)
        ends = {partition: await log.last_offset(partition) for partition in range(count)}
        archive = stores.archive()
        check_reach(await archive.offsets(), ends)
        fresh = KafkaStores(settings)
        stack.push_async_callback(fresh.close)
        states, cache = fresh.state_store(), fresh.cache()
        stack.push_async_callback(states.close)
        stack.push_async_callback(cache.close)
        await cache.get(["any"], partition=0)  # is it there at all? Nothing is begun without it
        heard = await _begin(settings, log, ends, webhooks)
        await states.reset()  # the cache too
        await archive.reset()
        topic = Topics(settings.kafka.topic_prefix).commands
        bounds = await asyncio.to_thread(bounds_of, settings.kafka, topic)
        index = MongoCommandIndex(fresh.mongodb)
        await index.begin_again(bounds.first)
        projection = Reprojection(log, states, clock, settings, archive=archive)
        await projection.reach(ends, told)
        indexer = fresh.command_indexer()
        stack.push_async_callback(indexer.close)
        await feed_index(indexer, index, bounds, clock, told)
        await _hear(KafkaStores(settings), heard, ends, clock, told)
        await stores.installation().end_replacing()
        return Replaced(
            workflows=await states.counts(),
            records=projection.records,
            gaps=projection.gaps,
            took_s=time.monotonic() - begun_s,
            heard=heard,
            cached=await _is_cached(settings, {p: await states.offset(p) for p in ends}),
        )


def with_partitions(settings: Settings, count: int) -> Settings:
    """Return the settings with the number of partitions that the log has."""
    kafka = settings.kafka.model_copy(update={"partitions": count})
    return settings.model_copy(update={"kafka": kafka})


async def _begin(
    settings: Settings, log: EventLog, ends: Mapping[int, int], webhooks: Webhooks | None
) -> Mapping[int, int]:
    """Note the beginning; return up to where what records cause was done before."""
    stores = KafkaStores(settings)
    states, outbox = stores.state_store(), stores.deliveries()
    try:
        heard = {partition: await states.offset(partition) for partition in ends}
        installation = stores.installation()
        before = await installation.replacing()
        collected = [await outbox.offset(partition) for partition in ends]
        if before is None and not any(heard.values()) and not any(collected):
            await _decide_webhooks(log, ends, webhooks)
            if webhooks == "skip":
                for partition, end in ends.items():
                    await outbox.add([], offset=end, partition=partition)
        return await installation.begin_replacing(heard)
    finally:
        await states.close()
        await stores.close()


async def _decide_webhooks(
    log: EventLog, ends: Mapping[int, int], webhooks: Webhooks | None
) -> None:
    has_records = [partition for partition in ends if await distance(log, 0, partition)]
    if has_records and webhooks is None:
        raise Conflict(
            "the database is empty, and with it the outbox of webhooks is lost, of which the log "
            "does not know what was delivered. Say --webhooks resend (each is sent again, with "
            "the id that it had, by which receivers know it) or --webhooks skip (none is)"
        )


async def _hear(
    stores: Stores,
    heard: Mapping[int, int],
    ends: Mapping[int, int],
    clock: Clock,
    told: Told,
) -> None:
    """Queue what records cause that no projector has looked at yet; closes the stores."""
    log = stores.event_log()
    try:
        async with causes_of(stores, log, clock) as causes:
            await Hearing(log, causes, clock).hear(heard, ends, told)
    finally:
        await log.close()


async def _is_cached(settings: Settings, offsets: Mapping[int, int]) -> bool:
    entries = RedisEntries(settings.redis, settings.kafka.topic_prefix)
    try:
        return await entries.offsets(len(offsets)) == offsets
    finally:
        await entries.close()


async def _replace_files(settings: Settings, told: Told) -> Replaced:
    begun_s = time.monotonic()
    folder = settings.data_dir
    if not (folder / "events.db").exists():
        raise DriverError(f"{folder} has no events.db: it is not the data folder of an orchx")
    path, made = folder / "state.db", folder / COPY_FILE
    clock, stores = SystemClock(), EmbeddedStores(settings)
    with only_one(folder / LOCK_FILE):
        check_unused(path)
        remove(made)
        heard = {0: await _offset_in(settings)}
        log, states = stores.event_log(), SqliteStateStore(made)
        try:
            ends = {0: await log.last_offset()}
            projection = Reprojection(log, states, clock, settings)
            await projection.reach(ends, told)
            workflows = await states.counts()
        finally:
            await states.close()
            await log.close()
        await _hear(stores, heard, ends, clock, told)
        told(Progress(stage="putting in place", done=0, total=1))
        put_in_place(made, path)
    return Replaced(
        workflows=workflows,
        records=projection.records,
        gaps=projection.gaps,
        took_s=time.monotonic() - begun_s,
        heard=heard,
    )


async def _offset_in(settings: Settings) -> int:
    """Return how far the live file is; 0 for one that cannot be read any more."""
    path = settings.data_dir / "state.db"
    if not path.exists():
        return 0
    try:
        states = SqliteStateStore(path)
    except OrchxError:
        return 0
    try:
        return await states.offset()
    except OrchxError:
        return 0
    finally:
        await states.close()
