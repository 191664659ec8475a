"""Pinned plans, in a compacted topic: the key is the digest, the value canonical JSON."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from kafka import KafkaConsumer, TopicPartition, errors

from orchx.adapters.kafka_connection import DRIVER_ERRORS, Topics, open_client, translated
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.errors import DriverError
from orchx.settings import KafkaSettings

CACHE_BYTES_MAX: Final = 64 * 1_048_576
POLL_MS: Final = 200
SCAN_S: Final = 30.0
CLOSE_TIMEOUT_MS: Final = 2_000


class KafkaPlans:
    """Pins and finds plans. What was found is kept in memory, the latest used first."""

    def __init__(
        self, settings: KafkaSettings, writer: KafkaWriter, *, cache_bytes: int = CACHE_BYTES_MAX
    ) -> None:
        """Write with `writer`; connect to read on the first miss."""
        self._settings = settings
        self._writer = writer
        self._topic = Topics(settings.topic_prefix).plans
        self._place = TopicPartition(self._topic, 0)
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cache_bytes = 0
        self._cache_bytes_max = cache_bytes
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafka-plans")
        self._consumer: KafkaConsumer | None = None
        self._evicted = False  # since the topic was last read from its beginning
        self._closed = False

    async def pin(self, digest: str, document: bytes) -> None:
        """Write a plan; on return it is durable. One that is known is not written again.

        Raises:
            Unavailable, DriverError: as `KafkaWriter.send`.
        """
        if digest in self._cache:
            return
        plan = Outgoing(topic=self._topic, partition=0, key=digest.encode(), value=document)
        await self._writer.send([plan])
        self._keep(digest, document)

    async def find(self, digest: str) -> bytes | None:
        """Return the plan, or None if none was pinned before this call.

        Raises:
            DriverError: Kafka is out of reach.
        """
        if digest not in self._cache:
            if self._closed:
                raise DriverError("the log is closed")
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._thread, self._read_on, digest)
            for key, document in found.items():
                self._keep(key, document)
            if digest in found:  # a cache too small for it must not hide it
                return found[digest]
        if digest not in self._cache:
            return None
        self._cache.move_to_end(digest)
        return self._cache[digest]

    async def close(self) -> None:
        """End the connection and the thread."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
            self._thread.shutdown(wait=False)

    def _keep(self, digest: str, document: bytes) -> None:
        self._cache_bytes += len(document) - len(self._cache.pop(digest, b""))
        self._cache[digest] = document
        while self._cache_bytes > self._cache_bytes_max and len(self._cache) > 1:
            self._cache_bytes -= len(self._cache.popitem(last=False)[1])
            self._evicted = True

    def _read_on(self, digest: str) -> dict[str, bytes]:
        """Read what is new, or everything where `digest` may have been seen and forgotten."""
        try:
            consumer = self._connected()
            if self._evicted:
                self._evicted = False
                consumer.seek(self._place, 0)
            return self._scan(consumer, digest)
        except DRIVER_ERRORS as error:
            self._disconnect()
            raise translated(error, self._settings, f"read {self._topic}") from error

    def _scan(self, consumer: KafkaConsumer, digest: str) -> dict[str, bytes]:
        timeout_ms = self._settings.request_timeout_ms
        end = consumer.end_offsets([self._place], timeout_ms=timeout_ms)[self._place]
        found: dict[str, bytes] = {}
        size = 0
        polls = int(SCAN_S * 1000 / POLL_MS)
        while (consumer.position(self._place, timeout_ms=timeout_ms) or 0) < end:
            messages = consumer.poll(timeout_ms=POLL_MS).get(self._place, [])
            polls -= not messages
            if polls < 0:
                raise errors.KafkaTimeoutError(f"{self._topic} was not read in {SCAN_S:g} s")
            for message in messages:
                if not message.key or message.value is None:
                    continue
                key = str(message.key, "utf-8", "replace")
                # What would not be kept need not be carried along; the one asked for must.
                if key == digest or size + len(message.value) <= self._cache_bytes_max:
                    found[key] = bytes(message.value)
                    size += len(message.value)
                else:
                    self._evicted = True
        return found

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            consumer = open_client(
                KafkaConsumer,
                self._settings,
                "plans",
                auto_offset_reset="earliest",  # compaction may remove the first ones
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
            consumer.assign([self._place])
            consumer.seek(self._place, 0)
            self._consumer = consumer
        return self._consumer

    def _disconnect(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with contextlib.suppress(*DRIVER_ERRORS):
                consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
