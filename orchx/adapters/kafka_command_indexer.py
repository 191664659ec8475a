"""Feeds the index of commands from the topic: a part of the state service."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

import structlog

from orchx.adapters.kafka_command_reader import (
    POLL_RECORDS_MAX,
    KafkaCommandReader,
    ReadBatch,
)
from orchx.adapters.kafka_command_records import (
    PoisonedRecord,
    Received,
    ReceivedCommand,
    digest_of,
    receive,
    tenant_of,
)
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_dead_letter_records import source_of
from orchx.adapters.kafka_dead_letters import KafkaDeadLetters
from orchx.adapters.kafka_recent_commands import KnownCommand, RecentCommands
from orchx.adapters.mongo_command_index import MongoCommandIndex
from orchx.adapters.mongo_connection import MongoConnection
from orchx.adapters.system_clock import SystemClock
from orchx.errors import OrchxError
from orchx.settings import KafkaSettings

POLL_WAIT_MS: Final = 200
RETRY_PAUSE_S: Final = 1.0
PACE_S: Final = 0.05  # after a step that brought something: fewer, larger ones cost less

logger = structlog.get_logger(__name__)


class CommandIndexer:
    """Reads the topic of commands into the index, from the offsets stored beside it.

    The commands are stored first and the offsets then: what a crash has read again changes
    nothing, for the first command with an id counts. Two that run at once do no harm.
    Records that are no commands are copied to the dead-letter topic.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        connection: MongoConnection,
        *,
        recent: RecentCommands | None = None,
        keeps_aside: bool = True,
    ) -> None:
        """Connect nowhere yet.

        Args:
            settings: where Kafka is.
            connection: to the database with the index; it is not closed from here.
            recent: is told what was read, before the index has it: those of this process's
                queue.
            keeps_aside: whether records that are no commands are copied: not where that was
                done when they were read first.
        """
        self._keeps_aside = keeps_aside
        self._topic = Topics(settings.topic_prefix).commands
        self._reader = KafkaCommandReader(settings, self._topic, "command-indexer")
        self._index = MongoCommandIndex(connection)
        self._dead_letters = KafkaDeadLetters(settings)
        self._recent = recent
        self._clock = SystemClock()
        self._stored: dict[int, int] | None = None
        self._unstored: ReadBatch[Received] | None = None
        self._closing = False

    async def run(self) -> None:
        """Feed the index until `close`; what fails is logged and made again.

        To end it, close it: before Python 3.12 `asyncio.wait_for`, and with it pymongo, may
        swallow the cancellation of a task.
        """
        while not self._closing:
            try:
                if 0 < await self.step() < POLL_RECORDS_MAX:
                    await asyncio.sleep(PACE_S)
            except OrchxError as error:
                if not self._closing:
                    logger.error("commands are not indexed", error=str(error))
                    await asyncio.sleep(RETRY_PAUSE_S)

    async def step(self) -> int:
        """Store the next records, waiting a moment for some; return how many were read.

        Raises:
            DriverError, Unavailable, StorageFull: nothing is lost; the next step goes on.
        """
        if self._stored is None:
            stored = await self._index.next_offsets()
            start = {number: stored.get(number, 0) for number in await self._reader.partitions()}
            await self._reader.follow(start)
            self._stored = start
        if self._unstored is None:
            convert = partial(receive, partitions=len(self._stored))
            self._unstored = await self._reader.poll(convert, POLL_WAIT_MS)
        await self._store(self._unstored, self._stored)
        count = len(self._unstored.items)
        self._unstored = None
        return count

    async def lag(self) -> int:
        """Return how many records of the topic are not in the index."""
        stored = await self._index.next_offsets()
        ends = await self._reader.ends()
        return sum(max(0, end - stored.get(number, 0)) for number, end in ends.items())

    async def close(self) -> None:
        """End `run`, and let go of the connections to Kafka."""
        self._closing = True
        await self._reader.close()
        await self._dead_letters.close()

    async def _store(self, batch: ReadBatch[Received], stored: dict[int, int]) -> None:
        changed = {
            number: offset
            for number, offset in batch.next_offsets.items()
            if stored.get(number) != offset
        }
        if not changed:
            return
        await self._note_expired(batch.items, stored)
        await self._note_skipped(batch, changed, stored)
        await self._index.add(self._first_of_each(batch.items))
        for one in batch.items:
            if isinstance(one, PoisonedRecord) and self._keeps_aside:
                logger.error("not a command, kept aside", topic=self._topic, **one.where())
                await self._dead_letters.keep(source_of(one.record), one.error)
        await self._index.save_next_offsets(changed)
        stored.update(changed)

    def _first_of_each(
        self, received: Sequence[Received]
    ) -> Sequence[tuple[KnownCommand, str | None]]:
        fresh: dict[str, tuple[KnownCommand, str | None]] = {}
        for one in received:
            if isinstance(one, ReceivedCommand) and one.command.id not in fresh:
                known = KnownCommand(
                    id=one.command.id,
                    digest=digest_of(one.command),
                    payload=one.payload,
                    created_at_ms=one.command.created_at_ms,
                    partition=one.partition,
                    offset=one.offset,
                )
                fresh[known.id] = known, tenant_of(one.command)
                if self._recent is not None:
                    self._recent.note(known)
        return list(fresh.values())

    async def _note_expired(self, received: Sequence[Received], stored: dict[int, int]) -> None:
        """Note it where the topic has forgotten what the index never had.

        Whoever asks for an unknown id is then told that it may be one of those.
        """
        seen: set[int] = set()
        for one in received:
            if one.partition in seen:
                continue
            seen.add(one.partition)
            if one.offset > stored.get(one.partition, 0):
                timestamp_ms = (
                    one.timestamp_ms if isinstance(one, ReceivedCommand) else one.record.timestamp
                )
                logger.warning(
                    "commands expired before they were indexed",
                    topic=self._topic,
                    partition=one.partition,
                    count=one.offset - stored.get(one.partition, 0),
                )
                await self._index.note_pruned(timestamp_ms)

    async def _note_skipped(
        self, batch: ReadBatch[Received], changed: Mapping[int, int], stored: Mapping[int, int]
    ) -> None:
        """Note it where reading moved on before there was a record to tell when they expired."""
        seen = {one.partition for one in batch.items}
        skipped = [number for number in changed if number not in seen]
        if not skipped:
            return
        beginnings = await self._reader.beginnings()
        for number in skipped:
            if stored.get(number, 0) < beginnings.get(number, 0):
                await self._index.note_pruned(self._clock.now_ms())
                return
