"""`orchx rebuild`: makes everything that is made from the log once more, and compares.

Nothing that is live is written to, and engines may serve meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_event_log import KafkaEventLog
from orchx.adapters.kafka_topic_bounds import bounds_of, check_complete
from orchx.adapters.mongo_archive import MongoArchive
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.adapters.mongo_connection import MongoConnection
from orchx.adapters.mongo_installation import MongoInstallation, check_reach
from orchx.adapters.mongo_inventory import MongoStates, commands, turns
from orchx.adapters.mongo_state_store import MongoStateStore
from orchx.adapters.redis_inventory import RedisEntries
from orchx.adapters.sqlite_event_log import SqliteEventLog
from orchx.adapters.sqlite_exclusive import only_one, remove
from orchx.adapters.sqlite_inventory import SqliteStates
from orchx.adapters.sqlite_state_store import SqliteStateStore
from orchx.adapters.system_clock import SystemClock
from orchx.engine.comparison import Item
from orchx.engine.reprojection import Reprojection, Told, nobody
from orchx.engine.verification import SHOWN_MAX, Verdict, Verification
from orchx.engine.verified_stores import Growing, Sides, Subject
from orchx.errors import Conflict, DriverError
from orchx.maintenance.feeding import feed_index
from orchx.settings import Settings
from orchx.stores import KafkaStores

DAY_MS: Final = 86_400_000
COPY: Final = "-rebuild"
DATABASE_CHARACTERS: Final = 52  # with the ending, within the 63 that MongoDB allows
LOCK_FILE: Final = "rebuild.lock"
COPY_FILE: Final = "state.rebuild.db"


async def verify(settings: Settings, *, shown_max: int = SHOWN_MAX, told: Told = nobody) -> Verdict:
    """Rebuild beside the live stores, compare, and drop the copy.

    Raises:
        Conflict: another one is at it.
        DriverError, TryLater, StorageFull: a store, or the log, cannot be used.
    """
    opened = _kafka(settings, told) if settings.profile == "kafka" else _embedded(settings)
    async with opened as subject:
        return await Verification(subject, shown_max=shown_max, told=told).run()


def copy_of(settings: Settings) -> Settings:
    """Return the settings with the database that the copy is made in."""
    name = settings.mongodb.database[:DATABASE_CHARACTERS] + COPY
    return settings.model_copy(
        update={"mongodb": settings.mongodb.model_copy(update={"database": name})}
    )


@asynccontextmanager
async def _embedded(settings: Settings) -> AsyncIterator[Subject]:
    folder = settings.data_dir
    if not (folder / "events.db").exists():
        raise DriverError(f"{folder} has no events.db: it is not the data folder of an orchx")
    copy_file = folder / COPY_FILE
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        stack.enter_context(only_one(folder / LOCK_FILE))
        remove(copy_file)
        stack.callback(remove, copy_file)
        log = SqliteEventLog(folder / "events.db")
        stack.push_async_callback(log.close)
        live, rebuilt = SqliteStateStore(folder / "state.db"), SqliteStateStore(copy_file)
        live_states, rebuilt_states = SqliteStates(folder / "state.db"), SqliteStates(copy_file)
        for each in (live, rebuilt, live_states, rebuilt_states):
            stack.push_async_callback(each.close)
        yield Subject(
            log=log,
            live=live,
            live_states=live_states,
            rebuilt=rebuilt,
            rebuilt_states=rebuilt_states,
            copy=Reprojection(log, rebuilt, clock, settings),
        )


@asynccontextmanager
async def _kafka(settings: Settings, told: Told) -> AsyncIterator[Subject]:
    await asyncio.to_thread(check_complete, settings.kafka)
    stores = KafkaStores(settings)
    copy = MongoConnection(copy_of(settings).mongodb)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(stores.close)
        log = KafkaEventLog(settings.kafka)  # what cannot be read was kept aside before
        stack.push_async_callback(log.close)
        await stores.bind(await log.partitions())
        await stores.installation().check_whole()
        presence = stores.presence()
        await stack.enter_async_context(presence.alone("verification"))
        if await presence.is_here("maintenance"):
            raise Conflict("`orchx rebuild --replace` or `orchx repartition` is at work")
        ends = {p: await log.last_offset(p) for p in range(await log.partitions())}
        check_reach(await stores.archive().offsets(), ends)
        stack.push_async_callback(copy.close)
        await _check_nobodys(copy, copy_of(settings).mongodb.database)
        await copy.drop_everything()
        stack.push_async_callback(copy.drop_everything)
        entries = RedisEntries(settings.redis, settings.kafka.topic_prefix)
        stack.push_async_callback(entries.close)
        rebuilt = MongoStateStore(copy)
        live = stores.mongodb
        archive = MongoArchive(copy)
        yield Subject(
            log=log,
            live=MongoStateStore(live),
            live_states=MongoStates(live),
            rebuilt=rebuilt,
            rebuilt_states=MongoStates(copy),
            copy=Reprojection(log, rebuilt, clock, settings, archive=archive),
            growing=(
                Growing(name="history", open=partial(_histories, live, copy)),
                Growing(name="commands", open=partial(_commands, settings, live, copy, told)),
            ),
            cache=entries,
        )


async def _check_nobodys(connection: MongoConnection, database: str) -> None:
    """Check that what will be dropped belongs to no installation."""
    if await MongoInstallation(connection).bound() is not None:
        raise Conflict(
            f"the database {database!r}, where the copy would be made, is that of another "
            "installation; name yours otherwise with ORCHX_MONGODB__DATABASE"
        )


async def _histories(
    live: MongoConnection, copy: MongoConnection, offsets: Mapping[int, int]
) -> Sides:
    return Sides(live=turns(live, offsets), rebuilt=turns(copy, offsets))


async def _commands(
    settings: Settings,
    live: MongoConnection,
    copy: MongoConnection,
    told: Told,
    _: Mapping[int, int],
) -> Sides:
    """Index the topic beside the live index; what either may have alone is excused."""
    index, clock = MongoCommandIndex(live), SystemClock()
    up_to = await index.next_offsets()
    topic = Topics(settings.kafka.topic_prefix).commands
    bounds = await asyncio.to_thread(bounds_of, settings.kafka, topic)
    indexer = CommandIndexer(settings.kafka, copy, keeps_aside=False)
    try:
        await feed_index(indexer, MongoCommandIndex(copy), bounds, clock, told, up_to=up_to)
    finally:
        await indexer.close()

    pruned_ms = await index.pruned_before_ms()
    kept_ms = int(settings.retention.commands_days * DAY_MS)

    def excuse(there: Item | None, rebuilt: Item | None) -> str | None:
        if there is None and rebuilt is not None:
            created_at_ms = rebuilt.fields()["created_at_ms"]
            over_ms = max(pruned_ms, clock.now_ms() - kept_ms)  # they go while this looks on
            if isinstance(created_at_ms, int) and created_at_ms < over_ms:
                return "forgotten, their time was over"
        # The topic may still have a second copy of what has expired.
        if there is not None and there.offset < bounds.first.get(there.partition, 0):
            return "expired on the topic"
        return None

    return Sides(live=commands(live, up_to), rebuilt=commands(copy, up_to), excuse=excuse)
