"""Reading the whole log in order, page by page, for those who feed stores from it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import structlog
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_end_offsets import EndOffsets
from orchx.adapters.kafka_log_reader import Batch, KafkaLogReader
from orchx.adapters.kafka_records import (
    TURN_OFFSETS,
    NewerTurn,
    PoisonedTurn,
    records_of,
    turn_of,
)
from orchx.domain.events import Record
from orchx.errors import DriverError, OrchxError, Unavailable
from orchx.settings import KafkaSettings

PAGE_BYTES_MAX: Final = 16 * 1_048_576
BUFFER_BYTES_MAX: Final = 16 * 1_048_576  # per partition, beyond which no more is read for now
MESSAGE_COST_BYTES: Final = 500  # in memory, beside its value
FETCH_S: Final = 10.0
PACE_S: Final = 0.5  # between polls if nobody asks for a page: each page has the next one read

OnPoison: TypeAlias = Callable[[ConsumerRecord, str], None]
"""Hears of a Kafka record that is no turn, and why. It is called in the event loop."""

logger = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Buffer:
    """What was read of one partition and not yet passed: everything from `first` to `following`.

    Offsets are Kafka's. `end` is up to where there are records for certain.
    """

    first: int
    following: int
    end: int
    stand: int = 0
    messages: deque[ConsumerRecord] = field(default_factory=deque)
    bytes: int = 0
    paused: bool = False
    more: asyncio.Event = field(default_factory=asyncio.Event)


class KafkaLogTail:
    """Pages of the log, read ahead. A page of a partition goes on from the last one.

    Several readers of one partition get what they ask for, one after the other; but each time
    it is not where the last one was, it is fetched anew.
    """

    def __init__(
        self, settings: KafkaSettings, ends: EndOffsets, on_poison: OnPoison | None = None
    ) -> None:
        """Read nothing yet; `on_poison` is told, once, of each record that is skipped."""
        self._settings = settings
        self._ends = ends
        self._on_poison = on_poison
        topic = Topics(settings.topic_prefix).events
        self._reader = KafkaLogReader(settings, topic, "tail", self, pace_s=PACE_S)
        self._buffers: dict[int, _Buffer] = {}
        self._turns: dict[int, asyncio.Lock] = {}
        self._poisoned: dict[int, int] = {}  # the last one told of, per partition
        self._error: OrchxError | None = None
        self._started = False
        self._closed = False
        self.skipped = 0
        """How many Kafka records were no turns."""

    async def page(self, after_offset: int, *, limit: int, partition: int) -> Sequence[Record]:
        """Return records after an offset of the log; none only if there are none yet.

        "Yet" means: before the last `reaches`, or before this partition was first read.

        Raises:
            Unavailable: there are records, and they did not come in time.
            NewerTurn: what comes next was written by a newer orchx.
            DriverError: Kafka is out of reach.
        """
        if self._closed:
            raise DriverError("the log is closed")
        count = await self._ends.partitions()
        async with self._turns.setdefault(partition, asyncio.Lock()):
            buffer = await self._buffer_at(after_offset // TURN_OFFSETS, partition)
            while True:
                page = self._decoded(buffer, after_offset, limit, count)
                self._resume_if_room(partition, buffer)
                self._reader.go_on()
                if page or limit <= 0 or buffer.following >= buffer.end:
                    return page
                await self._wait(buffer)

    def reaches(self, ends: Mapping[int, int]) -> None:
        """Hear where partitions end at least: there is something to wait for up to there."""
        for partition, end in ends.items():
            buffer = self._buffers.get(partition)
            if buffer is not None:
                buffer.end = max(buffer.end, end)

    def receive(self, batches: Sequence[Batch]) -> None:
        """Take what was read."""
        self._error = None
        for batch in batches:
            buffer = self._buffers.get(batch.partition)
            if buffer is None or buffer.stand != batch.stand:
                continue  # there was a seek meanwhile
            for message in batch.messages:
                if message.offset >= buffer.first:
                    buffer.messages.append(message)
                    buffer.bytes += _size(message)
            buffer.following = batch.following
            if buffer.bytes > BUFFER_BYTES_MAX and not buffer.paused:
                self._pause(batch.partition, buffer, paused=True)
            buffer.more.set()
        self._hurry()

    def failed(self, error: OrchxError) -> None:
        """Remember why nothing comes in, for those who wait in vain."""
        self._error = error

    async def close(self) -> None:
        """Stop reading."""
        self._closed = True
        await self._reader.close()

    async def _buffer_at(self, offset: int, partition: int) -> _Buffer:
        """Return the partition's buffer, with nothing before `offset`; seek if need be."""
        buffer = self._buffers.get(partition)
        if buffer is None or not buffer.first <= offset <= buffer.following:
            end = (await self._ends.of([partition])).get(partition, 0)
            await self._start()
            stand = 0 if buffer is None else buffer.stand
            buffer = _Buffer(first=offset, following=offset, end=end, stand=stand + 1)
            self._buffers[partition] = buffer
            self._reader.seek(partition, min(offset, end), buffer.stand)
            self._reader.pause([partition], paused=False)
        while buffer.messages and buffer.messages[0].offset < offset:
            buffer.bytes -= _size(buffer.messages.popleft())
        buffer.first = offset
        return buffer

    async def _start(self) -> None:
        if self._started:
            return
        partitions = range(await self._ends.partitions())
        if not self._started:  # nobody else was faster
            self._started = True
            # All are assigned, and those that nobody asks for are never fetched.
            self._reader.start(dict.fromkeys(partitions, 0), paused=list(partitions))

    def _decoded(
        self, buffer: _Buffer, after_offset: int, limit: int, partitions: int
    ) -> list[Record]:
        page: list[Record] = []
        poisoned: list[ConsumerRecord] = []
        size = 0
        for message in buffer.messages:
            if len(page) >= limit or (page and size + _size(message) > PAGE_BYTES_MAX):
                break
            size += _size(message)
            try:
                records = records_of(turn_of(message, partitions=partitions))
            except NewerTurn:
                if page:
                    break  # what stands before it is whole
                raise
            except PoisonedTurn as error:
                self._skip(message, str(error))
                poisoned.append(message)
            else:
                page += (record for record in records if record.offset > after_offset)
        for message in poisoned:  # no offset will ever be behind it: it would stay for ever
            buffer.messages.remove(message)
            buffer.bytes -= _size(message)
        return page[:limit]

    async def _wait(self, buffer: _Buffer) -> None:
        buffer.more.clear()
        self._hurry()
        try:
            async with asyncio.timeout(FETCH_S):
                await buffer.more.wait()
        except TimeoutError as late:
            reason = self._error or "are the brokers of ORCHX_KAFKA__BOOTSTRAP_SERVERS up?"
            raise Unavailable(f"the log cannot be read on: {reason}") from (self._error or late)
        finally:
            self._hurry()

    def _hurry(self) -> None:
        """Read at once while somebody may wait, or has much to catch up with."""
        behind = any(not b.paused and b.following < b.end for b in self._buffers.values())
        self._reader.hurry(urgent=behind)

    def _resume_if_room(self, partition: int, buffer: _Buffer) -> None:
        if buffer.paused and buffer.bytes <= BUFFER_BYTES_MAX // 2:
            self._pause(partition, buffer, paused=False)

    def _pause(self, partition: int, buffer: _Buffer, *, paused: bool) -> None:
        buffer.paused = paused
        self._reader.pause([partition], paused=paused)

    def _skip(self, message: ConsumerRecord, reason: str) -> None:
        if message.offset <= self._poisoned.get(message.partition, -1):
            return
        self._poisoned[message.partition] = message.offset
        self.skipped += 1
        place = f"{message.topic}/{message.partition} at {message.offset}"
        logger.warning("record skipped", place=place, reason=reason)
        if self._on_poison is not None:
            self._on_poison(message, reason)


def _size(message: ConsumerRecord) -> int:
    return max(message.serialized_value_size, 0) + MESSAGE_COST_BYTES
