"""Moving the log and the commands to other topics, in order, while nobody serves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters import kafka_sealing
from orchx.adapters.kafka_connection import Topics, partition_of
from orchx.adapters.kafka_records import TURN_OFFSETS, PoisonedTurn, turn_of
from orchx.adapters.kafka_topic_bounds import Bounds, bounds_of
from orchx.adapters.kafka_topic_copy import Moved, copy_records
from orchx.adapters.kafka_topics import ensure_topics
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.adapters.mongo_command_progress import MongoCommandProgress
from orchx.adapters.mongo_connection import MongoConnection
from orchx.adapters.mongo_installation import check_reach
from orchx.adapters.system_clock import SystemClock
from orchx.engine.delivery_collector import DeliveryCollector
from orchx.engine.reprojection import Progress, Reprojection, Told, persistently
from orchx.errors import DriverError
from orchx.maintenance.causing import causes_of
from orchx.maintenance.feeding import feed_index
from orchx.maintenance.moved_commands import MovedCommands
from orchx.maintenance.replacing import with_partitions
from orchx.settings import Settings
from orchx.stores import KafkaStores

EXPIRED_PAGE: Final = 500


class Move:
    """From one set of topics to another. `drain` comes first, then `copy`.

    `turns` and `commands` are how many were copied, `unacknowledged` those commands among them,
    and `acknowledged` the offsets of the new topic below which all are.
    """

    def __init__(self, settings: Settings, target: Settings, told: Told) -> None:
        """Move from where `settings` are to where `target` is."""
        self._settings = settings
        self._target = target
        self._told = told
        self._clock = SystemClock()
        self.turns = 0
        self.commands = 0
        self.unacknowledged = 0
        self.acknowledged: Mapping[int, int] = {}

    async def drain(self) -> None:
        """Seal the log, do all that it causes, then seal the commands."""
        kafka, topics = self._settings.kafka, Topics(self._settings.kafka.topic_prefix)
        self._told(Progress(stage="sealing the log", done=0, total=1))
        await asyncio.to_thread(kafka_sealing.seal, kafka, topics.events)
        count = len((await asyncio.to_thread(bounds_of, kafka, topics.events)).end)
        settings = with_partitions(self._settings, count)
        stores = KafkaStores(settings)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(stores.close)
            log = stores.event_log()
            stack.push_async_callback(log.close)
            ends = {partition: await log.last_offset(partition) for partition in range(count)}
            check_reach(await stores.archive().offsets(), ends)
            await self._index(settings)
            states = stores.state_store()
            stack.push_async_callback(states.close)
            causes = await stack.enter_async_context(
                causes_of(KafkaStores(settings), log, self._clock)
            )
            projection = Reprojection(
                log,
                states,
                self._clock,
                settings,
                archive=stores.archive(),
                observer=causes,
            )
            await projection.reach(ends, self._told)
            deliveries = stores.deliveries()
            for partition in ends:
                collector = DeliveryCollector(
                    log, deliveries, self._clock, _nothing, partition=partition
                )
                while await persistently("webhooks", collector.collect, self._clock):
                    self._told(Progress(stage="collecting webhooks", done=partition, total=count))
        self._told(Progress(stage="sealing the commands", done=0, total=1))
        await asyncio.to_thread(kafka_sealing.seal, kafka, topics.commands)
        await self._index(settings)

    async def _index(self, settings: Settings) -> None:
        stores = KafkaStores(settings)
        topic = Topics(settings.kafka.topic_prefix).commands
        bounds = await asyncio.to_thread(bounds_of, settings.kafka, topic)
        indexer = stores.command_indexer()
        try:
            index = MongoCommandIndex(stores.mongodb)
            await feed_index(indexer, index, bounds, self._clock, self._told)
        finally:
            await indexer.close()
            await stores.close()

    async def copy(self) -> None:
        """Make the new topics and fill them."""
        await asyncio.to_thread(ensure_topics, self._target.kafka)
        old, new = (Topics(each.kafka.topic_prefix) for each in (self._settings, self._target))
        writer = KafkaWriter(self._target.kafka, "copy")
        try:
            await self._copy(old.plans, new.plans, partial(_moved_plan, new.plans), writer)
            before = len((await asyncio.to_thread(bounds_of, self._settings.kafka, old.events)).end)
            moved_turn = partial(_moved_turn, new.events, before, self._target.kafka.partitions)
            self.turns = await self._copy(old.events, new.events, moved_turn, writer)
            await self._copy_commands(old.commands, new.commands, writer)
        finally:
            await writer.close()

    async def _copy_commands(self, old: str, new: str, writer: KafkaWriter) -> None:
        """Copy those that are acknowledged first: all that stand before a watermark are, then."""
        stores = KafkaStores(self._settings)
        try:
            known = await MongoCommandProgress(stores.mongodb).everything()
            before = len((await asyncio.to_thread(bounds_of, self._settings.kafka, old)).end)
            count = self._target.kafka.partitions
            commands = MovedCommands(new, known, before=before, count=count)
            self.commands = await self._copy(old, new, commands.acknowledged, writer)
            bounds = await asyncio.to_thread(bounds_of, self._target.kafka, new)
            self.acknowledged = bounds.end
            self.unacknowledged = await self._send_expired(old, commands, stores.mongodb, writer)
        finally:
            await stores.close()
        self.unacknowledged += await self._copy(old, new, commands.waiting, writer)
        self.commands += self.unacknowledged

    async def _send_expired(
        self, old: str, commands: MovedCommands, connection: MongoConnection, writer: KafkaWriter
    ) -> int:
        """Send what waits, and only the index has any more; keep there what does not wait."""
        bounds = await asyncio.to_thread(bounds_of, self._settings.kafka, old)
        index = MongoCommandIndex(connection)
        sent = 0
        for partition, behind in bounds.first.items():
            first = 0
            while first < behind:
                page = await index.between(partition, first, behind, limit=EXPIRED_PAGE)
                expired = commands.expired(partition, page)
                await writer.send(expired.moved)
                sent += len(expired.moved)
                await index.set_aside(expired.kept)
                await index.remove(expired.left_behind)
                first = page[-1][0] + 1 if len(page) == EXPIRED_PAGE else behind
        return sent

    async def _copy(self, old: str, new: str, moved: Moved, writer: KafkaWriter) -> int:
        bounds = await asyncio.to_thread(bounds_of, self._settings.kafka, old)
        before = await asyncio.to_thread(bounds_of, self._target.kafka, new)

        def told(read: int) -> None:
            self._told(Progress(stage=f"copying {old}", done=read, total=bounds.records))

        written = await copy_records(self._settings.kafka, old, bounds, moved, writer, told)
        await self._check_copied(old, new, bounds, before, written)
        return sum(written.values())

    async def _check_copied(
        self, old: str, new: str, bounds: Bounds, before: Bounds, written: Mapping[int, int]
    ) -> None:
        """Check that nobody has written to either meanwhile."""
        if (await asyncio.to_thread(bounds_of, self._settings.kafka, old)).end != bounds.end:
            raise DriverError(f"{old} has grown although it is sealed: run it again")
        after = await asyncio.to_thread(bounds_of, self._target.kafka, new)
        expected = {p: end + written.get(p, 0) for p, end in before.end.items()}
        if after.end != expected:
            raise DriverError(f"{new} was written to by somebody else: run it again")

    async def ends(self) -> Mapping[int, int]:
        """Return where the new log ends, in the log's offsets."""
        topic = Topics(self._target.kafka.topic_prefix).events
        bounds = await asyncio.to_thread(bounds_of, self._target.kafka, topic)
        return {partition: end * TURN_OFFSETS for partition, end in bounds.end.items()}


def _moved_plan(topic: str, record: ConsumerRecord) -> Sequence[Outgoing]:
    return (Outgoing(topic=topic, partition=0, key=record.key, value=record.value),)


def _moved_turn(topic: str, before: int, count: int, record: ConsumerRecord) -> Sequence[Outgoing]:
    """Return where a turn goes; what is none was kept aside when it came, and is left behind."""
    try:
        turn = turn_of(record, partitions=before)
    except PoisonedTurn:
        return ()
    return (
        Outgoing(
            topic=topic,
            partition=partition_of(turn.workflow_id, count),
            key=record.key,
            value=record.value,
            headers=record.headers,
        ),
    )


def _nothing() -> None:
    """Wake nobody."""
