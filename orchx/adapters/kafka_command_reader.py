"""A Kafka consumer with a thread of its own, used from asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from orchx.adapters.kafka_connection import (
    DRIVER_ERRORS,
    open_client,
    partitions_of,
    translated,
)
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

POLL_RECORDS_MAX: Final = 1_000
FETCH_BYTES_MAX: Final = 16 * 1_048_576
CLOSE_TIMEOUT_MS: Final = 2_000

T = TypeVar("T")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBatch(Generic[Item]):
    """What one poll brought: items in the order of each partition, and what is read next."""

    items: Sequence[Item]
    next_offsets: Mapping[int, int]


class KafkaCommandReader:
    """Reads one topic by offsets.

    It connects on first use. Calls run one after another; one that has failed leaves the
    reader usable. Partitions are assigned by hand.
    """

    def __init__(self, settings: KafkaSettings, topic: str, role: str) -> None:
        """Connect nowhere yet.

        Args:
            settings: where Kafka is.
            topic: what is read.
            role: what this reader does, for the broker's logs.
        """
        self._settings = settings
        self._topic = topic
        self._role = role
        self._consumer: KafkaConsumer | None = None
        self._partitions: Sequence[TopicPartition] = ()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"kafka-{role}")
        self._closed = False

    async def partitions(self) -> Sequence[int]:
        """Return the topic's partitions, from 0 on.

        Raises:
            DriverError: Kafka is out of reach, or the topic is missing. All methods raise it.
        """

        def numbers(consumer: KafkaConsumer) -> Sequence[int]:
            return [one.partition for one in self._partitions]

        return await self._run("look up the partitions of", numbers)

    async def ends(self) -> Mapping[int, int]:
        """Return the offset of each partition that the next record will get."""

        def ends(consumer: KafkaConsumer) -> dict[int, int]:
            timeout_ms = self._settings.request_timeout_ms
            found = consumer.end_offsets(self._partitions, timeout_ms=timeout_ms)
            return {one.partition: offset for one, offset in found.items()}

        return await self._run("look up the end of", ends)

    async def beginnings(self) -> Mapping[int, int]:
        """Return the offset of the oldest record that each partition has kept."""

        def beginnings(consumer: KafkaConsumer) -> dict[int, int]:
            timeout_ms = self._settings.request_timeout_ms
            found = consumer.beginning_offsets(self._partitions, timeout_ms=timeout_ms)
            return {one.partition: offset for one, offset in found.items()}

        return await self._run("look up the beginning of", beginnings)

    async def follow(self, next_offsets: Mapping[int, int]) -> None:
        """Read these partitions from now on, each from its offset on."""

        def follow(consumer: KafkaConsumer) -> None:
            consumer.assign([TopicPartition(self._topic, number) for number in next_offsets])
            consumer.resume(*consumer.assignment())  # those assigned before stay paused
            for number, offset in next_offsets.items():
                consumer.seek(TopicPartition(self._topic, number), offset)

        await self._run("read", follow)

    async def hold(self, held: bool) -> None:
        """Read nothing more, or go on."""

        def hold(consumer: KafkaConsumer) -> None:
            partitions: Collection[TopicPartition] = consumer.assignment()
            (consumer.pause if held else consumer.resume)(*partitions)

        await self._run("read", hold)

    async def poll(
        self, convert: Callable[[ConsumerRecord], Item], wait_ms: int
    ) -> ReadBatch[Item]:
        """Return what comes within `wait_ms`, as soon as something does.

        Args:
            convert: made of each record, in the reader's thread.
            wait_ms: 0 and more.
        """

        def poll(consumer: KafkaConsumer) -> ReadBatch[Item]:
            found = consumer.poll(timeout_ms=wait_ms, max_records=POLL_RECORDS_MAX)
            # What was read says where reading stands; where nothing comes any more, only the
            # position does: a log may end in records that are never handed out.
            quiet = () if found else consumer.assignment()
            next_offsets = {one.partition: batch[-1].offset + 1 for one, batch in found.items()}
            for one in quiet:
                position = consumer.position(one, timeout_ms=wait_ms)
                if position is not None:
                    next_offsets[one.partition] = position
            items = [convert(record) for batch in found.values() for record in batch]
            return ReadBatch(items=items, next_offsets=next_offsets)

        return await self._run("read", poll)

    async def close(self) -> None:
        """Wait for the call under way and let go of the connections."""
        if self._closed:
            return
        self._closed = True

        def close() -> None:
            if self._consumer is not None:
                self._consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)

        await asyncio.get_running_loop().run_in_executor(self._thread, close)
        self._thread.shutdown()

    async def _run(self, doing: str, function: Callable[[KafkaConsumer], T]) -> T:
        if self._closed:
            raise DriverError(f"the reader of {self._topic} is closed")

        def run() -> T:
            try:
                return function(self._open())
            except DRIVER_ERRORS as error:
                raise translated(error, self._settings, f"{doing} {self._topic}") from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, run)

    def _open(self) -> KafkaConsumer:
        if self._consumer is None:
            options: dict[str, Any] = {
                "group_id": None,
                "enable_auto_commit": False,
                "auto_offset_reset": "earliest",
                "allow_auto_create_topics": False,
                "fetch_max_bytes": FETCH_BYTES_MAX,
                "max_partition_fetch_bytes": FETCH_BYTES_MAX,
                "metrics_enabled": False,
            }
            consumer = open_client(KafkaConsumer, self._settings, self._role, **options)
            try:
                timeout_ms = self._settings.request_timeout_ms
                found = partitions_of(consumer, self._topic, timeout_ms)
                self._partitions = [TopicPartition(self._topic, one) for one in sorted(found)]
                consumer.assign(self._partitions)  # what is assigned has its metadata kept fresh
            except DRIVER_ERRORS:
                consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
                raise
            self._consumer = consumer
        return self._consumer
