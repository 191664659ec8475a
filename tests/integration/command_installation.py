"""A command queue on Kafka with a topic and a database of its own, and who uses it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from orchx.adapters.kafka_command_indexer import CommandIndexer
from orchx.adapters.kafka_command_queue import KafkaCommandQueue
from orchx.adapters.kafka_command_reader import KafkaCommandReader
from orchx.adapters.kafka_connection import Topics
from orchx.adapters.kafka_dead_letters import KafkaDeadLetters
from orchx.adapters.kafka_recent_commands import RecentCommands
from orchx.adapters.kafka_topics import ensure_topics
from orchx.adapters.kafka_writer import KafkaWriter, Outgoing
from orchx.adapters.mongo_connection import MongoConnection
from orchx.domain.messages import CancelWorkflow
from orchx.settings import KafkaSettings, MongoSettings
from tests import servers

TIMEOUT_S = 20.0
POLL_S = 0.02
NOBODY = "127.0.0.1:9"  # the discard port: nothing listens there


def command(id_: str, *, workflow_id: str = "w", reason: str = "") -> CancelWorkflow:
    return CancelWorkflow(id=id_, workflow_id=workflow_id, created_at_ms=10, reason=reason)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(POLL_S)


async def ids_in(queue: KafkaCommandQueue) -> list[str]:
    return [one.id for _, one in await queue.pending(after_position=0, limit=10_000)]


async def are_kept(letters: KafkaDeadLetters, count: int) -> bool:
    return len((await letters.list(handled=True)).letters) == count


class Installation:
    """One set of topics and one database, and whatever processes use them."""

    def __init__(self, kafka: KafkaSettings, mongodb: MongoSettings) -> None:
        self.kafka = kafka
        self.mongodb = mongodb
        self.topic = Topics(kafka.topic_prefix).commands
        self._queues: list[KafkaCommandQueue] = []
        self._indexer: tuple[CommandIndexer, MongoConnection, asyncio.Task[None]] | None = None

    def queue(
        self,
        *,
        consumes: bool = False,
        kafka: KafkaSettings | None = None,
        mongodb: MongoSettings | None = None,
        recent: RecentCommands | None = None,
    ) -> KafkaCommandQueue:
        """Open the queue as one more process would."""
        connection = MongoConnection(mongodb or self.mongodb)
        queue = KafkaCommandQueue(kafka or self.kafka, connection, consumes=consumes, recent=recent)
        self._queues.append(queue)
        return queue

    async def taker(self, **options: Any) -> KafkaCommandQueue:
        """Open the queue as one more Dispatcher would that serves every partition."""
        queue = self.queue(consumes=True, **options)
        await queue.hold(range(self.kafka.partitions))
        return queue

    def start_indexer(self, recent: RecentCommands | None = None) -> CommandIndexer:
        connection = MongoConnection(self.mongodb)
        indexer = CommandIndexer(self.kafka, connection, recent=recent)
        self._indexer = indexer, connection, asyncio.create_task(indexer.run())
        return indexer

    async def stop_indexer(self) -> None:
        if self._indexer is not None:
            indexer, connection, task = self._indexer
            self._indexer = None
            await indexer.close()
            await task
            await connection.close()

    async def write(self, *values: bytes | None, key: bytes = b"w") -> None:
        """Write records to the topic as a stranger would."""
        writer = KafkaWriter(self.kafka, "stranger")
        records = [Outgoing(topic=self.topic, partition=0, key=key, value=v) for v in values]
        await writer.send(records)
        await writer.close()

    async def length(self) -> int:
        """Return how many records the topic has."""
        reader = KafkaCommandReader(self.kafka, self.topic, "length")
        ends = await reader.ends()
        await reader.close()
        return sum(ends.values())

    async def close(self) -> None:
        await self.stop_indexer()
        for queue in self._queues:
            await queue.close()


@asynccontextmanager
async def installed(**kafka: object) -> AsyncIterator[Installation]:
    """Make the topics, and close at the end whatever was opened; with these of Kafka's settings."""
    made = Installation(servers.apache_kafka(**kafka), servers.mongodb())
    await asyncio.to_thread(ensure_topics, made.kafka)
    try:
        yield made
    finally:
        await made.close()
