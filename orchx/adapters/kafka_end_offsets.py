"""Where the partitions of a topic end, asked on a connection of its own.

A broker answers the requests of one connection in turn: on a consumer's the question would wait
for the fetch that waits for records.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from kafka import KafkaConsumer, TopicPartition

from orchx.adapters.coalesced_query import CoalescedQuery
from orchx.adapters.kafka_connection import (
    DRIVER_ERRORS,
    open_client,
    partitions_of,
    translated,
)
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

CLOSE_TIMEOUT_MS: Final = 2_000

T = TypeVar("T")


class EndOffsets:
    """Asks a topic how many partitions it has and where they end. Connects on first use."""

    def __init__(self, settings: KafkaSettings, topic: str, role: str) -> None:
        """Ask about `topic`; `role` is to be found in the broker's logs."""
        self._settings = settings
        self._topic = topic
        self._role = role
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"kafka-{role}")
        self._consumer: KafkaConsumer | None = None
        self._count: int | None = None
        self._ends: CoalescedQuery[Mapping[int, int]] = CoalescedQuery(self._ask)
        self._counting: CoalescedQuery[int] = CoalescedQuery(self._ask_count)
        self._closed = False

    async def partitions(self) -> int:
        """Return how many partitions the topic has; asked once.

        Raises:
            DriverError: Kafka is out of reach, or the topic does not exist.
        """
        if self._count is None:
            self._count = await self._counting.get()
        return self._count

    async def of(self, partitions: Collection[int]) -> Mapping[int, int]:
        """Return the offset that each partition's next record will get, as of this call.

        Raises:
            DriverError: Kafka did not tell in time.
        """
        await self.partitions()  # a missing topic is told as such, not as one that is slow
        return await self._ends.get(map(str, partitions))

    async def close(self) -> None:
        """End the connection and the thread."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)

    async def _ask(self, partitions: Collection[str]) -> Mapping[int, int]:
        def ask(consumer: KafkaConsumer) -> Mapping[int, int]:
            wanted = [TopicPartition(self._topic, int(partition)) for partition in partitions]
            ends = consumer.end_offsets(wanted, timeout_ms=self._settings.request_timeout_ms)
            return {place.partition: end for place, end in ends.items()}

        return await self._run(ask)

    async def _ask_count(self, _: Collection[str]) -> int:
        def ask(consumer: KafkaConsumer) -> int:
            return len(partitions_of(consumer, self._topic, self._settings.request_timeout_ms))

        return await self._run(ask)

    async def _run(self, ask: Callable[[KafkaConsumer], T]) -> T:
        if self._closed:
            raise DriverError(f"the connection to {self._topic} is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._asked, ask)

    def _asked(self, ask: Callable[[KafkaConsumer], T]) -> T:
        if self._consumer is None:
            self._consumer = open_client(
                KafkaConsumer,
                self._settings,
                self._role,
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        try:
            return ask(self._consumer)
        except DRIVER_ERRORS as error:
            self._disconnect()  # a fresh connection is the best next try
            raise translated(error, self._settings, f"look at {self._topic}") from error

    def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(*DRIVER_ERRORS):
                consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
